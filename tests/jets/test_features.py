"""Constituent features, jet columns and event columns, by hand and against plain loops over real events."""

import math
from itertools import pairwise

import numpy as np
import pytest

from resim.jets.cards import detector_settings
from resim.jets.clustering import JetSettings, cluster, make_objects
from resim.jets.detector import detect
from resim.jets.features import FEATURES, JET_COLUMNS, constituents, event_columns
from resim.jets.states import Candidates
from resim.jets.truth import object_table
from resim.keys import stream
from tests.jets.events import nominal
from tests.jets.handmade import TRACK_ERROR, candidates_of, hard_events

LEPTON = ("lepton_pt", "lepton_eta", "lepton_phi", "lepton_id", "lepton_isolation")
COLUMN = {name: i for i, (name, _, _) in enumerate(FEATURES)}
NUMBER = {name: i for i, (name, _, _) in enumerate(JET_COLUMNS)}
KINDS = ("is_charged_hadron", "is_neutral_hadron", "is_photon", "is_electron", "is_muon")
BEAMS = [(21, -21, -1, 1.0, 9.0, 0.0, 0.0)] * 2
CENTRE = 3.1  # in phi: the jet lies across the seam at pi
ROWS = [
    (0, -1, 150.0, 0.10, CENTRE, 0.3, -0.5),
    (1, 0, 50.0, 0.00, CENTRE + 0.1, 0.0, 0.0),
    (2, 0, 200.0, 0.05, CENTRE - 0.1, 0.0, 0.0),
    (3, 1, 20.0, 0.20, CENTRE + 0.2, 0.01, 0.02),
    (4, 1, 30.0, -0.10, CENTRE, -1.0, 2.0),
]


@pytest.fixture
def features() -> np.ndarray:
    candidates = candidates_of([ROWS])
    jets = cluster(candidates.candidates, candidates.hadrons.heavy, JetSettings())
    return constituents(jets, candidates.candidates, 100)["features"]


def test_the_features_are_the_published_ones_in_their_order() -> None:
    assert [name for name, _, _ in FEATURES] == [
        "pt", "relpt", "eta", "phi", "e", "rele", "charge", "d0", "dz", "dr",
        "is_photon", "is_muon", "is_electron", "is_charged_hadron", "is_neutral_hadron",
    ]  # fmt: skip


def test_constituents_come_in_falling_pt_with_what_they_were_made_of(features: np.ndarray) -> None:
    rows = sorted(ROWS, key=lambda row: -row[2])
    assert features.dtype == np.float32
    for name, place in (("pt", 2), ("eta", 3), ("charge", 1), ("d0", 5), ("dz", 6)):
        np.testing.assert_allclose(features[:, COLUMN[name]], [row[place] for row in rows], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(features[:, COLUMN["e"]], [row[2] * np.cosh(row[3]) for row in rows], rtol=1e-6)
    phi = [(row[4] + np.pi) % (2 * np.pi) - np.pi for row in rows]
    np.testing.assert_allclose(features[:, COLUMN["phi"]], phi, rtol=1e-6)
    for i, row in enumerate(rows):
        assert [features[i, COLUMN[name]] for name in KINDS] == [float(kind == row[0]) for kind in range(5)]


def test_relative_features_are_relative_to_the_jet(features: np.ndarray) -> None:
    total = {name: features[:, COLUMN[name]].astype(float) for name in ("pt", "eta", "phi", "e")}
    x, y = (total["pt"] * f(total["phi"]) for f in (np.cos, np.sin))
    pt = np.hypot(x.sum(), y.sum())
    eta, phi = np.arcsinh((total["pt"] * np.sinh(total["eta"])).sum() / pt), np.arctan2(y.sum(), x.sum())
    turn = np.angle(np.exp(1j * (total["phi"] - phi)))
    np.testing.assert_allclose(features[:, COLUMN["relpt"]], total["pt"] / pt, rtol=1e-6)
    np.testing.assert_allclose(features[:, COLUMN["rele"]], total["e"] / total["e"].sum(), rtol=1e-6)
    np.testing.assert_allclose(features[:, COLUMN["dr"]], np.hypot(total["eta"] - eta, turn), rtol=1e-5)
    assert features[:, COLUMN["dr"]].max() < 0.4


def test_only_the_hardest_constituents_are_kept_but_all_are_counted() -> None:
    many = [(2, 0, 4.0 + i, 0.003 * i, 0.002 * i, 0.0, 0.0) for i in range(60)]
    hard = hard_events([[*BEAMS, (1, 23, 0, 1500.0, 0.1, 0.1, 0.0)]] * 2)
    out = make_objects(candidates_of([many, many[:3] * 40], hard), JetSettings(max_constituents=10))
    assert out.constituents.offsets.tolist() == [0, 10, 20]
    assert out.columns[:, [name for name, _, _ in JET_COLUMNS].index("n_constituents")].tolist() == [60, 120]
    assert out.constituents["features"][:10, 0].tolist() == [63.0 - i for i in range(10)]
    assert out.constituents["features"][10:, 0].tolist() == [6.0] * 10


def test_jet_columns_are_those_of_the_summed_momentum() -> None:
    rows = [(2, 0, 300.0, 0.4, 0.2, 0.0, 0.0), (0, 1, 200.0, 0.4, -0.2, 0.0, 0.0)]
    hard = hard_events([[*BEAMS, (5, 23, 0, 480.0, 0.4, 0.0, 4.8)]])
    out = make_objects(
        candidates_of([rows], hard, heavy=[[(5, 200.0, 0.4, -0.1), (4, 90.0, 0.4, -0.1)]]), JetSettings()
    )
    values = dict(zip((name for name, _, _ in JET_COLUMNS), out.columns[0].tolist(), strict=True))
    mass = np.sqrt(2 * 300 * 200 * (1 - np.cos(0.4)))
    pt = np.sqrt(300**2 + 200**2 + 2 * 300 * 200 * np.cos(0.4))
    expected = {"pt": pt, "mass": mass, "softdrop_mass": mass, "n2": 0, "n_constituents": 2, "e": 500 * np.cosh(0.4)}
    assert values == pytest.approx(values | expected | {"n_b_hadrons": 1, "n_c_hadrons": 1}, rel=1e-5, nan_ok=True)
    assert values["eta"] == pytest.approx(np.arcsinh(500 * np.sinh(0.4) / pt), rel=1e-5)
    assert values["phi"] == pytest.approx(np.arctan2(100 * np.sin(0.2), 500 * np.cos(0.2)), rel=1e-5)
    assert values["dr_parton"] == pytest.approx(np.hypot(values["eta"] - 0.4, values["phi"]), rel=1e-4)


def one_jet(*tracks: tuple[float, ...]) -> dict[str, float]:
    """Give the columns of a jet along phi = 0 with tracks (phi, d0, pT) beside a hard photon."""
    rows = [(2, 0, 500.0, 0.0, 0.0, 0.0, 0.0), *[(0, 1, pt, 0.0, phi, d0, 0.0) for phi, d0, pt in tracks]]
    out = make_objects(candidates_of([rows], hard_events([[*BEAMS, (1, 23, 0, 500.0, 0.0, 0.0, 0.0)]])), JetSettings())
    return dict(zip((name for name, _, _ in JET_COLUMNS), out.columns[0].tolist(), strict=True))


def test_a_track_from_a_decay_in_flight_has_a_positive_significance() -> None:
    """A particle flies along the jet (phi = 0) to (1, 0) and decays to phi = 0.1: d0 = (x py - y px) / pT = sin 0.1."""
    ahead, behind = math.sin(0.1), -math.sin(0.1)
    values = one_jet((0.1, ahead, 2.0), (-0.1, ahead, 2.0), (-0.1, 3 * behind, 2.0))
    assert values["sip2d_1"] == pytest.approx(3 * ahead / TRACK_ERROR, rel=1e-5)
    assert values["sip2d_2"] == pytest.approx(ahead / TRACK_ERROR, rel=1e-5)
    assert one_jet((-0.1, ahead, 2.0))["sip2d_1"] == pytest.approx(-ahead / TRACK_ERROR, rel=1e-5)


def test_soft_and_far_tracks_and_jets_without_tracks_have_no_significance() -> None:
    values = one_jet((0.1, 0.1, 0.9), (0.1, 2.1, 5.0), (0.1, -0.1, 5.0))
    assert values["sip2d_1"] == pytest.approx(-0.1 / TRACK_ERROR, rel=1e-5)
    assert math.isnan(values["sip2d_2"])
    assert math.isnan(one_jet()["sip2d_1"])


@pytest.fixture(scope="module", params=["qcd", "hbb"])
def real(request: pytest.FixtureRequest) -> Candidates:
    return detect(nominal(request.param)[1], detector_settings({}, "test"), stream(1, request.param, "detector"))


def test_b_jets_have_the_larger_significance() -> None:
    medians = {}
    for sample in ("qcd", "hbb"):
        seen = detect(nominal(sample)[1], detector_settings({}, "test"), stream(1, sample, "detector"))
        medians[sample] = np.nanmedian(make_objects(seen, JetSettings()).columns[:, NUMBER["sip2d_2"]])
    assert medians["hbb"] > 2 * medians["qcd"]


def slow_event(rows: dict[str, np.ndarray]) -> list[float]:
    """Loop over the candidates of one event: met, met_phi, ht, n_electrons, n_muons and the hardest lepton."""
    pt, phi = np.hypot(rows["px"], rows["py"]), np.arctan2(rows["py"], rows["px"])
    eta = np.arcsinh(rows["pz"] / pt)
    leptons = [i for i in range(len(pt)) if rows["identified"][i] and rows["kind"][i] in (3, 4)]
    values = [np.hypot(rows["px"].sum(), rows["py"].sum()), np.arctan2(-rows["py"].sum(), -rows["px"].sum()), pt.sum()]
    values += [float(sum(rows["kind"][i] == kind for i in leptons)) for kind in (3, 4)]
    if not leptons:
        return values + [math.nan] * 5
    best = max(leptons, key=lambda i: pt[i])
    around = sum(
        pt[i]
        for i in range(len(pt))
        if i != best
        and pt[i] > 0.5
        and math.hypot(eta[i] - eta[best], math.remainder(phi[i] - phi[best], 2 * math.pi)) < 0.5
    )
    code = -rows["charge"][best] * (11 if rows["kind"][best] == 3 else 13)
    return [*values, pt[best], eta[best], phi[best], code, around / pt[best]]


def test_event_columns_agree_with_a_loop(real: Candidates) -> None:
    flow = real.candidates
    fast = event_columns(flow)
    slow = [slow_event({n: c[a:b] for n, c in flow.columns.items()}) for a, b in pairwise(flow.offsets)]
    names = ("met", "met_phi", "ht", "n_electrons", "n_muons", *LEPTON)
    assert list(fast) == list(names)
    assert np.isfinite(fast["lepton_pt"]).any()
    assert np.isnan(fast["lepton_pt"]).any()
    np.testing.assert_allclose(np.transpose([fast[name] for name in names]), slow, rtol=1e-9, atol=1e-9)


def test_objects_of_an_event_share_its_columns(real: Candidates) -> None:
    out = make_objects(real, JetSettings())
    table = object_table(real.hadrons.hard, JetSettings())
    event = np.searchsorted(real.event, table["event"][np.searchsorted(table["object"], out.object)])
    for name, column in event_columns(real.candidates).items():
        np.testing.assert_allclose(out.columns[:, NUMBER[name]], column[event].astype(np.float32))


def test_an_electron_and_a_softer_muon_beside_it() -> None:
    rows = [(3, -1, 40.0, 1.0, 3.1, 0, 0), (4, 1, 30.0, 1.0, -3.1, 0, 0), (2, 0, 10.0, 1.6, 3.1, 0, 0)]
    rows += [(0, 1, 0.4, 1.0, 3.1, 0, 0)]
    columns = event_columns(candidates_of([rows, rows[1:], rows[2:], []]).candidates)
    assert columns["n_electrons"].tolist() == [1, 0, 0, 0]
    assert columns["n_muons"].tolist() == [1, 1, 0, 0]
    np.testing.assert_allclose(columns["lepton_id"], [11, -13, np.nan, np.nan])
    np.testing.assert_allclose(columns["lepton_pt"], [40, 30, np.nan, np.nan])
    np.testing.assert_allclose(columns["lepton_isolation"], [30 / 40, 0, np.nan, np.nan])
    assert columns["ht"].tolist() == pytest.approx([80.4, 40.4, 10.4, 0])
    assert columns["met"][3] == 0


def test_leptons_that_are_not_identified_do_not_count() -> None:
    candidates = candidates_of([[(3, -1, 40.0, 1.0, 3.1, 0, 0)]]).candidates
    candidates.columns["identified"][:] = False
    columns = event_columns(candidates)
    assert columns["n_electrons"][0] == 0
    assert np.isnan([columns[name][0] for name in LEPTON]).all()
