"""Generate events with Sherpa 3 and write them as HepMC3 ASCII (GeV, mm).

    python generate.py --card qcd.yaml --events 0:100 --seed 1 --output qcd.hepmc3.gz --integration DIR

An event depends on (card, seed, event number) and on nothing else: each is made in a copy of the process as it was
when Sherpa had started, with a seed of its own. (The cross section in the file is the estimate so far.) What Sherpa
integrates first is kept in DIR for all later calls with this card; `--events 0:0` makes it and no event.

Runs by itself, with Sherpa's Python module, pyhepmc and the standard library.
"""

import argparse
import gzip
import hashlib
import math
import os
import pickle
import shutil
import signal
import sys
import tempfile
import traceback
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyhepmc
import Sherpa

INTEGRATION_SEED = 20260101  # one for all: the grids must not depend on who came first
TRIES = 100  # of one event
WEIGHTS = ["Weight", "WeightNormalisation", "NTrials"]  # as Sherpa names them in HepMC
# Status codes as Pythia writes them; HepMC fixes 1, 2 and 4.
FINAL, DECAYED, BEAM, INCOMING, RESONANCE, OUTGOING, REST = 1, 2, 4, 21, 22, 23, 63
PSEUDOPARTICLE = 90  # PDG ids 81 to 100 are a generator's own
ORIGIN = (0.0, 0.0, 0.0, 0.0)
EVENTS_MAX = 1 << 30
DIGITS = 9
GZIP_LEVEL = 4  # at 6 it takes as long as the event itself

_SIGNAL = 1  # Sherpa's code of the blob with the hard process (btp::Signal_Process)
_ACTIVE = 1  # Sherpa's code of a particle that is there in the end (part_status::active)
_MAIN = -1  # stands for the blobs in which the partons of the event become hadrons
_HALF_BITS = 15

Rows = tuple[int, int]  # first and last row, counted from 1


class Row(NamedTuple):
    """A particle, in HEPEVT's manner: with the rows that it comes from and where it is made (mm)."""

    px: float
    py: float
    pz: float
    e: float
    m: float
    pid: int
    status: int
    parents: Rows
    position: tuple[float, float, float, float]


class Record:
    """The rows of one event.

    The beams go into the two hard partons and a pseudoparticle for the rest. That rest and the outgoing partons of
    the hard process (after decays of resonances) go into one vertex, and out of it comes what fragmentation gives:
    showers and multiple interactions are not kept. From there on all decays are. Each vertex conserves momentum.
    """

    def __init__(self, blobs: Any) -> None:
        self.rows: list[Row] = []
        self._hard: set[int] = set()
        self._add_hadrons(blobs, self._add_hard_process(blobs))

    def _add(
        self, particle: Any, status: int, parents: Rows, position: tuple[float, float, float, float] = ORIGIN
    ) -> int:
        """Add a particle of Sherpa's; give its row."""
        flavour, p = particle.Flav(), particle.Momentum()
        pid = -flavour.Kfcode() if flavour.IsAnti() else flavour.Kfcode()
        self.rows.append(Row(p[1], p[2], p[3], p[0], particle.FinalMass(), pid, status, parents, position))
        return len(self.rows)

    def _add_hard_process(self, blobs: Any) -> Rows:
        """Add beams, hard process and decays of resonances; give the rows that go on to fragmentation."""
        signal = blobs.GetFirst(_SIGNAL)
        beams = [blob.InPart(0) for blob in blobs if blob.NInP() and not blob.InPart(0).HasProdBlob()]
        for beam in sorted(beams, key=lambda particle: particle.Beam()):
            self._add(beam, BEAM, (0, 0))
        for i in range(signal.NInP()):
            self._add(signal.InPart(i), INCOMING, (1, 2))
        outgoing = self._add_resonances(signal, (3, 4))
        first = self._add_rest()
        for particle, parents in outgoing:
            self._add(particle, OUTGOING, parents)
        return first, len(self.rows)

    def _add_resonances(self, blob: Any, parents: Rows) -> list[tuple[Any, Rows]]:
        """Add what decays of the particles out of a blob, in turn; give the others and what they come from."""
        self._hard.add(blob.Id())
        outgoing = []
        for particle in (blob.OutPart(i) for i in range(blob.NOutP())):
            if particle.HasDecBlob() and particle.DecBlob().NInP() == 1:
                row = self._add(particle, RESONANCE, parents)
                outgoing += self._add_resonances(particle.DecBlob(), (row, row))
            else:
                outgoing.append((particle, parents))
        return outgoing

    def _add_rest(self) -> int:
        """Add what the beams have beyond the two hard partons."""
        beam_1, beam_2, parton_1, parton_2 = (row[:4] for row in self.rows[:4])
        px, py, pz, e = (a + b - c - d for a, b, c, d in zip(beam_1, beam_2, parton_1, parton_2, strict=True))
        mass = math.sqrt(max(e**2 - px**2 - py**2 - pz**2, 0.0))
        self.rows.append(Row(px, py, pz, e, mass, PSEUDOPARTICLE, REST, (1, 2), ORIGIN))
        return len(self.rows)

    def _add_hadrons(self, blobs: Any, partons: Rows) -> None:
        """Add what fragmentation gives, and all decays, mothers first."""
        decays = {blob.Id(): blob for blob in blobs if self._is_decay(blob)}
        out_of: defaultdict[int, list[tuple[Any, int | None]]] = defaultdict(list)
        for blob in blobs:
            vertex = self._vertex(blob)
            for particle in (blob.OutPart(i) for i in range(blob.NOutP())):
                decay = particle.DecBlob().Id() if particle.HasDecBlob() else None
                if decay in decays or (decay is None and particle.Stat() == _ACTIVE):
                    out_of[vertex].append((particle, decay))
        todo = deque([(_MAIN, partons, ORIGIN)])
        while todo:
            vertex, parents, position = todo.popleft()
            for particle, decay in out_of[vertex]:
                row = self._add(particle, FINAL if decay is None else DECAYED, parents, position)
                if decay is not None:
                    t, x, y, z = (decays[decay].Position()[i] for i in range(4))
                    todo.append((decay, (row, row), (x, y, z, t)))

    def _is_decay(self, blob: Any) -> bool:
        """Tell decays of hadrons and taus from other blobs; only resonances look the same."""
        return blob.NInP() == 1 and blob.TypeSpec() == "Sherpa" and blob.Id() not in self._hard

    def _vertex(self, blob: Any) -> int:
        """Give the vertex that stands for a blob: the decay behind it (which may go by partons), or the main one."""
        seen = set()
        while blob.Id() not in seen:  # the hard process stands within its own shower: there are circles
            if self._is_decay(blob):
                return int(blob.Id())
            seen.add(blob.Id())
            if not (blob.NInP() and blob.InPart(0).HasProdBlob()):
                break
            blob = blob.InPart(0).ProdBlob()
        return _MAIN


@dataclass(frozen=True)
class Made:
    """An event as Sherpa made it."""

    rows: list[Row]
    weight: float
    """Undoes what the card enhances, pb."""
    normalisation: float
    """The weight over this is one for an event of no enhancement."""
    trials: float
    scale: float
    """Factorisation scale, GeV."""


def start(card: Path) -> Any:
    """Start Sherpa in the working folder."""
    # A card that Sherpa cannot use ends the process within it, after it has said why.
    words = ["Sherpa", "-f", str(card), f"RANDOM_SEED: {INTEGRATION_SEED}", "EVENTS: 2000000000", "EVT_OUTPUT: 0"]
    sherpa = Sherpa.Sherpa(len(words), words)
    if not (sherpa.InitializeTheRun() and sherpa.InitializeTheEventHandler()):
        raise RuntimeError(f"Sherpa did not start with {card}")
    return sherpa


def make(sherpa: Any, seed: int) -> Made:
    """Make one event."""
    Sherpa.cvar.ran.SetSeed(seed)
    if not any(sherpa.GenerateOneEvent() for _ in range(TRIES)):
        raise RuntimeError(f"Sherpa failed {TRIES} times in a row")
    blobs = sherpa.GetBlobList()
    signal = blobs.GetFirst(_SIGNAL)
    scale = math.sqrt(signal["Factorisation_Scale"])
    return Made(Record(blobs).rows, blobs.Weight(), signal["Weight_Norm"], signal["Trials"], scale)


def in_copy(work: Callable[[], Any], what: str) -> Any:
    """Do work in a copy of this process, whose state stays as it is; give what comes out.

    Sherpa carries over more than its generator's state from event to event: it raises the maximum of a hadron's
    decay where it was found too low, and Gaussians come in pairs, of which it keeps the second. And what it does when
    it ends or is told to stop, it does in the copy: it would make our folder anew after we removed it.
    """
    source, sink = os.pipe()
    process = os.fork()
    if not process:
        try:
            os.close(source)  # or it would wait for itself to read, where we are gone
            with os.fdopen(sink, "wb") as pipe:
                pickle.dump(work(), pipe)
            os._exit(0)
        except SystemExit as told:
            print(told, file=sys.stderr)
        except BaseException:  # noqa: BLE001  the copy must not go on as if it were the program
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(sink)
    try:
        with os.fdopen(source, "rb") as pipe:
            result = pipe.read()
    except BaseException:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        raise
    if os.waitpid(process, 0)[1]:
        sys.exit(f"{what}: Sherpa failed; it says above why")
    return pickle.loads(result)  # from our own copy


class CrossSection:
    """What Sherpa estimates from weights and trials, pb."""

    def __init__(self) -> None:
        self._trials = self._sum = self._squares = 0.0

    def add(self, made: Made) -> pyhepmc.GenCrossSection:
        """Give the estimate of all events so far."""
        self._trials += made.trials
        self._sum += made.weight
        self._squares += made.weight**2
        mean = self._sum / self._trials
        variance = (self._squares / self._trials - mean**2) / max(self._trials - 1, 1)
        section = pyhepmc.GenCrossSection()
        section.set_cross_section(mean, math.sqrt(max(variance, 0.0)), -1, -1)
        return section


def hepmc(number: int, made: Made) -> pyhepmc.GenEvent:
    """Turn an event into HepMC."""
    px, py, pz, e, m, pid, status, parents, position = zip(*made.rows, strict=True)
    x, y, z, t = zip(*position, strict=True)
    event = pyhepmc.GenEvent(pyhepmc.Units.GEV, pyhepmc.Units.MM)
    event.from_hepevt(number, px, py, pz, e, m, pid, status, parents, vx=x, vy=y, vz=z, vt=t)
    event.weights = [made.weight, made.normalisation, made.trials]
    event.attributes["event_scale"] = made.scale
    return event


def event_seed(seed: int, event: int) -> int:
    """Give the seed of an event, in 1..2^30: a keyed permutation (Feistel), so that no two events share one."""
    mask = (1 << _HALF_BITS) - 1
    left, right = event >> _HALF_BITS, event & mask
    for turn in range(6):
        digest = hashlib.sha256(f"{seed} {turn} {right}".encode()).digest()
        left, right = right, left ^ (int.from_bytes(digest[:4], "little") & mask)
    return (left << _HALF_BITS | right) + 1


def integrate(card: Path, integration: Path) -> None:
    """Keep what Sherpa integrates, whole or not at all; what another call kept meanwhile is the same."""
    integration.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=integration.parent, prefix=f".{integration.name}-") as folder:
        with chdir(folder):
            in_copy(lambda: bool(start(card)), str(card))
        kept = Path(folder) / "kept"
        shutil.copytree(Path(folder) / "Process", kept / "Process")
        shutil.copy(Path(folder) / "Results.zip", kept)
        shutil.copy(card, kept / "card.yaml")
        if not integration.exists():
            kept.rename(integration)


@contextmanager
def working_folder(card: Path, integration: Path | None) -> Iterator[None]:
    """Work in a folder of our own with the integration: Sherpa writes where it stands, and calls may run together."""
    with tempfile.TemporaryDirectory(prefix="sherpa-") as folder:
        kept = integration or Path(folder) / "kept"
        if not kept.exists():
            integrate(card, kept)
        if (kept / "card.yaml").read_bytes() != card.read_bytes():
            sys.exit(f"{kept}: was made with another card than {card}; remove it, or name another folder")
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        with chdir(folder):
            yield


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a name to write under until all is there."""
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def hepmc_file(path: Path, compressed: bool, run: pyhepmc.GenRunInfo) -> Iterator[pyhepmc.io.WriterAscii]:
    """Write a file; the same events give the same bytes, compressed or not."""
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", GZIP_LEVEL, raw, mtime=0) if compressed else raw as file,
        pyhepmc.io.pyiostream(file) as stream,
        pyhepmc.io.WriterAscii(stream, run) as writer,
    ):
        writer.precision = DIGITS
        yield writer


def generate(card: Path, events: range, seed: int, path: Path, compressed: bool) -> None:
    """Write events to a file."""
    run = pyhepmc.GenRunInfo()
    run.weight_names = WEIGHTS
    run.tools = [pyhepmc.GenRunInfo.ToolInfo("Sherpa", "3.0.3", f"{card.name}, seed {seed}")]
    sherpa, section = start(card), CrossSection()
    with hepmc_file(path, compressed, run) as file:
        for number in events:
            made = in_copy(partial(make, sherpa, event_seed(seed, number)), f"event {number}")
            event = hepmc(number, made)
            event.run_info = run
            event.cross_section = section.add(made)
            file.write_event(event)


def event_range(text: str) -> range:
    """Read FIRST:STOP."""
    first, _, stop = text.partition(":")
    if not (first.isdecimal() and stop.isdecimal() and int(first) <= int(stop) <= EVENTS_MAX):
        raise argparse.ArgumentTypeError(f"{text!r}: give FIRST:STOP, whole numbers from 0 to {EVENTS_MAX}")
    return range(int(first), int(stop))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Generate events with Sherpa 3 and write them as HepMC3 ASCII.")
    parser.add_argument("--card", type=Path, required=True, help="Sherpa's settings (YAML)")
    parser.add_argument("--events", type=event_range, required=True, metavar="FIRST:STOP", help="event numbers")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True, help=".hepmc3 or .hepmc3.gz")
    parser.add_argument("--integration", type=Path, metavar="DIR", help="where to keep what Sherpa integrates first")
    return parser.parse_args()


def main() -> None:
    """Run the command line."""
    given = arguments()
    card, output = given.card.resolve(), given.output.resolve()
    integration = given.integration and given.integration.resolve()
    if not card.is_file():
        sys.exit(f"{given.card}: no such card; qcd.yaml and hbb.yaml lie beside this program")
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # unwind, as Ctrl-C does
    with working_folder(card, integration), whole_file(output) as part:
        in_copy(partial(generate, card, given.events, given.seed, part, output.suffix == ".gz"), str(card))


if __name__ == "__main__":
    main()
