"""Writing and reading a part."""

import dataclasses
import json
import multiprocessing
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from store_samples import (
    SCHEMA,
    assert_same_checkpoint,
    assert_same_view,
    attributes,
    checkpoint_of,
    objects_of,
    some_checkpoint,
    some_part,
    view_of,
)

from resim.errors import UserError
from resim.store import Checkpoint, ObjectTable, Part, ViewTable, open_part, part_digests, validate, write_part
from resim.store.files import sealed

VERSION_1 = Path(__file__).parent / "version-1" / "part-00000000-00000030"


def write(directory: Path, **more: Any) -> Part:
    objects, view = some_part()
    return write_part(directory, objects, {"nominal": view}, SCHEMA, attributes(0, 30, ["nominal"], **more))


@st.composite
def ragged(draw: st.DrawFn) -> tuple[ObjectTable, ViewTable]:
    """Draw any set of objects of 20 events, any of them absent, with any number of constituents."""
    ids = sorted(draw(st.sets(st.integers(0, 20 * 8 - 1), max_size=12)))
    present = draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))
    counts = draw(st.lists(st.integers(0, 5), min_size=len(ids), max_size=len(ids)))
    view = view_of(np.array(present, np.bool_), np.array(counts, np.int64), seed=draw(st.integers(0, 99)))
    return objects_of(np.array(ids, np.int64)), view


def check_round_trip(directory: Path, objects: ObjectTable, view: ViewTable) -> None:
    part = write_part(directory, objects, {"nominal": view}, SCHEMA, attributes(0, 20, ["nominal"]))
    stored = part.view("nominal")
    assert_same_view(stored.read(slice(None)), view)
    for name, values in part.objects().items():
        np.testing.assert_array_equal(values, objects.columns[name])
        assert values.dtype == objects.columns[name].dtype
    assert part.n_objects == len(stored) == len(objects)
    assert part_digests(part) == {key: part.digest[key] for key in ("objects", "checkpoints", "views")}
    assert set(part.digest["objects"]) == {"0", "1"}
    assert validate(part.path) == []


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=ragged())
def test_round_trip_of_any_ragged_content(content: tuple[ObjectTable, ViewTable], tmp_path: Path) -> None:
    check_round_trip(tmp_path, *content)


@pytest.mark.parametrize(("ids", "present"), [([], []), ([9], [True]), ([9], [False]), ([1, 8, 9], [False] * 3)])
def test_round_trip_of_the_smallest(ids: list[int], present: list[bool], tmp_path: Path) -> None:
    counts = np.full(len(ids), 3)
    check_round_trip(tmp_path, objects_of(np.array(ids, np.int64)), view_of(np.array(present, np.bool_), counts))


@st.composite
def kept_events(draw: st.DrawFn) -> Checkpoint:
    """Draw a checkpoint of any of 20 events, with any number of particles."""
    ids = sorted(draw(st.sets(st.integers(0, 19), max_size=8)))
    counts = draw(st.lists(st.integers(0, 4), min_size=len(ids), max_size=len(ids)))
    return checkpoint_of(np.array(ids, np.int64), np.array(counts, np.int64), seed=draw(st.integers(0, 99)))


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(checkpoint=kept_events())
def test_round_trip_of_any_checkpoint(checkpoint: Checkpoint, tmp_path: Path) -> None:
    objects, view = some_part(0, 20)
    kept = {"hard": checkpoint}
    part = write_part(tmp_path, objects, {"v": view}, SCHEMA, attributes(0, 20, ["v"]), checkpoints=kept)
    assert part.checkpoints == ("hard",)
    assert_same_checkpoint(part.checkpoint("hard"), checkpoint)
    assert part_digests(part)["checkpoints"] == part.digest["checkpoints"]
    assert set(part.digest["checkpoints"]["hard"]) == {"0", "1"}
    assert validate(part.path) == []


def write_with_checkpoint(directory: Path, checkpoint: Checkpoint) -> Part:
    objects, view = some_part()
    kept = {"hard": checkpoint}
    return write_part(directory, objects, {"nominal": view}, SCHEMA, attributes(0, 30, ["nominal"]), checkpoints=kept)


def test_a_checkpoint_changes_nothing_else_and_is_counted_apart(tmp_path: Path) -> None:
    plain, part = write(tmp_path / "a"), write_with_checkpoint(tmp_path / "b", some_checkpoint())
    for key in ("objects", "views", "n_present"):
        assert part.digest[key] == plain.digest[key]
    more = {file for file in part.digest["files"] if file not in plain.digest["files"]}
    assert all(file.startswith("data.zarr/checkpoints/") for file in more)
    assert part.digest["bytes"]["nominal"] == plain.digest["bytes"]["nominal"]
    own = sum(f.stat().st_size for f in part.path.glob("data.zarr/checkpoints/hard/**/*") if f.is_file())
    (written,) = (record for record in part.cost if record.view == "checkpoints/hard")
    assert (written.stage, written.events, written.bytes_written) == ("write", 30, own)
    assert part.digest["bytes"]["checkpoints/hard"] == own


def test_outsiders_read_a_checkpoint_with_plain_zarr(tmp_path: Path) -> None:
    part = write_with_checkpoint(tmp_path, some_checkpoint())
    group = zarr.open_group(part.path / "data.zarr", mode="r")["checkpoints/hard"]
    numbers = group["particles/float64"]
    assert numbers.attrs["names"] == ["e", "tau"]
    assert numbers.attrs["units"] == ["GeV", "mm/c"]
    assert numbers.attrs["descriptions"] == ["the e", "the tau"]
    np.testing.assert_array_equal(numbers[:, 1], some_checkpoint().particles["tau"])
    assert set(group["events"]) == {"int64", "int32", "float64"}


_BROKEN_CHECKPOINTS: dict[str, tuple[Callable[[Checkpoint], dict[str, Any]], str]] = {
    "order": (lambda c: {"events": {**c.events, "event": c.events["event"][::-1]}}, "events: ids are not sorted"),
    "twice": (lambda c: {"events": {**c.events, "event": c.events["event"] // 2}}, "events: ids are not sorted"),
    "outside": (lambda c: {"events": {**c.events, "event": c.events["event"] + 1}}, r"an event is outside \[0, 30\)"),
    "no ids": (lambda c: {"events": {"weight": c.events["weight"]}}, "events: has no column event"),
    "length": (lambda c: {"events": {**c.events, "scale": c.events["scale"][1:]}}, "events: column scale has .* 30 ev"),
    "offsets": (lambda c: {"offsets": c.offsets[1:]}, "offsets: has dtype int64 and shape"),
    "falling": (lambda c: {"offsets": _with(c.offsets, 3, 40)}, "offsets: do not rise from 0"),
    "particles": (
        lambda c: {"offsets": _with(c.offsets, -1, 40)},
        "particles: column id has .* not a number for each of 40 particles",
    ),
    "text": (
        lambda c: {"particles": {**c.particles, "id": c.particles["id"].astype("U3")}},
        "particles: column id has dtype <U3",
    ),
    "undescribed": (lambda c: {"descriptions": c.descriptions[1:]}, "do not have the same names"),
}


@pytest.mark.parametrize("what", _BROKEN_CHECKPOINTS)
def test_a_checkpoint_that_breaks_the_format_is_not_written(what: str, tmp_path: Path) -> None:
    change, message = _BROKEN_CHECKPOINTS[what]
    checkpoint = some_checkpoint()
    with pytest.raises(ValueError, match=f"checkpoints/hard/.*{message}"):
        write_with_checkpoint(tmp_path / "d", dataclasses.replace(checkpoint, **change(checkpoint)))
    assert not (tmp_path / "d").exists()


def test_a_range_of_rows_is_those_rows(tmp_path: Path) -> None:
    _, table = some_part()
    view = write(tmp_path).view("nominal")
    for start, stop in [(0, 1), (3, 11), (20, 27), (26, 27), (5, 5), (7, 3)]:
        rows = view.read(slice(start, stop))
        n = max(0, stop - start)
        assert len(rows) == n
        np.testing.assert_array_equal(rows.present, table.present[start : start + n])
        np.testing.assert_array_equal(rows.offsets, table.offsets[start : start + n + 1] - table.offsets[start])
        expected = table.constituents[table.offsets[start] : table.offsets[start + n]]
        np.testing.assert_array_equal(rows.constituents, expected)
    assert len(view.read(slice(-2, None))) == 2
    with pytest.raises(ValueError, match="not contiguous"):
        view.read(slice(0, 10, 2))


def test_names_units_and_descriptions_come_back(tmp_path: Path) -> None:
    objects, table = some_part()
    part = write(tmp_path)
    view = part.view("nominal")
    assert view.column_names == ("pt", "mass", "n")
    assert view.units == ("GeV", "GeV", "")
    assert view.view_columns == SCHEMA.view_columns
    assert view.constituent_columns == SCHEMA.constituent_columns
    assert set(part.object_descriptions()) == set(objects.descriptions)
    np.testing.assert_array_equal(view.column("mass"), table.columns[:, 1])


def test_outsiders_open_it_with_plain_zarr(tmp_path: Path) -> None:
    _, table = some_part()
    group = zarr.open_group(write(tmp_path, seed=5).path / "data.zarr", mode="r")
    assert group.attrs["format"] == "resim-part"
    assert group.attrs["seed"] == 5
    assert group["objects/parton_pt"].attrs["unit"] == "GeV"
    assert group["views/nominal"].attrs["replica"] == 0
    np.testing.assert_array_equal(group["views/nominal/constituents"][:], table.constituents)
    assert group["views/nominal/constituents"].attrs["names"] == ["pt", "eta"]


def test_writing_twice_gives_the_same_bytes_and_replaces(tmp_path: Path) -> None:
    first = write(tmp_path)
    before = first.digest["files"]
    (first.path / "left-behind").write_text("x")
    second = write(tmp_path)
    assert second.digest["files"] == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part-00000000-00000030"]
    assert not (second.path / "left-behind").exists()


def test_an_empty_folder_in_the_way_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "part-00000000-00000030").mkdir()
    assert validate(write(tmp_path).path) == []


def test_view_files_do_not_depend_on_the_other_views(tmp_path: Path) -> None:
    objects, view = some_part()
    other = dataclasses.replace(view, columns=view.columns * 2)
    alone = write_part(tmp_path / "a", objects, {"nominal": view}, SCHEMA, attributes(0, 30, ["nominal"]))
    views = {"again": other, "nominal": view}
    both = write_part(tmp_path / "b", objects, views, SCHEMA, attributes(0, 30, ["nominal", "again"]))
    assert both.views == ("nominal", "again")
    assert both.digest["views"]["nominal"] == alone.digest["views"]["nominal"]
    assert both.digest["views"]["again"] != alone.digest["views"]["nominal"]


@pytest.mark.parametrize("place", ["same folder", "elsewhere"])
def test_kept_views_are_linked_and_not_written(place: str, tmp_path: Path) -> None:
    objects, view = some_part()
    changed = dataclasses.replace(view, columns=view.columns * 2)
    names = ["nominal", "again"]
    old = write_part(tmp_path, objects, {"nominal": view, "again": view}, SCHEMA, attributes(0, 30, names))
    inode = (old.path / "data.zarr/views/nominal/constituents/c.0.0").stat().st_ino
    folder = tmp_path if place == "same folder" else tmp_path / "other"
    new_attributes = attributes(0, 30, names, seed=2)
    new = write_part(folder, objects, {"again": changed}, SCHEMA, new_attributes, keep=old, keep_views=["nominal"])
    assert (new.path / "data.zarr/views/nominal/constituents/c.0.0").stat().st_ino == inode
    assert new.views == ("nominal", "again")
    assert validate(new.path) == []
    assert_same_view(new.view("nominal").read(slice(None)), view)
    assert_same_view(new.view("again").read(slice(None)), changed)
    whole = write_part(tmp_path / "w", objects, {"nominal": view, "again": changed}, SCHEMA, new_attributes)
    for key in ("files", "views", "objects", "n_present", "bytes"):
        assert new.digest[key] == whole.digest[key]


def test_a_view_of_other_objects_is_not_kept(tmp_path: Path) -> None:
    objects, view = some_part()
    old = write(tmp_path)
    heavier = {**objects.columns, "weight": objects.columns["weight"] * 2}
    other = dataclasses.replace(objects, columns=heavier)
    names = ["nominal", "again"]
    with pytest.raises(ValueError, match="view nominal is of other objects"):
        write_part(tmp_path, other, {"again": view}, SCHEMA, attributes(0, 30, names), keep=old, keep_views=["nominal"])
    assert [path.name for path in tmp_path.iterdir()] == [old.path.name]
    assert validate(old.path) == []


def _with(array: NDArray[Any], index: Any, value: Any) -> NDArray[Any]:
    """Give a copy with another value at an index."""
    changed = array.copy()
    changed[index] = value
    return changed


_Break = Callable[[dict[str, NDArray[Any]], ViewTable], dict[str, Any]]  # gives the columns and view fields to replace
_BREAKS: dict[str, tuple[_Break, str]] = {
    "unsorted": (lambda c, _: {"object": c["object"][::-1], "event": c["event"][::-1]}, "/object: ids are not sorted"),
    "event": (lambda c, _: {"event": _with(c["event"], 3, 4)}, "objects/object: an id is not 8 x event"),
    "outside": (
        lambda c, _: {"object": c["object"] + 800, "event": c["event"] + 100},
        r"objects/event: an event is outside \[0, 30\)",
    ),
    "split": (lambda c, _: {"split": _with(c["split"], 0, 3)}, r"objects/split: a code is outside 0\.\.2"),
    "weight": (lambda c, _: {"weight": _with(c["weight"], 0, np.nan)}, "objects/weight: a weight is not finite"),
    "length": (lambda c, _: {"parton_pt": c["parton_pt"][1:]}, "objects/parton_pt: has shape"),
    "dtype": (lambda _, v: {"columns": v.columns.astype(float)}, "nominal/columns: has dtype float64, not float32"),
    "absent": (lambda _, v: {"columns": np.nan_to_num(v.columns)}, "columns: a row of an absent object is not NaN"),
    "offsets": (lambda _, v: {"offsets": _with(v.offsets, 0, 1)}, "views/nominal/offsets: do not rise from 0"),
    "finite": (lambda _, v: {"constituents": v.constituents / 0}, "nominal/constituents: a value is not finite"),
    "width": (lambda _, v: {"columns": v.columns[:, 1:]}, "columns: has 2 columns, and the schema 3"),
    "in split": (
        lambda _, v: {"attributes": {**v.attributes, "splits": ["test"]}},
        "views/nominal/present: an object outside the splits test",
    ),
}


@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value):RuntimeWarning")
@pytest.mark.parametrize("what", _BREAKS)
def test_arrays_that_break_the_format_are_not_written(what: str, tmp_path: Path) -> None:
    objects, view = some_part()
    change, message = _BREAKS[what]
    changes = change(objects.columns, view)
    columns = {name: changes.get(name, values) for name, values in objects.columns.items()}
    fields = {name: value for name, value in changes.items() if name not in columns}
    views = {"nominal": dataclasses.replace(view, **fields)}
    with pytest.raises(ValueError, match=message):
        write_part(
            tmp_path / "d",
            dataclasses.replace(objects, columns=columns),
            views,
            SCHEMA,
            attributes(0, 30, ["nominal"]),
        )
    assert not (tmp_path / "d").exists()


def test_a_part_is_whole_blocks(tmp_path: Path) -> None:
    objects, view = some_part()
    with pytest.raises(ValueError, match=r"events \[0, 35\) are not whole blocks of 10"):
        write_part(tmp_path, objects, {"nominal": view}, SCHEMA, attributes(0, 35, ["nominal"]))


def test_what_is_not_there_is_a_user_error(tmp_path: Path) -> None:
    part = write(tmp_path)
    with pytest.raises(UserError, match="has no view 'nominel'; it has nominal"):
        part.view("nominel")
    with pytest.raises(UserError, match="has no column 'm'; it has pt, mass, n"):
        part.view("nominal").column("m")
    with pytest.raises(UserError, match="has no checkpoint 'hard'; it has none"):
        part.checkpoint("hard")
    with pytest.raises(UserError, match="is no part of a data set"):
        open_part(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, r"has version 2 of the format resim-part, and this program reads 1\. Use"),
        ({"format": "other"}, "has format 'other', not 'resim-part'"),
    ],
)
def test_another_version_is_refused_with_what_to_do(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write(tmp_path).path
    file = path / "digest.json"
    content = {key: value for key, value in json.loads(file.read_text()).items() if key != "self"}
    file.write_text(json.dumps(sealed({**content, **change})))
    with pytest.raises(UserError, match=message):
        open_part(path)
    assert message[:11].strip() in validate(path)[0].what


def test_version_1_stays_readable() -> None:
    """A part that was stored in the repository when version 1 was made; its digests must never come out otherwise."""
    part = open_part(VERSION_1)
    objects, view = some_part()
    assert validate(VERSION_1) == []
    assert_same_view(part.view("nominal").read(slice(None)), view)
    np.testing.assert_array_equal(part.objects()["parton_pt"], objects.columns["parton_pt"])
    assert part.checkpoints == ()


def test_version_1_with_a_checkpoint_stays_readable() -> None:
    part = open_part(VERSION_1.with_name("part-00000030-00000060"))
    objects, view = some_part(30, 60)
    assert validate(part.path) == []
    assert_same_view(part.view("nominal").read(slice(None)), view)
    assert_same_checkpoint(part.checkpoint("hard"), some_checkpoint(30, 60))
    np.testing.assert_array_equal(part.objects()["parton_pt"], objects.columns["parton_pt"])


def test_a_missing_or_short_file_is_not_taken_for_fill_values(tmp_path: Path) -> None:
    path = write(tmp_path).path
    shard = path / "data.zarr/views/nominal/offsets/c.0"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"views/nominal/offsets/c\.0: missing or not \d+ bytes long"):
        open_part(path).view("nominal").read(slice(None))
    (path / "data.zarr/objects/weight/c.0").unlink()
    with pytest.raises(UserError, match=r"objects/weight/c\.0: missing"):
        open_part(path).objects()


def test_a_flipped_byte_is_a_user_error_when_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path).path
    shard = path / "data.zarr/views/nominal/constituents/c.0.0"
    raw = bytearray(shard.read_bytes())
    raw[50] ^= 4
    shard.write_bytes(raw)
    with pytest.raises(UserError, match=r"array views/nominal/constituents cannot be read .*resim validate"):
        open_part(path).view("nominal").read(slice(None))


def _sum_of_rows(task: tuple[Part, int]) -> float:
    part, start = task
    return float(part.view("nominal").read(slice(start, start + 9)).constituents.sum())


def test_several_spawned_processes_read_one_part(tmp_path: Path) -> None:
    part = write(tmp_path)
    part.view("nominal").read(slice(0, 5))  # an open part with warm caches is what a loader hands over
    tasks = [(part, start) for start in (0, 9, 18)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(_sum_of_rows, tasks) == [_sum_of_rows(task) for task in tasks]
    assert len(pickle.dumps(part)) < 500


def test_writing_is_metered(tmp_path: Path) -> None:
    objects, view = some_part()
    own = {"stage": "detector", "view": "nominal", "cpu_s": 2.0, "events": 30}
    part = write_part(tmp_path, objects, {"nominal": view}, SCHEMA, attributes(0, 30, ["nominal"], cost=[own]))
    records = {(record.stage, record.view): record for record in part.cost}
    assert set(records) == {("detector", "nominal"), ("write", "nominal"), ("write", "objects")}
    written = records["write", "nominal"]
    assert written.bytes_written == part.digest["bytes"]["nominal"]
    assert written.bytes_written == sum(f.stat().st_size for f in part.path.glob("data.zarr/views/nominal/**/*.*"))
    assert written.events == 30
    assert written.objects == view.present.sum()
    assert written.wall_s > 0


def test_a_copied_part_is_sound(tmp_path: Path) -> None:
    """What carries a part to another disk (cp, rsync, a tar) need not keep times, links or the engine's stamps."""
    part = write(tmp_path / "a")
    shutil.copytree(part.path, tmp_path / "b" / part.path.name)
    (tmp_path / "b" / part.path.name / ".snakemake_timestamp").touch()
    os.utime(tmp_path / "b" / part.path.name / "digest.json", (0, 0))
    assert validate(tmp_path / "b" / part.path.name) == []
