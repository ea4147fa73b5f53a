"""Replay, re-showering, re-hadronization on real events."""

import dataclasses
from functools import cache
from typing import Any

import numpy as np
import pytest
import pythia8mc as pythia8
from scipy.stats import ks_2samp

from resim.chain import Step
from resim.jets import engine
from resim.jets.cards import detector_settings
from resim.jets.clustering import JetSettings, make_objects
from resim.jets.detector import detect
from resim.jets.features import JET_COLUMNS
from resim.jets.records import _flavour
from resim.jets.states import Hadrons, HardEvents
from resim.ragged import Ragged
from tests.jets.events import ENERGY, SEED, decay, hard_block, nominal, rehadronize, shower_of, steps

CMS = detector_settings({}, "test")
SAMPLES = ("qcd", "hbb")


def _same(a: Hadrons, b: Hadrons) -> bool:
    pairs = ((a.particles, b.particles), (a.heavy, b.heavy))
    same = np.array_equal(a.event, b.event) and np.array_equal(a.splitting, b.splitting)
    return same and all(np.array_equal(x[n], y[n]) for x, y in pairs for n in x.columns)


@pytest.mark.parametrize("sample", SAMPLES)
def test_an_event_is_the_same_in_a_batch_and_alone(sample: str) -> None:
    hard = hard_block(sample)
    for i in (0, 29):
        alone = shower_of(hard.take(np.array([i])), sample, steps(), keep=False)[-1]
        assert _same(alone, nominal(sample)[1].take(np.array([i])))


@pytest.mark.parametrize("sample", SAMPLES)
def test_keeping_the_parton_level_changes_nothing(sample: str) -> None:
    assert _same(shower_of(hard_block(sample), sample, steps(), keep=False)[-1], nominal(sample)[1])


@pytest.mark.parametrize("sample", SAMPLES)
def test_hadronizing_with_the_same_key_gives_the_same_event_to_the_bit(sample: str) -> None:
    """A copied event points to the particle data of the instance that made it, and drew its decays from that
    instance's generator: same partons, same key, other decays, and dependent on what had been run before.
    """
    partons, hadrons = nominal(sample)
    assert _same(rehadronize(partons, sample, "nominal"), hadrons)
    rehadronize(partons, sample, "another")
    assert _same(rehadronize(partons, sample, "nominal"), hadrons)


def test_decaying_with_the_same_key_gives_the_same_event_to_the_bit() -> None:
    """Pythia draws new lifetimes for hadrons that it finds when hadronization begins: the kept ones are put back."""
    _, primary, hadrons = shower_of(hard_block("hbb"), "hbb", steps())
    assert primary is not None
    assert _same(decay(primary, "hbb", "nominal"), hadrons)
    again = decay(primary, "hbb", "redecayed")
    assert _same(decay(primary, "hbb", "nominal"), hadrons)
    assert not _same(again, hadrons)


def test_redecayed_has_identical_hadrons_before_their_decays() -> None:
    """What fragmentation made is the same to the bit; decays conserve each event's four-momentum."""
    partons, primary, _ = shower_of(hard_block("qcd"), "qcd", steps())
    assert partons is not None
    assert primary is not None
    before = [_final_partons(record) for record in primary.records]
    again = decay(primary, "qcd", "redecayed")
    assert [_final_partons(record) for record in primary.records] == before
    for i in range(len(again.event)):
        rows = slice(*again.particles.offsets[i : i + 2])
        total = [again.particles[n][rows].sum() for n in ("px", "py", "pz", "e")]
        np.testing.assert_allclose(total, np.sum(before[i], axis=0)[1:], atol=0.1)
    path = steps("rehadronized")[1:]
    streams = [step.stream(SEED, "qcd") for step in path]
    other = engine.Pythia(ENERGY, ()).run_fused(partons, path, streams, [True, False])[0]
    assert [_final_partons(record) for record in other.records] != before


def test_a_tune_of_the_shower_reaches_the_hadronization_again() -> None:
    """Tune:ee is a setting of the shower that changes string parameters: left out, the same key gave other hadrons."""
    pair = steps(shower=(("Tune:ee", 3),))
    partons, _, hadrons = shower_of(hard_block("qcd"), "qcd", pair)
    assert partons is not None
    assert not _same(hadrons, nominal("qcd")[1])
    assert _same(rehadronize(partons, "qcd", "nominal"), hadrons)


def _final_partons(record: Any) -> list[tuple[float, ...]]:
    """List id and momentum of the partons that go into hadronization."""
    return [(p.id(), p.px(), p.py(), p.pz(), p.e()) for p in record if p.isFinal()]


def test_rehadronized_has_identical_partons_and_other_hadrons() -> None:
    partons = nominal("qcd")[0]
    before = [_final_partons(record) for record in partons.records]
    again = rehadronize(partons, "qcd", "rehadronized")
    assert [_final_partons(record) for record in partons.records] == before
    assert not _same(again, nominal("qcd")[1])
    # hadronization conserves four-momentum: the hadrons of each event add up to its partons
    for i in range(len(again.event)):
        rows = slice(*again.particles.offsets[i : i + 2])
        total = [again.particles[n][rows].sum() for n in ("px", "py", "pz", "e")]
        np.testing.assert_allclose(total, np.sum(before[i], axis=0)[1:], atol=0.1)


class _Branchings(pythia8.UserHooks):
    """Counts what a shower does."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def canVetoStep(self) -> bool:
        return True

    def numberVetoStep(self) -> int:
        return 1000

    def doVetoStep(self, position: int, n_isr: int, n_fsr: int, event: Any) -> bool:
        self.seen += 1
        return False


@pytest.mark.parametrize("stage", ["shower", "hadronization", "decays"])
def test_the_shower_runs_for_showers_and_for_nothing_else(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    partons, primary, _ = shower_of(hard_block("qcd"), "qcd", steps())
    assert partons is not None
    assert primary is not None
    watch, initialise = _Branchings(), engine.initialise

    def watched(instance: Any, settings: Any) -> Any:
        instance.addUserHooksPtr(watch)
        return initialise(instance, settings)

    monkeypatch.setattr(engine, "initialise", watched)
    engine._instance.cache_clear()
    if stage == "shower":
        shower_of(hard_block("qcd"), "qcd", steps())
    elif stage == "hadronization":
        rehadronize(partons, "qcd", "rehadronized")
    else:
        decay(primary, "qcd", "redecayed")
    engine._instance.cache_clear()
    assert (watch.seen > 0) == (stage == "shower")


def _stable_charged(hadrons: Hadrons) -> np.ndarray:
    """Count charged particles with pT > 0.5 GeV, |eta| < 2.5 of each event."""
    p = hadrons.particles
    pt = np.hypot(p["px"], p["py"])
    seen = (p["charge"] != 0) & (pt > 0.5) & (np.abs(p["pz"]) < pt * np.sinh(2.5))
    return np.add.reduceat(seen, p.offsets[:-1])


@cache
def _view(sample: str, name: str, settings: tuple[tuple[str, Any], ...] = (), blocks: int = 3) -> np.ndarray:
    made = [
        shower_of(hard_block(sample, b), sample, steps(name, shower=settings), keep=False)[-1] for b in range(blocks)
    ]
    return np.concatenate([_stable_charged(m) for m in made])


def test_a_new_shower_seed_is_the_same_physics_and_another_event() -> None:
    a, b = _view("qcd", "nominal"), _view("qcd", "shower_seed")
    assert ks_2samp(a, b).pvalue > 0.01
    assert (a == b).mean() < 0.2


def test_fsr_scale_moves_the_multiplicity_as_theory_says() -> None:
    """A higher renormalisation scale means a smaller coupling, fewer branchings, fewer hadrons."""
    low, nominal_, high = (
        _view("qcd", name, (("TimeShower:renormMultFac", factor),)).mean()
        for name, factor in (("fsr_mur_half", 0.25), ("nominal", 1.0), ("fsr_mur_2", 4.0))
    )
    assert high < nominal_ < low
    assert (low - high) / nominal_ > 0.05


def test_vincia_gives_another_shower_from_the_same_hard_process() -> None:
    pair = steps("vincia", shower=(("PartonShowers:model", 2),))
    few = hard_block("qcd").take(np.arange(3))
    hadrons = shower_of(few, "qcd", pair, keep=False)[-1]
    assert hadrons.event.tolist() == few.event.tolist()
    assert not _same(hadrons, nominal("qcd")[1].take(np.arange(3)))


def _broken(hard: HardEvents, event: int) -> HardEvents:
    """Give one event colours that cannot be connected."""
    columns = {name: column.copy() for name, column in hard.partons.columns.items()}
    rows = slice(*hard.partons.offsets[event : event + 2])
    columns["col"][rows] = 901 + np.arange(rows.stop - rows.start)
    columns["acol"][rows] = 0
    return dataclasses.replace(hard, partons=Ragged(hard.partons.offsets, columns))


def test_an_event_that_pythia_gives_up_on_is_left_out_and_the_others_stay_the_same() -> None:
    partons, _, hadrons = shower_of(_broken(hard_block("qcd"), 3), "qcd", steps())
    assert partons is not None
    assert np.setdiff1d(hard_block("qcd").event, hadrons.event).tolist() == [3]
    others = np.flatnonzero(hard_block("qcd").event != 3)
    assert _same(hadrons, nominal("qcd")[1].take(others))
    assert _same(rehadronize(partons, "qcd", "nominal"), hadrons)


def test_no_events_at_all() -> None:
    partons, _, hadrons = shower_of(hard_block("qcd").take(np.array([], dtype=np.int64)), "qcd", steps())
    assert partons is not None
    assert len(hadrons.event) == 0
    assert len(rehadronize(partons, "qcd", "nominal").event) == 0


@pytest.mark.parametrize(
    ("particle", "flavour"),
    [(511, 5), (-521, 5), (5122, 5), (10511, 5), (553, 0), (411, 4), (-4122, 4), (443, 0), (100443, 0), (541, 5),
     (211, 0), (2212, 0), (5, 0), (5101, 0), (22, 0), (1000020040, 0), (9900041, 0)],
)  # fmt: skip
def test_flavour_of_hadrons(particle: int, flavour: int) -> None:
    assert _flavour(np.array([particle], dtype=np.int32))[0] == flavour


@pytest.mark.parametrize("sample", SAMPLES)
def test_each_higgs_event_has_its_two_bottom_hadrons(sample: str) -> None:
    hadrons = nominal(sample)[1]
    bottoms = np.add.reduceat(np.append(hadrons.heavy["flavour"] == 5, 0), hadrons.heavy.offsets[:-1])
    bottoms[np.diff(hadrons.heavy.offsets) == 0] = 0
    if sample == "hbb":
        assert bottoms.min() >= 2
    assert bottoms.mean() < 4


def test_particles_are_stable_and_their_charges_add_up_to_two_protons() -> None:
    hadrons = nominal("hbb")[1]
    total = np.add.reduceat(hadrons.particles["charge"].astype(int), hadrons.particles.offsets[:-1])
    assert (total == 2).all()


@cache
def _jets(name: str, settings: tuple[tuple[str, Any], ...] = ()) -> dict[str, np.ndarray]:
    """Follow a view of 120 dijet events to the end of the chain: jet columns by name."""
    found = []
    for block in range(4):
        hadrons = shower_of(hard_block("qcd", block), "qcd", steps(name, shower=settings), keep=False)[-1]
        seen = detect(hadrons, CMS, Step("detector", (), name).stream(SEED, "qcd"))
        found.append(make_objects(seen, JetSettings()).columns)
    return dict(zip([column for column, _, _ in JET_COLUMNS], np.concatenate(found).T, strict=True))


@pytest.mark.parametrize("column", ["pt", "mass", "softdrop_mass", "n_constituents"])
def test_jets_of_a_new_shower_seed_are_the_same_physics(column: str) -> None:
    a, b = _jets("nominal")[column], _jets("shower_seed")[column]
    assert ks_2samp(a, b).pvalue > 0.01
    assert not np.array_equal(a, b)


def test_jets_have_fewer_constituents_at_a_higher_scale() -> None:
    low, high = (
        _jets(name, (("TimeShower:renormMultFac", factor),))["n_constituents"].mean()
        for name, factor in (("fsr_mur_half", 0.25), ("fsr_mur_2", 4.0))
    )
    assert high < _jets("nominal")["n_constituents"].mean() < low
