"""Finding damage: reads everything, and names the part and the array at fault."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from resim.errors import UserError
from resim.store.dataset import Manifest, dataset_digest, differences, read_manifest
from resim.store.digests import BlockDigests, block_numbers, digest_checkpoint, digest_objects, digest_view
from resim.store.files import sha256
from resim.store.invariants import check_checkpoint, check_objects, check_view
from resim.store.part import DATA, DIGEST_FILE, VIEW_ARRAYS, Part, open_part, read_objects, schema_of
from resim.store.places import size_of
from resim.store.tables import EXTRAS, FORMAT, ObjectTable

_UNFIT = (LookupError, TypeError, ValueError, AttributeError, OSError)  # fitting checksums, not the format; unreadable
Progress = Callable[[Sequence[Path]], Iterable[Path]]  # `tqdm` is one


@dataclass(frozen=True)
class Problem:
    """Something wrong with a data set."""

    part: str
    """Name of the part's folder; of the manifest, where it is not about one part."""
    array: str
    """Path within the part, such as views/nominal/columns or digest.json."""
    what: str
    warning: bool = False
    """Worth knowing, and no damage."""

    def __str__(self) -> str:
        """Say it in one line."""
        return ": ".join(filter(None, ["warning" if self.warning else "", self.part, self.array, self.what]))


def validate(path: Path | str, progress: Progress = iter) -> list[Problem]:
    """Check a data set, or one part, down to the last byte.

    Parameters
    ----------
    path
        Folder of a data set, its manifest, or a part.
    progress
        Wraps the parts while they are gone through, as `tqdm` does.

    Returns
    -------
    list of Problem
        Empty if all is well. Nothing that is damaged makes this raise; a path that is no data set does.
    """
    path = Path(path)
    if (path / DIGEST_FILE).exists():
        return [problem for part in progress([path]) for problem in validate_part(part)]
    return list(_validate_dataset(path, progress))


def validate_part(path: Path | str) -> list[Problem]:
    """Check one part: files against their digests, every chunk, every invariant, the content against its digests."""
    path = Path(path)
    try:
        part = open_part(path)
    except (UserError, *_UNFIT) as error:
        return [Problem(path.name, DIGEST_FILE, str(error))]
    found: list[tuple[str, str]] = []
    try:
        found.extend(_check_part(part))  # what comes before an error stays
    except (UserError, *_UNFIT) as error:
        found.append(("", f"the part cannot be checked further ({error!r}); make it again"))
    return [Problem(path.name, array, what) for array, what in found]


def _check_part(part: Part) -> Iterator[tuple[str, str]]:
    damaged = set()
    for array, what in _check_files(part):
        damaged.add(array)
        yield array, what
    yield from _check_content(part, damaged)
    yield from _check_checkpoints(part, damaged)


def _validate_dataset(path: Path, progress: Progress) -> Iterator[Problem]:
    name = path.name if path.is_file() else "manifest.json"
    if not path.is_file() and not (path / name).exists():
        read_manifest(path)  # raises: this is no data set
    try:
        manifest = read_manifest(path)
    except UserError as error:
        yield Problem(name, "", str(error))
        return
    folder = manifest.path.parent
    entries = {folder / entry.name: entry for entry in manifest.parts}
    sound = []
    for part_path in progress(list(entries)):
        problems = validate_part(part_path)
        yield from problems
        if not problems:
            part = open_part(part_path)
            sound.append(part)
            yield from (Problem(part_path.name, DIGEST_FILE, what) for what in differences(part, entries[part_path]))
    if len(sound) == len(entries):
        yield from (Problem(name, "digest", what) for what in _check_digest(sound, manifest))
    yield from _look_around(manifest, set(entries))


def _check_digest(parts: Sequence[Part], manifest: Manifest) -> Iterator[str]:
    try:
        if dataset_digest(parts) != manifest.digest:
            yield "is not the digest of the parts"
    except UserError as error:  # parts that were made again, with other views
        yield str(error)


def _look_around(manifest: Manifest, listed: set[Path]) -> Iterator[Problem]:
    for first, stop in manifest.gaps:
        yield Problem(manifest.path.name, "parts", f"no part covers the events [{first}, {stop})", warning=True)
    for stray in sorted(set(manifest.path.parent.glob("part-*")) - listed):
        yield Problem(stray.name, "", f"is not listed in {manifest.path.name}", warning=True)


def _check_files(part: Part) -> Iterator[tuple[str, str]]:
    """Yield array and fault for each file that is not as it was written."""
    expected = part.digest["files"]
    for file, (size, digest) in expected.items():
        actual = size_of(part.path / file)
        if actual != size:
            yield _array_of(file), f"{file} is missing" if actual < 0 else f"{file} has {actual} bytes, not {size}"
        elif sha256((part.path / file).read_bytes()) != digest:
            yield _array_of(file), f"{file} was changed since it was written"
    for path in (part.path / DATA).rglob("*"):
        file = path.relative_to(part.path).as_posix()
        if not path.is_dir() and file not in expected:
            yield _array_of(file), f"{file} does not belong to the part"


def _array_of(file: str) -> str:
    return file.removeprefix(f"{DATA}/").rpartition("/")[0] or DATA


def _check_content(part: Part, damaged: set[str]) -> Iterator[tuple[str, str]]:
    """Yield array and fault for all that can be read; nothing is decoded whose files are damaged."""
    yield from _check_attributes(part)
    if any(array == DATA or array.split("/")[0] == "objects" for array in damaged):
        return
    try:
        objects = read_objects(part)
    except UserError as error:
        yield "objects", str(error)
        return
    violations = list(check_objects(objects, part.attributes))
    yield from violations
    if not violations:
        yield from _compare(digest_objects(objects, part.attributes), part.digest["objects"], "objects")
        for name in part.views:
            if not damaged & {f"views/{name}", *(f"views/{name}/{array}" for array in (*VIEW_ARRAYS, *EXTRAS))}:
                yield from _check_view(part, name, objects)


def _check_checkpoints(part: Part, damaged: set[str]) -> Iterator[tuple[str, str]]:
    for name in part.checkpoints:
        where = f"checkpoints/{name}"
        if not any(array == where or array.startswith(f"{where}/") for array in damaged):
            yield from _check_checkpoint(part, name, where)


def _check_checkpoint(part: Part, name: str, where: str) -> Iterator[tuple[str, str]]:
    try:
        checkpoint = part.checkpoint(name)
    except UserError as error:
        yield where, str(error)
        return
    violations = list(check_checkpoint(checkpoint, part.attributes))
    yield from ((f"{where}/{array}", what) for array, what in violations)
    if not violations:
        yield from _compare(digest_checkpoint(checkpoint, part.attributes), part.digest["checkpoints"][name], where)


def _check_view(part: Part, name: str, objects: ObjectTable) -> Iterator[tuple[str, str]]:
    where = f"views/{name}"
    view = part.view(name)
    try:
        table, schema = view.read(slice(None)), schema_of(view)
    except UserError as error:
        yield where, str(error)
        return
    violations = list(check_view(table, objects, part.attributes))
    yield from ((f"{where}/{array}", what) for array, what in violations)
    if not violations:
        digests = digest_view(table, objects, schema, part.attributes)
        yield from _compare(digests, part.digest["views"][name], where)
        if int(table.present.sum()) != part.digest["n_present"][name]:
            yield f"{where}/present", f"the number of objects is not the one in {DIGEST_FILE}"


def _check_attributes(part: Part) -> Iterator[tuple[str, str]]:
    attributes = part.attributes
    if attributes.get("format") != FORMAT or (attributes["first"], attributes["stop"]) != (part.first, part.stop):
        yield DATA, f"format or events of the attributes are not those of {DIGEST_FILE}"
    if {str(block) for block in block_numbers(attributes)} != set(part.digest["objects"]):
        yield DIGEST_FILE, "blocks are not those of the part's events"


def _compare(actual: BlockDigests, expected: BlockDigests, array: str) -> Iterator[tuple[str, str]]:
    wrong = [block for block in {**actual, **expected} if actual.get(block) != expected.get(block)]
    if wrong:
        yield array, f"content is not what {DIGEST_FILE} says, in block {', '.join(wrong)}"
