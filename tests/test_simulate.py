"""Parts of a small config: what may and what may not change the numbers."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resim.config import Config
from resim.cost import CostRecord
from resim.plan import choose_views
from resim.simulate import Simulation, simulate_part
from resim.store import (
    ObjectTable,
    Part,
    dataset_digest,
    join,
    part_digests,
    part_name,
    validate_part,
    write_manifest,
    write_part,
)
from resim.typed import parse
from tests.conftest import small_config

CHEAP = ("nominal", "shower_seed", "rehadronized", "redetected")


def _simulation(sample: str = "qcd", **changes: Any) -> Simulation:
    return Simulation(parse(Config, small_config(**changes), "test"), sample)


def _make(out: Path, first: int = 0, stop: int = 20, only: tuple[str, ...] = CHEAP, **changes: Any) -> Part:
    simulation = _simulation(**changes)
    return simulate_part(simulation, first, stop, out, choose_views(simulation.all_views, only))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Part:
    return _make(tmp_path_factory.mktemp("reference"))


def test_part_is_valid(reference: Part) -> None:
    assert validate_part(reference.path) == []
    assert reference.views == CHEAP
    assert reference.n_objects > 25


def test_part_size_does_not_show(reference: Part, tmp_path: Path) -> None:
    halves = [_make(tmp_path, 10, 20), _make(tmp_path, 0, 10)]
    assert dataset_digest(halves, recompute=True) == dataset_digest([reference], recompute=True)


@pytest.mark.parametrize("views", [("nominal",), ("rehadronized",), ("nominal", "redetected")], ids=",".join)
def test_a_view_is_the_same_whatever_other_views_are_asked_for(
    views: tuple[str, ...], reference: Part, tmp_path: Path
) -> None:
    found = dataset_digest([_make(tmp_path, only=views)], recompute=True)
    expected = dataset_digest([reference], recompute=True)
    assert found["objects"] == expected["objects"]
    assert found["views"] == {name: expected["views"][name] for name in views}


def test_another_seed_is_other_data(reference: Part, tmp_path: Path) -> None:
    found = dataset_digest([_make(tmp_path, only=("nominal",), seed=1)], recompute=True)
    expected = dataset_digest([reference], recompute=True)
    assert found["objects"] != expected["objects"]
    assert found["views"]["nominal"] != expected["views"]["nominal"]


def test_views_share_their_hard_process_and_differ_downstream(reference: Part) -> None:
    nominal = reference.view("nominal")
    for name in CHEAP[1:]:
        both = nominal.present & reference.view(name).present
        assert both.mean() > 0.9
        assert (nominal.columns[both] != reference.view(name).columns[both]).any(axis=1).mean() > 0.9


def test_a_jet_lies_near_its_hard_parton_and_carries_its_momentum(reference: Part) -> None:
    objects = reference.objects()
    for name in CHEAP:
        view = reference.view(name)
        here = view.present
        assert (view.column("dr_parton")[here] < 0.8).all()
        ratio = view.column("pt")[here] / objects["parton_pt"][here]
        assert 0.8 < np.median(ratio) < 1.2


def _inodes(part: Part, view: str) -> set[int]:
    return {f.stat().st_ino for f in (part.path / "data.zarr" / "views" / view).rglob("*") if f.is_file()}


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    before = _make(tmp_path)
    marks = {name: _inodes(before, name) for name in CHEAP}
    stamp = before.path.stat().st_mtime_ns
    again = _make(tmp_path)
    assert again.path.stat().st_mtime_ns == stamp
    assert {name: _inodes(again, name) for name in CHEAP} == marks


def _hard_costs(part: Part) -> list[CostRecord]:
    return [record for record in part.cost if (record.stage, record.view) == ("hard", "nominal")]


def _write_again(part: Part, **more: Any) -> Part:
    """Write a part with its views as they are, and other checkpoints or attributes."""
    objects = ObjectTable(part.objects(), part.object_descriptions())
    about = {**part.attributes, **more.pop("attributes", {})}
    return write_part(part.path.parent, objects, {}, _simulation().lane.schema, about, keep=part, **more)


def test_the_hard_process_is_kept_to_the_bit(reference: Part) -> None:
    lane = _simulation().lane
    expected = join([lane.checkpoint(lane.source(block)) for block in (0, 1)])
    found = reference.checkpoint("hard")
    assert reference.checkpoints == ("hard",)
    np.testing.assert_array_equal(found.events["event"], np.arange(20))
    assert found.offsets.tobytes() == expected.offsets.tobytes()
    for name, column in {**expected.events, **expected.particles}.items():
        assert {**found.events, **found.particles}[name].tobytes() == column.tobytes()


def test_what_is_added_starts_from_the_checkpoint(tmp_path: Path) -> None:
    """The checkpoint is given other scales: they turn up in what is made next, and nothing is paid for making them."""
    part = _make(tmp_path, 0, 10, only=("nominal",))
    paid = _hard_costs(part)
    checkpoint = part.checkpoint("hard")
    checkpoint.events["scale"] *= 0.25
    stale = {"recipes": {"nominal": "of another config"}}
    other = _write_again(part, checkpoints={"hard": checkpoint}, keep_views=["nominal"], attributes=stale)
    assert not np.isin(other.objects()["scale"], checkpoint.events["scale"]).any()
    made = _make(tmp_path, 0, 10, only=("redetected",))
    assert np.isin(made.objects()["scale"], checkpoint.events["scale"]).all()
    assert _hard_costs(made) == paid
    assert validate_part(made.path) == []


@pytest.mark.parametrize("damage", ["flip", "delete", "never written", "other recipe"])
def test_a_checkpoint_that_cannot_be_used_is_made_again_and_the_views_are_kept(
    damage: str, reference: Part, tmp_path: Path
) -> None:
    before = _make(tmp_path, only=("nominal",))
    if damage == "never written":
        before = _write_again(before, keep_views=["nominal"])
    elif damage == "other recipe":
        checkpoint = before.checkpoint("hard")
        checkpoint.events["scale"] *= 2
        other = {"checkpoint_recipes": {"hard": "other"}}
        before = _write_again(before, attributes=other, checkpoints={"hard": checkpoint}, keep_views=["nominal"])
    else:
        shard = before.path / "data.zarr/checkpoints/hard/particles/float64/c.0.0"
        raw = bytearray(shard.read_bytes())
        raw[len(raw) // 2] ^= 1
        shard.write_bytes(raw)
        if damage == "delete":
            shard.unlink()
    marks, paid = _inodes(before, "nominal"), _hard_costs(before)
    mended = _make(tmp_path, only=("nominal",))
    assert _inodes(mended, "nominal") == marks
    assert validate_part(mended.path) == []
    assert part_digests(mended)["checkpoints"] == part_digests(reference)["checkpoints"]
    assert [record.events for record in _hard_costs(mended)] == [20]
    assert _hard_costs(mended) != paid


def test_another_hard_process_replaces_the_checkpoint(tmp_path: Path) -> None:
    _make(tmp_path / "a", 0, 10, only=("nominal",))
    replaced = _make(tmp_path / "a", 0, 10, only=("nominal",), seed=1)
    assert part_digests(replaced) == part_digests(_make(tmp_path / "b", 0, 10, only=("nominal",), seed=1))
    assert [record.events for record in _hard_costs(replaced)] == [10]


def _changed(**settings: Any) -> dict[str, Any]:
    views = small_config()["views"]
    views["redetected"] = {"from": "detector", "set": settings}
    return {"views": views}


def test_a_changed_view_is_made_again_and_the_others_are_kept(reference: Part, tmp_path: Path) -> None:
    before = _make(tmp_path)
    marks = {name: _inodes(before, name) for name in CHEAP}
    after = _make(tmp_path, **_changed(magnetic_field=2.0))
    expected, found = part_digests(reference), part_digests(after)
    for name in CHEAP:
        same = name != "redetected"
        assert (_inodes(after, name) == marks[name]) == same
        assert (found["views"][name] == expected["views"][name]) == same
    assert validate_part(after.path) == []
    own = {record.stage for record in after.cost if record.view == "redetected"}
    assert {"detector", "jets", "write"} <= own
    assert _hard_costs(after) == _hard_costs(before)
    assert {record.view for record in after.cost} >= set(CHEAP)


def test_a_view_can_be_added_and_removed(reference: Part, tmp_path: Path) -> None:
    _make(tmp_path, only=("nominal", "redetected"))
    more = _make(tmp_path)
    assert part_digests(more) == part_digests(reference)
    config = small_config()["views"]
    fewer = _make(tmp_path, only=("nominal",), views={name: config[name] for name in ("nominal", "redetected")})
    assert fewer.views == ("nominal", "redetected")
    assert _hard_costs(fewer) == _hard_costs(more)


def test_views_that_are_not_asked_for_stay(tmp_path: Path) -> None:
    """Asked for one view of a part that holds others, the command used to throw the others away."""
    before = _make(tmp_path, only=("nominal", "redetected"))
    marks = _inodes(before, "nominal")
    after = _make(tmp_path, only=("rehadronized",))
    assert after.views == ("nominal", "rehadronized", "redetected")
    assert _inodes(after, "nominal") == marks


def test_a_recipe_covers_defaults_and_the_revision_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only overrides were digested: data of another default card would have passed for the same."""
    from resim.jets import lane

    simulation = _simulation()
    view = simulation.all_views[0]
    before = simulation.recipe(view)
    monkeypatch.setitem(lane.JetsLane.revisions, "detector", lane.JetsLane.revisions["detector"] + 1)
    assert simulation.recipe(view) != before
    assert simulation.lane.resolved("detector", ())[1]["magnetic_field"] == 3.8


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete"])
def test_a_damaged_view_is_made_again(damage: str, reference: Part, tmp_path: Path) -> None:
    part = _make(tmp_path, only=("nominal", "redetected"))
    shard = next(
        f for f in (part.path / "data.zarr/views/redetected/constituents").iterdir() if f.name.startswith("c.")
    )
    raw = bytearray(shard.read_bytes())
    if damage == "delete":
        shard.unlink()
    else:
        raw[len(raw) // 2] ^= 1
        shard.write_bytes(raw if damage == "flip" else raw[: len(raw) // 2])
    assert validate_part(part.path) != []
    mended = _make(tmp_path, only=("nominal", "redetected"))
    assert validate_part(mended.path) == []
    assert part_digests(mended)["views"]["redetected"] == part_digests(reference)["views"]["redetected"]


def test_a_deleted_part_is_made_again_the_same(reference: Part, tmp_path: Path) -> None:
    part = _make(tmp_path)
    shutil.rmtree(part.path)
    assert part_digests(_make(tmp_path)) == part_digests(reference)


def test_an_event_that_pythia_gives_up_on_is_recorded_as_absent(tmp_path: Path) -> None:
    """With its momentum check set tighter than its arithmetic, Pythia rejects some events for good."""
    views = {"nominal": {}, "strict": {"from": "shower", "set": {"Check:epTolErr": 3e-13}}}
    part = _make(tmp_path, only=tuple(views), views=views)
    failed = part.attributes["failed"]
    assert failed["nominal"] == []
    lost = [event for event, _ in failed["strict"]]
    assert 0 < len(lost) < 20
    assert {stage for _, stage in failed["strict"]} == {"shower+hadronization+decays"}
    missing = np.isin(part.objects()["event"], lost)
    assert not part.view("strict").present[missing].any()
    assert part.view("nominal").present[missing].any()
    assert part.view("strict").present[~missing].mean() > 0.9


def test_a_view_for_some_splits_is_absent_in_the_others(tmp_path: Path) -> None:
    views = {"nominal": {}, "late": {"from": "detector", "splits": ["test"]}}
    part = _make(tmp_path, only=tuple(views), views=views)
    test = part.objects()["split"] == 2
    assert 0 < test.sum() < len(test)
    assert not part.view("late").present[~test].any()
    assert part.view("late").present[test].mean() > 0.8
    assert part.attributes["failed"]["late"] == []


def test_splits_have_their_shares_and_depend_on_the_event_alone() -> None:
    simulation = _simulation()
    events = np.arange(20_000)
    split = simulation.split_of(events)
    shares = np.bincount(split) / len(split)
    np.testing.assert_allclose(shares, [0.5, 0.1, 0.4], atol=0.015)
    np.testing.assert_array_equal(simulation.split_of(events[5:9]), split[5:9])


def test_a_manifest_takes_parts_of_one_recipe_only(reference: Part, tmp_path: Path) -> None:
    from resim.errors import UserError

    shutil.copytree(reference.path, tmp_path / part_name(0, 20))
    other = _make(tmp_path, 20, 40, seed=5)
    with pytest.raises(UserError, match="part-00000020-00000040"):
        write_manifest(tmp_path, [tmp_path / part_name(0, 20), other.path])
