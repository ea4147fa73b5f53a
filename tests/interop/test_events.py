"""The events behind a data set, written as HepMC3: those that the simulation had in memory, to the bit."""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyhepmc
import pytest

from resim import cli
from resim.config import Config
from resim.errors import UserError
from resim.interop.columnar import export_root, import_root
from resim.interop.events import export_hepmc
from resim.interop.hepmc import read_hepmc
from resim.jets import engine, lane
from resim.jets.pileup import make_pool
from resim.jets.states import Hadrons, HardEvents
from resim.simulate import Simulation, simulate_part
from resim.store import Dataset, open_dataset, write_manifest
from resim.typed import parse
from tests.conftest import small_config
from tests.interop.conftest import folder_of
from tests.interop.test_write_hepmc import in_order

N, SAMPLE = 40, "hbb"
VIEWS: dict[str, dict[str, Any]] = {
    "nominal": {},
    "fsr": {"from": "shower", "set": {"TimeShower:renormMultFac": {"choose": [0.5, 2.0]}}},
    "rehadronized": {"from": "hadronization"},
    "busy": {"from": "pileup", "set": {"mu": 5.0}},
    "redetected": {"from": "detector", "base": "fsr"},
    "held_out": {"from": "shower", "role": "evaluation"},
}


def config(**changes: Any) -> Config:
    pool = {"events": 500, "hard": {"SoftQCD:nonDiffractive": True}}
    return parse(Config, small_config(views=VIEWS, pileup=pool, **changes), "test")


@dataclass
class Made:
    """A data set, and the events that went into the detector while it was made."""

    dataset: Dataset
    pool: Path
    seen: dict[str, dict[int, Hadrons]]

    def events(self, view: str) -> Hadrons:
        found = self.seen[view]
        return Hadrons.join([found[event] for event in sorted(found)])


def _made(folder: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: str | None) -> Made:
    settings = config(checkpoint=checkpoint)
    pool = folder / "pool"
    make_pool(pool, lane.pool_settings(settings), settings.pileup.events, settings.seed)
    simulation = Simulation(settings, SAMPLE, pool)
    steps = {view.name: next(s for s in view.path if s.stage == "detector") for view in simulation.all_views}
    names = {step.stream(settings.seed, SAMPLE): name for name, step in steps.items()}
    seen: dict[str, dict[int, Hadrons]] = {name: {} for name in VIEWS}
    run = lane.Detector.run

    def spied(self: Any, state: Hadrons, settings: Any, stream: Any) -> Any:
        for i, event in enumerate(state.event.tolist()):  # one that warmed up comes again, with its own draws
            seen[names[stream]][event] = state.take(np.array([i]))
        return run(self, state, settings, stream)

    monkeypatch.setattr(lane.Detector, "run", spied)
    parts = [simulate_part(simulation, *r, folder / "data", simulation.all_views) for r in ((0, 20), (20, N))]
    monkeypatch.undo()
    write_manifest(folder / "data", [part.path for part in parts])
    return Made(open_dataset(folder / "data"), pool, seen)


@pytest.fixture(scope="module", params=[None, "shower"], ids=["hard", "shower"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield _made(tmp_path_factory.mktemp("made"), monkeypatch, request.param)


@pytest.mark.parametrize("view", VIEWS)
def test_the_file_holds_what_the_detector_was_given(view: str, made: Made, tmp_path: Path) -> None:
    path = tmp_path / "events.hepmc3.zst"
    expected = made.events(view)
    assert export_hepmc(made.dataset, path, [view], made.pool) == len(expected.event)
    found = Hadrons.join(list(read_hepmc(path, batch=15)))
    assert found.event.tolist() == expected.event.tolist()
    objects = made.dataset.objects()
    tests = objects["event"][objects["split"] == 2]
    assert set(tests) <= set(found.event)  # and those that gave no object
    assert (len(found.event) < N) == (view == "held_out")
    assert in_order(found.particles) == in_order(expected.seen)
    assert in_order(found.heavy) == in_order(expected.heavy)
    for name in ("weight", "process", "scale", "alpha_qcd", "alpha_qed"):
        np.testing.assert_array_equal(getattr(found.hard, name), getattr(expected.hard, name))
    for name in ("id", "status", "px", "py", "pz", "e", "m"):
        np.testing.assert_array_equal(found.hard.partons[name], expected.hard.partons[name])


def test_the_shower_is_not_run_where_its_result_is_kept(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, showered = engine.Pythia.run_fused, []

    def spied(self: Any, state: Any, *rest: Any) -> Any:
        showered.append(isinstance(state, HardEvents))
        return run(self, state, *rest)

    monkeypatch.setattr(engine.Pythia, "run_fused", spied)
    export_hepmc(made.dataset, tmp_path / "e.hepmc3", ["rehadronized"])
    kept = "shower" in made.dataset.parts[0].checkpoints
    assert showered == ([False] * 4 if kept else [True, False] * 4)


def test_without_checkpoints_the_hard_processes_are_made_again(made: Made, tmp_path: Path) -> None:
    """As in a data set that was in a Parquet file."""
    from resim.interop.columnar import export_parquet, import_parquet

    export_parquet(made.dataset, tmp_path / "all.parquet")
    import_parquet(tmp_path / "all.parquet", tmp_path / "data")
    back = open_dataset(tmp_path / "data")
    assert back.parts[0].checkpoints == ()
    export_hepmc(made.dataset, tmp_path / "one.hepmc3")
    export_hepmc(back, tmp_path / "two.hepmc3")
    assert (tmp_path / "one.hepmc3").read_bytes() == (tmp_path / "two.hepmc3").read_bytes()


def test_it_comes_back_as_a_sample_that_an_engine_made(made: Made, tmp_path: Path) -> None:
    """The same objects and generator-level jets; the detector draws by the order of particles, which HepMC loses."""
    path = tmp_path / "events.hepmc3.gz"
    export_hepmc(made.dataset, path)
    command = {"command": f"cp {path} {{output}}", "input": "none", "output": "hepmc3"}
    settings = config(engines={"copy": command}, samples={SAMPLE: {"events": N, "engine": "copy"}})
    simulation = Simulation(settings, SAMPLE, made.pool, {"nominal": path})
    nominal = [view for view in simulation.all_views if view.name == "nominal"]
    part = simulate_part(simulation, 0, N, tmp_path / "data", nominal)
    for name, values in made.dataset.objects().items():
        np.testing.assert_array_equal(part.objects()[name], values, err_msg=name)
    before, after = made.dataset.view_columns("nominal"), part.view("nominal")
    names = [name for name in after.column_names if name.startswith("gen_") or name.endswith("_hadrons")]
    assert len(names) > 5
    both = made.dataset.present("nominal") & after.present
    assert both.sum() > 0.9 * len(both)
    for name in names:
        i = after.column_names.index(name)
        np.testing.assert_allclose(after.column(name)[both], before[both, i], rtol=1e-5, atol=1e-5, err_msg=name)


def test_all_weights_go_into_the_file(tmp_path: Path) -> None:
    bands = {
        "UncertaintyBands:doVariations": True,
        "UncertaintyBands:List": ["up fsr:muRfac=2.0", "down fsr:muRfac=0.5"],
    }
    settings = config(chain=small_config()["chain"] | {"shower": bands})
    simulation = Simulation(settings, SAMPLE)
    nominal = [view for view in simulation.all_views if view.name == "nominal"]
    part = simulate_part(simulation, 0, 10, tmp_path, nominal)
    write_manifest(tmp_path, [part.path])
    export_hepmc(open_dataset(tmp_path), tmp_path / "e.hepmc3")
    with pyhepmc.open(tmp_path / "e.hepmc3") as file:
        weights = {event.event_number: (list(event.weight_names), list(event.weights)) for event in file}
    objects, extra = part.objects(), part.view("nominal").extras["weights"]
    assert [column.name for column in extra.columns] == ["up", "down"]
    for event, weight, variations in zip(objects["event"], objects["weight"], extra.values, strict=True):
        names, found = weights[event]
        assert names == ["Weight", "up", "down"]
        np.testing.assert_allclose(found, [weight, *(weight * variations)], rtol=1e-15)


# --- what cannot be written ---------------------------------------------------------------------------------------


def _refused(message: str, dataset: Dataset, folder: Path, *views: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        export_hepmc(dataset, folder / "no" / "e.hepmc3", list(views) or None)
    assert "\n" not in str(caught.value)
    assert not list((folder / "no").glob("*"))


def test_views_that_cannot_be_written(made: Made, tmp_path: Path) -> None:
    _refused("no view 'foo' in the data set; it has nominal, fsr", made.dataset, tmp_path, "foo")
    _refused("holds the events of one view; export each by itself", made.dataset, tmp_path, "nominal", "fsr")
    _refused("no pool is given; add --pool, made with `resim pool`", made.dataset, tmp_path, "busy")


def test_what_this_program_would_make_otherwise(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as other:
        other.setattr(lane.JetsLane, "revisions", {**lane.JetsLane.revisions, "shower": 99})
        _refused(r"view 'nominal' was imported or made by other code \(commit \w+\)", made.dataset, tmp_path)
    software = lane.JetsLane.software() | {"numpy": "0.1"}
    monkeypatch.setattr(lane.JetsLane, "software", staticmethod(lambda: software))
    now = f"made with numpy {re.escape(np.__version__)}, so its events may come out different; use what it was made"
    _refused(now, made.dataset, tmp_path)


def test_imported_views_carry_no_recipe(qcd: Dataset, tmp_path: Path) -> None:
    export_root(qcd, tmp_path / "n.root", ["nominal"])
    import_root([tmp_path / "n.root"], tmp_path / "data")
    _refused("view 'nominal' was imported or made by other code", open_dataset(tmp_path / "data"), tmp_path)


def test_events_that_an_engine_made_are_not_kept(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "events.hepmc3.gz"
    export_hepmc(made.dataset, path)
    command = {"command": f"cp {path} {{output}}", "input": "none", "output": "hepmc3"}
    settings = config(engines={"copy": command}, samples={SAMPLE: {"events": N, "engine": "copy"}})
    simulation = Simulation(settings, SAMPLE, incoming={"nominal": path})
    nominal = [view for view in simulation.all_views if view.name == "nominal"]
    write_manifest(tmp_path / "data", [simulate_part(simulation, 0, N, tmp_path / "data", nominal).path])
    message = "view 'nominal': the engine 'copy' made its events, and the data set does not keep them; take what"
    _refused(message, open_dataset(tmp_path / "data"), tmp_path)


def test_command(qcd: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    out = tmp_path / "e.hepmc3.gz"
    words = ["resim", "export", str(folder_of(qcd)), "--to", "hepmc3", "--out", str(out), "--views", "shower_seed"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{out}: 40 events\n"
    assert sum(len(hadrons.event) for hadrons in read_hepmc(out)) == N
