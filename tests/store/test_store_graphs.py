"""Data sets merged, cut anew and measured part by part: the content stays, and memory holds a part."""

import dataclasses
import json
import os
import sys
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import awkward as ak
import distributed
import numpy as np
import pytest
import yaml
from store_samples import SCHEMA, attributes, checkpoint_of, objects_of, rows_of, view_of

from resim.graphs import merge, rechunk, stats
from resim.read import read
from resim.store import Column, Extra, open_dataset, summary, validate, write_manifest, write_part
from resim.store.files import locked, read_json, sealed, write_json
from resim.store.statistics import Tree, moments_of
from tests.conftest import Done, resim
from tests.lanes import CASES, JETS, LaneCase

IDS = np.concatenate([np.arange(0, 20), np.arange(30, 61)]) * 8 + 3  # block 2 gives no objects
N = len(IDS)
VIEW = view_of(np.arange(N) % 4 > 0, np.arange(N) % 7, seed=3)
DRAWN = Extra(np.where(VIEW.present, np.arange(N) / 7, np.nan)[:, None], (Column("field", "kV/cm", "the field"),))
COST = {"stage": "shower", "view": "nominal", "cpu_s": 2.5, "wall_s": 3.0, "peak_mb": 120.0, "events": 17, "objects": 5}


def write(folder: Path, edges: list[int], block_size: int = 10, **more: Any) -> Path:
    """Write 60 events, cut into parts at the edges, and list them."""
    for first, stop in pairwise(edges):
        objects, cut = rows_of(objects_of(IDS), VIEW, first, stop)
        rows = np.isin(IDS, objects.columns["object"])
        thrown = dataclasses.replace(cut, extras={"drawn": Extra(DRAWN.values[rows], DRAWN.columns)})
        told = {"cost": [COST], "failed": {"nominal": [[first, "shower"], [stop - 1, "jets"]], "thrown": []}}
        told |= {"software": {"numpy": f"2.{first}"}, "commit": f"c{first}", "recipes": {"nominal": "a", "thrown": "b"}}
        events = np.arange(first, stop)
        checkpoints = {"hard": checkpoint_of(events, events % 4, seed=0)} if block_size == 1 else {}
        values = attributes(first, stop, [], block_size, **told | more)
        views = {"nominal": cut, "thrown": thrown}
        write_part(folder, objects, views, SCHEMA, values, checkpoints=checkpoints)
    write_manifest(folder, sorted(folder.glob("part-*")))
    return folder


def digest(folder: Path) -> Any:
    return json.loads(resim("digest", folder, "--json").stdout)


def _silent(_: int) -> None: ...


def _mistake(done: Done, told: str) -> None:
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("edges", "size", "parts"),
    [
        ([0, 60], 10, [(n, n + 10) for n in range(0, 60, 10)]),
        ([0, 10, 20, 30, 40, 50, 60], 60, [(0, 60)]),
        ([0, 20, 50, 60], 40, [(0, 40), (40, 60)]),
        ([20, 30, 40], 20, [(20, 40)]),
    ],
)
def test_other_parts_have_the_same_content(
    edges: list[int], size: int, parts: list[tuple[int, int]], tmp_path: Path
) -> None:
    old = write(tmp_path / "old", edges)
    done = resim("rechunk", old, tmp_path / "new", "--shard-size", size)
    assert done.returncode == 0, done.stderr
    new = open_dataset(tmp_path / "new")
    assert [(part.first, part.stop) for part in new.parts] == parts
    assert not validate(tmp_path / "new")
    assert digest(tmp_path / "new") == digest(old)
    assert stats(tmp_path / "new", _silent) == stats(old, _silent)


def test_an_event_a_part_and_gaps_and_checkpoints(tmp_path: Path) -> None:
    old = write(tmp_path / "old", list(range(8)), block_size=1)
    write(old, [30, 33, 34], block_size=1)
    rechunk(old, tmp_path / "many", 3, _silent)
    assert open_dataset(tmp_path / "many").manifest.gaps == [(7, 30)]
    rechunk(tmp_path / "many", tmp_path / "single", 1, _silent)
    assert len(open_dataset(tmp_path / "single").parts) == 11
    for name in ("many", "single"):
        assert all(problem.warning for problem in validate(tmp_path / name))
        assert digest(tmp_path / name) == digest(old)
        assert stats(tmp_path / name, _silent) == stats(old, _silent)


def test_what_making_a_part_took_goes_with_its_events(tmp_path: Path) -> None:
    old = write(tmp_path / "old", [0, 30, 60])
    rechunk(old, tmp_path / "new", 20, _silent)
    before, after = open_dataset(old), open_dataset(tmp_path / "new")
    made = [[r for r in dataset.cost if r.stage == "shower"] for dataset in (before, after)]
    assert made[0] == made[1]
    assert [part.attributes["cost"][0]["events"] for part in after.parts] == [11, 6 + 5, 12]
    assert [part.attributes["commit"] for part in after.parts] == ["c0", "c0, c30", "c30"]
    lost = [part.attributes["failed"]["nominal"] for part in after.parts]
    assert lost == [[[0, "shower"]], [[29, "jets"], [30, "shower"]], [[59, "jets"]]]
    assert summary(after)["software"] == {"numpy": "2.0, 2.30"}
    assert summary(after)["commits"] == ["c0", "c30"]


def test_merging_undoes_a_split(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", [0, 20, 30, 50, 60])
    write(tmp_path / "a", [0, 20]), write(tmp_path / "b", [30, 50, 60]), write(tmp_path / "c", [20, 30])
    done = resim("merge", tmp_path / "out", tmp_path / "b", tmp_path / "a", tmp_path / "c")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "manifest.json").read_bytes() == (whole / "manifest.json").read_bytes()
    assert not validate(tmp_path / "out")
    file = "part-00000000-00000020/digest.json"
    assert (tmp_path / "out" / file).samefile(tmp_path / "a" / file)


def test_data_sets_that_do_not_fit_are_not_merged(tmp_path: Path) -> None:
    a, out = write(tmp_path / "a", [0, 20]), tmp_path / "out"
    overlapping = write(tmp_path / "b", [10, 30])
    _mistake(resim("merge", out, a, overlapping), "both have event 10; list only one of them")
    other = write(tmp_path / "c", [20, 30], recipes={"nominal": "a", "thrown": "other"})
    _mistake(resim("merge", out, a, other), "differ in recipes of thrown")
    foreign = write(tmp_path / "d", [0, 20], lane="lartpc")
    _mistake(resim("merge", out, a, foreign), "differ in lane")
    _mistake(resim("merge", other, a), f"{other}: is there already and not empty")
    foreign.rename(tmp_path / "c" / "d")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_a_link_stays_and_what_it_points_to_gets_the_data(tmp_path: Path) -> None:
    folder, disk = write(tmp_path / "a", [0, 20]), tmp_path / "disk"
    for out in (tmp_path / "new", tmp_path / "empty"):
        out.symlink_to(disk / out.name)
    (disk / "empty").mkdir(parents=True)
    for out in (tmp_path / "new", tmp_path / "empty"):
        assert resim("merge", out, folder).returncode == 0
        assert out.is_symlink()
        assert digest(disk / out.name) == digest(folder)


def test_nothing_is_put_into_a_part(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", [0, 20])
    part = folder / "part-00000000-00000020"
    before = sorted(part.rglob("*"))
    (tmp_path / "link").symlink_to(part / "data.zarr", target_is_directory=True)
    for out in (part / "more", part / "data.zarr" / "more" / "b", tmp_path / "link" / "c"):
        _mistake(resim("merge", out, folder), f"lies in the part {part}, and would go with it; choose another place")
    _mistake(resim("export", folder, "--to", "parquet", "--out", part / "a.parquet"), f"lies in the part {part}")
    assert sorted(part.rglob("*")) == before
    assert not validate(folder)


def test_one_writes_at_a_time_and_what_a_killed_one_left_goes(tmp_path: Path) -> None:
    folder, out = write(tmp_path / "a", [0, 20]), tmp_path / "out"
    (tmp_path / ".out-99").mkdir()
    with locked(tmp_path / ".out.lock"):
        _mistake(resim("merge", out, folder), f"{out}: another process is writing it")
    assert resim("merge", out, folder).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "out"]


def test_damage_is_not_carried_on(tmp_path: Path) -> None:
    a, b, out = write(tmp_path / "a", [0, 20]), write(tmp_path / "b", [20, 40]), tmp_path / "out"
    file = b / "part-00000020-00000040/data.zarr/views/nominal/columns/c.0.0"
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    _mistake(resim("merge", out, a, b), "part-00000020-00000040: views/nominal/columns: ")
    _mistake(resim("rechunk", b, out, "--shard-size", 10), "array views/nominal/columns cannot be read")
    _mistake(resim("stats", b), "array views/nominal/columns cannot be read")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_content_that_is_not_what_the_manifest_says_is_not_written_anew(tmp_path: Path) -> None:
    """Every seal fits, as after a part was put together by hand: only the content itself tells."""
    folder = write(tmp_path / "a", [0, 20])
    path = folder / "part-00000000-00000020/digest.json"
    content = {key: value for key, value in read_json(path).items() if key != "self"}
    content["views"]["nominal"]["0"] = "0" * 64
    write_json(path, sealed(content))
    write_manifest(folder, sorted(folder.glob("part-*")))
    done = resim("rechunk", folder, tmp_path / "out", "--shard-size", 10)
    _mistake(done, "its content is not what its digests say; `resim validate` tells where")
    assert not (tmp_path / "out").exists()


def test_part_sizes_are_whole_blocks(tmp_path: Path) -> None:
    _mistake(resim("rechunk", write(tmp_path / "a", [0, 20]), tmp_path / "out", "--shard-size", 15), "--shard-size")
    assert not (tmp_path / "out").exists()


def test_statistics_are_those_of_the_whole_columns(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", [0, 20, 60])
    rows = {(row["view"], row["column"]): row for row in json.loads(resim("stats", folder, "--json").stdout)}
    there = VIEW.columns[(VIEW.present) & (IDS < 480)].astype(np.float64)
    for i, column in enumerate(SCHEMA.view_columns):
        row, values = rows["nominal", column.name], there[:, i]
        assert (row["unit"], row["count"], row["min"], row["max"]) == (
            column.unit,
            len(values),
            values.min(),
            values.max(),
        )
        np.testing.assert_allclose([row["mean"], row["std"]], [values.mean(), values.std()], rtol=1e-12)
    per_event = rows["nominal", "objects_per_event"]
    assert (per_event["count"], per_event["mean"], per_event["min"]) == (60, len(there) / 60, 0)
    assert rows["nominal", "constituents_per_object"]["count"] == len(there)
    assert rows["thrown", "field"]["unit"] == "kV/cm"
    assert "kV/cm" in resim("stats", folder).stdout


def test_columns_without_a_value_have_no_moments(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", [20, 30])
    rows = {row["column"]: row for row in stats(folder, _silent)}
    assert rows["pt"] == {
        "view": "thrown",
        "array": "columns",
        "column": "pt",
        "unit": "GeV",
        "count": 0,
    } | dict.fromkeys(("mean", "std", "min", "max"))
    assert rows["objects_per_event"]["mean"] == 0


def test_moments_do_not_depend_on_who_is_first() -> None:
    """Blocks come in any order, in groups of any size, some never; the sum of floats would tell."""
    generator = np.random.Generator(np.random.Philox(5))
    found = [(int(i), moments_of(generator.lognormal(size=(9, 3)))) for i in generator.choice(90, 61, replace=False)]
    roots = []
    for seed in range(20):
        order = np.random.Generator(np.random.Philox(seed)).permutation(len(found))
        tree = Tree()
        for group in np.array_split(order, 1 + 3 * seed):
            piece = Tree()
            for i in group:
                piece.add(0, *found[i])
            tree.join(piece)
        roots.append(tree.root().tobytes())
    assert len(set(roots)) == 1


@pytest.mark.parametrize("operation", ["rechunk", "stats", "merge"])
def test_memory_holds_a_part_and_not_the_data_set(operation: str, tmp_path: Path) -> None:
    few, many = (_big(tmp_path / str(n), n) for n in (4, 12))
    run: dict[str, Callable[[Path, Path], object]] = {
        "rechunk": lambda folder, out: rechunk(folder, out, 8000, _silent),
        "stats": lambda folder, out: stats(folder, _silent),
        "merge": lambda folder, out: merge([folder], out, _silent),
    }
    peaks = []
    run[operation](few, tmp_path / "warm")
    for folder in (few, many):
        tracemalloc.start()
        run[operation](folder, tmp_path / f"out-{folder.name}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.25 * peaks[0]


def _big(folder: Path, parts: int) -> Path:
    """Write parts of 4,000 events with eight jets of five constituents each, in one block."""
    size = 4000
    for first in range(0, parts * size, size):
        objects = objects_of(np.arange(8 * first, 8 * (first + size)))
        view = view_of(np.ones(8 * size, dtype=bool), np.full(8 * size, 5), seed=first)
        write_part(folder, objects, {"nominal": view}, SCHEMA, attributes(first, first + size, ["nominal"], size))
    write_manifest(folder, sorted(folder.glob("part-*")))
    return folder


def test_workers_give_what_one_process_gives(tmp_path: Path) -> None:
    folder, local = write(tmp_path / "a", [0, 20, 30, 60]), ["--dask", "local", "--workers", 2]
    for words in (["rechunk", folder, tmp_path / "new", "--shard-size", 10], ["merge", tmp_path / "merged", folder]):
        done = resim(*words, *local)
        assert done.returncode == 0, done.stderr
    assert digest(tmp_path / "new") == digest(tmp_path / "merged") == digest(folder)
    assert resim("stats", tmp_path / "new", *local).stdout == resim("stats", folder).stdout


def test_workers_elsewhere_read_what_was_named_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    wanted = digest(write(tmp_path / "a", [0, 20, 30]))
    write(tmp_path / "elsewhere" / "a", [0, 10, 20, 30])
    monkeypatch.chdir(tmp_path)
    cluster = distributed.LocalCluster(n_workers=1, processes=True, dashboard_address=None)
    with cluster, distributed.Client(cluster) as client:
        client.run(os.chdir, str(tmp_path / "elsewhere"))
        there = ["--dask", cluster.scheduler_address]
        assert resim("stats", "a", *there).stdout == resim("stats", "a").stdout
        for words in (["rechunk", "a", "new", "--shard-size", 10], ["merge", "merged", "a"]):
            done = resim(*words, *there)
            assert done.returncode == 0, done.stderr
    assert digest(tmp_path / "new") == digest(tmp_path / "merged") == wanted


def test_without_dask_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "a", [0, 20])
    for name in ("resim.graphs", "resim.distributed"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in ("dask", "dask.delayed"):  # both: a module that was imported before would be found
        monkeypatch.setitem(sys.modules, name, None)
    for words in (["stats", folder], ["merge", tmp_path / "out", folder]):
        _mistake(resim(*words), "resim: Dask is not installed; run `pip install -c constraints.txt '.[dask]'`")


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def simulated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[LaneCase, Path]:
    case: LaneCase = request.param
    folder = tmp_path_factory.mktemp(case.name)
    (folder / "config.yaml").write_text(yaml.safe_dump(case.config(), sort_keys=False))
    words = ["--config", folder / "config.yaml", "--sample", case.samples[0], "--views", ",".join(case.cheap)]
    done = resim("simulate", *words, "--shard-size", 20, "--out", folder / "data")
    assert done.returncode == 0, done.stderr
    return case, folder / "data"


def test_both_lanes_come_through_whole(simulated: tuple[LaneCase, Path], tmp_path: Path) -> None:
    case, folder = simulated
    rechunk(folder, tmp_path / "small", 10, _silent)
    for name, parts in (("a", [0, 2]), ("b", [1, 3])):
        listed = sorted((tmp_path / "small").glob("part-*"))
        write_manifest(tmp_path / name, [listed[i] for i in parts])
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "merged", _silent)
    rechunk(tmp_path / "merged", tmp_path / "new", 40, _silent)
    assert not validate(tmp_path / "new")
    assert digest(tmp_path / "new") == digest(folder)
    assert stats(tmp_path / "new", _silent) == stats(folder, _silent)
    for view in case.cheap:
        assert ak.array_equal(read(tmp_path / "new", view), read(folder, view), equal_nan=True)
    assert resim("inspect", tmp_path / "new").returncode == 0


def test_training_reads_the_same_rows(simulated: tuple[LaneCase, Path], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from training.data.fetch import Store

    case, folder = simulated
    if case is not JETS:
        pytest.skip("the store's arrays are the same for both lanes")
    rechunk(folder, tmp_path / "new", 10, _silent)
    old, new = (Store({case.samples[0]: path}, 12, 8) for path in (folder, tmp_path / "new"))
    assert old.digests() == new.digests()
    for view in case.cheap:
        rows = np.flatnonzero(old.index.present[view])
        np.testing.assert_array_equal(old.read(view, rows), new.read(view, rows))
