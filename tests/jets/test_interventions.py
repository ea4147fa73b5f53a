"""Every intervention on real events: it cuts where it says, what lies before is the same, what follows is not."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pythia8mc as pythia8
from scipy.stats import chisquare

from resim.chain import NOMINAL, Settings, Step, View, Walk, drawn_values, tree, walk
from resim.config import Config
from resim.cost import Meter
from resim.jets import lane
from resim.jets.engine import Pythia
from resim.jets.features import JET_COLUMNS
from resim.jets.pileup import make_pool
from resim.jets.states import HardEvents, Origin
from resim.keys import Stream
from resim.plan import choose_views, plan_views
from resim.ragged import Ragged
from resim.simulate import Simulation, simulate_part
from resim.store import Part
from resim.store.tables import SLOTS
from resim.typed import parse
from tests.conftest import small_config
from tests.jets.events import ENERGY, SEED, hard_block, shower_of, steps

FSR, ISR = "TimeShower:renormMultFac", "SpaceShower:renormMultFac"
ROPES = {"Ropewalk:RopeHadronization": True, "Ropewalk:doFlavour": True}
DEAD = [[0.0, 1.0, 0.0, 1.5]]
VIEWS: dict[str, dict[str, Any]] = {
    "nominal": {},
    "shower_seed": {"from": "shower"},
    "fsr_mur_2": {"from": "shower", "set": {FSR: 4.0}},
    "fsr_mur_half": {"from": "shower", "set": {FSR: 0.25}},
    "isr_mur_2": {"from": "shower", "set": {ISR: 4.0}},
    "isr_mur_half": {"from": "shower", "set": {ISR: 0.25}},
    "both_mur_2": {"from": "shower", "set": {FSR: 4.0, ISR: 4.0}},
    "both_mur_half": {"from": "shower", "set": {FSR: 0.25, ISR: 0.25}},
    "alphas_low": {"from": "shower", "set": {"TimeShower:alphaSvalue": 0.110}},
    "alphas_high": {"from": "shower", "set": {"TimeShower:alphaSvalue": 0.150}},
    "recoil": {"from": "shower", "set": {"TimeShower:recoilToColoured": False}},
    "dipole_recoil": {"from": "shower", "set": {"SpaceShower:dipoleRecoil": True}},
    "no_mpi": {"from": "shower", "set": {"PartonLevel:MPI": False}},
    "no_reconnection": {"from": "shower", "set": {"ColourReconnection:reconnect": False}},
    "qcd_reconnection": {"from": "shower", "set": {"ColourReconnection:mode": 1}},
    "tune_pp": {"from": "shower", "set": {"Tune:pp": 5}},
    "tune_ee": {"from": "shower", "set": {"Tune:ee": 3}},
    "pdf": {"from": "shower", "set": {"PDF:pSet": 8}},
    "vincia": {"from": "shower", "set": {"PartonShowers:model": 2}, "role": "evaluation"},
    "vertices": {"from": "shower", "set": {"PartonVertex:setVertex": True}},
    "rehadronized": {"from": "hadronization", "replicas": 2},
    "a_low": {"from": "hadronization", "set": {"StringZ:aLund": 0.3}},
    "a_high": {"from": "hadronization", "set": {"StringZ:aLund": 1.5}},
    "b_low": {"from": "hadronization", "set": {"StringZ:bLund": 0.5}},
    "b_high": {"from": "hadronization", "set": {"StringZ:bLund": 1.8}},
    "sigma_low": {"from": "hadronization", "set": {"StringPT:sigma": 0.2}},
    "sigma_high": {"from": "hadronization", "set": {"StringPT:sigma": 0.5}},
    "thermal": {"from": "hadronization", "set": {"Fragmentation:model": 1}},
    "ropes": {"from": "hadronization", "base": "vertices", "set": ROPES},
    "redecayed": {"from": "decays"},
    "stable_pions": {"from": "decays", "set": {"111:mayDecay": False}},
    "pileup": {"from": "pileup", "set": {"mu": 10.0}},
    "pileup_redrawn": {"from": "pileup", "base": "pileup"},
    "pileup_more": {"from": "pileup", "base": "pileup", "set": {"mu": 30.0}},
    "pileup_none": {"from": "pileup", "base": "pileup", "set": {"mu": 0.0}},
    "pileup_subtracted": {"from": "jets", "base": "pileup", "set": {"vertex_dz_max": 0.5}},
    "redetected": {"from": "detector"},
    "scaled": {"from": "detector", "set": {"tracking.scale": 1.05, "ecal.scale": 1.05, "hcal.scale": 1.05}},
    "ideal": {"from": "detector", "set": {f"{d}.resolution_factor": 0 for d in ("tracking", "ecal", "hcal")}},
    "inefficient": {"from": "detector", "set": {"tracking.efficiency_factor": 0.8}},
    "dead": {"from": "detector", "set": {f"{d}.dead": DEAD for d in ("tracking", "ecal", "hcal")}},
    "coarse": {"from": "detector", "set": {"ecal.coarsen": 5}},
    "atlas": {"from": "detector", "set": {"card": "atlas"}},
    "weak_field": {"from": "detector", "set": {"magnetic_field": 2.0}},
    "small_jets": {"from": "jets", "set": {"radius": 0.4}},
    "composite": {"from": "detector", "base": "fsr_mur_2", "set": {"card": "atlas"}},
}
EVENTS, SAMPLE = 20, "qcd"
CONFIG = parse(
    Config,
    small_config(
        seed=SEED, block_size=EVENTS, events_per_part=EVENTS, samples={"qcd": {"events": EVENTS, "process": "qcd"}},
        pileup={"events": 500, "hard": {"SoftQCD:nonDiffractive": True}}, views=VIEWS,
    ),
    "test",
)  # fmt: skip
PLAN = {view.name: view for view in plan_views(CONFIG)}
CUT = [view for view in PLAN.values() if view.cut]


# --- what is looked at -------------------------------------------------------------------------------------------


def _numbers(state: Any) -> Iterator[bytes]:
    """Give all that a state holds, but the engine that made it and what was computed of it."""
    if isinstance(state, np.ndarray):
        yield state.tobytes()
    elif isinstance(state, pythia8.Event):
        yield repr([(p.id(), p.status(), p.px(), p.pz()) for p in state]).encode()
    elif isinstance(state, dict | list | tuple):
        for value in state.values() if isinstance(state, dict) else state:
            yield from _numbers(value)
    elif hasattr(state, "__dict__") and not isinstance(state, Origin):
        yield from _numbers({name: value for name, value in vars(state).items() if name != "derived"})


def fingerprint(state: Any) -> str:
    """Digest a state: equal to the bit or not."""
    digest = hashlib.sha256()
    for piece in _numbers(state):
        digest.update(piece)
    return digest.hexdigest()


@dataclass(frozen=True)
class Run:
    """What went into a stage, and what came out."""

    before: str
    after: Any
    fingerprint: str


Key = tuple[str, str, int]
"""Stage, view whose key it draws from, replica."""


class Watched:
    """A stage that runs as it is, and is written down."""

    def __init__(self, stage: Any, runs: dict[Key, Run]) -> None:
        self._stage, self._runs = stage, runs

    def run(self, state: Any, settings: Settings, stream: Stream) -> Any:
        """Run a stage."""
        before = fingerprint(state)
        self._note(stream, before, self._stage.run(state, settings, stream))
        return self._runs[_key(stream)].after

    def run_fused(self, state: Any, path: Sequence[Step], streams: Sequence[Stream], keep: Sequence[bool]) -> list[Any]:
        """Run stages that follow each other, and keep the state after each."""
        before = fingerprint(state)
        states: list[Any] = self._stage.run_fused(state, path, streams, [True] * len(keep))
        for stream, after in zip(streams, states, strict=True):
            self._note(stream, before, after)
            before = self._runs[_key(stream)].fingerprint
        return states

    def _note(self, stream: Stream, before: str, after: Any) -> None:
        assert _key(stream) not in self._runs  # every edge is run once
        self._runs[_key(stream)] = Run(before, after, fingerprint(after))


def _key(stream: Stream) -> Key:
    stage, view, replica = stream.name[2:5]
    return str(stage), str(view), int(replica)


class Walked:
    """All views of one block of real events, with every state on their paths."""

    def __init__(self, simulation: Simulation) -> None:
        self.runs: dict[Key, Run] = {}
        self.hard: HardEvents = simulation.lane.source(0)
        self.hard_before = fingerprint(self.hard)
        stages = [
            {n: Watched(s, self.runs) for n, s in r.items()} for r in (simulation.lane.runs, simulation.lane.fused_runs)
        ]
        context = Walk(
            stages[0], stages[1], SEED, SAMPLE, lambda events, _: np.ones(len(events), dtype=bool), Meter(),
            simulation.continuation, _must_not_lose,
        )  # fmt: skip
        self.last = {view.name: last for view, last in walk(tree(simulation.all_views), self.hard, context)}

    def run(self, view: View, stage: str) -> Run:
        """Give what a stage did on the path of a view, whoever owns the run."""
        step = next(step for step in view.path if step.stage == stage)
        return self.runs[stage, step.view, step.replica]

    def after(self, name: str, stage: str) -> Any:
        """Give the state after a stage in a view."""
        return self.run(PLAN[name], stage).after

    def before(self, view: View, stage: str) -> str:
        """Give the fingerprint of what a view handed to a stage."""
        places = [step.stage for step in view.path]
        i = places.index(stage)
        return self.run(view, places[i - 1]).fingerprint if i else self.hard_before


def _must_not_lose(view: View, events: np.ndarray, stage: str) -> None:
    raise AssertionError(f"{view.name} lost {events} in {stage}")


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Walked:
    pool = tmp_path_factory.mktemp("pool") / "pool"
    make_pool(pool, lane.pool_settings(CONFIG), CONFIG.pileup.events, CONFIG.seed)
    return Walked(Simulation(CONFIG, SAMPLE, pool))


# --- the cut -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", CUT, ids=lambda view: view.name)
def test_a_view_starts_at_its_cut_from_its_base_to_the_bit_and_ends_elsewhere(walked: Walked, view: View) -> None:
    assert view.cut is not None
    base, stages = PLAN[view.base], [step.stage for step in view.path]
    ran = [stage for stage, name, replica in walked.runs if (name, replica) == (view.path[-1].view, view.replica)]
    assert ran == stages[stages.index(view.cut) :]
    assert walked.run(view, view.cut).before == walked.before(base, view.cut)
    assert walked.last[view.name].event.tolist() == walked.hard.event.tolist()
    same = fingerprint(walked.last[view.name].objects) == fingerprint(walked.last[view.base].objects)
    assert not same


def test_no_view_has_changed_what_others_started_from(walked: Walked) -> None:
    assert fingerprint(walked.hard) == walked.hard_before
    shared = {(step.stage, step.view) for view in CUT for step in PLAN[view.base].path}
    for (stage, view, _), run in walked.runs.items():
        assert (stage, view) not in shared or fingerprint(run.after) == run.fingerprint


@pytest.mark.parametrize("view", [v for v in CUT if v.cut == "shower"], ids=lambda view: view.name)
def test_a_shower_starts_from_the_same_hard_partons(walked: Walked, view: View) -> None:
    """Pythia's record begins with them, up to rounding; Vincia puts them on mass shells of its own."""
    for i, record in enumerate(walked.run(view, "shower").after.records):
        hard = walked.hard.partons.take(np.array([i]))
        rows = [record[3 + k] for k in range(len(hard["id"]))]
        assert [row.id() for row in rows] == hard["id"].tolist()
        for name in ("px", "py", "pz", "e"):
            np.testing.assert_allclose([getattr(row, name)() for row in rows], hard[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("view", [v for v in CUT if v.cut == "hadronization"], ids=lambda view: view.name)
def test_hadrons_are_made_of_the_same_partons_to_the_bit(walked: Walked, view: View) -> None:
    """The record with the hadrons begins with the one that was kept."""
    partons, primary = walked.after(view.base, "shower"), walked.run(view, "hadronization").after
    other = 0
    for kept, record, hadrons in zip(
        partons.records, primary.records, walked.after(view.base, "hadronization").records, strict=True
    ):
        assert _rows(record)[: kept.size()] == _rows(kept)
        other += _rows(record) != _rows(hadrons)
    assert other == EVENTS


@pytest.mark.parametrize("name", ["redecayed", "stable_pions"])
def test_the_hadrons_that_decay_are_the_same_to_the_bit(walked: Walked, name: str) -> None:
    """Those that are stable come out first, and all decays conserve momentum."""
    primary, found = walked.after(NOMINAL, "hadronization"), walked.after(name, "decays")
    data = primary.origins[0].engine.particleData

    def lasts(p: Any) -> bool:
        return not data.canDecay(p.id()) or data.tau0(p.id()) > 10 or (name == "stable_pions" and p.id() == 111)

    for i, record in enumerate(primary.records):
        final = [p for p in record if p.isFinal()]
        stable = [(p.id(), p.px(), p.py(), p.pz()) for p in final if lasts(p)]
        assert len(stable) > 10
        mine = found.particles.take(np.array([i]))
        assert list(zip(*(mine[n][: len(stable)].tolist() for n in ("id", "px", "py", "pz")), strict=True)) == stable
        total = np.sum([(p.px(), p.py(), p.pz(), p.e()) for p in final], axis=0)
        np.testing.assert_allclose([mine[n].sum() for n in ("px", "py", "pz", "e")], total, atol=0.1)


@pytest.mark.parametrize("name", ["pileup", "pileup_redrawn", "pileup_more", "pileup_none"])
def test_pileup_leaves_the_hard_collision_alone(walked: Walked, name: str) -> None:
    hadrons, before = walked.after(name, "pileup"), walked.after(NOMINAL, "decays")
    assert fingerprint((hadrons.particles, hadrons.heavy)) == fingerprint((before.particles, before.heavy))
    assert (hadrons.pileup is None) == (name == "pileup_none")


def test_without_pileup_the_hard_collision_has_only_other_draws_of_the_detector(walked: Walked) -> None:
    none, nominal = walked.after("pileup_none", "pileup"), walked.after(NOMINAL, "pileup")
    assert fingerprint(none) == fingerprint(nominal)


def _rows(record: Any) -> list[tuple[float, ...]]:
    return [(p.id(), p.px(), p.py(), p.pz()) for p in record]


# --- what follows ------------------------------------------------------------------------------------------------


def _count(codes: Sequence[int]) -> Callable[[Walked, str], np.ndarray]:
    """Count entries of the parton level by Pythia's status code."""

    def count(walked: Walked, name: str) -> np.ndarray:
        records = walked.after(name, "shower").records
        return np.array([sum(abs(p.status()) in codes for p in record) for record in records], dtype=float)

    return count


_fsr, _interactions = _count([51]), _count([33])


def _isr(walked: Walked, name: str) -> np.ndarray:
    return _count([43])(walked, name) / (2 + _interactions(walked, name))


def _hadrons(*ids: int) -> Callable[[Walked, str], np.ndarray]:
    """Count stable particles of some kinds (all by default) of each event."""

    def count(walked: Walked, name: str) -> np.ndarray:
        particles = walked.after(name, "decays").particles
        mine = np.isin(np.abs(particles["id"]), ids) if ids else np.ones(len(particles["id"]), dtype=bool)
        return _sum(particles, mine)

    return count


def _mean_pt(walked: Walked, name: str) -> np.ndarray:
    """Give the mean pT of stable particles of each event."""
    particles = walked.after(name, "decays").particles
    return _sum(particles, np.hypot(particles["px"], particles["py"])) / np.diff(particles.offsets)


def _seen(kind: int | None, charged: bool = False) -> Callable[[Walked, str], np.ndarray]:
    """Count candidates of each event: of a kind, or the charged."""

    def count(walked: Walked, name: str) -> np.ndarray:
        table = walked.after(name, "detector").candidates
        return _sum(table, table["charge"] != 0 if charged else table["kind"] == kind)

    return count


def _energy(walked: Walked, name: str) -> np.ndarray:
    table = walked.after(name, "detector").candidates
    return _sum(table, table["e"])


def _in_dead_region(walked: Walked, name: str) -> np.ndarray:
    """Sum the energy of photons that point well into the dead region."""
    table = walked.after(name, "detector").candidates
    eta, phi = np.arcsinh(table["pz"] / np.hypot(table["px"], table["py"])), np.arctan2(table["py"], table["px"])
    inside = (table["kind"] == 2) & (eta > 0.05) & (eta < 0.95) & (phi > 0.05) & (phi < 1.45)
    return _sum(table, table["e"] * inside)


def _constituents(walked: Walked, name: str) -> np.ndarray:
    """Count the constituents of each event's jets."""
    objects = walked.last[name].objects
    count = objects.columns[:, [column for column, _, _ in JET_COLUMNS].index("n_constituents")]
    return np.bincount(objects.object // SLOTS, weights=count, minlength=EVENTS)


def _sum(table: Ragged, values: np.ndarray) -> np.ndarray:
    return np.add.reduceat(values.astype(float), table.offsets[:-1])


SIGNS: list[tuple[str, str, Callable[[Walked, str], np.ndarray]]] = [
    ("fsr_mur_2", "fsr_mur_half", _fsr),
    ("fsr_mur_2", "fsr_mur_half", _constituents),
    ("isr_mur_2", "isr_mur_half", _isr),
    ("both_mur_2", "both_mur_half", _fsr),
    ("both_mur_2", "both_mur_half", _isr),
    ("alphas_low", "alphas_high", _fsr),
    ("no_mpi", "nominal", _hadrons()),
    ("no_reconnection", "nominal", _mean_pt),
    ("a_low", "a_high", _hadrons()),
    ("b_high", "b_low", _hadrons()),
    ("sigma_high", "sigma_low", _hadrons()),
    ("sigma_low", "sigma_high", _mean_pt),
    ("thermal", "rehadronized_1", _hadrons(2212, 2112)),
    ("stable_pions", "nominal", _hadrons(22)),
    ("pileup", "pileup_more", _seen(None, charged=True)),
    ("pileup_none", "pileup", _energy),
    ("pileup_subtracted", "pileup", _constituents),
    ("nominal", "scaled", _energy),
    ("inefficient", "nominal", _seen(None, charged=True)),
    ("dead", "nominal", _in_dead_region),
    ("coarse", "nominal", _seen(2)),
    ("nominal", "weak_field", _seen(None, charged=True)),
    ("small_jets", "nominal", _constituents),
]


@pytest.mark.parametrize(("less", "more", "of"), SIGNS)
def test_what_changes_has_the_sign_that_physics_gives_it(
    walked: Walked, less: str, more: str, of: Callable[[Walked, str], np.ndarray]
) -> None:
    rise = of(walked, more) - of(walked, less)
    assert rise.mean() > 2.5 * rise.std() / np.sqrt(EVENTS)


def test_multiple_interactions_are_off(walked: Walked) -> None:
    assert _interactions(walked, "no_mpi").sum() == 0
    assert _interactions(walked, "nominal").mean() > 5


def test_an_ideal_detector_measures_what_there_is(walked: Walked) -> None:
    def exact(name: str) -> float:
        seen, particles = walked.after(name, "detector").candidates, walked.after(name, "decays").particles
        tracks = seen["px"][seen["kind"] == 0]
        true = np.sort(particles["px"])
        nearest = true[np.clip(np.searchsorted(true, tracks - 1e-9), 0, len(true) - 1)]
        return float(np.mean(np.abs(nearest - tracks) < 2e-9))

    assert exact("ideal") == 1
    assert exact("nominal") < 0.01


def test_replicas_differ_from_each_other_and_from_nominal(walked: Walked) -> None:
    found = [fingerprint(walked.after(n, "decays").particles) for n in (NOMINAL, "rehadronized_1", "rehadronized_2")]
    assert len(set(found)) == 3


def test_a_composite_view_has_its_bases_hadrons_and_another_detector(walked: Walked) -> None:
    composite, base = PLAN["composite"], PLAN["fsr_mur_2"]
    assert composite.path[:4] == base.path[:4]
    assert dict(composite.path[4].settings) == {"card": "atlas"}
    assert fingerprint(walked.after("composite", "detector").hadrons) == walked.run(base, "pileup").fingerprint


def test_other_jets_are_made_of_the_same_candidates(walked: Walked) -> None:
    assert walked.after("small_jets", "detector") is walked.after(NOMINAL, "detector")
    assert walked.after("pileup_subtracted", "detector") is walked.after("pileup", "detector")


# --- settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("upstream", "settings"),
    [
        ({}, {"StringZ:aLund": 1.5}),
        ({}, {"Fragmentation:model": 1}),
        ({"PartonVertex:setVertex": True}, ROPES),
    ],
    ids=["string", "thermal", "ropes"],
)
def test_partons_hadronized_with_other_settings_are_what_a_whole_run_with_them_gives(
    upstream: dict[str, Any], settings: dict[str, Any]
) -> None:
    hard = hard_block(SAMPLE).take(np.arange(8))
    shower, _, decays = steps(shower=tuple(upstream.items()))
    partons, _, plain = shower_of(hard, SAMPLE, (shower, *steps()[1:]))
    assert partons is not None
    changed = Step("hadronization", tuple(settings.items()), NOMINAL)
    *_, whole = shower_of(hard, SAMPLE, (shower, changed, decays))
    streams = [step.stream(SEED, SAMPLE) for step in (changed, decays)]
    again = Pythia(ENERGY, ()).run_fused(partons, (changed, decays), streams, [False, False])[-1]
    assert fingerprint((again.particles, again.heavy)) == fingerprint((whole.particles, whole.heavy))
    assert fingerprint(again.particles) != fingerprint(plain.particles)


def test_ropes_do_nothing_where_the_shower_has_kept_no_vertices(walked: Walked) -> None:
    """Pythia does not complain: a view with ropes needs PartonVertex:setVertex upstream of its cut."""
    partons = walked.after(NOMINAL, "shower")
    path = (Step("hadronization", tuple(ROPES.items()), NOMINAL), PLAN[NOMINAL].path[2])
    streams = [step.stream(SEED, SAMPLE) for step in path]
    again = Pythia(ENERGY, ()).run_fused(partons.take(np.arange(4)), path, streams, [False, False])[-1]
    nominal = walked.after(NOMINAL, "decays").take(np.arange(4))
    assert fingerprint(again.particles) == fingerprint(nominal.particles)


# --- draws -------------------------------------------------------------------------------------------------------


def _part_of(folder: Path, **values: Any) -> Part:
    """Make 20 events of two views, each of which changes one setting."""
    views = {"nominal": {}, "fsr": {"from": "shower", "set": {FSR: values["fsr"]}}} | {
        "scale": {"from": "detector", "set": {"tracking.scale": values["scale"]}}
    }
    samples = {"qcd": {"events": 20, "process": "qcd"}}
    config = parse(Config, small_config(seed=SEED, block_size=20, samples=samples, views=views), "test")
    simulation = Simulation(config, "qcd")
    return simulate_part(simulation, 0, 20, folder, choose_views(simulation.all_views, ["fsr", "scale"]))


def test_a_drawn_value_is_stored_and_makes_what_a_run_with_this_value_makes(tmp_path: Path) -> None:
    choices = {"fsr": (0.25, 4.0), "scale": (0.9, 1.1)}
    drawn = _part_of(tmp_path / "drawn", **{name: {"choose": list(two)} for name, two in choices.items()})
    fixed = [_part_of(tmp_path / str(k), **{name: two[k] for name, two in choices.items()}) for k in range(2)]
    for name, setting in (("fsr", FSR), ("scale", "tracking.scale")):
        extra = drawn.view(name).extras["drawn"]
        assert [column.name for column in extra.columns] == [setting]
        for k, value in enumerate(choices[name]):
            mine = extra.values[:, 0] == value
            assert 0 < mine.sum() < len(mine)
            found, wanted = drawn.view(name).columns[mine], fixed[k].view(name).columns[mine]
            np.testing.assert_array_equal(found, wanted)
            assert not np.array_equal(wanted, fixed[1 - k].view(name).columns[mine], equal_nan=True)
        assert len(np.unique(extra.values)) == 2
        event = drawn.objects()["event"]
        assert all(len(set(extra.values[event == e, 0])) == 1 for e in np.unique(event))


def test_draws_are_flat_in_what_the_config_says() -> None:
    views = {
        "nominal": {},
        "drawn": {
            "from": "shower",
            "set": {FSR: {"log_uniform": [0.25, 4.0]}, ISR: {"uniform": [0.5, 2.0], "values": 5}},
        },
    }
    view = plan_views(parse(Config, small_config(views=views), "test"))[1]
    values = drawn_values(view, np.arange(8000), SEED, SAMPLE)
    for name, few, middles in (
        (FSR, 8, 0.25 * 16 ** ((np.arange(8) + 0.5) / 8)),
        (ISR, 5, 0.5 + 1.5 * (np.arange(5) + 0.5) / 5),
    ):
        found, counts = np.unique(values[name], return_counts=True)
        np.testing.assert_allclose(found, middles)
        assert len(found) == few
        assert chisquare(counts).pvalue > 0.01
    assert abs(np.corrcoef(np.log(values[FSR]), values[ISR])[0, 1]) < 0.04


# --- reweighting -------------------------------------------------------------------------------------------------

BANDS = (
    ("UncertaintyBands:doVariations", True),
    ("UncertaintyBands:List", ("mur_1.2 fsr:muRfac=1.2", "mur_2 fsr:muRfac=2.0")),
    ("UncertaintyBands:muSoftCorr", False),  # what it takes back is of higher order, but not small
    ("UncertaintyBands:FSRpTmin2Fac", 0.0),  # by default soft branchings keep their weight
)


def _branchings(name: str, settings: Settings) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Count the branchings of final partons in 300 events without multiple interactions; give their weights, too."""
    count, weights = [], []
    for block in range(10):
        path = steps(name, shower=(("PartonLevel:MPI", False), *settings))
        partons, _, hadrons = shower_of(hard_block(SAMPLE, block), SAMPLE, path)
        assert partons is not None
        count += [sum(abs(p.status()) == 51 for p in record) for record in partons.records]
        weights.append(hadrons.hard.variations)
    return np.array(count), {n: np.concatenate([w[n] for w in weights]) for n in weights[0]}


def test_reweighting_agrees_with_the_explicit_view_and_has_few_effective_events() -> None:
    """A weight is a product over all branchings and vetoed trials: at twice the scale a few events carry all of it."""
    count, weights = _branchings("nominal", BANDS)
    explicit, _ = _branchings("fsr", ((FSR, 1.2**2),))
    weight = weights["mur_1.2"]
    mean = (weight * count).sum() / weight.sum()
    error = np.sqrt((weight**2 * (count - mean) ** 2).sum()) / weight.sum()
    assert abs(mean - explicit.mean()) < 3 * np.hypot(error, explicit.std() / np.sqrt(len(explicit)))
    assert mean < count.mean() - 2 * error
    assert abs(weight.mean() - 1) < 4 * weight.std() / np.sqrt(len(weight))
    effective = {name: w.sum() ** 2 / (w**2).sum() / len(w) for name, w in weights.items()}
    assert 0.1 < effective["mur_1.2"] < 0.6
    assert effective["mur_2"] < 0.2


def test_weights_are_stored_with_the_views_that_share_the_shower(tmp_path: Path) -> None:
    chain = small_config()["chain"] | {"shower": {name: list(v) if isinstance(v, tuple) else v for name, v in BANDS}}
    views = {"nominal": {}, "redetected": {"from": "detector"}, "rehadronized": {"from": "hadronization"}}
    samples = {"qcd": {"events": 10, "process": "qcd"}}
    config = parse(Config, small_config(seed=SEED, chain=chain, views=views, samples=samples), "test")
    simulation = Simulation(config, "qcd")
    part = simulate_part(simulation, 0, 10, tmp_path, simulation.all_views)
    stored = [part.view(name).extras["weights"] for name in views]
    assert [column.name for column in stored[0].columns] == ["mur_1.2", "mur_2"]
    for extra in stored[1:]:
        np.testing.assert_array_equal(extra.values, stored[0].values)
    assert np.isfinite(stored[0].values[part.view("nominal").present]).all()
    assert len(np.unique(stored[0].values[:, 0])) > 5
