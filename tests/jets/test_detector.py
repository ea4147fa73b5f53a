"""The detector conserves energy, treats every event by itself, and has the card's numbers."""

import numpy as np
import pytest

from resim.errors import UserError
from resim.jets import detector
from resim.jets.cards import DetectorSettings, detector_settings
from resim.jets.detector import detect
from resim.jets.states import Candidates, Hadrons
from resim.keys import stream
from tests.jets.handmade import SPECIES, hadrons_of, random_particles
from tests.jets.perfect import PERFECT, changed

N_GRID = 150 * 36
STREAM = stream(1, "test", "detector")
CARD = detector_settings({}, "test")
NO_FIELD = changed(PERFECT, {"magnetic_field": 0})


def energies(out: Candidates) -> np.ndarray:
    """Sum the candidates' energies by event."""
    row = np.repeat(np.arange(len(out.event)), np.diff(out.candidates.offsets))
    return np.bincount(row, weights=out.candidates["e"], minlength=len(out.event))


def pt_of(out: Candidates) -> np.ndarray:
    return np.hypot(out.candidates["px"], out.candidates["py"])


def kinds(out: Candidates, least: float = 1e-6) -> list[int]:
    """List the kinds of the candidates with more than `least` GeV: a perfect detector leaves rounding errors."""
    return out.candidates["kind"][out.candidates["e"] > least].tolist()


def test_energy_is_conserved_when_nothing_is_smeared_or_lost() -> None:
    events = [random_particles(seed, 80) for seed in range(5)]
    hadrons = hadrons_of(events)
    visible = hadrons.particles["id"] != 12
    row = np.repeat(np.arange(5), 80)
    expected = np.bincount(row, weights=hadrons.particles["e"] * visible)
    out = detect(hadrons, NO_FIELD, STREAM)
    np.testing.assert_allclose(energies(out), expected, rtol=1e-12)


def test_a_charged_particle_is_counted_once() -> None:
    out = detect(hadrons_of([[(211, 20.0, 0.3, 1.0)]]), PERFECT, STREAM)
    assert kinds(out) == [detector.CHARGED_HADRON]


def test_a_neutral_behind_a_track_is_what_the_track_leaves_over() -> None:
    out = detect(hadrons_of([[(211, 20.0, 0.3, 1.0), (130, 30.0, 0.3, 1.0)]]), NO_FIELD, STREAM)
    assert kinds(out) == [detector.CHARGED_HADRON, detector.NEUTRAL_HADRON]
    np.testing.assert_allclose(out.candidates["e"], [20 * np.cosh(0.3), 30 * np.cosh(0.3)], rtol=1e-3)


@pytest.mark.parametrize(
    ("particle", "kind"),
    [
        (22, detector.PHOTON),
        (130, detector.NEUTRAL_HADRON),
        (2112, detector.NEUTRAL_HADRON),
        (211, detector.CHARGED_HADRON),
        (11, detector.ELECTRON),
        (-13, detector.MUON),
    ],
)
def test_particles_are_told_apart(particle: int, kind: int) -> None:
    assert kinds(detect(hadrons_of([[(particle, 20.0, -0.7, 2.0)]]), PERFECT, STREAM)) == [kind]


def test_long_lived_neutrals_share_their_energy_between_the_calorimeters() -> None:
    out = detect(hadrons_of([[(310, 20.0, 0.0, 0.1)]]), PERFECT, STREAM)
    np.testing.assert_allclose(out.candidates["e"] / out.candidates["e"].sum(), [0.3, 0.7])


def test_a_track_without_neutral_excess_is_drawn_to_the_better_calorimeter() -> None:
    settings = changed(
        PERFECT,
        {
            "tracking": {"hadron_resolution": {"eta_edges": [10], "a": [0.3], "b": [0]}, "resolution_factor": 1},
            "hcal": {"resolution_factor": 1, "stochastic": 0, "constant": 1e-4, "significance_min": 10},
        },
    )
    hadrons = hadrons_of([[(211, 20.0, 0.3, phi) for phi in np.arange(-3, 3)]])
    out = detect(hadrons, settings, STREAM)
    np.testing.assert_allclose(out.candidates["e"], hadrons.particles["e"], rtol=1e-3)


@pytest.mark.parametrize("steps", [1, 5, 17])
def test_turning_the_event_by_whole_cells_turns_the_output(steps: int) -> None:
    particles = random_particles(3, 150)
    angle = steps * np.pi / 9  # 20 degrees: a whole number of every ring's cells
    cos, sin = np.cos(angle), np.sin(angle)

    def turned(p: tuple[float, ...]) -> tuple[float, ...]:
        return (*p[:3], p[3] + angle, cos * p[4] - sin * p[5], sin * p[4] + cos * p[5], p[6])

    here = detect(hadrons_of([particles]), PERFECT, STREAM).candidates
    there = detect(hadrons_of([[turned(p) for p in particles]]), PERFECT, STREAM).candidates
    back = there.columns | {
        "px": cos * there["px"] + sin * there["py"],
        "py": cos * there["py"] - sin * there["px"],
    }
    np.testing.assert_allclose(_sorted(back), _sorted(here.columns), rtol=1e-9, atol=1e-9)


def _sorted(columns: dict[str, np.ndarray]) -> np.ndarray:
    """Put real candidates in an order that does not depend on where the event is turned to."""
    table = np.column_stack([columns[name] for name in ("kind", "e", "px", "py", "pz", "charge", "d0", "dz")])
    table = table[columns["e"] > 1e-6]
    return table[np.lexsort((table[:, 1], table[:, 0]))]


def test_an_event_does_not_depend_on_the_others_of_its_block() -> None:
    events = [random_particles(seed, n) for seed, n in enumerate([200, 0, 1, 77, 350, 3])]
    hadrons = hadrons_of(events, first=40)
    block = detect(hadrons, CARD, STREAM).candidates
    alone = [detect(hadrons.take(np.array([row])), CARD, STREAM).candidates for row in range(len(events))]
    assert np.diff(block.offsets).tolist() == [one.offsets[-1] for one in alone]
    for name, column in block.columns.items():
        np.testing.assert_array_equal(column, np.concatenate([one[name] for one in alone]), strict=True)


def test_the_same_key_gives_the_same_candidates_and_another_key_others() -> None:
    hadrons = hadrons_of([random_particles(1, 100)])
    first, again = detect(hadrons, CARD, STREAM), detect(hadrons, CARD, STREAM)
    other = detect(hadrons, CARD, stream(1, "test", "detector", "redetected"))
    np.testing.assert_array_equal(first.candidates["e"], again.candidates["e"])
    assert not np.array_equal(first.candidates["e"][:20], other.candidates["e"][:20])


def test_no_events_and_empty_events_give_no_candidates() -> None:
    assert len(detect(hadrons_of([]), CARD, STREAM).candidates) == 0
    assert detect(hadrons_of([[], []]), CARD, STREAM).candidates.offsets.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "particle",
    [
        pytest.param((211, 1.0, 6.0, 0.0), id="beyond the calorimeters"),
        pytest.param((22, 1.0, -5.5, 0.0), id="neutral beyond the calorimeters"),
        pytest.param((22, 0.0, 0.0, 0.0), id="zero momentum"),
        pytest.param((12, 50.0, 0.0, 0.0), id="neutrino"),
        pytest.param((22, 50.0, 0.0, 0.0, 1300.0, 0.0, 0.0), id="made outside"),
        pytest.param((211, 0.3, 0.0, 0.0), id="circles for ever"),
    ],
)
def test_what_does_not_arrive_is_not_seen(particle: tuple[float, ...]) -> None:
    assert kinds(detect(hadrons_of([[particle]]), CARD, STREAM)) == []


@pytest.mark.parametrize(("name", "value"), [("px", np.nan), ("e", np.inf), ("z", np.nan)])
def test_what_is_not_a_number_is_refused_with_its_event(name: str, value: float) -> None:
    hadrons = hadrons_of([[(22, 1.0, 0.0, 0.0)], [(22, 1.0, 0.0, 0.0), (211, 1.0, 0.0, 0.0)]], first=17)
    hadrons.particles[name][2] = value
    with pytest.raises(UserError, match=rf"event 18, particle 1 \(id 211\): {name} is (nan|inf)"):
        detect(hadrons, CARD, STREAM)


def grid(particle: int, pt: float, eta: tuple[float, float]) -> list[list[tuple[float, ...]]]:
    """Spread particles over phi and a range of eta: 150 events of 36, ten degrees apart, so that none share a cell."""
    phi = np.radians(np.arange(-175, 180, 10))
    return [[(particle, pt, e, p) for e, p in zip(np.linspace(*eta, 36), phi, strict=True)] for _ in range(150)]


@pytest.mark.parametrize(
    ("particle", "pt", "eta", "expected"),
    [
        (211, 0.9, (0.2, 1.2), 0.70),
        (211, 10.0, (0.2, 1.4), 0.95),
        (-211, 10.0, (-2.4, -1.6), 0.85),
        (11, 10.0, (0.2, 1.4), 0.95),
        (11, 150.0, (1.6, 2.4), 0.90),
        (13, 10.0, (0.2, 1.4), 0.99),
        (13, 1500.0, (0.2, 1.4), 0.99 * np.exp(-0.25)),
        (211, 10.0, (2.6, 3.0), 0.0),
        (211, 0.09, (0.2, 1.4), 0.0),
    ],
)
def test_tracking_efficiency_is_the_cards(particle: int, pt: float, eta: tuple[float, float], expected: float) -> None:
    out = detect(hadrons_of(grid(particle, pt, eta)), CARD, STREAM)
    found = np.count_nonzero(out.candidates["charge"]) / N_GRID
    assert found == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / N_GRID))


@pytest.mark.parametrize(
    ("particle", "pt", "eta", "a", "b"),
    [
        (211, 10.0, (0.1, 0.4), 0.06, 1.3e-3),
        (211, 100.0, (1.6, 2.4), 0.25, 3.1e-3),
        (11, 20.0, (0.6, 1.4), 0.05, 1.7e-3),
        (13, 100.0, (0.1, 0.4), 0.01, 1.0e-4),
    ],
)
def test_track_resolution_is_the_cards_and_unbiased(
    particle: int, pt: float, eta: tuple[float, float], a: float, b: float
) -> None:
    blind = {"hadron": 0, "electromagnetic": 0}  # nothing to combine the track with
    settings = changed(CARD, {"ecal": blind, "hcal": blind})
    ratio = pt_of(detect(hadrons_of(grid(particle, pt, eta)), settings, STREAM)) / pt
    width = np.hypot(a, b * pt)
    assert ratio.mean() == pytest.approx(1, abs=4 * width / np.sqrt(len(ratio)))
    assert ratio.std() == pytest.approx(width, rel=0.07)


@pytest.mark.parametrize(
    ("particle", "eta", "name"), [(22, (0.1, 1.4), "ecal"), (22, (1.6, 2.4), "ecal"), (2112, (0.1, 1.5), "hcal")]
)
def test_calorimeter_response_is_the_cards_and_unbiased(particle: int, eta: tuple[float, float], name: str) -> None:
    hadrons = hadrons_of(grid(particle, 200.0, eta))
    out = detect(hadrons, CARD, STREAM)
    assert len(out.candidates["e"]) == len(hadrons.particles["e"])
    true = hadrons.particles["e"].reshape(150, 36)
    order = np.argsort(np.arctan2(out.candidates["py"], out.candidates["px"]).reshape(150, 36), axis=1)
    measured = np.take_along_axis(out.candidates["e"].reshape(150, 36), order, axis=1)
    constant, stochastic, noise = getattr(CARD, name).terms(np.linspace(*eta, 36))
    pull = (measured - true) / np.sqrt((constant * true) ** 2 + stochastic**2 * true + noise**2)
    assert pull.mean() == pytest.approx(0, abs=4 / np.sqrt(N_GRID))
    assert pull.std() == pytest.approx(1, rel=0.07)


def test_neutral_directions_are_uniform_in_the_cell() -> None:
    settings = changed(CARD, {"magnetic_field": 0})
    out = detect(hadrons_of([[(22, 100.0, 0.005, 0.005)]] * 2000), settings, STREAM).candidates
    phi = np.arctan2(out["py"], out["px"])
    assert phi.min() >= 0
    assert phi.max() <= np.pi / 180
    assert phi.mean() == pytest.approx(np.pi / 360, rel=4 / np.sqrt(3 * 2000))


@pytest.mark.parametrize(("pt", "d0", "dz"), [(1.0, 0.0776, 0.1077), (5.0, 0.025, 0.0447), (100.0, 0.02, 0.04)])
def test_impact_parameters_of_prompt_tracks_have_the_stated_width(pt: float, d0: float, dz: float) -> None:
    """The card's terms in quadrature, at eta = 0."""
    out = detect(hadrons_of(grid(13, pt, (-0.01, 0.01))), CARD, STREAM).candidates
    n = len(out["d0"])
    for name, width in (("d0", d0), ("dz", dz)):
        np.testing.assert_allclose(out[f"{name}_error"], width, rtol=2e-3)
        assert out[name].std() == pytest.approx(width, rel=0.05)
        assert out[name].mean() == pytest.approx(0, abs=4 * width / np.sqrt(n))


def test_impact_parameters_are_worse_forward() -> None:
    """sin(theta) = 1 / cosh(eta), to the powers 1/2 and 3/2; multiple scattering dominates at 1 GeV."""
    out = detect(hadrons_of([[(211, 2.0, 2.0, 0.1)]]), changed(CARD, {"magnetic_field": 0}), STREAM).candidates
    sine = 1 / np.cosh(2.0)
    assert out["d0_error"][0] == pytest.approx(np.hypot(0.020, 0.075 / (2 * sine**0.5)))
    assert out["dz_error"][0] == pytest.approx(np.hypot(0.040, 0.100 / (2 * sine**1.5)))


def test_neutrals_have_no_impact_parameters() -> None:
    out = detect(hadrons_of([random_particles(5, 300)]), CARD, STREAM).candidates
    neutral = out["charge"] == 0
    assert neutral.any()
    for name in ("d0", "dz", "d0_error", "dz_error"):
        assert not out[name][neutral].any()
        assert out[name][~neutral].all()


@pytest.mark.parametrize(
    ("particle", "pt", "eta", "expected"),
    [
        (11, 50.0, (0.2, 1.4), 0.95),
        (-11, 50.0, (1.6, 2.4), 0.85),
        (13, 50.0, (-2.3, -1.6), 0.95),
        (-13, 1500.0, (0.2, 1.4), 0.95 * np.exp(-0.25)),
        (13, 50.0, (2.42, 2.48), 0.0),
        (11, 5.0, (0.2, 1.4), 0.0),
        (13, 9.0, (0.2, 1.4), 0.0),
        (211, 50.0, (0.2, 1.4), 0.0),
        (22, 50.0, (0.2, 1.4), 0.0),
    ],
)
def test_identification_is_the_cards(particle: int, pt: float, eta: tuple[float, float], expected: float) -> None:
    """Of the tracks that are found and measured well enough to stay in their bin of pT."""
    exact = changed(CARD, {"tracking": {"resolution_factor": 0}, "ecal": {"resolution_factor": 0}})
    out = detect(hadrons_of(grid(particle, pt, eta)), exact, STREAM).candidates
    mine = out["kind"] == {11: detector.ELECTRON, 13: detector.MUON, 22: detector.PHOTON}.get(abs(particle), 0)
    n = np.count_nonzero(mine)
    assert n > 1000
    assert out["identified"][mine].mean() == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / n))
    assert not out["identified"][~mine].any()


def test_impact_parameter_of_a_displaced_straight_track() -> None:
    """A muon that flies along x from (5, 2, 7): d0 = (x py - y px) / pT = -2, dz = 7 - 5 sinh(eta)."""
    out = detect(hadrons_of([[(13, 10.0, 1.0, 0.0, 5.0, 2.0, 7.0)]]), NO_FIELD, STREAM).candidates
    assert out["d0"][0] == pytest.approx(-2)
    assert out["dz"][0] == pytest.approx(7 - 5 * np.sinh(1.0))


def stepped(hadrons: Hadrons, settings: DetectorSettings, step: float) -> tuple[float, float, float]:
    """Follow the only particle in small steps: eta and phi where it leaves, |d0| where it was nearest to the beam."""
    p = {name: float(hadrons.particles[name][0]) for name in ("px", "py", "pz", "x", "y", "z", "charge")}
    pt = np.hypot(p["px"], p["py"])
    turn = -p["charge"] * 0.299792458e-3 * settings.magnetic_field / pt  # rad per mm of transverse path

    def path(sign: int, length: float) -> np.ndarray:
        at = sign * (np.arange(0, length, step) + step / 2)
        angle = np.arctan2(p["py"], p["px"]) + turn * at
        x = p["x"] + sign * np.cumsum(np.cos(angle)) * step
        y = p["y"] + sign * np.cumsum(np.sin(angle)) * step
        return np.column_stack([x, y, p["z"] + p["pz"] / pt * (at + sign * step / 2)])

    ahead, behind = path(1, 20000.0), path(-1, 100.0)
    outside = (np.hypot(ahead[:, 0], ahead[:, 1]) > settings.radius) | (np.abs(ahead[:, 2]) > settings.half_length)
    x, y, z = ahead[np.argmax(outside)]
    near = np.hypot(*np.concatenate([behind, ahead[:2000]])[:, :2].T).min()
    return float(np.arcsinh(z / np.hypot(x, y))), float(np.arctan2(y, x)), float(near)


@pytest.mark.parametrize(
    "particle",
    [
        pytest.param((211, 0.5, 0.4, 1.0), id="curls to the end cap"),
        pytest.param((-211, 0.9, -0.2, 2.0, 3.0, -5.0, 20.0), id="soft and displaced"),
        pytest.param((211, 5.0, 1.1, -3.0, -4.0, 1.0, 0.0), id="barrel"),
        pytest.param((-13, 3.0, -2.0, -1.0, 10.0, 20.0, -300.0), id="end cap"),
        pytest.param((2212, 200.0, 0.1, 0.5, 0.5, 0.0, 0.0), id="stiff"),
    ],
)
def test_helices_agree_with_small_steps(particle: tuple[float, ...]) -> None:
    hadrons = hadrons_of([[particle]])
    volume = detector._Volume(detector._CURVATURE * CARD.magnetic_field, CARD.radius, CARD.half_length)
    face = detector._reach_face(detector._particles(hadrons.event, hadrons.seen), volume)
    eta, phi, near = stepped(hadrons, CARD, step=0.05)
    assert face.eta[0] == pytest.approx(eta, abs=2e-3)
    assert face.phi[0] == pytest.approx(phi, abs=2e-3)
    assert abs(face.d0[0]) == pytest.approx(near, abs=0.05)


def test_the_cells_are_the_cards() -> None:
    """2 x (170 x 360 + 11 x 36) and 2 x (19 x 72 + 19 x 36 + 2 x 18) cells."""
    ecal, hcal = detector._cells(CARD.ecal), detector._cells(CARD.hcal)
    assert ecal.first[-1] == 2 * (170 * 360 + 11 * 36)
    assert hcal.first[-1] == 2 * (19 * 72 + 19 * 36 + 2 * 18)
    np.testing.assert_allclose(np.diff(ecal.edges)[11:-11], 0.0174)
    forward = [2.958, 3.125, 3.3, 3.475, 3.65, 3.825, 4, 4.175, 4.35, 4.525, 4.7, 5]
    np.testing.assert_allclose(ecal.edges[-12:], forward)


@pytest.mark.parametrize("particle", [211, 2212])
def test_a_track_keeps_its_mass_when_it_is_scaled_to_its_tower(particle: int) -> None:
    """Delphes's energy-flow tracks have their particle's mass, too."""
    mass = SPECIES[particle][1]
    flow = detect(hadrons_of([[(particle, 3.0, 0.3, 0.1)]] * 50), CARD, STREAM).candidates
    tracks = flow["charge"] != 0
    p2 = sum(flow[name][tracks] ** 2 for name in ("px", "py", "pz"))
    assert tracks.sum() > 30
    assert np.ptp(np.sqrt(p2)) > 0.1
    np.testing.assert_allclose(np.sqrt(flow["e"][tracks] ** 2 - p2), mass, atol=1e-6)


@pytest.mark.parametrize("what", ["tracking", "hcal"])
def test_an_exact_measurement_is_the_limit_of_a_good_one(what: str) -> None:
    """With no error at all the combination takes the exact one, as it nearly does with a very small error."""
    pions = hadrons_of([[(211, 20.0, 0.3, 0.1)]] * 400)
    good, exact = (
        detect(pions, changed(CARD, {what: {"resolution_factor": factor}}), STREAM).candidates for factor in (1e-5, 0)
    )
    assert len(good["e"]) == len(exact["e"])
    np.testing.assert_allclose(exact["e"], good["e"], rtol=1e-3)


def test_a_very_weak_field_is_like_none() -> None:
    """Circles of 10^8 times the volume's radius were not to be told from straight lines, and came out anywhere."""
    particles = hadrons_of([[(211, pt, 0.7, 0.3)] for pt in (0.5, 20.0, 500.0, 7000.0)])
    straight, weak = (
        detect(particles, changed(PERFECT, {"magnetic_field": field}), STREAM).candidates for field in (0.0, 1e-6)
    )
    np.testing.assert_allclose(weak["px"], straight["px"], rtol=1e-6)
    np.testing.assert_allclose(weak["e"], straight["e"], rtol=1e-6)
