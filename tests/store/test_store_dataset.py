"""Data sets: manifests, digests that do not see the parts, and the summary."""

import dataclasses
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_samples import SCHEMA, attributes, checkpoint_of, objects_of, rows_of, some_part, view_of

from resim.errors import UserError
from resim.store import (
    Checkpoint,
    Part,
    Schema,
    ViewTable,
    dataset_digest,
    format_summary,
    join,
    open_dataset,
    open_part,
    read_manifest,
    summary,
    validate,
    write_manifest,
    write_part,
)

IDS = np.concatenate([np.arange(0, 20), np.arange(30, 60)]) * 8 + 3  # block 2 gives no objects
VIEW = view_of(np.arange(50) % 4 > 0, np.arange(50) % 7, seed=3)


def write(directory: Path, edges: list[int], view: ViewTable = VIEW, **more: Any) -> list[Part]:
    """Write the 60 events, cut into parts at the edges."""
    parts = []
    for first, stop in pairwise(edges):
        objects, cut = rows_of(objects_of(IDS), view, first, stop)
        double = dataclasses.replace(cut, columns=cut.columns * 2)
        views = {"nominal": cut, "double": double}
        parts.append(write_part(directory, objects, views, SCHEMA, attributes(first, stop, list(views), **more)))
    return parts


def kept(first: int, stop: int, seed: int = 0) -> Checkpoint:
    """Make the checkpoint of a range of the 60 events, each of which has its own values."""
    return join([checkpoint_of(np.array([i]), np.array([i % 3]), seed=1000 * seed + i) for i in range(first, stop)])


def write_kept(directory: Path, edges: list[int], seed: int = 0) -> list[Part]:
    """Write the 60 events with a checkpoint, cut into parts at the edges."""
    parts = []
    for first, stop in pairwise(edges):
        objects, cut = rows_of(objects_of(IDS), VIEW, first, stop)
        about = attributes(first, stop, ["nominal"], checkpoint_recipes={"hard": f"recipe {seed}"})
        checkpoints = {"hard": kept(first, stop, seed)}
        parts.append(write_part(directory, objects, {"nominal": cut}, SCHEMA, about, checkpoints=checkpoints))
    return parts


def test_the_digest_of_a_checkpoint_does_not_see_how_the_data_is_cut(tmp_path: Path) -> None:
    expected = dataset_digest(write_kept(tmp_path / "one", [0, 60]))
    cut = write_kept(tmp_path / "three", [0, 20, 30, 60])
    assert set(expected["checkpoints"]) == {"hard"}
    assert dataset_digest(cut) == dataset_digest(cut, recompute=True) == expected
    other = dataset_digest(write_kept(tmp_path / "other", [0, 60], seed=1))
    assert other["checkpoints"] != expected["checkpoints"]
    assert other["digest"] != expected["digest"]
    assert {other[key] == expected[key] for key in ("objects", "views")} == {True}


def test_checkpoints_are_in_the_manifest_and_the_summary(tmp_path: Path) -> None:
    parts = write_kept(tmp_path, [0, 20, 60])
    manifest = write_manifest(tmp_path, [part.path for part in parts])
    assert validate(tmp_path) == []
    content = summary(open_dataset(tmp_path))
    hard = content["checkpoints"]["hard"]
    assert hard["recipe"] == "recipe 0"
    assert hard["digest"] == manifest.digest["checkpoints"]["hard"]
    assert hard["bytes"] == sum(part.digest["bytes"]["checkpoints/hard"] for part in parts) > 0
    assert any(re.match(r"checkpoint +hard \(0\.\d\d MB", line) for line in format_summary(content).splitlines())
    write_kept(tmp_path, [0, 20], seed=1)
    with pytest.raises(UserError, match=r"part-00000000-00000020: digests is not as manifest\.json says"):
        open_dataset(tmp_path)


def test_the_digest_does_not_see_how_the_data_is_cut(tmp_path: Path) -> None:
    whole = write(tmp_path / "one", [0, 60])
    cut = write(tmp_path / "three", [0, 20, 30, 60])
    expected = dataset_digest(whole)
    assert dataset_digest(cut) == expected
    assert dataset_digest(cut[::-1]) == expected
    assert dataset_digest(cut, recompute=True) == expected
    assert write_manifest(tmp_path / "three", [part.path for part in cut[::-1]]).digest == expected


def test_the_digest_sees_every_value_and_every_block(tmp_path: Path) -> None:
    parts = write(tmp_path / "a", [0, 20, 30, 60])
    expected = dataset_digest(parts)
    assert dataset_digest([parts[0], parts[2]]) != expected  # the empty block counts
    changed = dataclasses.replace(VIEW, constituents=np.nextafter(VIEW.constituents, np.float32(9)))
    other = dataset_digest(write(tmp_path / "b", [0, 60], changed))
    assert other["objects"] == expected["objects"]
    assert other["views"]["nominal"] != expected["views"]["nominal"]
    assert other["digest"] != expected["digest"]


def test_the_digest_of_some_views_is_theirs_alone(tmp_path: Path) -> None:
    parts = write(tmp_path, [0, 60])
    nominal = dataset_digest(parts, ["nominal"])
    assert nominal["views"] == {"nominal": dataset_digest(parts)["views"]["nominal"]}
    assert nominal["digest"] != dataset_digest(parts)["digest"]
    with pytest.raises(UserError, match="has no view 'x'; it has nominal, double"):
        dataset_digest(parts, ["x"])


def test_a_nan_is_a_nan_and_names_count(tmp_path: Path) -> None:
    objects, view = some_part()
    signalling = view.columns.copy()
    signalling.view(np.uint32)[~view.present] = 0xFFC00123  # another bit pattern of NaN
    other = dataclasses.replace(view, columns=signalling)
    first, second = view.columns.tobytes(), signalling.tobytes()
    assert first != second
    renamed = Schema(
        tuple(dataclasses.replace(c, name=f"{c.name}2") for c in SCHEMA.view_columns), SCHEMA.constituent_columns
    )
    digests = [
        dataset_digest([write_part(tmp_path / str(i), objects, {"v": v}, schema, attributes(0, 30, ["v"]))])
        for i, (v, schema) in enumerate([(view, SCHEMA), (other, SCHEMA), (view, renamed)])
    ]
    assert digests[0] == digests[1]
    assert digests[0]["views"] != digests[2]["views"]


def test_a_data_set_reads_as_one(tmp_path: Path) -> None:
    parts = write(tmp_path, [0, 20, 30, 60])
    write_manifest(tmp_path, [part.path for part in parts])
    for path in (tmp_path, tmp_path / "manifest.json", str(tmp_path)):
        dataset = open_dataset(path)
        assert dataset.sample == "qcd"
        assert dataset.views == ("nominal", "double")
        assert dataset.n_objects == 50
        assert [part.first for part in dataset.parts] == [0, 20, 30]
    np.testing.assert_array_equal(dataset.objects()["object"], IDS)
    np.testing.assert_array_equal(dataset.view_columns("nominal"), VIEW.columns)
    np.testing.assert_array_equal(dataset.present("nominal"), VIEW.present)
    assert validate(tmp_path) == []


def test_a_data_set_can_be_moved(tmp_path: Path) -> None:
    write_manifest(tmp_path / "a", [part.path for part in write(tmp_path / "a", [0, 30, 60])])
    (tmp_path / "a").rename(tmp_path / "b")
    assert validate(tmp_path / "b") == []
    assert open_dataset(tmp_path / "b").n_objects == 50


def test_no_parts_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no parts to list"):
        write_manifest(tmp_path, [])
    for function in (open_dataset, read_manifest, validate):
        with pytest.raises(UserError, match="is no data set"):
            function(tmp_path)


def _write_pair(tmp_path: Path, what: str) -> list[Path]:
    a = write(tmp_path / "a", [0, 30])[0]
    more: dict[str, Any] = {
        "sample": {"sample": "hbb"},
        "seed": {"seed": 2},
        "splits": {"splits": ["a", "b", "c", "d"]},
    }
    if what == "overlap":
        b = write(tmp_path / "b", [20, 60])[0]
    elif what == "recipes":
        b = write(tmp_path / "b", [30, 60], recipes={"nominal": "recipe of nominal", "double": "another"})[0]
    elif what == "columns":
        objects, view = rows_of(objects_of(IDS), VIEW, 30, 60)
        schema = dataclasses.replace(SCHEMA, constituent_columns=SCHEMA.constituent_columns[::-1])
        views = {"nominal": view, "double": view}
        b = write_part(tmp_path / "b", objects, views, schema, attributes(30, 60, list(views)))
    elif what == "views":
        objects, view = rows_of(objects_of(IDS), VIEW, 30, 60)
        recipes = attributes(30, 60, ["nominal", "double"])
        b = write_part(tmp_path / "b", objects, {"nominal": view}, SCHEMA, recipes)
    elif what == "checkpoints":
        objects, view = rows_of(objects_of(IDS), VIEW, 30, 60)
        about, more = attributes(30, 60, ["nominal", "double"]), {"hard": kept(30, 60)}
        b = write_part(tmp_path / "b", objects, {"nominal": view, "double": view}, SCHEMA, about, checkpoints=more)
    elif what == "checkpoint_recipes":
        b = write(tmp_path / "b", [30, 60], checkpoint_recipes={"hard": "another"})[0]
    else:
        b = write(tmp_path / "b", [30, 60], **more[what])[0]
    return [a.path, b.path]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("overlap", "both have event 20"),
        ("recipes", "differ in recipes of double; make all parts with one config"),
        ("columns", "differ in columns"),
        ("views", r"differ in views \(double only in one\)"),
        ("checkpoints", r"differ in checkpoints \(hard only in one\)"),
        ("checkpoint_recipes", "differ in checkpoint_recipes"),
        ("sample", r"differ in sample \('qcd' and 'hbb'\)"),
        ("seed", r"differ in seed \(None and 2\)"),
        ("splits", "differ in splits"),
    ],
)
def test_parts_that_do_not_belong_together(what: str, message: str, tmp_path: Path) -> None:
    a, b = _write_pair(tmp_path, what)
    with pytest.raises(UserError, match=f"{a} and {b}: {message}"):
        write_manifest(tmp_path, [a, b])
    assert not (tmp_path / "manifest.json").exists()


def test_a_part_made_otherwise_after_the_manifest_is_refused(tmp_path: Path) -> None:
    parts = write(tmp_path, [0, 30, 60])
    write_manifest(tmp_path, [part.path for part in parts])
    write(tmp_path, [0, 30, 60])  # the same content again is fine, whatever its cost record says
    assert open_dataset(tmp_path).n_objects == 50
    write(tmp_path, [0, 30], dataclasses.replace(VIEW, constituents=VIEW.constituents + 1))
    with pytest.raises(UserError, match=r"part-00000000-00000030: digests is not as manifest\.json says"):
        open_dataset(tmp_path)


def test_summary_adds_up_and_is_json(tmp_path: Path) -> None:
    cost = [
        {"stage": "shower", "view": "nominal", "cpu_s": 0.6, "events": 30},
        {"stage": "detector", "view": "double", "cpu_s": 0.3, "events": 30},
    ]
    more = {
        "cost": cost,
        "failed": {"double": [[1, "shower", "gave up"]]},
        "software": {"pythia8": "8.3"},
        "lane": "jets",
    }
    write_manifest(tmp_path, [part.path for part in write(tmp_path, [0, 30, 60], **more)])
    content = summary(open_dataset(tmp_path))
    assert json.loads(json.dumps(content)) == content
    assert (content["events"], content["objects"], content["parts"]) == (60, 50, 2)
    nominal, double = content["views"]["nominal"], content["views"]["double"]
    assert nominal["cost_ms_per_event"]["shower"] == pytest.approx(20)
    assert double["cost_ms_per_event"]["detector"] == pytest.approx(10)
    assert "write" in double["cost_ms_per_event"]
    assert (nominal["failed"], double["failed"]) == (0, 2)
    assert nominal["n_present"] == VIEW.present.sum()
    assert nominal["bytes"] == sum(open_part(p).digest["bytes"]["nominal"] for p in tmp_path.glob("part-*"))
    text = format_summary(content)
    assert "qcd (lane jets" in text
    assert any(line.startswith("double") and "detector 10.00" in line for line in text.splitlines())
