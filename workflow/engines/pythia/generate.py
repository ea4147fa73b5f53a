"""Shower and hadronize the events of a Les Houches file with Pythia; write them as HepMC3 ASCII (GeV, mm).

    python generate.py --input hard.lhe.gz --output events.hepmc3.gz --seed 1 --first 500 --setting Tune:pp=21

The i-th event of the input, from 0, gets the number first + i, or the one of a comment `#event N` within it. What
becomes of an event depends on (event, settings, seed, number) and on nothing else: Pythia is seeded anew for each.

Runs by itself, with pythia8mc (and awkward, which its batches need), pyhepmc, NumPy and the standard library.
"""

import argparse
import gzip
import hashlib
import re
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyhepmc
import pythia8mc as pythia8
from numpy.typing import NDArray

BATCH = 20  # events a call: one by one, a batch costs 4 to 7 ms an event
SEED_MAX = 900_000_000  # Pythia takes 1..900,000,000
INIT_SEED = 1
DIGITS = 9
GZIP_LEVEL = 4  # at 6 it takes as long as the event itself
OWN_SETTINGS = {
    "Beams:frameType": 5,
    "Random:setSeed": "on",
    "Random:seed": INIT_SEED,
    "Print:quiet": "on",
    "Print:errors": "on",
}
RESERVED = ("Beams:", "Random:", "Main:")

# Written so because Pythia reads it as a comment, and fails on an event with `# event`.
_NUMBER = re.compile(r"#event\s+(\d+)$")
_MUON, _TAU, _HADRONS = 13, 15, 100  # PDG ids; hadrons have larger ones
_BEAM = -12  # Pythia's status


def event_numbers(path: Path, first: int) -> list[int]:
    """Give the numbers of the events of a file, which must be whole."""
    numbers: list[int] = []
    inside = ended = False
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
            for line in lines:
                text = line.strip()
                if text.startswith("<event"):
                    inside = True
                    numbers.append(first + len(numbers))
                elif text.startswith("</event>"):
                    inside = False
                elif inside and (comment := _NUMBER.match(text)):
                    numbers[-1] = int(comment[1])
                ended = ended or text.startswith("</LesHouchesEvents>")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        sys.exit(f"{path}: cannot be read after {len(numbers)} events ({error}); copy or make it again")
    if inside or not ended:
        sys.exit(f"{path}: ends early, after {len(numbers) - inside} whole events; copy or make it again")
    if len(set(numbers)) != len(numbers):
        sys.exit(f"{path}: two events have the same number; give none or each its own `#event N`")
    return numbers


class Source(pythia8.LHAupLHEF):
    """Pythia's reader of Les Houches files, which seeds Pythia before each event."""

    def __init__(self, pythia: Any, path: Path, seeds: Sequence[int]) -> None:
        self._info = pythia.infoPython()  # the reader wants one that lives as long as it does
        super().__init__(self._info, str(path), None, False, True)
        self._pythia, self._seeds = pythia, seeds
        self.position = 0

    def setEvent(self, process: int = 0) -> bool:
        """Seed, and read the next event (Pythia's callback)."""
        if self.position == len(self._seeds):
            return False
        self._pythia.rndm.init(self._seeds[self.position])
        self.position += 1
        return bool(super().setEvent(process))


def event_seed(seed: int, event: int) -> int:
    """Give the seed of an event."""
    return int.from_bytes(hashlib.sha256(f"{seed} {event}".encode()).digest()[:8], "little") % SEED_MAX + 1


def start(path: Path, seeds: Sequence[int], settings: Sequence[str]) -> tuple[Any, Source]:
    """Start Pythia with the events of a file."""
    pythia = pythia8.Pythia("", False)
    for line in [*(f"{name} = {value}" for name, value in OWN_SETTINGS.items()), *settings]:
        if not pythia.readString(line, False):
            sys.exit(f"--setting {line!r}: Pythia refuses it; its manual lists the settings")
    source = Source(pythia, path, seeds)
    if not (pythia.setLHAupPtr(source) and pythia.init()):
        sys.exit(f"{path}: Pythia cannot start with it and [{'; '.join(settings)}]; it says above why")
    return pythia, source


@dataclass(frozen=True)
class Made:
    """An event as Pythia made it."""

    number: int
    particles: dict[str, NDArray[Any]]
    """Columns of its record, without the system in row 0."""
    weights: list[float]
    scales: dict[str, float]
    """What HepMC keeps of the hard process, by its names."""


def events(pythia: Any, source: Source, numbers: Sequence[int]) -> Iterator[Made]:
    """Yield the events, without those that Pythia gave up on."""
    for done in range(0, len(numbers), BATCH):
        chosen = np.array(numbers[done : done + BATCH])
        batch = pythia.nextBatch(len(chosen), "none")
        if source.position != done + len(chosen):
            sys.exit(f"Pythia read {source.position} events for {done + len(chosen)}: numbers would be mixed up")
        good = ~np.asarray(ak.is_none(batch))
        if good.any():
            yield from separate(chosen[good], batch[good])


def separate(numbers: NDArray[np.int64], batch: Any) -> Iterator[Made]:
    """Turn Pythia's awkward array of a batch into flat columns once, and cut these into events."""
    offsets = np.concatenate([[0], np.cumsum(np.asarray(ak.num(batch.prt)))])
    columns = flat_columns(ak.flatten(batch.prt))
    hard, weights = batch.info, batch.info.weights.tolist()
    scales = zip(np.sqrt(hard.Q2Fac).tolist(), hard.alphaS.tolist(), hard.alphaEM.tolist(), strict=True)
    for i, of_hard in enumerate(scales):
        particles = {name: column[offsets[i] + 1 : offsets[i + 1]] for name, column in columns.items()}
        named = dict(zip(("event_scale", "alphaQCD", "alphaQED"), of_hard, strict=True))
        yield Made(int(numbers[i]), particles, weights[i], named)


def flat_columns(particles: Any) -> dict[str, NDArray[Any]]:
    """Read the columns of particles; a vertex that was not set lies at the origin."""
    columns = {name: particles[name] for name in ("id", "status", "mother1", "mother2", "daughter1", "m")}
    columns |= {name: particles.p[name] for name in ("px", "py", "pz", "e")}
    of_vertex = zip("xyzt", ("px", "py", "pz", "e"), strict=True)  # Pythia's four-vectors call all components so
    columns |= {f"v{axis}": ak.fill_none(particles.vProd[name], 0.0) for axis, name in of_vertex}
    return {name: np.asarray(column) for name, column in columns.items()}


def hepmc(made: Made, run: pyhepmc.GenRunInfo) -> pyhepmc.GenEvent:
    """Turn an event into HepMC."""
    rows = made.particles
    mothers, second = parents(np.abs(rows["status"]), rows["mother1"], rows["mother2"])
    momentum, vertex = ({n: rows[n] for n in names} for names in (("px", "py", "pz"), ("vx", "vy", "vz", "vt")))
    codes = hepmc_status(rows["id"], rows["status"], rows["daughter1"] - 1)
    event = pyhepmc.GenEvent(pyhepmc.Units.GEV, pyhepmc.Units.MM)
    event.from_hepevt(
        made.number, **momentum, en=rows["e"], m=rows["m"], pid=rows["id"], status=codes, parents=mothers, **vertex
    )
    particles = event.particles
    for row in np.flatnonzero(second).tolist():
        mother = particles[int(second[row]) - 1]
        if mother.end_vertex is None:
            particles[row].production_vertex.add_particle_in(mother)
    put_mothers_first(event)
    event.run_info = run
    event.weights = made.weights
    for name, value in made.scales.items():
        event.attributes[name] = value
    return event


def put_mothers_first(event: pyhepmc.GenEvent) -> None:
    """Give particles and vertices numbers that rise from mothers to daughters, as HepMC's files need it.

    Pythia makes showers of incoming partons backwards: there, mothers stand behind their daughters.
    """
    data = pyhepmc.GenEventData()
    event.write_data(data)
    incoming = (
        data.links1 > 0
    )  # a particle into a vertex; else out of one. Particles are 1, 2, ..., vertices -1, -2, ...
    made_at, ends_at = np.zeros((2, len(data.particles)), dtype=np.int64)
    made_at[data.links2[~incoming] - 1] = -data.links1[~incoming]
    ends_at[data.links1[incoming] - 1] = -data.links2[incoming]
    order = np.argsort(generations(made_at, ends_at, len(data.vertices)), kind="stable")
    vertices, first = np.unique(made_at[order], return_index=True)
    vertex_order = vertices[np.argsort(first)]
    vertex_order = vertex_order[vertex_order > 0]
    number, vertex_number = inverse(order) + 1, inverse(vertex_order - 1) + 1
    for links, of_particles in ((data.links1, incoming), (data.links2, ~incoming)):
        links[of_particles] = number[links[of_particles] - 1]
        links[~of_particles] = -vertex_number[-links[~of_particles] - 1]
    data.particles[:] = data.particles[order]
    data.vertices[:] = data.vertices[vertex_order - 1]
    event.read_data(data)


def generations(made_at: NDArray[np.int64], ends_at: NDArray[np.int64], n_vertices: int) -> NDArray[np.int64]:
    """Count, for each particle, the vertices on the longest way to it; vertices from 1, 0 is none."""
    ending = np.flatnonzero(ends_at)
    ending = ending[np.argsort(ends_at[ending], kind="stable")]
    starts = np.searchsorted(ends_at[ending], np.arange(1, n_vertices + 1))
    length = np.zeros(n_vertices + 1, dtype=np.int64)
    while True:
        longer = np.maximum.reduceat(length[made_at[ending]], starts) + 1
        if (longer == length[1:]).all():
            return length[made_at]
        length[1:] = longer


def inverse(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the new place of each old one."""
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return places


def parents(
    status: NDArray[np.int32], mother1: NDArray[np.int32], mother2: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Read Pythia's two mothers (its manual, "Particle Properties").

    Returns
    -------
    (n, 2) first and last row of neighbouring mothers, and (n,) a mother elsewhere; rows from 1, 0 is none.
    """
    fragmented = ((status > 80) & (status < 90)) | ((status > 100) & (status < 107))
    one = (mother2 == 0) | (mother2 == mother1)
    low, high = np.where(one, mother1, np.minimum(mother1, mother2)), np.maximum(mother1, mother2)
    elsewhere = ~one & ~fragmented & (high > low + 1)
    last = np.where(one | elsewhere, low, high)
    return np.stack([low, last], axis=1).astype(np.int32), np.where(elsewhere, high, 0)


def hepmc_status(ids: NDArray[np.int32], status: NDArray[np.int32], daughter: NDArray[np.int32]) -> NDArray[np.int32]:
    """Give HepMC's codes as Pythia does: 1 final, 2 decayed, 4 beam, else Pythia's without its sign."""
    kind = np.abs(ids)
    made = np.where(daughter >= 0, np.abs(status)[daughter], 0)
    decays = (made > 90) & (made < 95) & (ids[daughter] != ids)
    decayed = ((kind > _HADRONS) | (kind == _MUON) | (kind == _TAU)) & decays
    return np.select([status > 0, status == _BEAM, decayed], [1, 4, 2], np.abs(status)).astype(np.int32)


@contextmanager
def hepmc_file(path: Path, run: pyhepmc.GenRunInfo) -> Iterator[pyhepmc.io.WriterAscii]:
    """Write under a temporary name until all is there; the same events give the same bytes, compressed or not."""
    part = path.with_name(f".{path.name}.part")
    try:
        with (
            part.open("wb") as raw,
            gzip.GzipFile("", "wb", GZIP_LEVEL, raw, mtime=0) if path.suffix == ".gz" else raw as file,
            pyhepmc.io.pyiostream(file) as stream,
            pyhepmc.io.WriterAscii(stream, run) as writer,
        ):
            writer.precision = DIGITS
            yield writer
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Shower and hadronize Les Houches events with Pythia.")
    parser.add_argument("--input", type=Path, required=True, help=".lhe or .lhe.gz")
    parser.add_argument("--output", type=Path, required=True, help=".hepmc3 or .hepmc3.gz")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--first", type=int, default=0, help="number of the first event (default 0)")
    parser.add_argument(
        "--setting", action="append", default=[], metavar="NAME=VALUE", help="of Pythia; may be given again and again"
    )
    return parser.parse_args()


def main() -> None:
    """Run the command line."""
    given = arguments()
    if reserved := [setting for setting in given.setting if setting.startswith(RESERVED)]:
        sys.exit(f"--setting {reserved[0]!r}: beams, events and seeds come from --input and --seed; leave it out")
    numbers = event_numbers(given.input, given.first)
    pythia, source = start(given.input, [event_seed(given.seed, number) for number in numbers], given.setting)
    run = pyhepmc.GenRunInfo()
    run.weight_names = list(pythia.infoPython().weightNameVector())
    run.tools = [pyhepmc.GenRunInfo.ToolInfo("Pythia", str(pythia.parm("Pythia:versionNumber")), f"seed {given.seed}")]
    section = pyhepmc.GenCrossSection()
    section.set_cross_section(source.xSecSum(), source.xErrSum(), -1, -1)  # what the input says, pb
    missing = set(numbers)
    with hepmc_file(given.output, run) as file:
        for made in events(pythia, source, numbers):
            event = hepmc(made, run)
            event.cross_section = section
            file.write_event(event)
            missing.remove(made.number)
    if missing:
        print(f"{given.input}: Pythia gave up on {len(missing)} of {len(numbers)}: {sorted(missing)}", file=sys.stderr)


if __name__ == "__main__":
    main()
