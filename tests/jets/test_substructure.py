"""The compiled substructure against slow twins, against FastJet's own, and against what can be worked out by hand."""

import itertools
import math

import awkward as ak
import fastjet
import numpy as np
import pytest

from resim.jets import substructure
from resim.jets.cards import detector_settings
from resim.jets.clustering import JetSettings, cluster
from resim.jets.detector import detect
from resim.keys import stream
from tests.jets.events import nominal
from tests.jets.handmade import momenta

Table = tuple[np.ndarray, np.ndarray]
"""Rows of `substructure.kinematics`, and offsets by jet."""

CMS = detector_settings({}, "test")
BRANCHES = tuple(f"subjet{i}_{name}" for i in (1, 2) for name in ("pt", "eta", "phi", "mass"))


@pytest.fixture(scope="module", params=["qcd", "hbb"])
def real(request: pytest.FixtureRequest) -> Table:
    """Constituents of the jets in thirty real events."""
    seen = detect(nominal(request.param)[1], CMS, stream(1, request.param, "detector"))
    jets = cluster(seen.candidates, seen.hadrons.heavy, JetSettings())
    px, py, pz, e = (seen.candidates[name][jets.members] for name in ("px", "py", "pz", "e"))
    return substructure.kinematics((px, py, pz, e)), jets.offsets


def first(table: Table, count: int) -> Table:
    particles, offsets = table
    return particles[: offsets[count]], offsets[: count + 1]


def jagged(table: Table) -> ak.Array:
    particles, offsets = table
    records = ak.zip(dict(zip(("px", "py", "pz", "E"), particles.T[:4].copy(), strict=True)))
    return ak.to_packed(ak.unflatten(records, np.diff(offsets)))


def rapidity_phi(p: np.ndarray) -> tuple[float, float, float]:
    return float(np.hypot(p[0], p[1])), float(np.arctanh(p[2] / p[3])), math.atan2(p[1], p[0])


def delta(a: np.ndarray, b: np.ndarray) -> float:
    (_, y1, phi1), (_, y2, phi2) = rapidity_phi(a), rapidity_phi(b)
    return math.hypot(y1 - y2, math.remainder(phi1 - phi2, 2 * math.pi))


def mass(p: np.ndarray) -> float:
    return math.sqrt(max(p[3] ** 2 - p[0] ** 2 - p[1] ** 2 - p[2] ** 2, 0))


def slow_softdrop(particles: np.ndarray, z_cut: float, beta: float, radius: float) -> list[float]:
    """Recluster by looking at every pair at every step, then groom: mass, pT, zg, rg."""
    nodes = [(p, None) for p in particles[:, :4]]
    while len(nodes) > 1:
        i, j = min(itertools.combinations(range(len(nodes)), 2), key=lambda ij: delta(nodes[ij[0]][0], nodes[ij[1]][0]))
        merged = (nodes[i][0] + nodes[j][0], (nodes[i], nodes[j]))
        nodes = [node for k, node in enumerate(nodes) if k not in (i, j)] + [merged]
    node, zg, rg = nodes[0], math.nan, math.nan
    while node[1]:
        soft, hard = sorted(node[1], key=lambda child: rapidity_phi(child[0])[0])
        pt_soft, pt_hard = rapidity_phi(soft[0])[0], rapidity_phi(hard[0])[0]
        if pt_soft / (pt_soft + pt_hard) > z_cut * (delta(soft[0], hard[0]) / radius) ** beta:
            zg, rg = pt_soft / (pt_soft + pt_hard), delta(soft[0], hard[0])
            break
        node = hard
    return [mass(node[0]), rapidity_phi(node[0])[0], zg, rg]


def slow_n2(particles: np.ndarray, beta: float) -> float:
    pt = np.hypot(particles[:, 0], particles[:, 1])
    z = pt / pt.sum()
    angle = {pair: delta(*particles[list(pair)]) ** beta for pair in itertools.combinations(range(len(z)), 2)}
    pairs = sum(z[i] * z[j] * d for (i, j), d in angle.items())
    triplets = 0.0
    for i, j, k in itertools.combinations(range(len(z)), 3):
        small = sorted([angle[i, j], angle[i, k], angle[j, k]])[:2]
        triplets += z[i] * z[j] * z[k] * small[0] * small[1]
    return float(triplets / pairs**2)


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_softdrop_agrees_with_a_slow_one(real: Table, beta: float) -> None:
    particles, offsets = first(real, 4)
    slow = [slow_softdrop(particles[a:b], 0.1, beta, 0.8) for a, b in itertools.pairwise(offsets)]
    fast = substructure.softdrop(particles, offsets, 0.1, beta, 0.8)
    columns = [fast[name] for name in ("softdrop_mass", "softdrop_pt", "zg", "rg")]
    np.testing.assert_allclose(np.transpose(columns), slow, rtol=1e-6, atol=1e-4)


def test_softdrop_agrees_with_fastjets_own(real: Table) -> None:
    sequence = fastjet.ClusterSequence(jagged(real), fastjet.JetDefinition(fastjet.cambridge_algorithm, 1000.0))
    groomed = sequence.exclusive_jets_softdrop_grooming(njets=1, beta=0, symmetry_cut=0.1, R0=0.8)
    fast = substructure.softdrop(*real, 0.1, 0.0, 0.8)
    for name, theirs in (
        ("softdrop_mass", groomed.msoftdrop),
        ("softdrop_pt", groomed.ptsoftdrop),
        ("zg", groomed.symmetrysoftdrop),
        ("rg", groomed.deltaRsoftdrop),
    ):
        theirs = np.where(np.isnan(fast["zg"]), fast[name], ak.to_numpy(theirs)) if name in ("zg", "rg") else theirs
        np.testing.assert_allclose(fast[name], theirs, rtol=1e-6, atol=1e-4)


def fastjets_branches(table: Table) -> list[list[float]]:
    """Undo the last step of Cambridge/Aachen on what soft drop leaves, with FastJet's own classes."""
    particles, offsets = table
    definition = fastjet.JetDefinition(fastjet.cambridge_algorithm, 1000.0)
    rows = []
    for a, b in itertools.pairwise(offsets):
        sequence = fastjet._swig.ClusterSequence(
            [fastjet.PseudoJet(*p) for p in particles[a:b, :4].tolist()], definition
        )
        jet, one, two = sequence.inclusive_jets()[0], fastjet.PseudoJet(), fastjet.PseudoJet()
        while jet.has_parents(one, two):
            one, two = (one, two) if one.pt() >= two.pt() else (two, one)
            if two.pt() / (one.pt() + two.pt()) > 0.1:
                rows.append([f() for j in (one, two) for f in (j.pt, j.eta, j.phi_std, j.m)])
                break
            jet, one, two = fastjet.PseudoJet(one), fastjet.PseudoJet(), fastjet.PseudoJet()
        else:
            rows.append([math.nan] * 8)
    return rows


def test_the_branches_are_fastjets(real: Table) -> None:
    fast = substructure.softdrop(*real, 0.1, 0.0, 0.8)
    theirs = fastjets_branches(real)
    assert np.isfinite(theirs).any(axis=1).sum() > 10
    np.testing.assert_allclose(np.transpose([fast[name] for name in BRANCHES]), theirs, rtol=1e-6, atol=1e-3)


def test_the_axes_are_fastjets_exclusive_winner_take_all_subjets(real: Table) -> None:
    definition = fastjet.JetDefinition(fastjet.kt_algorithm, 1000.0, fastjet.Best, fastjet.WTA_pt_scheme)
    parts = jagged(real)
    sequence = fastjet.ClusterSequence(parts, definition)
    pt = np.hypot(parts.px, parts.py)
    taus = substructure.n_subjettiness(*real)
    for n in (1, 2, 3):
        axes = sequence.exclusive_jets(n_jets=n)
        a, b = ak.unzip(ak.cartesian([parts, axes], nested=True))
        turn = abs(np.arctan2(a.py, a.px) - np.arctan2(b.py, b.px))
        turn = np.minimum(turn, 2 * np.pi - turn)
        nearest = ak.min(np.hypot(np.arctanh(a.pz / a.E) - np.arctanh(b.pz / b.E), turn), axis=2)
        expected = ak.sum(pt * nearest, axis=1) / ak.sum(pt, axis=1)
        np.testing.assert_allclose(taus[:, n - 1], ak.to_numpy(expected), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_n2_agrees_with_a_slow_one(real: Table, beta: float) -> None:
    particles, offsets = first(real, 3)
    slow = [slow_n2(particles[a:b], beta) for a, b in itertools.pairwise(offsets)]
    np.testing.assert_allclose(substructure.n2(particles, offsets, beta), slow, rtol=1e-9)


def test_n2_agrees_with_fastjets_own(real: Table) -> None:
    sequence = fastjet.ClusterSequence(jagged(real), fastjet.JetDefinition(fastjet.cambridge_algorithm, 1000.0))
    correlator = sequence.exclusive_jets_energy_correlator(njets=1, beta=1, npoint=2, func="nseries")
    np.testing.assert_allclose(substructure.n2(*real, 1.0), correlator, rtol=1e-9)


def prongs(*rows: tuple[float, float, float]) -> Table:
    """Make one jet of massless particles (pT, eta, phi)."""
    p = momenta(*np.array(rows).T, 0.0)
    return substructure.kinematics((p["px"], p["py"], p["pz"], p["e"])), np.array([0, len(rows)])


def test_two_even_prongs_keep_their_mass_and_have_no_n2() -> None:
    table = prongs((101.0, 0.0, 0.2), (100.0, 0.0, -0.2))
    groomed = substructure.softdrop(*table, 0.1, 0.0, 0.8)
    expected = [101, 0, 0.2, 0, 100, 0, -0.2, 0]
    assert groomed["softdrop_mass"][0] == pytest.approx(2 * math.sqrt(101 * 100) * math.sin(0.2))
    assert [groomed[name][0] for name in BRANCHES] == pytest.approx(expected, abs=1e-5)
    assert (groomed["zg"][0], groomed["rg"][0]) == pytest.approx((100 / 201, 0.4))
    assert substructure.n2(*table, 1.0)[0] == 0
    np.testing.assert_allclose(substructure.n_subjettiness(*table)[0], [100 * 0.4 / 201, 0, 0], atol=1e-12)


def test_branches_are_told_apart_across_the_seam_of_phi() -> None:
    groomed = substructure.softdrop(*prongs((101.0, 0.0, 3.1), (100.0, 0.0, -3.1)), 0.1, 0.0, 0.8)
    assert groomed["rg"][0] == pytest.approx(2 * math.pi - 6.2)


def test_a_soft_wide_branch_is_dropped() -> None:
    table = prongs((100.0, 0.0, 0.1), (100.0, 0.0, -0.1), (10.0, 0.5, 0.0))
    groomed, loose = (substructure.softdrop(*table, cut, 0.0, 0.8) for cut in (0.1, 0.01))
    assert groomed["softdrop_mass"][0] == pytest.approx(200 * math.sin(0.1))
    assert groomed["softdrop_pt"][0] == pytest.approx(200 * math.cos(0.1))
    assert loose["softdrop_mass"][0] > 1.2 * 200 * math.sin(0.1)


def test_three_even_prongs_have_the_n2_of_a_triangle() -> None:
    """All sides d and shares 1/3: 2e3 = d^2 / 27, 1e2 = 3 d / 9, so N2 = 1/3."""
    d = 0.1
    table = prongs((9.0, 0.0, 0.0), (9.0, 0.0, d), (9.0, d * math.sqrt(0.75), d / 2))
    assert substructure.n2(*table, 1.0)[0] == pytest.approx(1 / 3)


def test_three_prongs_have_the_subjettiness_of_their_distances() -> None:
    """The two nearest merge first and the harder one gives the axis; then 100 wins over 60 + 50."""
    table = prongs((100.0, 0.0, 0.0), (60.0, 0.5, 0.0), (50.0, 0.7, 0.0))
    expected = [100 * 0.5 + 50 * 0.2, 50 * 0.2, 0.0]
    np.testing.assert_allclose(substructure.n_subjettiness(*table)[0], np.array(expected) / 210, atol=1e-12)


def test_a_single_constituent_has_no_shape() -> None:
    table = prongs((300.0, 1.0, 1.0))
    groomed = substructure.softdrop(*table, 0.1, 0.0, 0.8)
    assert groomed["softdrop_mass"][0] == pytest.approx(0, abs=1e-4)
    assert groomed["softdrop_pt"][0] == pytest.approx(300)
    assert np.isnan([groomed[name][0] for name in (*BRANCHES, "zg", "rg")]).all()
    assert np.isnan(substructure.n2(*table, 1.0)[0])
    assert substructure.n_subjettiness(*table)[0].tolist() == [0, 0, 0]


def test_no_jets_have_empty_columns() -> None:
    particles, offsets = substructure.kinematics((np.empty(0),) * 4), np.zeros(1, dtype=np.int64)
    assert all(len(column) == 0 for column in substructure.softdrop(particles, offsets, 0.1, 0.0, 0.8).values())
    assert substructure.n_subjettiness(particles, offsets).shape == (0, 3)
    assert len(substructure.n2(particles, offsets, 1.0)) == 0


def test_equal_particles_on_top_of_each_other_are_merged() -> None:
    """Distances of 0 and ties must not confuse the bookkeeping of nearest neighbours."""
    table = prongs(*[(50.0, 0.1, 0.1)] * 5, *[(50.0, -0.1, 0.1)] * 5)
    groomed = substructure.softdrop(*table, 0.1, 0.0, 0.8)
    assert (groomed["zg"][0], groomed["rg"][0]) == pytest.approx((0.5, 0.2))
    np.testing.assert_allclose(substructure.n_subjettiness(*table)[0], [0.1, 0, 0], atol=1e-9)
