"""Our detector against Delphes, quantity by quantity: `python -m benchmarks.delphes [--reference DIR] [--out DIR]`.

The generator's events are the same: Pythia with the settings and seed of the reference makes its 500 events of each
sample again (the first 100 are compared with the HepMC3 files that come with it). So what the events have in common
drops out of the difference, and our own side runs the detector many times over them, each time with other keys. The
particle gun has no common events; ours is fired as often. Tables and plots go to DIR; the last line of stdout is one
JSON object with the verdicts.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import delphes_plots as plots
from benchmarks.response import (
    GUN_PT,
    Row,
    Truth,
    compare,
    least_errors,
    measure,
    measure_gun,
    pulls,
    reference_values,
)
from resim.errors import UserError
from resim.interop.delphes import read_delphes
from resim.interop.hepmc import read_hepmc
from resim.jets.cards import DetectorSettings, detector_settings
from resim.jets.detector import detect
from resim.jets.pythia import initialise, make
from resim.jets.records import read_hadrons
from resim.jets.states import Candidates, Hadrons, HardEvents
from resim.keys import Stream, stream
from resim.ragged import Ragged, offsets_of, row_of

REFERENCE = Path(__file__).parents[2] / "shared" / "reference" / "delphes"
SAMPLES = ("qcd", "hbb")
VERDICTS = ("within", "within errors", "outside", "left out")
GUN_EVENTS = 3000
PASSES = 20
SEED = 3
_GUN_SPECIES = ((211, 1, 0.13957), (-11, 1, 0.000511), (-13, 1, 0.10566), (22, 0, 0.0), (130, 0, 0.49761))
_SLOTS_ETA, _SLOTS_PHI = 5, 4
# What leaves no energy has no part in energy flow: tracks come out as the tracker measured them.
_NO_DEPOSITS = {"electromagnetic": 0.0, "long_lived": 0.0, "hadron": 0.0}


@dataclass(frozen=True)
class Detector:
    """The detector to be compared, and the same one with calorimeters that see nothing."""

    flow: DetectorSettings
    bare: DetectorSettings

    @classmethod
    def of(cls, changes: Mapping[str, Any]) -> "Detector":
        """Lay changes over the CMS card."""
        blind = {name: {**changes.get(name, {}), **_NO_DEPOSITS} for name in ("ecal", "hcal")}
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
    return read_hadrons([pythia.nextBatch(n_events, "none")], HardEvents.unknown(np.arange(n_events)), pythia)[1]


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
    empty = Hadrons.unknown(event)
    particles = Ragged(offsets_of(np.full(n_events, slots)), columns)
    return Hadrons(event, empty.hard, particles, empty.heavy, empty.splitting)


@dataclass(frozen=True)
class Shipped:
    """The reference's own events: what Delphes made of them, and what we do, pass by pass."""

    truth: Truth
    delphes: Candidates
    ours: list[tuple[Candidates, Candidates]]

    @classmethod
    def of(cls, detector: Detector, delphes: Candidates, name: str, n_passes: int) -> "Shipped":
        """Run the detector over the events."""
        ours = [detector.run(delphes.hadrons, _keys(name, replica)) for replica in range(n_passes)]
        return cls(Truth.of(delphes.hadrons), delphes, ours)


def read_shipped(folder: Path, name: str) -> Candidates:
    """Read what Delphes made of the events that the reference ships, with their generator level."""
    (flow,) = read_delphes(folder / f"{name}_delphes.root", read_hepmc(folder / f"{name}.hepmc3.gz"))
    return flow


def _keys(name: str, replica: int) -> Stream:
    return stream(SEED, name, "detector", "delphes", replica)


def compare_shipped(events: Shipped) -> list[Row]:
    """Compare with what Delphes made of the very same events."""
    passes = [measure(events.truth, *ours) for ours in events.ours]
    return compare(passes, measure(events.truth, events.delphes), least_errors(events.truth))


def compare_sample(detector: Detector, found: Mapping[str, Any], name: str, hadrons: Hadrons, n: int) -> list[Row]:
    """Compare with the reference's numbers, whose events `hadrons` are, in n passes."""
    truth = Truth.of(hadrons)
    passes = [measure(truth, *detector.run(hadrons, _keys(name, replica))) for replica in range(n)]
    return compare(passes, *reference_values(found))


def compare_gun(detector: Detector, found: Mapping[str, Any], n_passes: int) -> list[Row]:
    """Compare the particle gun's numbers; each pass fires anew, as many events as the reference has."""
    passes = []
    for replica in range(n_passes):
        hadrons = gun(GUN_EVENTS, _keys("gun", replica).child("gun"))
        passes.append(measure_gun(Truth.of(hadrons), *detector.run(hadrons, _keys("gun", replica))))
    return compare(passes, *reference_values(found))


def summary(comparisons: Mapping[str, Sequence[Row]]) -> str:
    """Give a Markdown table of the verdicts by events and group, with the scatter of the pulls (1 if all is alike)."""
    lines = ["| events | quantity | compared | within | within errors | outside | left out | mean pull | rms pull |"]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for name, rows in comparisons.items():
        for group in dict.fromkeys(_group(row) for row in rows):
            mine = [row for row in rows if _group(row) == group]
            count = Counter(row.verdict.partition(" (")[0] for row in mine)
            pull = pulls(mine)
            cells = [name, group, len(mine) - count["left out"], *(count[verdict] for verdict in VERDICTS)]
            cells += [f"{pull.mean():+.2f}", f"{np.sqrt((pull**2).mean()):.2f}"] if len(pull) else ["–", "–"]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _group(row: Row) -> str:
    return row.quantity.group.partition(",")[0]


def details(comparisons: Mapping[str, Sequence[Row]]) -> str:
    """Give a Markdown table of all numbers."""
    lines = ["| events | quantity | where | statistic | ours | Delphes | difference | error | tolerance | verdict |"]
    lines.append("|---|---|---|---|---|---|---|---|---|---|")
    for name, rows in comparisons.items():
        for row in rows:
            numbers = (row.ours, row.delphes, row.difference, row.error, row.tolerance)
            cells = [name, *(word.replace("|", "\\|") for word in row.quantity), *(f"{x:.4g}" for x in numbers)]
            lines.append(f"| {' | '.join(cells)} | {row.verdict} |")
    return "\n".join(lines)


def run(reference: Path, out: Path, n_passes: int) -> dict[str, int]:
    """Compare everything, write tables and plots, and count the verdicts."""
    found, detector = read_reference(reference), Detector.of({})
    comparisons = {"gun": compare_gun(detector, found["particle_gun"], n_passes)}
    shipped = {name: Shipped.of(detector, read_shipped(reference, name), name, n_passes) for name in SAMPLES}
    for name, events in shipped.items():
        hadrons = generate(found["samples"][name], found["samples"][name]["n_events"])
        require_same(hadrons, events.delphes.hadrons, name)
        comparisons[f"{name}, 500"] = compare_sample(detector, found["samples"][name], name, hadrons, n_passes)
        comparisons[f"{name}, 100"] = compare_shipped(events)
    out.mkdir(parents=True, exist_ok=True)
    (out / "delphes.md").write_text(f"{summary(comparisons)}\n\n{details(comparisons)}\n")
    plots.draw(out, comparisons, shipped)
    print(summary(comparisons))
    verdicts = Counter(row.verdict.partition(" (")[0] for rows in comparisons.values() for row in rows)
    return {verdict.replace(" ", "_"): verdicts[verdict] for verdict in VERDICTS}


def read_reference(folder: Path) -> dict[str, Any]:
    """Read the reference's numbers.

    Raises
    ------
    UserError
        If they are not in the folder.
    """
    path = folder / "response.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the folder of the Delphes reference as --reference")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, default=REFERENCE, help="folder with response.json and the samples")
    parser.add_argument("--out", type=Path, default=Path("bench/delphes"), help="folder for tables and plots")
    parser.add_argument("--passes", type=int, default=PASSES, help="how often our detector runs over the events")
    arguments = parser.parse_args()
    try:
        print(json.dumps({"delphes": run(arguments.reference, arguments.out, arguments.passes)}))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
