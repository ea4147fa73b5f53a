"""A part that keeps nominal's parton levels: hadronization can be redone later, without the shower."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resim.config import Config
from resim.cost import START
from resim.jets import kept
from resim.plan import choose_views
from resim.simulate import Simulation, simulate_part
from resim.store import Part, validate
from resim.typed import parse
from tests.conftest import small_config
from tests.jets.events import ENERGY, hard_block, rehadronize, shower_of, steps

EVENTS = 20


def _simulation(sample: str = "qcd", **changes: Any) -> Simulation:
    values = small_config(checkpoint="shower", **changes)
    values["views"] = {
        "nominal": {},
        "rehadronized": {"from": "hadronization"},
        "lund": {"from": "hadronization", "set": {"StringZ:aLund": 0.9}, "role": "evaluation"},
        "redetected": {"from": "detector"},
    }
    return Simulation(parse(Config, values, "test"), sample)


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


def test_a_view_added_later_equals_one_made_at_once_and_runs_no_shower(tmp_path: Path) -> None:
    simulation = _simulation()
    at_once = _make(simulation, tmp_path / "at_once")
    later = _make(simulation, tmp_path / "later", "nominal")
    assert later.checkpoints == ("hard", "shower")
    digest = later.digest["checkpoints"]["shower"]
    later = _make(simulation, tmp_path / "later", "rehadronized", "lund")
    assert not validate(later.path)
    for view in ("nominal", "rehadronized", "lund"):
        assert later.digest["views"][view] == at_once.digest["views"][view]
    assert later.digest["checkpoints"]["shower"] == digest == at_once.digest["checkpoints"]["shower"]
    stages = {record.stage for record in later.cost if record.view in ("rehadronized", "lund")}
    assert "restore shower" in stages
    made = [r for r in later.cost if r.stage.startswith("shower") and r.view not in ("nominal", START)]
    assert not made


def test_the_checkpoint_stays_where_it_is_unless_it_is_damaged(tmp_path: Path) -> None:
    """A later view links its files; one that no reading would notice is told by its digest, and all is made anew."""
    simulation = _simulation()
    files = [f"data.zarr/checkpoints/shower/{name}" for name in ("offsets/c.0", "particles/zarr.json")]
    first = _make(simulation, tmp_path, "nominal")
    inodes = [(first.path / file).stat().st_ino for file in files]
    later = _make(simulation, tmp_path, "rehadronized")
    assert [(later.path / file).stat().st_ino for file in files] == inodes
    assert [r.stage for r in later.cost if r.view == "checkpoints/shower"] == ["write"]
    (later.path / files[1]).write_text((later.path / files[1]).read_text() + " ")
    assert validate(later.path)
    mended = _make(simulation, tmp_path, "redetected")
    assert not validate(mended.path)
    assert mended.digest["views"].keys() == {"nominal", "rehadronized", "redetected"}


def test_a_part_with_the_checkpoint_has_the_views_of_one_without(tmp_path: Path) -> None:
    with_it, without = _simulation(), _simulation()
    without = Simulation(without.config.model_copy(update={"checkpoint": None}), "qcd")
    first, second = _make(with_it, tmp_path / "with"), _make(without, tmp_path / "without")
    assert first.digest["views"] == second.digest["views"]
    assert second.checkpoints == ("hard",)


def test_where_nominal_is_there_and_the_checkpoint_is_not_the_shower_runs_again(tmp_path: Path) -> None:
    simulation = _simulation()
    plain = Simulation(simulation.config.model_copy(update={"checkpoint": None}), "qcd")
    _make(plain, tmp_path, "nominal")
    part = _make(simulation, tmp_path, "lund")
    assert part.checkpoints == ("hard",)  # `lund` is for some events only: no parton levels of the others were made
    again = _make(simulation, tmp_path / "other")
    assert part.digest["views"]["lund"] == again.digest["views"]["lund"]


def test_a_changed_shower_makes_the_checkpoint_anew(tmp_path: Path) -> None:
    before = _make(_simulation(), tmp_path)
    values = small_config()["chain"] | {"shower": {"TimeShower:alphaSvalue": 0.12}}
    changed = _simulation(chain=values)
    after = _make(changed, tmp_path)
    assert after.digest["checkpoints"]["hard"] == before.digest["checkpoints"]["hard"]
    assert after.digest["checkpoints"]["shower"] != before.digest["checkpoints"]["shower"]
    assert after.digest["views"]["rehadronized"] != before.digest["views"]["rehadronized"]
