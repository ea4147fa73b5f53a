"""Parts of a small config of each lane: what may and what may not change the numbers."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resim.config import SPLITS, Config
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
from tests.lanes import CASES, JETS, LaneCase


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> LaneCase:
    return request.param


def _simulation(case: LaneCase, **changes: Any) -> Simulation:
    return Simulation(parse(Config, case.config(**changes), "test"), case.samples[0])


def _make(
    case: LaneCase, out: Path, first: int = 0, stop: int = 20, only: tuple[str, ...] | None = None, **changes: Any
) -> Part:
    simulation = _simulation(case, **changes)
    return simulate_part(simulation, first, stop, out, choose_views(simulation.all_views, only or case.cheap))


@pytest.fixture(scope="module")
def reference(case: LaneCase, tmp_path_factory: pytest.TempPathFactory) -> Part:
    return _make(case, tmp_path_factory.mktemp("reference"))


def test_part_is_valid(case: LaneCase, reference: Part) -> None:
    assert validate_part(reference.path) == []
    assert reference.views == case.cheap
    assert reference.attributes["lane"] == case.name
    assert reference.n_objects >= case.rows


def test_part_size_and_order_do_not_show(case: LaneCase, reference: Part, tmp_path: Path) -> None:
    halves = [_make(case, tmp_path, 10, 20), _make(case, tmp_path, 0, 10)]
    assert dataset_digest(halves, recompute=True) == dataset_digest([reference], recompute=True)


@pytest.mark.parametrize("views", [(0,), (2,), (0, 3)], ids=str)
def test_a_view_is_the_same_whatever_other_views_are_asked_for(
    views: tuple[int, ...], case: LaneCase, reference: Part, tmp_path: Path
) -> None:
    names = tuple(case.cheap[i] for i in views)
    found = dataset_digest([_make(case, tmp_path, only=names)], recompute=True)
    expected = dataset_digest([reference], recompute=True)
    assert found["objects"] == expected["objects"]
    assert found["views"] == {name: expected["views"][name] for name in names}


def test_another_seed_is_other_data(case: LaneCase, reference: Part, tmp_path: Path) -> None:
    found = dataset_digest([_make(case, tmp_path, only=("nominal",), seed=1)], recompute=True)
    expected = dataset_digest([reference], recompute=True)
    assert found["objects"] != expected["objects"]
    assert found["views"]["nominal"] != expected["views"]["nominal"]


def test_views_share_their_first_stage_and_differ_downstream(case: LaneCase, reference: Part) -> None:
    nominal = reference.view("nominal")
    for name in case.cheap[1:]:
        both = nominal.present & reference.view(name).present
        assert both.mean() > 0.9
        assert (nominal.columns[both] != reference.view(name).columns[both]).any(axis=1).mean() > 0.9


@pytest.mark.parametrize("case", [JETS], ids=["jets"], scope="module", indirect=True)
def test_a_jet_lies_near_its_hard_parton_and_carries_its_momentum(case: LaneCase, reference: Part) -> None:
    objects = reference.objects()
    for name in case.cheap:
        view = reference.view(name)
        here = view.present
        assert (view.column("dr_parton")[here] < 0.8).all()
        ratio = view.column("pt")[here] / objects["parton_pt"][here]
        assert 0.8 < np.median(ratio) < 1.2


def _inodes(part: Part, view: str) -> set[int]:
    return {f.stat().st_ino for f in (part.path / "data.zarr" / "views" / view).rglob("*") if f.is_file()}


def test_what_is_there_is_not_made_again(case: LaneCase, tmp_path: Path) -> None:
    before = _make(case, tmp_path)
    marks = {name: _inodes(before, name) for name in case.cheap}
    stamp = before.path.stat().st_mtime_ns
    # as a writer leaves it that was killed when the part was in its place already
    (tmp_path / f".{before.path.name}.lock").touch()
    (tmp_path / f".{before.path.name}-host-1-old").mkdir()
    again = _make(case, tmp_path)
    assert again.path.stat().st_mtime_ns == stamp
    assert {name: _inodes(again, name) for name in case.cheap} == marks
    assert list(tmp_path.iterdir()) == [before.path]


def _root_costs(case: LaneCase, part: Part) -> list[CostRecord]:
    return [record for record in part.cost if (record.stage, record.view) == (case.root, "nominal")]


def _write_again(case: LaneCase, part: Part, **more: Any) -> Part:
    """Write a part with its views as they are, and other checkpoints or attributes."""
    objects = ObjectTable(part.objects(), part.object_descriptions())
    about = {**part.attributes, **more.pop("attributes", {})}
    return write_part(part.path.parent, objects, {}, _simulation(case).lane.schema, about, keep=part, **more)


def test_the_first_state_is_kept_to_the_bit(case: LaneCase, tmp_path: Path) -> None:
    lane = _simulation(case).lane
    expected = join([lane.checkpoint(lane.source(block)) for block in (0, 1)])
    part = _make(case, tmp_path, only=("nominal",), checkpoint=None)
    found = part.checkpoint(case.root)
    assert part.checkpoints == (case.root,)
    np.testing.assert_array_equal(found.events["event"], np.arange(20))
    assert found.offsets.tobytes() == expected.offsets.tobytes()
    for name, column in {**expected.events, **expected.particles}.items():
        assert {**found.events, **found.particles}[name].tobytes() == column.tobytes()


def test_what_is_added_starts_from_the_checkpoint(case: LaneCase, tmp_path: Path) -> None:
    """The checkpoint is given other numbers: they turn up in what is made next, and nothing is paid for making them."""
    part = _make(case, tmp_path, 0, 10, only=("nominal",), checkpoint=None)
    paid = _root_costs(case, part)
    checkpoint = part.checkpoint(case.root)
    checkpoint.events[case.root_column] *= 0.25
    stale = {"recipes": {"nominal": "of another config"}}
    changed = {case.root: checkpoint}
    other = _write_again(case, part, checkpoints=changed, keep_views=["nominal"], attributes=stale)
    numbers = checkpoint.events[case.root_column]
    assert not np.isin(other.objects()[case.root_column], numbers).any()
    made = _make(case, tmp_path, 0, 10, only=(case.last,), checkpoint=None)
    assert np.isin(made.objects()[case.root_column], numbers).all()
    assert _root_costs(case, made) == paid
    assert validate_part(made.path) == []


@pytest.mark.parametrize("damage", ["flip", "delete", "never written", "other recipe"])
def test_a_checkpoint_that_cannot_be_used_is_made_again_and_the_views_are_kept(
    damage: str, case: LaneCase, reference: Part, tmp_path: Path
) -> None:
    root = case.root
    before = _make(case, tmp_path, only=("nominal",))
    if damage == "never written":
        before = _write_again(case, before, keep_views=["nominal"])
    elif damage == "other recipe":
        checkpoint = before.checkpoint(root)
        checkpoint.events[case.root_column] *= 2
        other = {"checkpoint_recipes": {root: "other"}}
        before = _write_again(case, before, attributes=other, checkpoints={root: checkpoint}, keep_views=["nominal"])
    else:
        shard = before.path / "data.zarr/checkpoints" / root / case.root_file
        raw = bytearray(shard.read_bytes())
        raw[len(raw) // 2] ^= 1
        shard.write_bytes(raw)
        if damage == "delete":
            shard.unlink()
    marks, paid = _inodes(before, "nominal"), _root_costs(case, before)
    mended = _make(case, tmp_path, only=("nominal",))
    assert _inodes(mended, "nominal") == marks
    assert validate_part(mended.path) == []
    assert part_digests(mended)["checkpoints"][root] == part_digests(reference)["checkpoints"][root]
    assert [record.events for record in _root_costs(case, mended)] == [20]
    assert _root_costs(case, mended) != paid


def test_another_first_state_replaces_the_checkpoint(case: LaneCase, tmp_path: Path) -> None:
    _make(case, tmp_path / "a", 0, 10, only=("nominal",))
    replaced = _make(case, tmp_path / "a", 0, 10, only=("nominal",), seed=1)
    assert part_digests(replaced) == part_digests(_make(case, tmp_path / "b", 0, 10, only=("nominal",), seed=1))
    assert [record.events for record in _root_costs(case, replaced)] == [10]


def test_a_changed_view_is_made_again_and_the_others_are_kept(case: LaneCase, reference: Part, tmp_path: Path) -> None:
    before = _make(case, tmp_path)
    marks = {name: _inodes(before, name) for name in case.cheap}
    views = case.config()["views"] | {case.last: {"from": case.cut, "set": case.change}}
    after = _make(case, tmp_path, views=views)
    expected, found = part_digests(reference), part_digests(after)
    for name in case.cheap:
        same = name != case.last
        assert (_inodes(after, name) == marks[name]) == same
        assert (found["views"][name] == expected["views"][name]) == same
    assert validate_part(after.path) == []
    own = {record.stage for record in after.cost if record.view == case.last}
    assert case.redone | {"write"} <= own
    assert _root_costs(case, after) == _root_costs(case, before)
    assert {record.view for record in after.cost} >= set(case.cheap)


def test_a_view_can_be_added_and_removed(case: LaneCase, reference: Part, tmp_path: Path) -> None:
    _make(case, tmp_path, only=("nominal", case.last))
    more = _make(case, tmp_path)
    assert part_digests(more) == part_digests(reference)
    fewer = _make(case, tmp_path, only=("nominal",), views=case.only("nominal", case.last))
    assert fewer.views == ("nominal", case.last)
    assert _root_costs(case, fewer) == _root_costs(case, more)


def test_views_that_are_not_asked_for_stay(case: LaneCase, tmp_path: Path) -> None:
    """Asked for one view of a part that holds others, the command used to throw the others away."""
    before = _make(case, tmp_path, only=("nominal", case.last))
    marks = _inodes(before, "nominal")
    after = _make(case, tmp_path, only=(case.after,))
    assert after.views == ("nominal", case.after, case.last)
    assert _inodes(after, "nominal") == marks


def test_a_recipe_covers_defaults_and_the_revision_of_the_code(case: LaneCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only overrides were digested: data of another default card would have passed for the same."""
    simulation = _simulation(case)
    lane = type(simulation.lane)
    view = simulation.all_views[0]
    before = simulation.recipe(view)
    monkeypatch.setattr(lane, "revisions", {**lane.revisions, case.cut: lane.revisions[case.cut] + 1})
    assert simulation.recipe(view) != before
    assert lane.resolved(case.cut, ())[1][min(case.change)] == case.default


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete"])
def test_a_damaged_view_is_made_again(damage: str, case: LaneCase, reference: Part, tmp_path: Path) -> None:
    part = _make(case, tmp_path, only=("nominal", case.last))
    folder = part.path / "data.zarr/views" / case.last / "constituents"
    shard = next(f for f in folder.iterdir() if f.name.startswith("c."))
    raw = bytearray(shard.read_bytes())
    if damage == "delete":
        shard.unlink()
    else:
        raw[len(raw) // 2] ^= 1
        shard.write_bytes(raw if damage == "flip" else raw[: len(raw) // 2])
    assert validate_part(part.path) != []
    mended = _make(case, tmp_path, only=("nominal", case.last))
    assert validate_part(mended.path) == []
    assert part_digests(mended)["views"][case.last] == part_digests(reference)["views"][case.last]


def test_a_deleted_part_is_made_again_the_same(case: LaneCase, reference: Part, tmp_path: Path) -> None:
    part = _make(case, tmp_path)
    shutil.rmtree(part.path)
    assert part_digests(_make(case, tmp_path)) == part_digests(reference)


def test_an_event_that_pythia_gives_up_on_is_recorded_as_absent(tmp_path: Path) -> None:
    """With its momentum check set tighter than its arithmetic, Pythia rejects some events for good."""
    views = {"nominal": {}, "strict": {"from": "shower", "set": {"Check:epTolErr": 3e-13}}}
    part = _make(JETS, tmp_path, only=tuple(views), views=views)
    failed = part.attributes["failed"]
    assert failed["nominal"] == []
    lost = [event for event, _ in failed["strict"]]
    assert 0 < len(lost) < 20
    assert {stage for _, stage in failed["strict"]} == {"shower+hadronization+decays"}
    missing = np.isin(part.objects()["event"], lost)
    assert not part.view("strict").present[missing].any()
    assert part.view("nominal").present[missing].any()
    assert part.view("strict").present[~missing].mean() > 0.9


def test_a_view_for_some_splits_is_absent_in_the_others(case: LaneCase, tmp_path: Path) -> None:
    views = {"nominal": {}, "late": {"from": case.cut, "splits": ["test"]}}
    part = _make(case, tmp_path, only=tuple(views), views=views)
    test = part.objects()["split"] == 2
    assert 0 < test.sum() < len(test)
    assert not part.view("late").present[~test].any()
    assert part.view("late").present[test].mean() > 0.8
    assert part.attributes["failed"]["late"] == []


def test_splits_have_their_shares_and_depend_on_the_event_alone(case: LaneCase) -> None:
    simulation = _simulation(case)
    events = np.arange(20_000)
    split = simulation.split_of(events)
    shares = np.bincount(split) / len(split)
    np.testing.assert_allclose(shares, [getattr(simulation.config.splits, name) for name in SPLITS], atol=0.015)
    np.testing.assert_array_equal(simulation.split_of(events[5:9]), split[5:9])


def test_a_manifest_takes_parts_of_one_recipe_only(case: LaneCase, reference: Part, tmp_path: Path) -> None:
    from resim.errors import UserError

    shutil.copytree(reference.path, tmp_path / part_name(0, 20))
    other = _make(case, tmp_path, 20, 40, seed=5)
    with pytest.raises(UserError, match="part-00000020-00000040"):
        write_manifest(tmp_path, [tmp_path / part_name(0, 20), other.path])
