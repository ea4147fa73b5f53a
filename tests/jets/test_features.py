"""Constituent features and jet columns of jets made by hand."""

import numpy as np
import pytest

from resim.jets.clustering import JetSettings, cluster, make_objects
from resim.jets.features import FEATURES, JET_COLUMNS, constituents
from tests.jets.handmade import candidates_of, hard_events

COLUMN = {name: i for i, (name, _, _) in enumerate(FEATURES)}
KINDS = ("is_charged_hadron", "is_neutral_hadron", "is_photon", "is_electron", "is_muon")
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
    beams = [(21, -21, -1, 1.0, 9.0, 0.0, 0.0)] * 2
    hard = hard_events([[*beams, (1, 23, 0, 1500.0, 0.1, 0.1, 0.0)]] * 2)
    out = make_objects(candidates_of([many, many[:3] * 40], hard), JetSettings(max_constituents=10))
    assert out.constituents.offsets.tolist() == [0, 10, 20]
    assert out.columns[:, [name for name, _, _ in JET_COLUMNS].index("n_constituents")].tolist() == [60, 120]
    assert out.constituents["features"][:10, 0].tolist() == [63.0 - i for i in range(10)]
    assert out.constituents["features"][10:, 0].tolist() == [6.0] * 10


def test_jet_columns_are_those_of_the_summed_momentum() -> None:
    rows = [(2, 0, 300.0, 0.4, 0.2, 0.0, 0.0), (0, 1, 200.0, 0.4, -0.2, 0.0, 0.0)]
    beams = [(21, -21, -1, 1.0, 9.0, 0.0, 0.0)] * 2
    hard = hard_events([[*beams, (5, 23, 0, 480.0, 0.4, 0.0, 4.8)]])
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
