"""Delphes's output as candidates: real files where the reference is at hand, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import uproot

from resim.errors import UserError
from resim.interop.delphes import read_delphes
from resim.interop.hepmc import read_hepmc
from resim.jets.clustering import JetSettings, cluster
from resim.jets.detector import MUON, NEUTRAL_HADRON, PHOTON
from resim.ragged import Ragged, row_of
from tests.interop.reference import reference


@pytest.mark.parametrize("sample", ["qcd", "hbb"])
def test_events_come_with_their_generator_level(sample: str) -> None:
    folder = reference()
    blocks = list(read_delphes(folder / f"{sample}_delphes.root", read_hepmc(folder / f"{sample}.hepmc3.gz", 64)))
    assert [len(block.event) for block in blocks] == [64, 36]
    rows = Ragged.join([block.candidates for block in blocks])
    with uproot.open(folder / f"{sample}_delphes.root") as file:
        tree = file["Delphes"]
        for kind, branch in ((PHOTON, "EFlowPhoton"), (NEUTRAL_HADRON, "EFlowNeutralHadron")):
            energy = tree[f"{branch}.E"].array(library="np")
            assert np.allclose(np.concatenate(energy), rows["e"][rows["kind"] == kind], rtol=1e-5)
        momentum = np.concatenate(tree["EFlowTrack.P"].array(library="np"))
        d0 = np.concatenate(tree["EFlowTrack.D0"].array(library="np"))
        muons = np.concatenate(np.abs(tree["EFlowTrack.PID"].array(library="np"))) == 13
    tracks = rows["charge"] != 0
    assert np.allclose(np.sqrt(sum(rows[n][tracks] ** 2 for n in ("px", "py", "pz"))), momentum, rtol=1e-5)
    assert np.array_equal(rows["d0"][tracks], d0)
    assert np.array_equal(rows["kind"][tracks] == MUON, muons)
    assert rows["identified"][tracks][muons].all()
    assert not rows["identified"][~tracks].any()
    assert (np.diff(row_of(rows.offsets)) >= 0).all()


def test_its_fat_jets_are_found_again() -> None:
    """Delphes clusters the same candidates with the same algorithm: our jets of them are its own."""
    path = reference() / "qcd_delphes.root"
    (found,) = read_delphes(path)
    jets = cluster(found.candidates, found.hadrons.heavy, JetSettings(pt_min=250, eta_max=10))
    with uproot.open(path) as file:
        pt = np.concatenate(file["Delphes"]["FatJet.PT"].array(library="np"))
    assert np.allclose(np.sort(jets.pt), np.sort(pt[pt > 250]), rtol=1e-5)


def test_other_events_are_refused() -> None:
    folder = reference()
    with pytest.raises(UserError, match=r"qcd_delphes.root: has 100 events, the generator's file 64; give matching"):
        list(read_delphes(folder / "qcd_delphes.root", [next(read_hepmc(folder / "qcd.hepmc3.gz", 64))]))
    with pytest.raises(UserError, match=r"events 0 to 36 have other ids than the generator's; give matching files"):
        list(read_delphes(folder / "qcd_delphes.root", [list(read_hepmc(folder / "qcd.hepmc3.gz", 64))[1]]))


def test_what_is_not_of_delphes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.root"
    with pytest.raises(UserError, match=r"some.root: no such file; give a ROOT file that Delphes wrote"):
        list(read_delphes(path))
    path.write_text("not ROOT, but long enough to be looked at")
    with pytest.raises(
        UserError, match=r"some.root: cannot be read, not even as a ROOT file .*; copy it again, or give"
    ):
        list(read_delphes(path))
    with uproot.recreate(path) as file:
        file["Events"] = {"x": np.arange(3)}
    with pytest.raises(UserError, match=r"has no tree 'Delphes', only \['Events;1'\]"):
        list(read_delphes(path))
    with uproot.recreate(path) as file:
        file["Delphes"] = {"Event.Number": np.arange(3)}
    with pytest.raises(
        UserError, match=r"lacks 'EFlowTrack.PT'; keep the energy-flow branches in the card's TreeWriter"
    ):
        list(read_delphes(path))


def test_a_damaged_file_is_told_or_harmless(tmp_path: Path) -> None:
    """Checksums of the compressed parts tell; what is read in spite of damage is what was there."""
    raw, path = (reference() / "qcd_delphes.root").read_bytes(), tmp_path / "flipped.root"
    draws, told = np.random.Generator(np.random.Philox(9)), []
    (whole,) = read_delphes(reference() / "qcd_delphes.root")
    for place in [*draws.integers(0, len(raw), 8).tolist(), *draws.integers(len(raw) - 60_000, len(raw), 8).tolist()]:
        damaged = bytearray(raw)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            found = list(read_delphes(path))
        except UserError as error:
            told.append(str(error))
            continue
        for name, column in whole.candidates.columns.items():
            assert np.array_equal(found[0].candidates[name], column), (place, name)
    assert all(line.startswith(f"{path}: ") and "\n" not in line for line in told)
    assert len(told) > 2
