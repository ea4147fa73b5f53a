"""Damage is found, wherever it is, and named; what is not found is harmless."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_samples import SCHEMA, attributes, some_checkpoint, some_part

from resim.errors import UserError
from resim.store import dataset_digest, open_dataset, open_part, validate, write_manifest, write_part
from resim.store.encoding import write_array
from resim.store.files import sealed, sha256

FLIPS_PER_FILE = 10


def write(directory: Path, first: int = 0, seed: int = 0) -> Path:
    objects, view = some_part(first, first + 30, seed)
    kept = {"hard": some_checkpoint(first, first + 30)}
    about = attributes(first, first + 30, ["nominal"])
    return write_part(directory, objects, {"nominal": view}, SCHEMA, about, checkpoints=kept).path


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def flipped(raw: bytes, position: int) -> bytes:
    changed = bytearray(raw)
    changed[position] ^= 1 << (position % 8)
    return bytes(changed)


def test_every_flipped_bit_is_reported_or_harmless(tmp_path: Path) -> None:
    """Flip single bits all over every file of a data set, metadata included: Zarr's own has no checksum."""
    write_manifest(tmp_path, [write(tmp_path)])
    expected = dataset_digest([open_part(tmp_path / "part-00000000-00000030")], recompute=True)
    reported = harmless = 0
    for file in files_of(tmp_path):
        sound = file.read_bytes()
        for position in np.unique(np.linspace(0, len(sound) - 1, FLIPS_PER_FILE).astype(int)):
            file.write_bytes(flipped(sound, position))
            if validate(tmp_path):
                reported += 1
            else:
                harmless += 1
                part = open_part(tmp_path / "part-00000000-00000030")
                assert dataset_digest([part], recompute=True) == expected, (file, position)
        file.write_bytes(sound)
    assert reported > 250
    assert harmless < 20  # blanks in JSON
    assert validate(tmp_path) == []


def test_every_truncated_or_missing_file_is_reported_with_part_and_array(tmp_path: Path) -> None:
    path = write(tmp_path)
    for file in files_of(path):
        sound = file.read_bytes()
        where = file.relative_to(path).parent.as_posix().removeprefix("data.zarr/")
        for keep in {0, len(sound) // 2, len(sound) - 1}:
            file.write_bytes(sound[:keep])
            problems = validate(path)
            harmless = file.name == "digest.json" and keep == len(sound) - 1  # the newline at the end
            assert harmless or problems, (file, keep)
            assert all(problem.part == path.name for problem in problems)
            if file.name != "digest.json" and where != "data.zarr":
                assert where in {problem.array for problem in problems}
        file.unlink()
        if file.name != "digest.json":
            assert validate(path), file
        file.write_bytes(sound)


def test_a_file_that_does_not_belong_is_reported(tmp_path: Path) -> None:
    path = write(tmp_path)
    shutil.copy(path / "data.zarr/objects/weight/c.0", path / "data.zarr/objects/weight/c.1")
    (problem,) = validate(path)
    assert str(problem) == f"{path.name}: objects/weight: data.zarr/objects/weight/c.1 does not belong to the part"


def _rewrite(path: Path, array: str, values: Any) -> None:
    """Put other values into a part, with checksums that fit: what only a look at the content can find."""
    folder = path / "data.zarr" / array
    old = json.loads((folder / "zarr.json").read_text())["attributes"]
    shutil.rmtree(folder)
    write_array(folder, values, old)
    digest = {key: value for key, value in json.loads((path / "digest.json").read_text()).items() if key != "self"}
    prefix = f"{folder.relative_to(path).as_posix()}/"
    digest["files"] = {file: entry for file, entry in digest["files"].items() if not file.startswith(prefix)}
    for file in files_of(folder):
        digest["files"][file.relative_to(path).as_posix()] = [file.stat().st_size, sha256(file.read_bytes())]
    (path / "digest.json").write_text(json.dumps(sealed(digest)))


@pytest.mark.parametrize(
    ("array", "change", "message"),
    [
        ("objects/object", lambda a: a[::-1], "ids are not sorted"),
        ("objects/weight", lambda a: a * 2, "content is not what digest.json says, in block 0, 1"),
        ("objects/parton_pt", lambda a: a[1:], "has shape"),
        ("views/nominal/columns", lambda a: np.nan_to_num(a), "a row of an absent object is not NaN"),
        ("views/nominal/columns", lambda a: a + 1, "content is not what digest.json says, in block 0, 1"),
        ("views/nominal/columns", lambda a: a[:, 0], "has shape"),
        ("views/nominal/columns", lambda a: a.astype(np.float64), "has dtype float64, not float32"),
        ("views/nominal/offsets", lambda a: a[::-1], "do not rise from 0"),
        ("views/nominal/offsets", lambda a: a[1:], "has shape"),
        ("views/nominal/present", lambda a: ~a, "NaN|absent object has constituents"),
        ("views/nominal/constituents", lambda a: a / np.float32(0), "a value is not finite"),
        ("views/nominal/constituents", lambda a: a[:-1], "offsets: do not rise"),
        ("checkpoints/hard/events/int64", lambda a: a[::-1], "events: ids are not sorted"),
        ("checkpoints/hard/events/int64", lambda a: a + 1, "events: an event is outside"),
        ("checkpoints/hard/events/int64", lambda a: a.astype(np.int32), "events: has no column event"),
        ("checkpoints/hard/events/float64", lambda a: a[:, :1], "has shape .* does not fit its 2 names"),
        ("checkpoints/hard/events/float64", lambda a: a[:, 0], "has shape .* does not fit its 2 names"),
        ("checkpoints/hard/events/float64", lambda a: a[1:], "column weight has dtype float64 and shape"),
        ("checkpoints/hard/events/float64", lambda a: a * 2, "content is not what digest.json says, in block 0, 1"),
        ("checkpoints/hard/particles/int32", lambda a: a[1:], "particles: column id has"),
        ("checkpoints/hard/particles/int8", lambda a: a + 1, "content is not what digest.json says, in block 0, 1"),
        ("checkpoints/hard/offsets", lambda a: a[:-1], "offsets: has dtype int64 and shape"),
        ("checkpoints/hard/offsets", lambda a: a.astype(np.float64), "offsets: has dtype float64"),
    ],
)
def test_content_is_checked_behind_the_checksums(array: str, change: Any, message: str, tmp_path: Path) -> None:
    path = write(tmp_path)
    with np.errstate(all="ignore"):
        _rewrite(path, array, change(open_part(path).read_array(array)))
    problems = validate(path)
    assert [problem for problem in problems if re.search(message, str(problem))], problems
    assert all(problem.array.startswith("/".join(array.split("/")[:-1][:2])) for problem in problems)


def test_gaps_and_strays_are_warnings_and_missing_parts_are_not(tmp_path: Path) -> None:
    first, last, stray = write(tmp_path, 0), write(tmp_path, 60), write(tmp_path, 90)
    write_manifest(tmp_path, [first, last])
    problems = validate(tmp_path)
    assert all(problem.warning for problem in problems)
    assert [str(problem) for problem in problems] == [
        "warning: manifest.json: parts: no part covers the events [30, 60)",
        f"warning: {stray.name}: is not listed in manifest.json",
    ]
    shutil.rmtree(last)
    missing = [problem for problem in validate(tmp_path) if not problem.warning]
    assert [problem.part for problem in missing] == [last.name]
    assert "is no part" in missing[0].what


def test_a_part_that_is_not_the_manifests_is_reported(tmp_path: Path) -> None:
    write_manifest(tmp_path, [write(tmp_path)])
    write(tmp_path, seed=1)
    problems = validate(tmp_path)
    assert {problem.part for problem in problems} == {"part-00000000-00000030", "manifest.json"}
    assert any("n_present is not as manifest.json says" in problem.what for problem in problems)


def _reseal(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a JSON file and its own digest with it."""
    content = {key: value for key, value in json.loads(file.read_text()).items() if key != "self"}
    change(content)
    file.write_text(json.dumps(sealed(content)))


@pytest.mark.parametrize("file", ["manifest.json", "part-00000000-00000030/digest.json"])
def test_a_sealed_file_without_a_key_or_with_another_kind_is_told(file: str, tmp_path: Path) -> None:
    write_manifest(tmp_path, [write(tmp_path)])
    sound = (tmp_path / file).read_text()
    keys = json.loads(sound).keys() - {"self", "format", "version", "checkpoints"}  # the first parts have none
    assert len(keys) >= 5
    for key in keys:
        _reseal(tmp_path / file, lambda content, key=key: content.pop(key))
        with pytest.raises(UserError, match=rf"{file}: lacks {key}"):
            open_dataset(tmp_path)
        assert validate(tmp_path)
        _reseal(tmp_path / file, lambda content, key=key: content.update({key: None}))
        with pytest.raises(UserError, match=rf"{file}: {key} is no "):
            open_dataset(tmp_path)
        assert validate(tmp_path)
        (tmp_path / file).write_text(sound)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entry: entry.pop("bytes"), r"parts\[0\] lacks bytes"),
        (lambda entry: entry.update(first="0"), r"parts\[0\] first is no int"),
        (lambda entry: entry.update(colour=1), r"parts\[0\] has unknown colour"),
    ],
)
def test_a_sealed_manifest_with_another_entry_is_told(change: Any, message: str, tmp_path: Path) -> None:
    write_manifest(tmp_path, [write(tmp_path)])
    _reseal(tmp_path / "manifest.json", lambda content: change(content["parts"][0]))
    with pytest.raises(UserError, match=rf"manifest\.json: {message}"):
        open_dataset(tmp_path)
    (problem,) = validate(tmp_path)
    assert re.search(message, problem.what)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["n_present"].clear(),
        lambda content: content["files"].update({"data.zarr/zarr.json": 3}),
        lambda content: content["files"].update({"data.zarr/zarr.json": [3]}),
        lambda content: content.update(checkpoints=None),
        lambda content: content.update(cost=[float("inf")]),
    ],
)
def test_validate_tells_of_what_it_cannot_check(change: Any, tmp_path: Path) -> None:
    file = write(tmp_path) / "digest.json"
    content = json.loads(file.read_text())
    change(content)
    try:
        _reseal(file, change)
    except ValueError:  # an infinity cannot be sealed
        file.write_text(json.dumps(content))
    (problem, *_) = validate(file.parent)
    assert problem.part == file.parent.name


def test_what_was_found_before_is_told_too(tmp_path: Path) -> None:
    path = write(tmp_path)
    (path / "data.zarr/views/nominal/offsets/c.0").unlink()
    _reseal(path / "digest.json", lambda content: content["checkpoints"].update(hard=None))
    first, *_, last = validate(path)
    assert (first.array, first.what) == ("views/nominal/offsets", "data.zarr/views/nominal/offsets/c.0 is missing")
    assert "cannot be checked further" in last.what


def test_parts_with_other_views_than_the_manifests_are_told(tmp_path: Path) -> None:
    write_manifest(tmp_path, [write(tmp_path), write(tmp_path, 30)])
    objects, view = some_part(30, 60)
    write_part(tmp_path, objects, {"nominal": view, "other": view}, SCHEMA, attributes(30, 60, ["nominal", "other"]))
    problems = validate(tmp_path)
    assert any(problem.part == "manifest.json" and "differ in views" in problem.what for problem in problems)


def test_a_missing_or_short_file_is_not_listed(tmp_path: Path) -> None:
    path = write(tmp_path)
    for file in files_of(path):
        if file.name == "digest.json":
            continue
        sound = file.read_bytes()
        file.write_bytes(sound[:-1])
        with pytest.raises(UserError, match=re.escape(str(file))):
            write_manifest(tmp_path, [path])
        file.unlink()
        with pytest.raises(UserError, match=re.escape(str(file))):
            write_manifest(tmp_path, [path])
        file.write_bytes(sound)
    assert not (tmp_path / "manifest.json").exists()
    assert write_manifest(tmp_path, [path]).parts[0].name == path.name


def test_progress_sees_every_part(tmp_path: Path) -> None:
    paths = [write(tmp_path, first) for first in (0, 30)]
    write_manifest(tmp_path, paths)
    seen: list[Path] = []

    def progress(parts: Any) -> Any:
        for part in parts:
            seen.append(part)
            yield part

    assert validate(tmp_path, progress) == []
    assert seen == paths
