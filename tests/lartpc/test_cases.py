"""Images that are empty, of one voxel, cut off, or of nothing that could be seen: through the chain and the store."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resim.chain import first_values
from resim.config import Config
from resim.display import draw_object
from resim.errors import UserError
from resim.keys import stream
from resim.lartpc.deposits import initial_energy
from resim.lartpc.geometry import geometry
from resim.lartpc.states import Deposits, Images, Primaries
from resim.simulate import Simulation, simulate_part
from resim.store import Part, open_dataset, validate, write_manifest
from resim.typed import parse
from tests.lanes import LARTPC
from tests.lartpc.handmade import deposits, segment

GUN: dict[str, dict[str, Any]] = {
    "nothing over threshold": {"kinetic_energy": [50, 300]},
    "some over threshold": {"particle": "e-", "kinetic_energy": [0.05, 0.6]},
    "one voxel": {"kinetic_energy": [50, 80], "centre": [20, 20, 650], "half_size": [1, 1, 1]},
    "leaves the box": {
        "particle": "mu-",
        "kinetic_energy": [3000, 4000],
        "direction": "beam",
        "opening_angle": 1,
    },
    "no drift volume": {"kinetic_energy": [20, 60], "centre": [0, 220, 650], "half_size": [50, 10, 50]},
    "outside the argon": {"kinetic_energy": [50, 80], "centre": [0, 0, 3000]},
}
CHAIN: dict[str, dict[str, Any]] = {
    "nothing over threshold": {"readout": {"threshold": 1e9}},
    "one voxel": {"deposits": {"hadronic": False}, "voxels": {"size": 1000.0}},
}


def _simulation(name: str) -> Simulation:
    values = LARTPC.config()
    values["samples"] = {"proton": {"events": 40, "process": "proton", "set": GUN[name]}}
    for stage, settings in CHAIN.get(name, {}).items():
        values["chain"][stage] |= settings
    return Simulation(parse(Config, values, "test"), "proton")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Part]:
    """Give a part of each case, listed as a data set."""
    parts = {}
    for name in GUN:
        folder = tmp_path_factory.mktemp("case")
        simulation = _simulation(name)
        parts[name] = simulate_part(simulation, 0, 20, folder, simulation.all_views)
        write_manifest(folder, [parts[name].path])
    return parts


@pytest.mark.parametrize("name", GUN)
def test_every_case_is_a_whole_data_set(name: str, made: dict[str, Part]) -> None:
    part = made[name]
    assert validate(part.path.parent) == []
    assert part.n_objects == 20
    assert all(lost == [] for lost in part.attributes["failed"].values())
    test = part.objects()["split"] == 2
    for view in part.views:
        table = part.view(view).read(slice(None))
        assert np.isfinite(table.constituents).all()
        assert (np.diff(table.offsets) > 0).tolist() == table.present.tolist()
        assert np.isnan(table.columns[~table.present]).all()
        assert np.isfinite(table.columns[table.present]).all()
        assert not table.present[~test].any() or view != "all_max"


@pytest.mark.parametrize("name", ["nothing over threshold", "no drift volume", "outside the argon"])
def test_an_image_without_a_voxel_is_absent(name: str, made: dict[str, Part], tmp_path: Path) -> None:
    part = made[name]
    for view in part.views:
        assert not part.view(view).present.any()
    with pytest.raises(UserError, match="the data set has no object in any view, so there is nothing to draw"):
        draw_object(open_dataset(part.path.parent), None, tmp_path / "x.png")


def test_some_images_are_empty_in_some_views(made: dict[str, Part], tmp_path: Path) -> None:
    present = np.array([made["some over threshold"].view(name).present for name in ("nominal", "noise")])
    assert 0 < present[0].sum() < 20
    sparse = made["some over threshold"].view("nominal").column("n_voxels")
    assert np.nanmin(sparse) == 1
    folder = made["some over threshold"].path.parent
    row = int(np.flatnonzero(~present.any(axis=0))[0])
    draw_object(open_dataset(folder), 8 * int(np.flatnonzero(present[0])[0]), tmp_path / "some.png")
    draw_object(open_dataset(folder), 8 * row, tmp_path / "none.png")


def test_exactly_one_voxel(made: dict[str, Part]) -> None:
    view = made["one voxel"].view("nominal")
    assert view.present.all()
    assert (view.column("n_voxels") == 1).all()
    assert (view.column("n_hits") > 1).all()
    for axis in "xyz":
        assert (view.column(f"{axis}_extent") == 0).all()
        assert (view.column(f"{axis}_mean") == 500).all()
    np.testing.assert_array_equal(view.column("charge"), view.column("charge_max"))


def test_a_track_that_leaves_the_box(made: dict[str, Part]) -> None:
    """Muons of 3 to 4 GeV lose about 0.9 GeV in the 4 m of argon before them; the rest has escaped."""
    part = made["leaves the box"]
    view, objects = part.view("nominal"), part.objects()
    assert view.present.all()
    assert (view.column("contained") == 0).all()
    share = view.column("escaped") / objects["kinetic_energy"]
    assert (share > 0.3).all()
    assert (view.column("deposited") + view.column("escaped") < objects["kinetic_energy"] + 106).all()
    assert 0.5 < np.median(view.column("active")) <= 1
    assert np.median(view.column("z_extent")) > 200


def test_energy_is_accounted_for_where_it_leaves(made: dict[str, Part]) -> None:
    for name in ("leaves the box", "no drift volume", "outside the argon"):
        simulation, part = _simulation(name), made[name]
        primaries = simulation.lane.restore(part.checkpoint("gun"))
        whole = simulation.lane.bring_back(part.checkpoint("deposits"), primaries, ())
        deposited = np.add.reduceat(np.append(whole.segments["energy"].astype(float), 0), whole.segments.offsets[:-1])
        deposited[np.diff(whole.segments.offsets) == 0] = 0
        total = deposited + whole.escaped + whole.invisible
        np.testing.assert_allclose(total, initial_energy(primaries), rtol=1e-6)


def _through(simulation: Simulation, state: Any, first: str) -> Images:
    """Run a state through the rest of the chain of a thrown view."""
    view = next(view for view in simulation.all_views if view.name == "thrown")
    lane = simulation.lane
    for step in view.path[lane.stages.index(first) - 1 :]:
        state = lane.runs[step.stage].run(state, first_values(step.settings), stream(1, "x", step.stage, "thrown", 0))
    return state


def test_no_event_at_all() -> None:
    simulation = _simulation("one voxel")
    primaries = simulation.lane.source(0).take(np.zeros(0, dtype=np.int64))
    images = _through(simulation, primaries, "deposits")
    assert len(images.event) == len(images.voxels) == 0
    rows = simulation.lane.rows(images)
    assert rows.columns.shape == (0, len(simulation.lane.schema.view_columns))
    assert rows.constituents["features"].shape == (0, 5)
    assert len(Images.join([images, images]).event) == 0
    assert isinstance(primaries, Primaries)


def test_events_without_a_segment_beside_one_with_one() -> None:
    """A point deposit of 0.6 MeV above the middle of a pixel, 20 cm from the anode, makes one voxel."""
    simulation = _simulation("some over threshold")
    layout = geometry("ndlar")
    _, y, z = layout.place(layout.pixel(np.array([18]), np.array([100]), np.array([400])))
    point = segment((layout.anode[18] + 20.0 * layout.away[18], y[0], z[0]), energy=0.6)
    state = deposits([[], [point], [], [segment((0.0, 220.0, 650.0))], []])
    images = _through(simulation, state, "charge")
    counts = np.diff(images.voxels.offsets).tolist()
    assert counts == [0, 1, 0, 0, 0]
    rows = simulation.lane.rows(images)
    assert rows.object.tolist() == [8]
    assert np.isfinite(rows.columns).all()
    alone = _through(simulation, state.take(np.array([1])), "charge")
    assert alone.voxels["charge"].tobytes() == images.voxels["charge"].tobytes()
    assert isinstance(state, Deposits)
