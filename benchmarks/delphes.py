"""Our detector against Delphes, quantity by quantity: `python -m benchmarks.delphes [--reference DIR] [--out DIR]`.

The generator's events are the same: Pythia with the settings and seed of the reference makes its 500 events of each
sample again (the first 100 are compared with the HepMC3 files that come with it). So what the events have in common
drops out of the difference, and our own side runs the detector many times over them, each time with other keys. The
particle gun has no common events; ours is fired as often. Tables and plots go to DIR; the last line of stdout is one
JSON object with the verdicts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.response import (
    GUN_PT,
    Row,
    Truth,
    Values,
    compare,
    least_errors,
    measure,
    measure_gun,
    reference_values,
)
from resim.errors import UserError
from resim.interop.delphes import _nothing, read_delphes
from resim.interop.hepmc import read_hepmc
from resim.jets.cards import detector_settings
from resim.jets.detector import DetectorSettings, detect
from resim.jets.hadronization import read_hadrons
from resim.jets.pythia import initialise, make
from resim.jets.states import Candidates, Hadrons, HardEvents, Ragged
from resim.keys import Stream, stream
from resim.ragged import offsets_of, row_of

REFERENCE = Path(__file__).parents[2] / "shared" / "reference" / "delphes"
SAMPLES = ("qcd", "hbb")
PASSES = 20
SEED = 3
_GUN_SPECIES = ((211, 1, 0.13957), (-11, 1, 0.000511), (-13, 1, 0.10566), (22, 0, 0.0), (130, 0, 0.49761))
_SLOTS_ETA, _SLOTS_PHI = 5, 4
# What leaves no energy has no part in energy flow: tracks come out as the tracker measured them.
_NOTHING_LEFT = {"electromagnetic": 0.0, "long_lived": 0.0, "hadron": 0.0}


@dataclass(frozen=True)
class Detector:
    """The detector to be compared, and the same one with calorimeters that see nothing."""

    flow: DetectorSettings
    bare: DetectorSettings

    @classmethod
    def of(cls, changes: Mapping[str, Any]) -> "Detector":
        """Lay changes over the CMS card."""
        blind = {name: {**changes.get(name, {}), **_NOTHING_LEFT} for name in ("ecal", "hcal")}
        where = "benchmarks.delphes"
        return cls(detector_settings(changes, where), detector_settings({**changes, **blind}, where))

    def run(self, hadrons: Hadrons, keys: Stream) -> tuple[Candidates, Candidates]:
        """Give the energy flow, and the tracks alone, of the same draws."""
        return detect(hadrons, self.flow, keys), detect(hadrons, self.bare, keys)


def settings_of(sample: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Give the reference's settings of Pythia, name and value."""
    return [(name, value) for name, _, value in (line.partition("=") for line in sample["generator"]["settings"])]


def generate(sample: Mapping[str, Any], n_events: int) -> Hadrons:
    """Make events of the reference again with Pythia, ids from 0."""
    pythia = initialise(make(settings_of(sample)), settings_of(sample))
    return read_hadrons([pythia.nextBatch(n_events, "none")], _no_partons(n_events), pythia)[1]


def _no_partons(n_events: int) -> HardEvents:
    return _nothing(np.arange(n_events)).hard


def require_same(made: Hadrons, read: Hadrons, sample: str) -> None:
    """Check that Pythia made the events of the file.

    Raises
    ------
    UserError
        If a momentum differs by more than the digits of the file.
    """
    first = made.take(np.arange(len(read.event)))
    a, b = (h.particles for h in (first, read))
    same = np.array_equal(a.offsets, b.offsets)
    orders = [np.lexsort((rows["px"], rows["pz"], row_of(rows.offsets))) for rows in (a, b)]
    for name in ("id", "px", "py", "pz", "e", "x", "y", "z"):
        same = same and np.allclose(a[name][orders[0]], b[name][orders[1]], rtol=1e-7, atol=1e-7)
    if not same:
        raise UserError(f"{sample}: Pythia did not make the reference's events again; use the pinned pythia8mc")


def gun(n_events: int, keys: Stream) -> Hadrons:
    """Fire the reference's particle gun: 20 far-apart particles of one kind and pT an event, from the origin."""
    event = np.arange(n_events)
    slots = _SLOTS_ETA * _SLOTS_PHI
    offset = keys.uniform(event, np.ones(n_events, dtype=np.int64), 2)
    slot_eta, slot_phi = np.divmod(np.arange(slots), _SLOTS_PHI)
    # those of a ring differ a little in eta, by which their tracks are told apart
    eta = (offset[:, :1] + slot_eta - _SLOTS_ETA / 2 + 1e-4 * slot_phi).ravel()
    phi = (offset[:, 1:] * 2 * np.pi + slot_phi * (np.pi / 2)).ravel()
    pdg, charge, mass = (np.array(column)[event % 5].repeat(slots) for column in zip(*_GUN_SPECIES, strict=True))
    pt = np.array(GUN_PT)[event // 5 % 3].repeat(slots)
    sign = np.where((np.arange(len(pt)) % 2 == 0) & (charge > 0), -1, 1)  # both charges in each event
    px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    columns = {"id": (sign * pdg).astype(np.int32), "charge": (sign * charge).astype(np.int8), "m": mass}
    columns |= {"px": px, "py": py, "pz": pz, "e": np.sqrt(px**2 + py**2 + pz**2 + mass**2)}
    columns |= {name: np.zeros(len(pt)) for name in "xyzt"}
    nothing = _nothing(event)
    particles = Ragged(offsets_of(np.full(n_events, slots)), columns)
    return Hadrons(event, nothing.hard, particles, nothing.heavy, nothing.splitting)


def passes_over(detector: Detector, hadrons: Hadrons, name: str, n_passes: int) -> list[Values]:
    """Run the detector over the same events many times, and measure each time."""
    truth = Truth.of(hadrons)
    keys = [stream(SEED, name, "detector", "delphes", replica) for replica in range(n_passes)]
    return [measure(truth, *detector.run(hadrons, key)) for key in keys]


def compare_sample(detector: Detector, sample: Mapping[str, Any], name: str, hadrons: Hadrons, n: int) -> list[Row]:
    """Compare all quantities of a sample with the reference's numbers."""
    return compare(passes_over(detector, hadrons, name, n), *reference_values(sample))


def compare_gun(detector: Detector, found: Mapping[str, Any], n_passes: int, n_events: int = 3000) -> list[Row]:
    """Compare the particle gun's quantities; each pass fires anew, as many events as the reference has."""
    passes = []
    for replica in range(n_passes):
        keys = stream(SEED, "gun", "detector", "delphes", replica)
        hadrons = gun(n_events, keys.child("gun"))
        passes.append(measure_gun(Truth.of(hadrons), *detector.run(hadrons, keys)))
    return compare(passes, *reference_values(found))


def compare_shipped(detector: Detector, folder: Path, name: str, n_passes: int) -> list[Row]:
    """Run the shipped events, and compare with what Delphes made of the very same ones."""
    flow = next(read_delphes(folder / f"{name}_delphes.root", read_hepmc(folder / f"{name}.hepmc3.gz")))
    truth = Truth.of(flow.hadrons)
    passes = passes_over(detector, flow.hadrons, name, n_passes)
    return compare(passes, measure(truth, flow), least_errors(truth))
