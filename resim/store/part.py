"""One part on disk, opened without reading more than its metadata."""

import os
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from resim.cost import CostRecord, from_json
from resim.errors import OtherVersion, UserError
from resim.store.digests import BlockDigests, digest_checkpoint, digest_objects, digest_view
from resim.store.encoding import COMPILED
from resim.store.files import check_keys, is_sealed, read_json, sha256
from resim.store.places import Place, bytes_of, local, place_of, size_of
from resim.store.tables import EXTRAS, FORMAT, VERSION, Checkpoint, Column, Extra, ObjectTable, Schema, ViewTable

DIGEST_FILE = "digest.json"
DATA = "data.zarr"
_DIGEST_KINDS = {
    **dict.fromkeys(("first", "stop", "n_objects"), int),
    **dict.fromkeys(("n_present", "bytes", "objects", "views", "checkpoints", "files"), dict),
    "cost": list,
}
VIEW_ARRAYS = ("present", "columns", "offsets", "constituents")


def part_name(first: int, stop: int) -> str:
    """Name the folder of the part with events [first, stop)."""
    return f"part-{first:08d}-{stop:08d}"


class StoredView:
    """A view of a part. Row-wise arrays are read once and kept; constituents are read range by range."""

    def __init__(self, part: "Part", name: str) -> None:
        self.part = part
        self.name = name

    def __len__(self) -> int:
        """Give the number of rows, that is of objects in the part."""
        return int(self.part.digest["n_objects"])

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """What makes the view: `from`, `set`, `replica`, `splits`."""
        attributes: dict[str, Any] = self.part.metadata(f"views/{self.name}")["attributes"]
        return attributes

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """(N,) the object exists in this view."""
        return self._read("present")

    @cached_property
    def columns(self) -> NDArray[np.float32]:
        """(N, K) object-level quantities, NaN where absent."""
        return self._read("columns")

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """(N + 1,) constituents of row i are `offsets[i]:offsets[i + 1]`."""
        return self._read("offsets")

    @cached_property
    def constituents(self) -> zarr.Array[Any]:
        """(M, F), not read yet."""
        return self.part.open_array(f"views/{self.name}/constituents")

    @cached_property
    def extras(self) -> dict[str, Extra]:
        """What this view has beside its columns, each (N, k)."""
        there = [name for name in EXTRAS if name in self.part.members(f"views/{self.name}")]
        return {name: Extra(self._read(name), self._described(name)) for name in there}

    @cached_property
    def view_columns(self) -> tuple[Column, ...]:
        """Describe the second axis of `columns`."""
        return self._described("columns")

    @cached_property
    def constituent_columns(self) -> tuple[Column, ...]:
        """Describe the second axis of `constituents`."""
        return self._described("constituents")

    @property
    def column_names(self) -> tuple[str, ...]:
        """Name the second axis of `columns`."""
        return tuple(column.name for column in self.view_columns)

    @property
    def units(self) -> tuple[str, ...]:
        """Give the units of `columns`, "" where there is none."""
        return tuple(column.unit for column in self.view_columns)

    def column(self, name: str) -> NDArray[np.float32]:
        """Give one object-level column, (N,).

        Raises
        ------
        UserError
            If the view has no such column.
        """
        if name not in self.column_names:
            allowed = ", ".join(self.column_names)
            raise UserError(f"{self.part.place}: view {self.name!r} has no column {name!r}; it has {allowed}")
        return self.columns[:, self.column_names.index(name)]

    def read(self, rows: slice) -> ViewTable:
        """Read a contiguous range of rows; constituents come in one read, offsets begin at 0."""
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise ValueError(f"rows {rows} are not contiguous")
        stop = max(start, stop)
        offsets = self.offsets[start : stop + 1]
        constituents = self._read("constituents", slice(int(offsets[0]), int(offsets[-1])))
        rows = slice(start, stop)
        extras = {name: Extra(extra.values[rows], extra.columns) for name, extra in self.extras.items()}
        columns = self.columns[rows]
        return ViewTable(self.present[rows], columns, offsets - offsets[0], constituents, self.attributes, extras)

    def _read(self, array: str, rows: slice = slice(None)) -> NDArray[Any]:
        handle = self.constituents if array == "constituents" else None
        return self.part.read_array(f"views/{self.name}/{array}", rows, handle)

    def _described(self, array: str) -> tuple[Column, ...]:
        return self.part.described(f"views/{self.name}/{array}")


class Part:
    """A part on disk, or behind a URL; `open_part` makes it. Safe to hand to another process, which opens it anew."""

    def __init__(self, place: Place, digest: dict[str, Any]) -> None:
        self.place = place
        self.digest = digest
        self._views: dict[str, StoredView] = {}

    def __reduce__(self) -> tuple[Callable[[Place], "Part"], tuple[Place]]:
        """Pickle as the place: caches and file handles stay behind."""
        return open_part, (self.place,)

    def __repr__(self) -> str:
        """Show where it lies."""
        return f"Part({str(self.place)!r})"

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """Attributes of the Zarr group: sample, config, recipes, software ..."""
        attributes: dict[str, Any] = self.metadata()["attributes"]
        return attributes

    @property
    def path(self) -> Path:
        """Where it lies on disk."""
        return local(self.place)

    @property
    def first(self) -> int:
        """First event."""
        return int(self.digest["first"])

    @property
    def stop(self) -> int:
        """One past the last event."""
        return int(self.digest["stop"])

    @property
    def n_objects(self) -> int:
        """Number of objects, that is rows."""
        return int(self.digest["n_objects"])

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views, in the order of the recipes."""
        return tuple(self.digest["views"])

    @property
    def cost(self) -> tuple[CostRecord, ...]:
        """What the stages took, and the writing (of what is not a view's: as view "objects")."""
        return from_json([*self.attributes.get("cost", []), *self.digest["cost"]])

    def objects(self) -> dict[str, NDArray[Any]]:
        """Read the object columns, each (N,)."""
        return {name: self.read_array(f"objects/{name}") for name in self._object_names}

    def object_descriptions(self) -> tuple[Column, ...]:
        """Give name, unit and meaning of the object columns."""
        found = {name: self.metadata(f"objects/{name}")["attributes"] for name in self._object_names}
        return tuple(Column(name, a["unit"], a["description"]) for name, a in found.items())

    def view(self, name: str) -> StoredView:
        """Give a view; nothing is read yet.

        Raises
        ------
        UserError
            If the part has no such view.
        """
        if name not in self.digest["views"]:
            raise UserError(f"{self.place}: has no view {name!r}; it has {', '.join(self.views)}")
        return self._views.setdefault(name, StoredView(self, name))

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """Names of the stages whose state is kept."""
        return tuple(self.digest.get("checkpoints", {}))  # the first parts were written without

    def checkpoint(self, name: str) -> Checkpoint:
        """Read the state after a stage.

        Raises
        ------
        UserError
            If the part has none of this stage, or it is damaged.
        """
        if name not in self.checkpoints:
            found = ", ".join(self.checkpoints) or "none"
            raise UserError(f"{self.place}: has no checkpoint {name!r}; it has {found}")
        where = f"checkpoints/{name}"
        events, of_events = self._unpacked(f"{where}/events")
        particles, of_particles = self._unpacked(f"{where}/particles")
        descriptions = tuple(dict.fromkeys([*of_events, *of_particles]))
        return Checkpoint(events, self.read_array(f"{where}/offsets"), particles, descriptions)

    def _unpacked(self, group: str) -> tuple[dict[str, NDArray[Any]], list[Column]]:
        """Read the columns of a group that has one array (n, k) a type, with their descriptions."""
        columns: dict[str, NDArray[Any]] = {}
        descriptions: list[Column] = []
        for dtype in self.members(group):
            described, values = self.described(f"{group}/{dtype}"), self.read_array(f"{group}/{dtype}")
            if values.shape[1:] != (len(described),):
                shape = f"has shape {values.shape}, which does not fit its {len(described)} names"
                raise UserError(f"{self.place}: array {group}/{dtype} {shape}; make the part again")
            columns |= {column.name: values[:, i].copy() for i, column in enumerate(described)}
            descriptions += described
        return columns, descriptions

    def described(self, array: str) -> tuple[Column, ...]:
        """Describe the second axis of an array."""
        attributes = self.metadata(array)["attributes"]
        rows = zip(attributes["names"], attributes["units"], attributes["descriptions"], strict=True)
        return tuple(Column(*row) for row in rows)

    def metadata(self, node: str = "") -> dict[str, Any]:
        """Read a node's zarr.json, checked against its digest."""
        file = "/".join(filter(None, [DATA, node, "zarr.json"]))
        _, expected = self.digest["files"].get(file, (0, None))
        try:
            raw = bytes_of(self.place / file)
        except OSError as error:
            raise UserError(f"{self.place / file}: cannot be read ({error.strerror}); make the part again") from error
        if sha256(raw) != expected:
            raise UserError(f"{self.place / file}: does not fit its digest; the part is damaged, make it again")
        content = read_json(self.place / file)
        check_keys(self.place / file, content, {"attributes": dict})
        return content

    def open_array(self, name: str) -> zarr.Array[Any]:
        """Open an array such as "views/nominal/columns", after checking its metadata and the sizes of its files.

        Zarr itself takes a missing file for an array of fill values, and metadata as they are.
        """
        self.check_sizes(f"{DATA}/{name}/")
        self.metadata(name)
        place = self.place / DATA / name
        if not isinstance(place, Path):
            return zarr.open_array(str(place), mode="r")
        with zarr.config.set(COMPILED):
            return zarr.open_array(place, mode="r")  # of a path as text, Zarr would take `::` for a URL's

    def check_sizes(self, prefix: str = "") -> None:
        """Check that the files whose path begins with `prefix` are there, as long as they were written.

        Raises
        ------
        UserError
            If one is missing, or shorter or longer.
        """
        for file, (size, _) in self.digest["files"].items():
            if file.startswith(prefix) and size_of(self.place / file) != size:
                raise UserError(f"{self.place / file}: missing or not {size} bytes long; make the part again")

    def is_intact(self, group: str) -> bool:
        """Tell whether the files of a group (`views/nominal`) are as they were written, to the bit."""
        return self._are_as_written(file for file in self.digest["files"] if file.startswith(f"{DATA}/{group}/"))

    def has_intact_groups(self) -> bool:
        """Tell whether the metadata that views and checkpoints share (`data.zarr/views/zarr.json`) are, too."""
        return self._are_as_written(file for file in self.digest["files"] if file.count("/") < 3)

    def _are_as_written(self, files: Iterable[str]) -> bool:
        expected = ((self.place / file, self.digest["files"][file]) for file in files)
        return all(size_of(file) == size and sha256(file.read_bytes()) == digest for file, (size, digest) in expected)

    def read_array(self, name: str, rows: slice = slice(None), handle: zarr.Array[Any] | None = None) -> NDArray[Any]:
        """Read rows of an array, through `handle` if it is open already."""
        handle = self.open_array(name) if handle is None else handle
        try:
            return np.asarray(handle[rows])
        except MemoryError:
            raise  # the array may be as it should be
        except Exception as error:  # Zarr's codecs raise what they like for bytes that they cannot decode
            message = f"{self.place}: array {name} cannot be read ({error})"
            raise UserError(f"{message}; `resim validate` lists the damage, make the part again") from error

    @cached_property
    def _object_names(self) -> list[str]:
        return self.members("objects")

    def members(self, group: str) -> list[str]:
        """Name the arrays of a group, sorted."""
        prefix = f"{DATA}/{group}/"
        names = {file.removeprefix(prefix).split("/")[0] for file in self.digest["files"] if file.startswith(prefix)}
        return sorted(names - {"zarr.json"})


def refuse_in_part(path: Path) -> None:
    """Refuse a place within a part: what lies there goes when the part is made again.

    Raises
    ------
    UserError
        If it is one.
    """
    path = Path(os.path.realpath(path))  # `resolve` raises what it likes where links go round in a circle
    for folder in (path, *path.parents):
        if (folder / DIGEST_FILE).is_file():
            raise UserError(f"--out {path}: lies in the part {folder}, and would go with it; choose another place")


def open_part(path: Place | str) -> Part:
    """Open a part, given its folder or its URL.

    Raises
    ------
    UserError
        If there is no part, it has another format or version, or its metadata is damaged.
    """
    path = place_of(path)
    if not (path / DIGEST_FILE).is_file():
        raise UserError(f"{path}: is no part of a data set (it has no {DIGEST_FILE})")
    digest = read_json(path / DIGEST_FILE)
    check_version(path / DIGEST_FILE, digest, FORMAT)
    if not is_sealed(digest):
        raise UserError(f"{path / DIGEST_FILE}: does not fit its own digest; the part is damaged, make it again")
    check_keys(path / DIGEST_FILE, {"checkpoints": {}, **digest}, _DIGEST_KINDS)  # the first parts have no checkpoints
    check_keys(path / DIGEST_FILE, digest["files"], dict.fromkeys(digest["files"], list), "files: ")
    part = Part(path, digest)
    _ = part.attributes  # read and checked now rather than somewhere later
    return part


def check_version(path: Place, content: dict[str, Any], expected: str) -> None:
    """Refuse another format, or a version that this code does not read."""
    if content.get("format") != expected:
        raise UserError(f"{path}: has format {content.get('format')!r}, not {expected!r}; was another file meant?")
    if content.get("version") != VERSION:
        found = f"has version {content.get('version')!r} of the format {expected}, and this program reads {VERSION}"
        raise OtherVersion(f"{path}: {found}. Use the program's version that wrote it, or make the part again")


def read_objects(part: Part) -> ObjectTable:
    """Read the objects of a part with their descriptions."""
    return ObjectTable(part.objects(), part.object_descriptions())


def schema_of(view: StoredView) -> Schema:
    """Give the schema that a view was written with."""
    return Schema(view.view_columns, view.constituent_columns)


def part_digests(
    part: Part, views: Sequence[str] | None = None, checkpoints: Sequence[str] | None = None
) -> dict[str, Any]:
    """Compute the digests of a part's data anew: of the objects, and of some views and checkpoints (default all).

    Returns
    -------
    dict
        {"objects": {block: digest}, "checkpoints": {name: {block: digest}}, "views": {name: {block: digest}}}

    Raises
    ------
    UserError
        If something cannot be read.
    """
    objects, attributes = read_objects(part), part.attributes
    kept = part.checkpoints if checkpoints is None else checkpoints
    return {
        "objects": digest_objects(objects, attributes),
        "checkpoints": {name: digest_checkpoint(part.checkpoint(name), attributes) for name in kept},
        "views": {name: _view_digest(part.view(name), objects) for name in (part.views if views is None else views)},
    }


def _view_digest(view: StoredView, objects: ObjectTable) -> BlockDigests:
    return digest_view(view.read(slice(None)), objects, schema_of(view), view.part.attributes)
