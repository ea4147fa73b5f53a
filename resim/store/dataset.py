"""A data set: the parts of one sample that its manifest lists."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, get_origin

import numpy as np
from numpy.typing import NDArray

from resim.cost import CostRecord, add
from resim.errors import UserError
from resim.store.digests import BlockDigests, combine
from resim.store.files import check_keys, is_sealed, locked, read_json, replace_json, sealed, storage_errors
from resim.store.part import Part, check_version, open_part, part_digests, part_name, schema_of
from resim.store.places import Place, follow, local, place_of
from resim.store.tables import VERSION

MANIFEST_FILE = "manifest.json"
MANIFEST_FORMAT = "resim-manifest"
_SAME = (
    "lane",
    "sample",
    "seed",
    "block_size",
    "splits",
    "recipes",
    "checkpoint_recipes",
)  # what all parts of a data set agree in


@dataclass(frozen=True)
class PartEntry:
    """What the manifest says of a part."""

    name: str
    """Path of the part, relative to the manifest."""
    first: int
    stop: int
    n_objects: int
    n_present: dict[str, int]
    """View -> objects that exist in it."""
    bytes: dict[str, int]
    """View, or "checkpoints/<stage>" -> bytes on disk."""
    digests: dict[str, Any]
    """As of `dataset_digest` for this part alone."""


_KINDS = {"sample": str, "views": list, "recipes": dict, "digest": dict, "parts": list}
_ENTRY_KINDS: dict[str, Any] = {field.name: get_origin(field.type) or field.type for field in fields(PartEntry)}


@dataclass(frozen=True)
class Manifest:
    """The parts of a data set, in the order of their events."""

    place: Place
    """The manifest's own file."""
    sample: str
    views: tuple[str, ...]
    recipes: dict[str, str]
    digest: dict[str, Any]
    """As of `dataset_digest`."""
    parts: tuple[PartEntry, ...]

    @property
    def path(self) -> Path:
        """Where it lies on disk."""
        return local(self.place)

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """Give the ranges of events between parts that no part covers."""
        return [(a.stop, b.first) for a, b in pairwise(self.parts) if a.stop < b.first]


class Dataset:
    """The parts of a sample, read together."""

    def __init__(self, manifest: Manifest, parts: Sequence[Part]) -> None:
        self.manifest = manifest
        self.parts = tuple(parts)

    @property
    def sample(self) -> str:
        """Name of the sample."""
        return self.manifest.sample

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views, which every part has."""
        return self.manifest.views

    @property
    def n_objects(self) -> int:
        """Number of objects, that is rows, in all parts."""
        return sum(part.n_objects for part in self.parts)

    @cached_property
    def cost(self) -> tuple[CostRecord, ...]:
        """What each stage took for each view, summed over the parts."""
        return add(record for part in self.parts for record in part.cost)

    def objects(self) -> dict[str, NDArray[Any]]:
        """Read the object columns of all parts, each (n_objects,)."""
        tables = [part.objects() for part in self.parts]
        return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}

    def view_columns(self, name: str) -> NDArray[np.float32]:
        """Read a view's object-level columns of all parts, (n_objects, K)."""
        return np.concatenate([part.view(name).columns for part in self.parts])

    def present(self, name: str) -> NDArray[np.bool_]:
        """Tell of every object whether it exists in a view, (n_objects,)."""
        return np.concatenate([part.view(name).present for part in self.parts])


def dataset_digest(
    parts: Sequence[Part],
    views: Sequence[str] | None = None,
    *,
    recompute: bool = False,
    progress: Callable[[Sequence[Part]], Iterable[Part]] = iter,
) -> dict[str, Any]:
    """Give the digest of some parts' content, which depends neither on their order nor on where they are cut.

    Parameters
    ----------
    parts
        Parts of one data set.
    views
        The views that count; by default all, and the checkpoints.
    recompute
        Read all data, instead of taking the digests that were computed when the parts were written.
    progress
        Wraps the parts while they are read, as `tqdm` does.

    Returns
    -------
    dict
        `digest` (of everything), `objects`, `views` (name -> digest of that view alone), and likewise `checkpoints`, if
        there are any.

    Raises
    ------
    UserError
        If a part lacks a view, or they have other checkpoints.
    """
    found = [part_digests(part) if recompute else part.digest for part in progress(parts)]
    names = list(found[0]["views"]) if views is None and found else list(views or [])
    for part, digests in zip(parts, found, strict=True):
        if views is None and set(digests["views"]) != set(names):
            raise _disagreement(parts[0], part, "views")
        for name in names:
            part.view(name)
    content: dict[str, Any] = {
        "objects": _joined(digests["objects"] for digests in found),
        "views": {name: _joined(digests["views"][name] for digests in found) for name in names},
    }
    checkpoints = _same_checkpoints(parts) if views is None else ()
    if checkpoints:
        content["checkpoints"] = {name: _joined(d["checkpoints"][name] for d in found) for name in checkpoints}
    return {"digest": combine(content), **content}


def _joined(blocks: Iterable[BlockDigests]) -> str:
    return combine({block: digest for part in blocks for block, digest in part.items()})


def _same_checkpoints(parts: Sequence[Part]) -> tuple[str, ...]:
    for part in parts:
        if set(part.checkpoints) != set(parts[0].checkpoints):
            raise _disagreement(parts[0], part, "checkpoints")
    return parts[0].checkpoints if parts else ()


def write_manifest(directory: Path | str, parts: Sequence[Path | str]) -> Manifest:
    """Write the manifest of some parts into a folder; the old one stays until the new one is whole.

    The files of the parts must be there in their sizes. Their content is not read: a flipped bit is for `validate`.

    Raises
    ------
    UserError
        If there is no part, a file of a part is missing or cut short, the manifest cannot be written, two parts
        overlap, or two parts differ in sample, recipes, block size, splits, seed or columns.
    """
    manifest = _listing(Path(directory), parts)
    with _alone_with_manifest(Path(directory)):
        replace_json(manifest.path, sealed(_to_json(manifest)))
    return manifest


def extend_manifest(directory: Path | str, parts: Sequence[Path]) -> Manifest:
    """Write the manifest of some parts and of those that it lists already, where the new ones do not replace them.

    Several processes may do so at once: each adds to what the others listed.

    Raises
    ------
    UserError
        As `write_manifest`; or if the manifest that is there is damaged.
    """
    directory = Path(directory)
    with _alone_with_manifest(directory):
        manifest = _listing(directory, _with_earlier_parts(directory, parts))
        replace_json(manifest.path, sealed(_to_json(manifest)))
    return manifest


def check_extension(
    directory: Path, ranges: Sequence[tuple[int, int]], attributes: Mapping[str, Any], views: Sequence[str]
) -> None:
    """Refuse, before anything is made, to extend a data set by parts that would not fit, or take others out of it.

    Parameters
    ----------
    directory
        Where its manifest is, if there is one yet.
    ranges
        The events of the new parts, one after the other without gaps.
    attributes
        Theirs, with the recipes of all views that could be made.
    views
        Those that will be.

    Raises
    ------
    UserError
        If it is of another sample, a range is of some events of a listed part and not of all, a listed part is missing
        and not in a range, one that stays has other views or was made otherwise, or the manifest is damaged.
    """
    if not (directory / MANIFEST_FILE).is_file():
        return
    manifest = read_manifest(directory)
    if manifest.sample != attributes["sample"]:
        what = f"holds the sample {manifest.sample!r}, not {attributes['sample']!r}"
        raise UserError(f"{directory}: {what}; choose another --out")
    staying = [entry for entry in manifest.parts if _stays(directory, entry, ranges[0][0], ranges[-1][1])]
    if staying:
        there = [(directory / part_name(*span)).exists() for span in ranges]
        _check_fit(open_part(directory / staying[0].name), attributes, views, all(there))


def _stays(directory: Path, entry: PartEntry, first: int, stop: int) -> bool:
    """Tell whether a listed part stays as it is, where parts of these events are made."""
    where, events = directory / entry.name, f"{entry.first}:{entry.stop}"
    made = max(0, min(stop, entry.stop) - max(first, entry.first))
    if 0 < made < entry.stop - entry.first:
        what = f"has the events {events}, of which only {made} would be made again, and the others lost"
        raise UserError(f"{where}: {what}; choose --events and --shard-size so that all of them are, or none")
    if not made and not where.exists():
        remedy = f"make it again (--events {events}), or list what is there with `resim manifest`"
        raise UserError(f"{where}: is listed in {MANIFEST_FILE} and missing; {remedy}")
    return not made


def _check_fit(staying: Part, new: Mapping[str, Any], views: Sequence[str], all_there: bool) -> None:
    """Refuse to make parts that will not agree with one that stays; those that are there keep views that are good."""
    remedy = "make all events of the data set in one command, or choose another --out"
    old = staying.attributes["recipes"]
    others = [key for key in _SAME if key != "recipes" and staying.attributes.get(key) != new[key]]
    others += [f"view {name!r}" for name in old if new["recipes"].get(name, "") != old[name]]
    if others:
        raise UserError(f"{staying.path}: stays as it is, and was made by another config ({others[0]}); {remedy}")
    added = [name for name in views if name not in old]
    if added:
        raise UserError(f"{staying.path}: stays as it is, without view {added[0]!r}; {remedy}")
    lacking = [name for name in old if name not in views]
    if lacking and not all_there:
        what = f"has view {lacking[0]!r}, which new events would lack"
        raise UserError(f"{staying.path}: {what}; name in --views all that the data set has: {', '.join(old)}")


@contextmanager
def _alone_with_manifest(directory: Path) -> Iterator[None]:
    """Wait until no other process reads the folder's manifest to write it again."""
    with storage_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with locked(directory / f".{MANIFEST_FILE}.lock"):
            yield


def _with_earlier_parts(directory: Path, made: Sequence[Path]) -> list[Path]:
    if not (directory / MANIFEST_FILE).is_file():
        return list(made)
    new = [open_part(path) for path in made]
    listed = [directory / entry.name for entry in read_manifest(directory).parts]
    old = [open_part(path) for path in listed if path not in made and path.exists()]
    apart = [p.path for p in old if all(p.stop <= q.first or q.stop <= p.first for q in new)]
    return sorted([*made, *apart])


def _listing(directory: Path, parts: Sequence[Path | str]) -> Manifest:
    """Make the manifest of parts that are whole and belong together."""
    if not parts:
        raise UserError(f"{directory}: no parts to list; give at least one part folder")
    opened = sorted((open_part(path) for path in parts), key=lambda part: part.first)
    check_agreement(opened)
    for part in opened:
        part.check_sizes()
    first = opened[0].attributes
    return Manifest(
        place=directory / MANIFEST_FILE,
        sample=first["sample"],
        views=opened[0].views,
        recipes=first["recipes"],
        digest=dataset_digest(opened),
        parts=tuple(_entry(_way(directory, part), part) for part in opened),
    )


def read_manifest(path: Place | str) -> Manifest:
    """Read a manifest, given its file or its folder, or a URL of either; the parts are not looked at.

    Raises
    ------
    UserError
        If there is none, it has another version, or it is damaged.
    """
    path = place_of(path)
    is_file = path.suffix == ".json" and path.is_file()  # web servers show folders as files, too
    path = path if is_file else path / MANIFEST_FILE
    if not path.is_file():
        raise UserError(f"{path.parent}: is no data set (it has no {MANIFEST_FILE}); write one with `resim manifest`")
    content = read_json(path)
    check_version(path, content, MANIFEST_FORMAT)
    if not is_sealed(content):
        raise UserError(f"{path}: does not fit its own digest; it is damaged, write it again with `resim manifest`")
    check_keys(path, content, _KINDS)
    entries = tuple(_read_entry(path, i, entry) for i, entry in enumerate(content["parts"]))
    return Manifest(path, content["sample"], tuple(content["views"]), content["recipes"], content["digest"], entries)


def _read_entry(path: Place, i: int, entry: Any) -> PartEntry:
    check_keys(path, entry, _ENTRY_KINDS, f"parts[{i}] ")
    unknown = sorted(entry.keys() - _ENTRY_KINDS.keys())
    if unknown:
        raise UserError(f"{path}: parts[{i}] has unknown {', '.join(unknown)}; it is not of this format, make it again")
    return PartEntry(**entry)


def open_dataset(path: Place | str) -> Dataset:
    """Open a data set, given its folder or its manifest, on disk or by a URL that fsspec reads (`s3://...`).

    Raises
    ------
    UserError
        If there is no manifest, a part is missing or damaged, or a part is not what the manifest says.
    """
    manifest = read_manifest(path)
    parts = [open_part(follow(manifest.place.parent, entry.name)) for entry in manifest.parts]
    for part, entry in zip(parts, manifest.parts, strict=True):
        wrong = differences(part, entry)
        if wrong:
            raise UserError(f"{part.place}: {wrong[0]}; write the manifest again with `resim manifest`")
    return Dataset(manifest, parts)


def differences(part: Part, entry: PartEntry) -> list[str]:
    """Tell in what a part differs from what the manifest says of it, except in size."""
    actual, expected = asdict(_entry(entry.name, part)), asdict(entry)
    keys = [key for key in actual if key != "bytes" and actual[key] != expected[key]]
    return [f"{key} is not as {MANIFEST_FILE} says" for key in keys]


def _way(directory: Path, part: Part) -> str:
    # resolved: a way up (..) out of a folder that is a link starts where the folder really lies
    folder = Path(os.path.relpath(part.path.parent.resolve(), directory.resolve()))
    return (folder / part.path.name).as_posix()


def _entry(name: str, part: Part) -> PartEntry:
    digest = part.digest
    counts = digest["n_present"], digest["bytes"]
    return PartEntry(name, part.first, part.stop, part.n_objects, *counts, dataset_digest([part]))


def _to_json(manifest: Manifest) -> dict[str, Any]:
    content = {key: value for key, value in asdict(manifest).items() if key != "place"}
    return {"format": MANIFEST_FORMAT, "version": VERSION, **content}


def check_agreement(parts: Sequence[Part]) -> None:
    """Refuse parts that overlap or were not made by one recipe; `parts` are sorted by their first event."""
    for key in _SAME:  # first those of which others follow
        for part in parts[1:]:
            if part.attributes.get(key) != parts[0].attributes.get(key):
                raise _disagreement(parts[0], part, key)
    for a, b in pairwise(parts):
        if b.first < a.stop:
            raise UserError(f"{a.path} and {b.path}: both have event {b.first}; list only one of them")
    _same_checkpoints(parts)
    columns = _columns(parts[0])
    for part in parts[1:]:
        if part.views != parts[0].views:
            raise _disagreement(parts[0], part, "views")
        if _columns(part) != columns:
            raise _disagreement(parts[0], part, "columns")


def _columns(part: Part) -> list[Any]:
    return [part.object_descriptions(), *(schema_of(part.view(name)) for name in part.views)]


def _disagreement(a: Part, b: Part, what: str) -> UserError:
    detail = "".join(_differing(a, b, what))
    return UserError(
        f"{a.path} and {b.path}: differ in {what}{detail}; make all parts with one config, or list one kind"
    )


def _differing(a: Part, b: Part, what: str) -> Iterator[str]:
    """Name the views whose recipes differ, or show the values where they are short."""
    left, right = (
        set(getattr(p, what)) if what in ("views", "checkpoints") else p.attributes.get(what) for p in (a, b)
    )
    if isinstance(left, dict) and isinstance(right, dict):
        yield f" of {', '.join(sorted(k for k in {*left, *right} if left.get(k) != right.get(k)))}"
    elif isinstance(left, set) and isinstance(right, set):
        yield f" ({', '.join(sorted(left ^ right))} only in one)"
    elif left != right:
        yield f" ({left!r} and {right!r})"
