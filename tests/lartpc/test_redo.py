"""Views of the second lane: what they share with nominal to the bit, what differs, and what an event drew."""

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from resim.chain import drawn_values, tree
from resim.config import Config
from resim.lartpc.states import Deposits, Images
from resim.plan import choose_views
from resim.simulate import Simulation, simulate_part, states_before
from resim.store import Part, validate_part
from resim.typed import parse
from tests.conftest import ROOT
from tests.lanes import LARTPC

THROWS = {"field": (0.45, 0.55), "lifetime": (500.0, 5000.0), "diffusion_trans": (4.0e-6, 14.0e-6)}


def _simulation(**changes: Any) -> Simulation:
    return Simulation(parse(Config, LARTPC.config(**changes), "test"), "proton")


def _make(folder: Path, simulation: Simulation, *names: str) -> Part:
    return simulate_part(simulation, 0, 20, folder, choose_views(simulation.all_views, names or None))


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Part:
    made = _make(tmp_path_factory.mktemp("redo"), _simulation())
    assert validate_part(made.path) == []
    return made


def _arrays(state: Any) -> Iterator[np.ndarray]:
    """Give all arrays of a state, those of the states in it included."""
    if isinstance(state, np.ndarray):
        yield state
    elif isinstance(state, dict):
        for name in sorted(state):
            yield from _arrays(state[name])
    else:
        yield from _arrays(vars(state))


def _same(one: Any, other: Any) -> bool:
    pairs = zip_longest(_arrays(one), _arrays(other))
    return all(a is not None and b is not None and a.tobytes() == b.tobytes() for a, b in pairs)


def _before(part: Part, view: str, stage: str) -> list[Any]:
    return list(states_before(_simulation(), part, view, stage))


def test_noise_alone_is_drawn_anew(part: Part) -> None:
    """The pixels' charge is nominal's to the bit; a hit's charge moves by the noise, 900 to 1100 electrons."""
    for stage in ("charge", "pixels", "readout"):
        assert all(map(_same, _before(part, "noise", stage), _before(part, "nominal", stage)))
    nominal, noise = part.view("nominal"), part.view("noise")
    here = nominal.present & noise.present
    for name in ("deposited", "escaped", "active", "contained"):
        np.testing.assert_array_equal(nominal.column(name)[here], noise.column(name)[here])
    assert (nominal.column("charge") != noise.column("charge"))[here].all()
    spread = (noise.column("charge") - nominal.column("charge"))[here] / np.sqrt(nominal.column("n_hits")[here])
    assert 0.7 < np.sqrt(np.mean(spread**2)) / np.sqrt(2) < 2.5


def test_deposits_are_made_anew_of_the_same_primaries(part: Part) -> None:
    nominal, again = _before(part, "nominal", "charge"), _before(part, "redeposited", "charge")
    for one, other in zip(nominal, again, strict=True):
        assert isinstance(one, Deposits)
        assert _same(one.primaries, other.primaries)
        assert not _same(one.segments, other.segments)
    assert (part.view("nominal").column("n_voxels") != part.view("redeposited").column("n_voxels")).any()


def test_a_throw_shares_the_deposits_and_nothing_behind(part: Part) -> None:
    nominal, thrown = _before(part, "nominal", "pixels"), _before(part, "thrown", "pixels")
    for one, other in zip(nominal, thrown, strict=True):
        assert _same(one.deposits, other.deposits)
        assert (one.velocity != other.velocity).all()


def test_what_an_event_drew_is_a_column_within_the_range_and_the_same_again(part: Part, tmp_path: Path) -> None:
    drawn = part.view("thrown").extras["drawn"]
    assert [column.name for column in drawn.columns] == sorted(THROWS)
    for (_, (low, high)), values in zip(sorted(THROWS.items()), drawn.values.T, strict=True):
        assert low <= values.min() < low + 0.3 * (high - low) < high - 0.3 * (high - low) < values.max() < high
        assert len(set(values)) == 20
    simulation = _simulation()
    view = next(view for view in simulation.all_views if view.name == "thrown")
    expected = drawn_values(view, np.arange(20), simulation.config.seed, "proton", simulation.lane.by_event)
    np.testing.assert_array_equal(drawn.values, np.column_stack(list(expected.values())))
    alone = _make(tmp_path, simulation, "thrown")
    assert alone.view("thrown").extras["drawn"].values.tobytes() == drawn.values.tobytes()
    assert "drawn" not in part.view("nominal").extras


@pytest.mark.parametrize("block_size", [1, 4, 20])
def test_events_are_the_same_alone_and_beside_others(block_size: int, part: Part, tmp_path: Path) -> None:
    """Blocks are what stages work on at once: of one event, of some, of all."""
    other = _make(tmp_path, _simulation(block_size=block_size))
    assert {name: values.tobytes() for name, values in other.objects().items()} == {
        name: values.tobytes() for name, values in part.objects().items()
    }
    for name in part.views:
        found, expected = (p.view(name).read(slice(None)) for p in (other, part))
        for array in ("present", "columns", "offsets", "constituents"):
            assert getattr(found, array).tobytes() == getattr(expected, array).tobytes(), (name, array)
        extras = [{kind: extra.values.tobytes() for kind, extra in table.extras.items()} for table in (found, expected)]
        assert extras[0] == extras[1]


def test_a_thrown_event_is_that_of_a_view_with_its_values(part: Part, tmp_path: Path) -> None:
    """The name of the view is the key of its draws, so that a view `thrown` without a range makes the same event."""
    event = 3
    values = part.view("thrown").extras["drawn"].values[event].tolist()
    fixed = {"from": "charge", "set": dict(zip(sorted(THROWS), values, strict=True))}
    same = _make(tmp_path, _simulation(views={"nominal": {}, "thrown": fixed}), "thrown").view("thrown")
    tables = [view.read(slice(event, event + 1)) for view in (same, part.view("thrown"))]
    assert tables[0].constituents.tobytes() == tables[1].constituents.tobytes()
    assert len(tables[0].constituents) > 0
    others = [view.read(slice(event + 1, event + 2)).constituents.tobytes() for view in (same, part.view("thrown"))]
    assert others[0] != others[1]


def test_replicas_of_a_throw_draw_other_values(tmp_path: Path) -> None:
    views = {"nominal": {}, "thrown": {"from": "charge", "replicas": 2, "set": {"field": {"uniform": [0.45, 0.55]}}}}
    made = _make(tmp_path, _simulation(views=views))
    drawn = [made.view(name).extras["drawn"].values for name in ("thrown_1", "thrown_2")]
    assert not (drawn[0] == drawn[1]).any()


def test_the_17_points_are_those_of_the_paper() -> None:
    """Nominal, and steps of the ranges about 0.5, 2200, 8.8: arXiv:2502.07724; three times down stops above zero."""
    config = parse(Config, yaml.safe_load((ROOT / "workflow/config/lartpc.yaml").read_text()), "lartpc.yaml")
    centre = {"field": 0.5, "lifetime": 2200.0, "diffusion_trans": 8.8e-6}
    low, high = ({name: ends[i] for name, ends in THROWS.items()} for i in (0, 1))
    held_out = {name: dict(view.set) for name, view in config.views.items() if view.role == "evaluation"}

    def towards(end: dict[str, float], share: float) -> dict[str, float]:
        return {name: value + share * (end[name] - value) for name, value in centre.items()}

    expected = {"all_max": high, "all_min": low, "all_three_max": towards(high, 3)}
    for word, share in {"quarter": 0.25, "half": 0.5, "three_quarters": 0.75}.items():
        expected |= {f"all_plus_{word}": towards(high, share), f"all_minus_{word}": towards(low, share)}
    for short, name in {"field": "field", "lifetime": "lifetime", "diffusion": "diffusion_trans"}.items():
        expected |= {f"{short}_max": {name: high[name]}, f"{short}_min": {name: low[name]}}
    lowest = held_out.pop("all_three_min")
    assert lowest == {"field": pytest.approx(0.35), "lifetime": low["lifetime"] / 5, "diffusion_trans": 0.0}
    assert held_out == {name: pytest.approx(values) for name, values in expected.items()}
    assert len(held_out) + 2 == 17


def test_a_view_of_every_stage_runs_nothing_above_its_cut(tmp_path: Path) -> None:
    """Deposits are shared by what is cut behind them: the tree has one run of each stage that views share."""
    simulation = _simulation()
    (again, nominal) = sorted(tree(simulation.all_views), key=lambda node: node.owner == "nominal")
    assert (again.owner, [view.name for view in again.leaves]) == ("redeposited", ["redeposited"])
    assert [view.name for view in nominal.leaves] == ["nominal", "thrown", "noise", "all_max"]
    made = _make(tmp_path, simulation)
    runs = {(record.stage, record.view) for record in made.cost if record.stage in simulation.lane.stages}
    behind = ("charge", "pixels", "readout", "voxels")
    expected = {("gun", "nominal"), ("deposits", "nominal"), ("deposits", "redeposited")}
    expected |= {(stage, view) for stage in behind for view in ("nominal", "redeposited", "thrown", "all_max")}
    expected |= {("readout", "noise"), ("voxels", "noise")}
    assert {run for run in runs if run[1] != "start"} == expected


def test_every_view_of_the_documentation_runs_and_ends_elsewhere(tmp_path: Path) -> None:
    text = (ROOT / "docs/interventions.md").read_text().split("## The second lane")[1]
    views = yaml.safe_load(text.split("```yaml")[1].split("```")[0])["views"]
    simulation = _simulation(views=views)
    part = _make(tmp_path, simulation)
    assert validate_part(part.path) == []
    assert {view.cut for view in simulation.all_views} == {None, *simulation.lane.stages[1:]}
    nominal = part.view("nominal")
    for name in part.views[1:]:
        view = part.view(name)
        both = nominal.present & view.present
        assert both.sum() > 3
        assert (view.columns[both] != nominal.columns[both]).any()


def test_images_are_sorted_and_complete(part: Part) -> None:
    """Voxels rise in x, y, z, none twice; the columns count them."""
    for name in part.views:
        table = part.view(name).read(slice(None))
        for row in np.flatnonzero(table.present):
            voxels = table.constituents[table.offsets[row] : table.offsets[row + 1], :3]
            order = np.lexsort(voxels.T[::-1])
            assert order.tolist() == list(range(len(voxels)))
            assert len(np.unique(voxels, axis=0)) == len(voxels)
        counts = np.diff(table.offsets)
        np.testing.assert_array_equal(part.view(name).column("n_voxels")[table.present], counts[table.present])


def test_states_of_some_events_join_to_those_of_all(part: Part) -> None:
    (first, *_) = _before(part, "thrown", "voxels")
    rows = np.arange(len(first.event))
    pieces = [first.take(rows[:3]), first.take(rows[3:])]
    assert _same(type(first).join(pieces), first)
    assert not isinstance(first, Images)
