"""Writing a part: under a temporary name, renamed when whole."""

import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

from resim.cost import Meter, from_json, to_json
from resim.errors import UserError
from resim.store.digests import BlockDigests, digest_checkpoint, digest_objects, digest_view
from resim.store.encoding import write_array, write_group
from resim.store.files import (
    copy_tree,
    link_tree,
    locked,
    read_json,
    remove,
    replace_folder,
    sealed,
    sha256,
    storage_errors,
    sync,
    write_json,
)
from resim.store.invariants import Violation, check_checkpoint, check_objects, check_view
from resim.store.part import DATA, DIGEST_FILE, VIEW_ARRAYS, Part, open_part, part_name, schema_of
from resim.store.tables import FORMAT, VERSION, Checkpoint, Column, ObjectTable, Schema, ViewTable, packed

REQUIRED_ATTRIBUTES = ("sample", "first", "stop", "block_size", "recipes", "splits")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")


def write_part(
    directory: Path,
    objects: ObjectTable,
    views: dict[str, ViewTable],
    schema: Schema,
    attributes: dict[str, Any],
    *,
    checkpoints: Mapping[str, Checkpoint] | None = None,
    keep: Part | None = None,
    keep_views: Sequence[str] = (),
    keep_checkpoints: Sequence[str] = (),
    scratch: Path | None = None,
) -> Part:
    """Write the part of events [attributes["first"], attributes["stop"]) into a folder, whole or not at all.

    It is written under a temporary name, put on the disk, and renamed; what has its name is replaced. What killed
    writers of the same part left behind is removed; a lock file keeps living ones apart.

    Parameters
    ----------
    directory
        Folder of the data set; made if it is not there.
    objects, views, schema
        The arrays. Every view has a row for every object.
    attributes
        JSON; at least `REQUIRED_ATTRIBUTES`. Format and version are added.
    checkpoints
        Stage -> the state after it; as many events as there are, whether they give objects or not.
    keep, keep_views, keep_checkpoints
        An existing part of the same events and objects, which was validated, and those of its views and checkpoints
        that are taken over as they are (by hard link) beside the ones in `views` and `checkpoints`.
    scratch
        A folder on a disk of this machine: the part is written there, file by file, and goes to its own disk in one go.

    Raises
    ------
    UserError
        If a disk is full, a folder cannot be written, or another process writes the same part or has just done so.
    ValueError
        If the arrays break an invariant of the format, or the kept part is of other objects.
    """
    attributes = {"format": FORMAT, "version": VERSION, **attributes}
    checkpoints = checkpoints or {}
    _check_input(objects, views, schema, attributes, checkpoints)
    directory = Path(directory)
    target = directory / part_name(attributes["first"], attributes["stop"])
    with storage_errors(directory), _replacing(target, scratch) as folder:
        if keep is not None and read_json(keep.path / DIGEST_FILE) != keep.digest:
            raise UserError(f"{keep.path}: another process replaced it meanwhile; run the command again")
        writer = _Writer(folder, objects, schema, attributes)
        writer.write_head()
        if checkpoints or keep_checkpoints:
            writer.open_checkpoints()
        for name, checkpoint in checkpoints.items():
            writer.write_checkpoint(name, checkpoint)
        for name in keep_checkpoints:
            writer.keep_checkpoint(name, keep)
        for name in _in_order([*views, *keep_views], attributes):
            if name in views:
                writer.write_view(name, views[name])
            else:
                writer.keep_view(name, keep)
        writer.finish()
    return open_part(target)


@contextmanager
def _replacing(target: Path, scratch: Path | None) -> Iterator[Path]:
    """Give a new folder to be filled by this process alone; put it in the part's place, or remove it on an error."""
    temporary = target.with_name(f".{target.name}-{socket.gethostname()}-{os.getpid()}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with _alone_with(target):
        try:
            with _filled(temporary, scratch) as folder:
                yield folder
            # All at once: each fsync waits for a commit.
            sync([temporary, *temporary.glob("**/*")])
            replace_folder(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


@contextmanager
def _alone_with(target: Path) -> Iterator[None]:
    """Let no other process write a part, and remove what killed ones left beside it."""
    busy = f"{target}: another process is writing this part; wait for it or stop it, then run the command again"
    with locked(_lock_of(target), busy):
        for leftover in target.parent.glob(f".{target.name}-*"):
            remove(leftover)
        yield


def _lock_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.lock")


def remove_leftovers(target: Path) -> None:
    """Remove what a writer left that was killed when the part was in its place already, unless one is at work now."""
    if os.path.lexists(_lock_of(target)):
        with suppress(UserError, OSError), _alone_with(target):
            pass


@contextmanager
def _filled(temporary: Path, scratch: Path | None) -> Iterator[Path]:
    """Give the folder to be filled: `temporary` itself, or one in `scratch` that is copied there once it is full."""
    if scratch is None:
        temporary.mkdir()
        yield temporary
        return
    with ExitStack() as stack:
        with storage_errors(scratch):
            # Within a folder that nobody else may enter, for scratch disks are everybody's.
            own = stack.enter_context(tempfile.TemporaryDirectory(prefix="resim-", dir=scratch))
            folder = Path(own) / "part"
            folder.mkdir()
            yield folder
        copy_tree(folder, temporary)


def _check_input(
    objects: ObjectTable,
    views: dict[str, ViewTable],
    schema: Schema,
    attributes: dict[str, Any],
    checkpoints: Mapping[str, Checkpoint],
) -> None:
    missing = [name for name in REQUIRED_ATTRIBUTES if name not in attributes]
    if missing:
        raise ValueError(f"attributes lack {', '.join(missing)}")
    first, stop, block = (attributes[name] for name in ("first", "stop", "block_size"))
    if not 0 <= first < stop or first % block or stop % block:
        raise ValueError(f"events [{first}, {stop}) are not whole blocks of {block}")
    bad = [name for name in (*views, *checkpoints) if not _NAME.fullmatch(name)]
    if bad:
        raise ValueError(f"name {bad[0]!r} does not match {_NAME.pattern}")
    violations = check_objects(objects, attributes)
    for name, view in views.items():
        found = chain(check_view(view, objects, attributes), _check_widths(view, schema))
        violations = chain(violations, _within(f"views/{name}", found))
    for name, checkpoint in checkpoints.items():
        violations = chain(violations, _within(f"checkpoints/{name}", check_checkpoint(checkpoint, attributes)))
    for array, what in violations:
        raise ValueError(f"{array}: {what}")


def _within(group: str, violations: Iterable[Violation]) -> list[Violation]:
    return [(f"{group}/{array}", what) for array, what in violations]


def _check_widths(view: ViewTable, schema: Schema) -> Iterator[tuple[str, str]]:
    for array, columns in (("columns", schema.view_columns), ("constituents", schema.constituent_columns)):
        if getattr(view, array).shape[1] != len(columns):
            yield array, f"has {getattr(view, array).shape[1]} columns, and the schema {len(columns)}"


def _in_order(names: list[str], attributes: dict[str, Any]) -> list[str]:
    """Order views as the recipes do, so that a part does not show which of its views were kept."""
    order = list(attributes["recipes"])
    return sorted(names, key=lambda name: order.index(name) if name in order else len(order))


class _Writer:
    """Writes the folder of one part and collects what goes into its digest file."""

    def __init__(self, folder: Path, objects: ObjectTable, schema: Schema, attributes: dict[str, Any]) -> None:
        self.folder = folder
        self.data = folder / DATA
        self.objects = objects
        self.schema = schema
        self.attributes = attributes
        self.meter = Meter()
        self.files: dict[str, tuple[int, str]] = {}
        self.digests: dict[str, BlockDigests] = {}
        self.checkpoint_digests: dict[str, BlockDigests] = {}
        self.n_present: dict[str, int] = {}

    @property
    def _events(self) -> int:
        return int(self.attributes["stop"] - self.attributes["first"])

    def write_head(self) -> None:
        """Write the root group and the objects."""
        with self.meter.measure("write", "objects", self._events) as measurement:
            write_group(self.data, self.attributes)
            write_group(self.data / "views", {})
            write_group(self.data / "objects", {})
            described = {column.name: column for column in self.objects.descriptions}
            for name, values in self.objects.columns.items():
                attributes = {"unit": described[name].unit, "description": described[name].description}
                write_array(self.data / "objects" / name, values, attributes)
            self.object_digests = digest_objects(self.objects, self.attributes)
            files = [*self.data.glob("objects/**/*"), self.data / "zarr.json", self.data / "views" / "zarr.json"]
            measurement.bytes_written = self._register(files)
            measurement.objects = len(self.objects)

    def open_checkpoints(self) -> None:
        """Write the group of checkpoints."""
        folder = self.data / "checkpoints"
        write_group(folder, {})
        self._register([folder / "zarr.json"])

    def write_checkpoint(self, name: str, checkpoint: Checkpoint) -> None:
        """Write a checkpoint's arrays."""
        folder = self.data / "checkpoints" / name
        with self.meter.measure("write", f"checkpoints/{name}", len(checkpoint)) as measurement:
            _write_checkpoint(folder, checkpoint)
            self.checkpoint_digests[name] = digest_checkpoint(checkpoint, self.attributes)
            measurement.bytes_written = self._register(folder.glob("**/*"))

    def keep_checkpoint(self, name: str, keep: Part | None) -> None:
        """Take over a checkpoint's files, digests and cost."""
        kept = self._take_over(f"checkpoints/{name}", keep)
        self.checkpoint_digests[name] = kept.digest["checkpoints"][name]

    def write_view(self, name: str, view: ViewTable) -> None:
        """Write a view's arrays."""
        folder = self.data / "views" / name
        with self.meter.measure("write", name, self._events) as measurement:
            write_group(folder, view.attributes)
            columns = {"columns": self.schema.view_columns, "constituents": self.schema.constituent_columns}
            for array in VIEW_ARRAYS:
                write_array(folder / array, getattr(view, array), _array_attributes(columns.get(array, ())))
            for array, extra in view.extras.items():
                write_array(folder / array, extra.values, _array_attributes(extra.columns))
            self.digests[name] = digest_view(view, self.objects, self.schema, self.attributes)
            self.n_present[name] = measurement.objects = int(view.present.sum())
            measurement.bytes_written = self._register(folder.glob("**/*"))

    def keep_view(self, name: str, keep: Part | None) -> None:
        """Take over a view's files, digests and cost from a part of the same objects."""
        if keep is not None:
            self._check_keep(keep, name)
        kept = self._take_over(f"views/{name}", keep)
        self.digests[name] = kept.digest["views"][name]
        self.n_present[name] = kept.digest["n_present"][name]

    def _take_over(self, group: str, keep: Part | None) -> Part:
        """Link the files of a group, and note their digests and what they cost."""
        if keep is None:
            raise ValueError(f"{group} is to be kept, and no part is given to keep it from")
        link_tree(keep.path / DATA / group, self.data / group)
        files = {f: entry for f, entry in keep.digest["files"].items() if f.startswith(f"{DATA}/{group}/")}
        self.files |= files
        owner = _owner_of(next(iter(files)))
        for record in from_json(keep.digest["cost"]):
            if record.view == owner:
                self.meter.record(record)
        return keep

    def _check_keep(self, keep: Part, name: str) -> None:
        if keep.digest["objects"] != self.object_digests or schema_of(keep.view(name)) != self.schema:
            raise ValueError(f"{keep.path}: view {name} is of other objects or columns and cannot be kept")

    def finish(self) -> None:
        """Write the digest file, last of all."""
        owners = [*(f"checkpoints/{name}" for name in self.checkpoint_digests), *self.digests]
        sizes = {name: sum(n for file, (n, _) in self.files.items() if _owner_of(file) == name) for name in owners}
        content = {
            "format": FORMAT,
            "version": VERSION,
            "first": self.attributes["first"],
            "stop": self.attributes["stop"],
            "n_objects": len(self.objects),
            "n_present": self.n_present,
            "bytes": sizes,
            "objects": self.object_digests,
            "checkpoints": self.checkpoint_digests,
            "views": self.digests,
            "cost": to_json(self.meter.records),
            "files": {file: list(entry) for file, entry in self.files.items()},
        }
        write_json(self.folder / DIGEST_FILE, sealed(content))

    def _register(self, paths: Iterable[Path]) -> int:
        """Note the sizes and digests of new files; give the bytes."""
        files = sorted(path for path in paths if path.is_file())
        entries = {path.relative_to(self.folder).as_posix(): _entry(path) for path in files}
        self.files |= entries
        return sum(size for size, _ in entries.values())


def _entry(path: Path) -> tuple[int, str]:
    raw = path.read_bytes()
    return len(raw), sha256(raw)


def _write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    described = {column.name: column for column in checkpoint.descriptions}
    write_group(folder, {})
    write_array(folder / "offsets", checkpoint.offsets, {})
    for group, columns in (("events", checkpoint.events), ("particles", checkpoint.particles)):
        write_group(folder / group, {})
        for dtype, (names, values) in packed(columns).items():
            write_array(folder / group / dtype, values, _array_attributes([described[name] for name in names]))


def _owner_of(file: str) -> str:
    """Name what a file belongs to, as sizes and costs do: a view, "checkpoints/<stage>", or "" for all else."""
    _, *groups, _ = file.split("/")
    if len(groups) < 2 or groups[0] == "objects":
        return ""
    return groups[1] if groups[0] == "views" else f"checkpoints/{groups[1]}"


def _array_attributes(columns: Sequence[Column]) -> dict[str, Any]:
    if not columns:
        return {}
    return {
        "names": [column.name for column in columns],
        "units": [column.unit for column in columns],
        "descriptions": [column.description for column in columns],
    }
