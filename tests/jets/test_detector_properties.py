"""What holds for the detector whatever goes in: energy, rotation, order of events, odd particles; and its knobs."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resim.errors import UserError
from resim.jets import detector
from resim.jets.cards import detector_settings
from resim.jets.detector import detect
from resim.jets.states import Candidates, Hadrons
from resim.keys import stream
from tests.jets.handmade import SPECIES, hadrons_of, random_particles
from tests.jets.perfect import PERFECT, changed

STREAM = stream(1, "test", "detector")
CMS, ATLAS = detector_settings({}, "test"), detector_settings({"card": "atlas"}, "test")
CHARGED = (11, -11, 13, -13, 211, -211, 2212)
ACCEPTANCE = 5.0

some = settings(derandomize=True, deadline=None, max_examples=60)


def _away_from(edge: float) -> Any:
    return lambda eta: abs(abs(eta) - edge) > 1e-6


species = st.sampled_from([*SPECIES, -11, -13, -211, -2212])
pts = st.floats(0.1, 500)
# a soft charged particle with eta = 0 circles for ever
etas = st.floats(-7, 7).filter(_away_from(ACCEPTANCE)).filter(_away_from(0))
# inside a cell of one degree: at an edge, rounding decides
phis = st.tuples(st.integers(-180, 179), st.floats(0.05, 0.95)).map(lambda cell: math.radians(sum(cell)))
particles = st.tuples(species, pts, etas, phis)
displaced = st.tuples(species, pts, etas, phis, *[st.floats(-50, 50)] * 3)
events = st.lists(particles, max_size=20)


def energy_by_event(out: Candidates) -> np.ndarray:
    row = np.repeat(np.arange(len(out.event)), np.diff(out.candidates.offsets))
    return np.bincount(row, out.candidates["e"], len(out.event))


def sums_by_kind(out: Candidates) -> np.ndarray:
    """Give number (of more than rounding errors), px, py, pz and e of each kind of candidate, (5, 5)."""
    columns = [out.candidates["e"] > 1e-6, *(out.candidates[name] for name in ("px", "py", "pz", "e"))]
    return np.array([np.bincount(out.candidates["kind"], column, 5) for column in columns])


@some
@given(st.lists(events, min_size=1, max_size=3))
def test_energy_is_conserved_inside_the_acceptance(block: list[list[Any]]) -> None:
    """Tracks are found up to |eta| = 10, calorimeters end at 5; neutrinos are not seen. Bending moves no energy."""
    hadrons = hadrons_of(block)
    column = hadrons.particles
    momentum = np.sqrt(column["px"] ** 2 + column["py"] ** 2 + column["pz"] ** 2)
    inside = np.abs(np.arctanh(column["pz"] / momentum)) < ACCEPTANCE
    seen = np.isin(column["id"], [*CHARGED, -2212]) | (inside & (column["id"] != 12))
    row = np.repeat(np.arange(len(block)), np.diff(column.offsets))
    expected = np.bincount(row, column["e"] * seen, len(block))
    np.testing.assert_allclose(energy_by_event(detect(hadrons, PERFECT, STREAM)), expected, rtol=1e-9)


@some
@given(events, st.integers(1, 17))
def test_turning_the_event_by_whole_cells_turns_the_output(event: list[Any], steps: int) -> None:
    """20 degrees are whole cells of every ring. By other angles the output turns only within the size of a cell."""
    angle = math.radians(20 * steps)
    here = sums_by_kind(detect(hadrons_of([event]), PERFECT, STREAM))
    there = sums_by_kind(detect(hadrons_of([[(*p[:3], p[3] + angle) for p in event]]), PERFECT, STREAM))
    n, px, py, pz, e = here
    turned = [n, math.cos(angle) * px - math.sin(angle) * py, math.cos(angle) * py + math.sin(angle) * px, pz, e]
    np.testing.assert_allclose(there, turned, rtol=1e-9, atol=1e-6)


@some
@given(st.permutations(range(6)))
def test_the_order_of_events_does_not_matter(order: list[int]) -> None:
    hadrons = hadrons_of([random_particles(seed, n) for seed, n in enumerate([60, 0, 1, 120, 3, 40])], first=8)
    block = detect(hadrons, CMS, STREAM).candidates
    shuffled = detect(hadrons.take(np.array(order)), CMS, STREAM).candidates
    for name, column in block.take(np.array(order)).columns.items():
        np.testing.assert_array_equal(shuffled[name], column, strict=True)


@some
@given(st.lists(st.lists(displaced, max_size=30), max_size=3), st.sampled_from([CMS, ATLAS]))
def test_candidates_are_finite_and_physical(block: list[list[Any]], card: Any) -> None:
    out = detect(hadrons_of(block), card, STREAM).candidates
    assert len(out) == len(block)
    for name, column in out.columns.items():
        assert np.isfinite(column).all(), name
    pt, total = np.hypot(out["px"], out["py"]), np.sqrt(out["px"] ** 2 + out["py"] ** 2 + out["pz"] ** 2)
    assert (pt > 0).all()
    assert (out["e"] >= total * (1 - 1e-12)).all()
    charged = out["charge"] != 0
    assert (charged == ~np.isin(out["kind"], [detector.PHOTON, detector.NEUTRAL_HADRON])).all()
    assert (charged == (out["d0_error"] > 0)).all()
    assert np.isin(out["kind"][out["identified"]], [detector.ELECTRON, detector.MUON]).all()


@some
@given(displaced)
def test_an_event_of_one_particle(particle: Any) -> None:
    """It makes at most a track and a neutral excess in each calorimeter."""
    out = detect(hadrons_of([[particle]]), CMS, STREAM).candidates
    tracks = np.count_nonzero(out["charge"])
    assert tracks <= (particle[0] in (*CHARGED, -2212))
    assert out.offsets[-1] - tracks <= (2 if particle[0] in (310, 3122) else 1)


@some
@given(st.lists(st.tuples(species, pts, st.floats(5.5, 30) | st.floats(-30, -5.5), phis), min_size=1, max_size=20))
def test_beyond_the_calorimeters_nothing_is_seen(event: list[Any]) -> None:
    assert detect(hadrons_of([event]), CMS, STREAM).candidates.offsets.tolist() == [0, 0]


@some
@given(events, st.sampled_from([22, 211, 130, 13]))
def test_what_has_no_momentum_changes_nothing(event: list[Any], kind: int) -> None:
    with_it = detect(hadrons_of([[*event, (kind, 0.0, 0.0, 0.0)]]), CMS, STREAM).candidates
    for name, column in detect(hadrons_of([event]), CMS, STREAM).candidates.columns.items():
        np.testing.assert_array_equal(with_it[name], column)


@pytest.mark.parametrize(
    "block", [[], [[]], [[], [(22, 50.0, 0.1, 0.2)], []]], ids=["no events", "empty", "empty ones"]
)
def test_events_without_particles_have_no_candidates(block: list[list[Any]]) -> None:
    out = detect(hadrons_of(block), CMS, STREAM).candidates
    assert np.diff(out.offsets).tolist() == [len(event) for event in block]
    assert out["e"].dtype == np.float64
    assert out["identified"].dtype == bool


@some
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.sampled_from(["px", "py", "pz", "e", "m", "x", "y", "z"]),
    st.sampled_from([math.nan, math.inf, -math.inf]),
    st.data(),
)
def test_what_is_not_finite_is_refused_with_event_and_particle(
    counts: list[int], name: str, value: float, data: st.DataObject
) -> None:
    hadrons = hadrons_of([[(211, 1.0, 0.3, 0.4)] * n for n in counts], first=40)
    event = data.draw(st.integers(0, len(counts) - 1))
    place = data.draw(st.integers(0, counts[event] - 1))
    hadrons.particles[name][sum(counts[:event]) + place] = value
    with pytest.raises(UserError, match=rf"^event {40 + event}, particle {place} \(id 211\): {name} is {value}"):
        detect(hadrons, CMS, STREAM)


# --- knobs for views that vary the detector ---------------------------------------------------------------------


def sample(kind: int, pt: float = 100.0, n: int = 2000, eta: float = 0.8) -> Hadrons:
    """Make events of one particle at places over all phi and |eta| < `eta`."""
    at = np.linspace(-eta, eta, n)
    return hadrons_of([[(kind, pt, at[i], 0.1 + i * 2.399)] for i in range(n)])


@pytest.mark.parametrize(("kind", "block"), [(22, "ecal"), (2112, "hcal")])
def test_the_energy_scale_of_a_calorimeter(kind: int, block: str) -> None:
    hadrons = sample(kind)
    out = detect(hadrons, changed(PERFECT, {block: {"scale": 1.02}}), STREAM)
    np.testing.assert_allclose(out.candidates["e"], 1.02 * hadrons.particles["e"])


def test_the_momentum_scale_of_tracks() -> None:
    hadrons = sample(13)
    out = detect(hadrons, changed(PERFECT, {"tracking": {"scale": 0.99}}), STREAM).candidates
    np.testing.assert_allclose(out["px"], 0.99 * hadrons.particles["px"])
    np.testing.assert_allclose(out["pz"], 0.99 * hadrons.particles["pz"])


@pytest.mark.parametrize(("kind", "block"), [(22, "ecal"), (2112, "hcal"), (13, "tracking")])
def test_the_factor_on_resolutions(kind: int, block: str) -> None:
    """The same draws, twice as wide; a log-normal is nearly linear in a narrow width."""
    hadrons = sample(kind, pt=2000.0)
    widths = [
        np.std(detect(hadrons, changed(PERFECT, {block: {"resolution_factor": f}}), STREAM).candidates["e"] / true)
        for true in [hadrons.particles["e"]]
        for f in (0, 1, 2)
    ]
    assert widths[0] == pytest.approx(0, abs=1e-12)
    assert widths[1] > 0.001
    assert widths[2] / widths[1] == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize(("factor", "expected"), [(0.0, 0.0), (0.5, 0.475), (1.0, 0.95), (1.04, 0.988), (2.0, 1.0)])
def test_the_factor_on_the_tracking_efficiency(factor: float, expected: float) -> None:
    hadrons = sample(211, n=5000)
    out = detect(hadrons, changed(CMS, {"tracking": {"efficiency_factor": factor}}), STREAM).candidates
    found = np.count_nonzero(out["charge"]) / 5000
    assert found == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 5000))


def test_the_factor_on_impact_parameters() -> None:
    hadrons = sample(13)
    for factor in (0.0, 3.0):
        wider = changed(CMS, {"tracking": {"impact": {"resolution_factor": factor}}})
        one, other = (detect(hadrons, card, STREAM).candidates for card in (CMS, wider))
        for name in ("d0", "dz"):
            np.testing.assert_allclose(other[f"{name}_error"], factor * one[f"{name}_error"])
            np.testing.assert_allclose(other[name], factor * one[name], atol=1e-9)


@pytest.mark.parametrize(
    ("region", "inside"),
    [
        ([-0.348, 0.348, 0.0, math.pi / 2], lambda eta, phi: (np.abs(eta) < 0.348) & (phi > 0) & (phi < math.pi / 2)),
        ([0.0, 3.0, math.pi * 8 / 9, -math.pi * 8 / 9], lambda eta, phi: (eta > 0) & (np.abs(phi) > math.pi * 8 / 9)),
        ([-5.0, 5.0, -math.pi, math.pi], lambda eta, phi: eta > -9),
    ],
    ids=["a patch", "through pi", "everything"],
)
@pytest.mark.parametrize(("kind", "block"), [(22, "ecal"), (2112, "hcal"), (13, "tracking")])
def test_dead_regions(kind: int, block: str, region: list[float], inside: Any) -> None:
    """Edges on the edges of cells (0.348 is 20 cells of the ECAL, 4 of the HCAL). Nothing bends: directions tell."""
    hadrons = sample(kind)
    out = detect(hadrons, changed(PERFECT, {"magnetic_field": 0, block: {"dead": [region]}}), STREAM).candidates
    px, py, pz = (hadrons.particles[name] for name in ("px", "py", "pz"))
    lost = inside(np.arcsinh(pz / np.hypot(px, py)), np.arctan2(py, px))
    assert lost.any()
    np.testing.assert_array_equal(np.diff(out.offsets), np.where(lost, 0, 1))


def test_a_dead_calorimeter_leaves_the_tracks_alone() -> None:
    hadrons = sample(211)
    blind = changed(CMS, {"hcal": {"dead": [[-5, 5, -4, 4]]}, "tracking": {"resolution_factor": 0}})
    out = detect(hadrons, blind, STREAM).candidates
    assert set(out["kind"].tolist()) == {detector.CHARGED_HADRON}
    np.testing.assert_allclose(np.hypot(out["px"], out["py"]), 100)


def test_coarse_cells_are_made_of_two_by_two() -> None:
    """Also of rings of one cell each, where they are cut alike; 11 of those make 5 pairs and one alone."""
    fine, coarse = detector._cells(CMS.ecal), detector._cells(CMS.ecal.model_copy(update={"coarsen": 2}))
    assert len(fine.phi_cells) == 2 * (170 + 11)
    assert len(coarse.phi_cells) == 2 * (85 + 6)
    assert coarse.first[-1] == 2 * (85 * 180 + 6 * 18)
    assert np.isin(coarse.edges, fine.edges).all()
    assert (coarse.edges[0], coarse.edges[-1]) == (-5.0, 5.0)


@some
@given(events, st.integers(1, 7))
def test_coarse_cells_lose_no_energy(event: list[Any], coarsen: int) -> None:
    coarse = changed(PERFECT, {"ecal": {"coarsen": coarsen}, "hcal": {"coarsen": coarsen}})
    hadrons = hadrons_of([event])
    totals = [energy_by_event(detect(hadrons, card, STREAM)) for card in (PERFECT, coarse)]
    np.testing.assert_allclose(*totals, rtol=1e-9)
