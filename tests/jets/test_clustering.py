"""Clustering, ghosts, and the two compiled jet shapes against slow ones and against FastJet's own."""

import dataclasses
import itertools
import math
import subprocess
import sys

import awkward as ak
import fastjet
import numpy as np
import pytest

from resim.jets import substructure
from resim.jets.clustering import Jets, JetSettings, cluster, make_objects
from resim.jets.detector import DetectorSettings, detect
from resim.jets.features import JET_COLUMNS
from resim.jets.states import Candidates
from resim.keys import stream
from tests.conftest import ROOT
from tests.jets.events import nominal
from tests.jets.handmade import candidates_of, hard_events, momenta

SETTINGS = JetSettings()
COLUMN = {name: i for i, (name, _, _) in enumerate(JET_COLUMNS)}


@pytest.fixture(scope="module")
def real() -> Candidates:
    """Thirty real events behind the detector."""
    return detect(nominal("qcd")[1], DetectorSettings(), stream(1, "qcd", "detector"))


def columns(candidates: Candidates, jets: Jets) -> tuple[np.ndarray, ...]:
    px, py, pz, e = (candidates.candidates[name][jets.members] for name in ("px", "py", "pz", "e"))
    return px, py, pz, e


def rapidity_phi(p: np.ndarray) -> tuple[float, float, float]:
    return float(np.hypot(p[0], p[1])), float(np.arctanh(p[2] / p[3])), math.atan2(p[1], p[0])


def delta(a: np.ndarray, b: np.ndarray) -> float:
    (_, y1, phi1), (_, y2, phi2) = rapidity_phi(a), rapidity_phi(b)
    return math.hypot(y1 - y2, math.remainder(phi1 - phi2, 2 * math.pi))


def slow_softdrop(particles: np.ndarray, z_cut: float, beta: float, radius: float) -> float:
    """Recluster by looking at every pair at every step, then groom."""
    nodes = [(p, None) for p in particles]
    while len(nodes) > 1:
        i, j = min(itertools.combinations(range(len(nodes)), 2), key=lambda ij: delta(nodes[ij[0]][0], nodes[ij[1]][0]))
        merged = (nodes[i][0] + nodes[j][0], (nodes[i], nodes[j]))
        nodes = [node for k, node in enumerate(nodes) if k not in (i, j)] + [merged]
    node = nodes[0]
    while node[1]:
        soft, hard = sorted(node[1], key=lambda child: rapidity_phi(child[0])[0])
        pt_soft, pt_hard = rapidity_phi(soft[0])[0], rapidity_phi(hard[0])[0]
        if pt_soft / (pt_soft + pt_hard) > z_cut * (delta(soft[0], hard[0]) / radius) ** beta:
            break
        node = hard
    p = node[0]
    return math.sqrt(max(p[3] ** 2 - p[0] ** 2 - p[1] ** 2 - p[2] ** 2, 0))


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
def test_softdrop_mass_agrees_with_a_slow_one(real: Candidates, beta: float) -> None:
    jets = cluster(real, SETTINGS).take(np.arange(4))
    table = np.column_stack(columns(real, jets))
    slow = [slow_softdrop(table[a:b], 0.1, beta, 0.8) for a, b in itertools.pairwise(jets.offsets)]
    fast = substructure.softdrop_mass(columns(real, jets), jets.offsets, 0.1, beta, 0.8)
    np.testing.assert_allclose(fast, slow, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_n2_agrees_with_a_slow_one(real: Candidates, beta: float) -> None:
    jets = cluster(real, SETTINGS).take(np.arange(3))
    table = np.column_stack(columns(real, jets))
    slow = [slow_n2(table[a:b], beta) for a, b in itertools.pairwise(jets.offsets)]
    np.testing.assert_allclose(substructure.n2(columns(real, jets), jets.offsets, beta), slow, rtol=1e-9)


def test_shapes_agree_with_fastjets_own(real: Candidates) -> None:
    jets = cluster(real, SETTINGS)
    parts = columns(real, jets)
    records = ak.zip(dict(zip(("px", "py", "pz", "E"), parts, strict=True)))
    particles = ak.to_packed(ak.unflatten(records, np.diff(jets.offsets)))
    sequence = fastjet.ClusterSequence(particles, fastjet.JetDefinition(fastjet.cambridge_algorithm, 1000.0))
    groomed = sequence.exclusive_jets_softdrop_grooming(njets=1, beta=0, symmetry_cut=0.1, R0=0.8)
    correlator = sequence.exclusive_jets_energy_correlator(njets=1, beta=1, npoint=2, func="nseries")
    fast = substructure.softdrop_mass(parts, jets.offsets, 0.1, 0.0, 0.8)
    np.testing.assert_allclose(fast, groomed.msoftdrop, rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(substructure.n2(parts, jets.offsets, 1.0), correlator, rtol=1e-9)


def prongs(*rows: tuple[float, float, float]) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Make one jet of massless particles (pT, eta, phi)."""
    p = momenta(*np.array(rows).T, 0.0)
    return (p["px"], p["py"], p["pz"], p["e"]), np.array([0, len(rows)])


def test_two_even_prongs_keep_their_mass_and_have_no_n2() -> None:
    parts, offsets = prongs((100.0, 0.0, 0.2), (100.0, 0.0, -0.2))
    assert substructure.softdrop_mass(parts, offsets, 0.1, 0.0, 0.8)[0] == pytest.approx(200 * math.sin(0.2))
    assert substructure.n2(parts, offsets, 1.0)[0] == 0


def test_a_soft_wide_branch_is_dropped() -> None:
    parts, offsets = prongs((100.0, 0.0, 0.1), (100.0, 0.0, -0.1), (10.0, 0.5, 0.0))
    assert substructure.softdrop_mass(parts, offsets, 0.1, 0.0, 0.8)[0] == pytest.approx(200 * math.sin(0.1))
    assert substructure.softdrop_mass(parts, offsets, 0.01, 0.0, 0.8)[0] > 1.2 * 200 * math.sin(0.1)


def test_three_even_prongs_have_the_n2_of_a_triangle() -> None:
    """All sides d and shares 1/3: 2e3 = d^2 / 27, 1e2 = 3 d / 9, so N2 = 1/3."""
    d = 0.1
    parts, offsets = prongs((9.0, 0.0, 0.0), (9.0, 0.0, d), (9.0, d * math.sqrt(0.75), d / 2))
    assert substructure.n2(parts, offsets, 1.0)[0] == pytest.approx(1 / 3)


def test_a_single_constituent_has_no_shape() -> None:
    parts, offsets = prongs((300.0, 1.0, 1.0))
    assert substructure.softdrop_mass(parts, offsets, 0.1, 0.0, 0.8)[0] == pytest.approx(0, abs=1e-4)
    assert np.isnan(substructure.n2(parts, offsets, 1.0)[0])


def test_jets_are_the_sums_of_their_members_and_pass_the_cuts(real: Candidates) -> None:
    jets = cluster(real, SETTINGS)
    assert len(jets.row) > 30
    assert jets.pt.min() >= SETTINGS.pt_min
    assert np.abs(jets.eta).max() < SETTINGS.eta_max
    for name in ("px", "py", "pz", "e"):
        total = np.add.reduceat(real.candidates[name][jets.members], jets.offsets[:-1])
        np.testing.assert_allclose(getattr(jets, name), total, rtol=1e-9, atol=1e-9)
    event = np.searchsorted(real.candidates.offsets, jets.members, side="right") - 1
    np.testing.assert_array_equal(event, np.repeat(jets.row, np.diff(jets.offsets)))
    assert len(np.unique(jets.members)) == len(jets.members)


def test_ghosts_leave_the_jets_as_they_are(real: Candidates) -> None:
    nobody = real.hadrons.heavy.take(np.zeros(0, dtype=np.int64))
    alone = type(nobody)(np.zeros(len(real.event) + 1, dtype=np.int64), nobody.columns)
    bare = dataclasses.replace(real, hadrons=dataclasses.replace(real.hadrons, heavy=alone))
    ghosts, none = cluster(real, SETTINGS), cluster(bare, SETTINGS)
    assert ghosts.n_c_hadrons.sum() + ghosts.n_b_hadrons.sum() > 0
    assert none.n_c_hadrons.sum() + none.n_b_hadrons.sum() == 0
    np.testing.assert_array_equal(ghosts.members, none.members)
    np.testing.assert_array_equal(ghosts.offsets, none.offsets)
    for name in ("px", "py", "pz", "e"):
        np.testing.assert_array_equal(getattr(ghosts, name).astype(np.float32), getattr(none, name).astype(np.float32))


def test_heavy_hadrons_are_counted_in_the_jet_that_they_fall_in() -> None:
    """The ghost at dR 0.7 belongs to the jet, the one at 1.5 does not; that of another event never."""
    jet = [(0, 1, 200.0, 0.0, 0.0, 0.0, 0.0), (2, 0, 150.0, 0.3, 0.1, 0.0, 0.0)]
    other = [(0, 1, 300.0, -0.5, 3.0, 0.0, 0.0)]
    heavy = [
        [(5, 80.0, 0.0, 0.1), (5, 30.0, 0.7, 0.0), (4, 50.0, -0.5, 3.1), (5, 40.0, 1.5, 0.0)],
        [],
        [(4, 9.0, 0.1, 0.1)],
    ]
    jets = cluster(candidates_of([[*jet, *other], [], jet], heavy=heavy), SETTINGS)
    order = np.lexsort((-jets.pt, jets.row))
    assert jets.row[order].tolist() == [0, 0, 2]
    assert jets.n_b_hadrons[order].tolist() == [2, 0, 0]
    assert jets.n_c_hadrons[order].tolist() == [0, 1, 1]


def test_no_events_and_empty_events_have_no_jets() -> None:
    for events in ([], [[]], [[], []]):
        jets = cluster(candidates_of(events), SETTINGS)
        assert len(jets.row) == 0
        assert jets.offsets.tolist() == [0]
        assert len(make_objects(candidates_of(events), SETTINGS).object) == 0


def two_jets(event_pt: float) -> tuple[list[tuple[float, ...]], list[tuple[float, ...]]]:
    """Give the candidates of two jets back to back, and the partons that made them (the second one first)."""
    jets = [(2, 0, event_pt, 0.2, 0.5, 0, 0), (0, 1, event_pt + 10, -0.3, -2.5, 0.1, 0.2)]
    partons = [(21, -21, -1, 1.0, 9.0, 0.0, 0.0)] * 2
    return jets, [*partons, (5, 23, 0, event_pt, -0.35, -2.6, 4.8), (21, 23, 0, event_pt, 0.25, 0.5, 0.0)]


def test_objects_are_matched_sorted_and_lost_where_there_is_no_jet() -> None:
    first, hard_first = two_jets(500.0)
    second, hard_second = two_jets(600.0)
    hard = hard_events([hard_first, hard_second, hard_second], first=70)
    out = make_objects(candidates_of([first, second[1:], []], hard), SETTINGS)
    assert out.object.tolist() == [8 * 70, 8 * 70 + 1, 8 * 71]
    np.testing.assert_allclose(out.columns[:, COLUMN["pt"]], [510, 500, 610], rtol=1e-6)
    corner = math.hypot(0.05, 0.1)
    np.testing.assert_allclose(out.columns[:, COLUMN["dr_parton"]], [corner, 0.05, corner], rtol=1e-5)
    assert out.constituents.offsets.tolist() == [0, 1, 2, 3]


def test_objects_of_an_event_do_not_depend_on_its_block(real: Candidates) -> None:
    block = make_objects(real, SETTINGS)
    alone = [make_objects(real.take(np.array([row])), SETTINGS) for row in range(len(real.event))]
    np.testing.assert_array_equal(block.object, np.concatenate([one.object for one in alone]))
    np.testing.assert_array_equal(block.columns, np.concatenate([one.columns for one in alone]))
    np.testing.assert_array_equal(
        block.constituents["features"], np.concatenate([one.constituents["features"] for one in alone])
    )


def test_nothing_is_printed() -> None:
    """FastJet's banner went to standard output at its first use, in front of what the commands print as JSON."""
    code = """
from resim.jets.clustering import JetSettings, cluster
from tests.jets.handmade import candidates_of
assert len(cluster(candidates_of([[(0, 1, 300.0, 0.0, 0.0, 0.0, 0.0)]]), JetSettings()).row) == 1
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == ""
