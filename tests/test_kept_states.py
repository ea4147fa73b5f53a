"""A part that keeps nominal's states behind a costly stage: what follows can be redone later, without that stage."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resim.config import Config
from resim.cost import START
from resim.jets import kept
from resim.plan import choose_views
from resim.simulate import Simulation, simulate_part
from resim.store import Part, part_name, validate
from resim.typed import parse
from tests.jets.events import ENERGY, hard_block, rehadronize, shower_of, steps
from tests.lanes import CASES, LaneCase

EVENTS = 20


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> LaneCase:
    return request.param


def _simulation(case: LaneCase, **changes: Any) -> Simulation:
    values = case.config(checkpoint=case.kept, **changes)
    values["views"] = case.only("nominal", case.after, case.last) | {"other": case.after_changed}
    return Simulation(parse(Config, values, "test"), case.samples[0])


def _make(simulation: Simulation, folder: Path, *names: str) -> Part:
    return simulate_part(simulation, 0, EVENTS, folder, choose_views(simulation.all_views, names or None))


@pytest.mark.parametrize("sample", ["qcd", "hbb"])
def test_records_come_back_to_the_bit(sample: str) -> None:
    """What hadronization makes of them is the same: 100 events, some with onia, whose decays look at the history."""
    partons, _, hadrons = shower_of(hard_block(sample, 2, 100), sample, steps())
    assert partons is not None
    checkpoint = kept.to_checkpoint(partons, ENERGY)
    assert len(checkpoint.particles["id"]) < 0.4 * sum(record.size() for record in partons.records)
    back = kept.from_checkpoint(checkpoint, partons.hard, partons.origins[0].settings)
    for view in ("nominal", "rehadronized"):
        expected = rehadronize(partons, sample, view)
        found = rehadronize(back, sample, view)
        for name, values in expected.particles.columns.items():
            np.testing.assert_array_equal(found.particles[name], values)
        np.testing.assert_array_equal(found.splitting, expected.splitting)
    np.testing.assert_array_equal(back.splitting, hadrons.splitting)


def test_a_view_added_later_equals_one_made_at_once_and_runs_nothing_above(case: LaneCase, tmp_path: Path) -> None:
    simulation, kept = _simulation(case), case.kept
    at_once = _make(simulation, tmp_path / "at_once")
    later = _make(simulation, tmp_path / "later", "nominal")
    assert later.checkpoints == (case.root, kept)
    digest = later.digest["checkpoints"][kept]
    later = _make(simulation, tmp_path / "later", case.after, "other")
    assert not validate(later.path)
    for view in ("nominal", case.after, "other"):
        assert later.digest["views"][view] == at_once.digest["views"][view]
    assert later.digest["checkpoints"][kept] == digest == at_once.digest["checkpoints"][kept]
    stages = {record.stage for record in later.cost if record.view in (case.after, "other")}
    assert f"restore {kept}" in stages
    assert not [r for r in later.cost if r.stage.startswith(kept) and r.view not in ("nominal", START)]


def test_the_checkpoint_stays_where_it_is_unless_it_is_damaged(case: LaneCase, tmp_path: Path) -> None:
    """A later view links its files; one that no reading would notice is told by its digest, and all is made anew."""
    simulation = _simulation(case)
    files = [f"data.zarr/checkpoints/{case.kept}/{name}" for name in ("offsets/c.0", "particles/zarr.json")]
    first = _make(simulation, tmp_path, "nominal")
    inodes = [(first.path / file).stat().st_ino for file in files]
    later = _make(simulation, tmp_path, case.after)
    assert [(later.path / file).stat().st_ino for file in files] == inodes
    assert [r.stage for r in later.cost if r.view == f"checkpoints/{case.kept}"] == ["write"]
    (later.path / files[1]).write_text((later.path / files[1]).read_text() + " ")
    assert validate(later.path)
    mended = _make(simulation, tmp_path, case.last)
    assert not validate(mended.path)
    assert mended.digest["views"].keys() == {"nominal", case.after, case.last}


@pytest.mark.parametrize("what", ["flipped", "cut", "shared metadata gone"])
def test_the_same_command_mends_damage_that_is_no_views(what: str, case: LaneCase, tmp_path: Path) -> None:
    simulation = _simulation(case)
    wanted = _make(simulation, tmp_path, "nominal").digest
    data = tmp_path / part_name(0, 20) / "data.zarr"
    file = data / "checkpoints" / case.kept / "offsets" / "c.0"
    sound = file.read_bytes()
    if what == "shared metadata gone":
        (data / "views" / "zarr.json").unlink()
    else:
        file.write_bytes(sound[:-1] if what == "cut" else bytes([sound[0] ^ 1]) + sound[1:])
    mended = _make(simulation, tmp_path, "nominal")
    assert validate(mended.path) == []
    for key in ("objects", "views", "checkpoints"):
        assert mended.digest[key] == wanted[key]


def test_a_part_with_the_checkpoint_has_the_views_of_one_without(case: LaneCase, tmp_path: Path) -> None:
    with_it = _simulation(case)
    without = Simulation(with_it.config.model_copy(update={"checkpoint": None}), case.samples[0])
    first, second = _make(with_it, tmp_path / "with"), _make(without, tmp_path / "without")
    assert first.digest["views"] == second.digest["views"]
    assert second.checkpoints == (case.root,)


def test_where_nominal_is_there_and_the_checkpoint_is_not_the_stage_runs_again(case: LaneCase, tmp_path: Path) -> None:
    simulation = _simulation(case)
    plain = Simulation(simulation.config.model_copy(update={"checkpoint": None}), case.samples[0])
    _make(plain, tmp_path, "nominal")
    part = _make(simulation, tmp_path, "other")
    assert part.checkpoints == (case.root,)  # `other` is for some events only: no states of the others were made
    again = _make(simulation, tmp_path / "other")
    assert part.digest["views"]["other"] == again.digest["views"]["other"]


def test_a_changed_stage_makes_the_checkpoint_anew(case: LaneCase, tmp_path: Path) -> None:
    before = _make(_simulation(case), tmp_path)
    changed = _simulation(case, chain=case.config()["chain"] | {case.kept: case.kept_change})
    after = _make(changed, tmp_path)
    assert after.digest["checkpoints"][case.root] == before.digest["checkpoints"][case.root]
    assert after.digest["checkpoints"][case.kept] != before.digest["checkpoints"][case.kept]
    assert after.digest["views"][case.after] != before.digest["views"][case.after]
