"""Clustering, ghosts, generator jets, and which jets the objects get."""

import dataclasses
import math
import subprocess
import sys

import fastjet
import numpy as np
import pytest

from resim.jets.cards import detector_settings
from resim.jets.clustering import Jets, JetSettings, cluster, make_objects
from resim.jets.detector import PHOTON, detect
from resim.jets.features import JET_COLUMNS
from resim.jets.states import Candidates
from resim.jets.truth import object_table
from resim.keys import stream
from tests.conftest import ROOT
from tests.jets.events import nominal
from tests.jets.handmade import candidates_of, hard_events

SETTINGS = JetSettings()
CMS = detector_settings({}, "test")
COLUMN = {name: i for i, (name, _, _) in enumerate(JET_COLUMNS)}


@pytest.fixture(scope="module")
def real() -> Candidates:
    """Thirty real events behind the detector."""
    return detect(nominal("qcd")[1], CMS, stream(1, "qcd", "detector"))


def reconstructed(candidates: Candidates) -> Jets:
    """Cluster the candidates alone."""
    return cluster(candidates.candidates, candidates.hadrons.heavy, SETTINGS)


def test_jets_are_the_sums_of_their_members_and_pass_the_cuts(real: Candidates) -> None:
    jets = reconstructed(real)
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
    ghosts, none = reconstructed(real), reconstructed(bare)
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
    jets = reconstructed(candidates_of([[*jet, *other], [], jet], heavy=heavy))
    order = np.lexsort((-jets.pt, jets.row))
    assert jets.row[order].tolist() == [0, 0, 2]
    assert jets.n_b_hadrons[order].tolist() == [2, 0, 0]
    assert jets.n_c_hadrons[order].tolist() == [0, 1, 1]


def test_no_events_and_empty_events_have_no_jets() -> None:
    for events in ([], [[]], [[], []]):
        jets = reconstructed(candidates_of(events))
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


def test_a_small_jet_far_from_its_parton_is_whole() -> None:
    """What is clustered reaches beyond the farthest jet that can be matched, whatever the radius."""
    hard = hard_events([[(1, 23, -1, 400.0, 0.0, 0.0, 0.0)]])
    photons = [(PHOTON, 0, 300.0, 0.70, 0.0, 0, 0), (PHOTON, 0, 20.0, 1.05, 0.0, 0, 0)]
    out = make_objects(candidates_of([photons], hard), JetSettings(radius=0.4))
    np.testing.assert_allclose(out.columns[:, COLUMN["pt"]], [320], rtol=1e-6)


def slow_generator_jets(candidates: Candidates, event: int) -> list[fastjet.PseudoJet]:
    """Cluster the visible particles of one event by FastJet's own classes, one particle at a time."""
    particles = candidates.hadrons.particles.take(np.array([event]))
    momenta_ = np.column_stack([particles[n] for n in ("px", "py", "pz", "e")]).tolist()
    invisible = [abs(i) in (12, 14, 16) for i in particles["id"].tolist()]
    seen = [fastjet.PseudoJet(*p) for p, gone in zip(momenta_, invisible, strict=True) if not gone]
    sequence = fastjet._swig.ClusterSequence(seen, fastjet.JetDefinition(fastjet.antikt_algorithm, SETTINGS.radius))
    return list(sequence.inclusive_jets(SETTINGS.pt_min))


@pytest.mark.parametrize("sample", ["qcd", "hbb"])
def test_generator_jets_are_fastjets_own_of_the_visible_particles(sample: str) -> None:
    """Nearly all are the same to the last digit; at the edge of what is clustered a soft particle may go elsewhere."""
    seen = detect(nominal(sample)[1], CMS, stream(1, sample, "detector"))
    out = make_objects(seen, SETTINGS)
    table = object_table(seen.hadrons.hard, SETTINGS)
    rows = np.searchsorted(table["object"], out.object)
    same = []
    for row, values in zip(rows, out.columns, strict=True):
        event = int(np.searchsorted(seen.event, table["event"][row]))
        axis = (table["parton_eta"][row], table["parton_phi"][row])
        jets = [j for j in slow_generator_jets(seen, event) if abs(j.eta()) < SETTINGS.eta_max]
        near = [math.hypot(j.eta() - axis[0], math.remainder(j.phi() - axis[1], 2 * math.pi)) for j in jets]
        pt, eta, phi, mass = (values[COLUMN[f"gen_{n}"]] for n in ("pt", "eta", "phi", "mass"))
        if not near or min(near) > SETTINGS.match_distance:
            assert np.isnan([pt, eta, phi, mass]).all()
            continue
        jet = jets[int(np.argmin(near))]
        turn = math.remainder(phi - jet.phi(), 2 * math.pi)
        np.testing.assert_allclose((pt, eta, turn), (jet.pt(), jet.eta(), 0), rtol=1e-3, atol=1e-3)
        same.append(np.allclose((pt, eta, mass, turn), (jet.pt(), jet.eta(), jet.m(), 0), rtol=1e-5, atol=1e-5))
    assert len(same) > 20
    assert np.mean(same) > 0.9
    assert np.median(out.columns[:, COLUMN["pt"]] / out.columns[:, COLUMN["gen_pt"]]) == pytest.approx(1, abs=0.1)


def test_muons_belong_to_the_generator_jet_and_neutrinos_do_not() -> None:
    rows, table = two_jets(500.0)
    stable = [(211, 400.0, 0.2, 0.5), (-13, 100.0, 0.2, 0.5), (12, 300.0, 0.2, 0.5)]
    out = make_objects(candidates_of([rows], hard_events([table]), particles=[stable]), SETTINGS)
    assert out.object.tolist() == [0, 1]
    np.testing.assert_allclose(out.columns[:, COLUMN["gen_pt"]], [np.nan, 500], rtol=1e-6)
    np.testing.assert_allclose(out.columns[:, COLUMN["pt"]], [510, 500], rtol=1e-6)


def test_an_object_may_lack_its_generator_jet_but_not_the_reconstructed_one() -> None:
    rows, table = two_jets(500.0)
    hard = hard_events([table])
    assert np.isnan(make_objects(candidates_of([rows], hard), SETTINGS).columns[:, COLUMN["gen_softdrop_mass"]]).all()
    stable = [(211, 500.0, 0.2, 0.5), (211, 510.0, -0.3, -2.5)]
    lone = make_objects(candidates_of([rows[:1]], hard, particles=[stable]), SETTINGS)
    assert lone.object.tolist() == [1]


def test_views_of_the_same_hadrons_share_their_generator_jets(real: Candidates) -> None:
    """They are found once for settings that matter to them, and are what a view that finds them itself gets."""
    hadrons = real.take(np.arange(len(real.event))).hadrons
    other = detect(hadrons, detector_settings({"ecal": {"scale": 1.3}}, "test"), stream(1, "qcd", "detector"))
    for candidates, changes, found in (
        (Candidates(hadrons, real.candidates), {}, 1),
        (other, {"n2_beta": 2.0, "max_constituents": 5}, 1),
        (other, {"radius": 0.6}, 2),
    ):
        settings = JetSettings(**changes)
        shared = make_objects(candidates, settings)
        assert len(hadrons.derived) == found
        alone = make_objects(Candidates(dataclasses.replace(hadrons, derived={}), candidates.candidates), settings)
        np.testing.assert_array_equal(shared.columns, alone.columns)
        assert np.isfinite(shared.columns[:, COLUMN["gen_mass"]]).any()


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
one = candidates_of([[(0, 1, 300.0, 0.0, 0.0, 0.0, 0.0)]])
assert len(cluster(one.candidates, one.hadrons.heavy, JetSettings()).row) == 1
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == ""
