"""Events of any generator that writes HepMC3 (ASCII), as the jets lane has them: what Pythia gives directly.

pyhepmc reads an event into flat arrays (`GenEventData`): particles, vertices, and links between them. Our work is
done on the arrays of a whole batch.
"""

import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import IO, Any, NoReturn, cast

import numpy as np
import pyhepmc
from backports import zstd
from numpy.typing import NDArray

from resim.errors import UserError
from resim.jets.pythia import make
from resim.jets.records import charges_of, heavy_hadrons
from resim.jets.states import I4, I8, Hadrons, HardEvents
from resim.ragged import Ragged, offsets_of, row_of, select_elements

# What the library finds wrong goes into our own one line.
pyhepmc.Setup.print_errors = False
pyhepmc.Setup.debug_level = 0

_Columns = dict[str, NDArray[Any]]
_FINAL = 1
_HARD = {21: -21, 22: -22, 23: 23}  # HepMC has Pythia's codes without their sign
_MOMENTUM = ("px", "py", "pz", "e")
_START, _EVENT, _END = b"HepMC::Asciiv3-START_EVENT_LISTING", b"E", b"HepMC::Asciiv3-END_EVENT_LISTING"
_UNITS = b"U"
_LARGEST = np.iinfo(np.int32).max
_HEAD, _BUFFER = 256, 1 << 18
_LINE = b"\n"
_TOKEN = rb"(?:[-+]?(?:\d++\.?\d*+|\.\d++)(?:[eE][-+]?\d++)?+|@|\[[\d,-]*+\])"
_UNREADABLE = re.compile(rb"^[PVW] (?!(?:%b(?: ++%b)*+)?+ *+\r?$)[^\r\n]{0,60}" % (_TOKEN, _TOKEN), re.M)
_BROKEN = (OSError, EOFError, RuntimeError, zlib.error, zstd.ZstdError)  # what readers raise of damaged files
_MARKS = re.compile(rb"^(?:(E) |(U) (?:GEV|MEV) (?:MM|CM)[ \r]*$|(HepMC::Asciiv3-(?:START|END)_EVENT_LISTING))", re.M)


def read_hepmc(path: Path, batch: int = 1000) -> Iterator[Hadrons]:
    """Read a file (plain, .gz or .zst) in batches of events, ids kept; GeV, mm.

    The hard process is told from Pythia's status codes 21 to 23, which other generators do not use: their events have
    no hard partons. What an outgoing gluon splits into is not known.

    Raises
    ------
    UserError
        If the file is not HepMC3, ends early, does not say its units, holds a stable particle that is not in Pythia's
        table, or numbers its events other than rising from 0 or more.
    """
    last = -1
    with _opened(path) as file:
        reader = _Reader(path, file)
        while events := list(reader.take(batch)):
            hadrons = _hadrons(_Batch.of(events, path), str(path))
            last = _require_rising(hadrons.event, last, path)
            yield hadrons


def _opened(path: Path) -> IO[bytes]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a HepMC3 ASCII file, plain, .gz or .zst")
    if path.suffix == ".zst":
        return cast(IO[bytes], zstd.ZstdFile(path))
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _require_rising(event: I8, last: int, path: Path) -> int:
    """Check the ids of a batch, and give the last."""
    ids = np.concatenate([[last], event])
    late = np.flatnonzero(np.diff(ids) <= 0)
    if len(late):
        before = f"after event {ids[late[0]]}" if ids[late[0]] >= 0 else "first"
        found = f"event {ids[late[0] + 1]} comes {before}"
        raise UserError(f"{path}: {found}; ids must rise, from 0 on, for they key the random numbers: renumber them")
    return int(ids[-1])


class _Tally(io.BufferedIOBase):
    """Hands a file's bytes on to the C++ reader, and counts the lines that tell whether it is whole.

    The reader takes GeV and mm where a file names no units, a file that was cut between events for a whole one, and
    what is no number for 0 or, of a weight, for 1.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._rest, self._event = file, b"", b""
        self.marks: Counter[bytes] = Counter()
        self.unreadable: tuple[str, str] | None = None
        """The first event with a line of particles, vertices or weights that has what is no number; the line."""

    def readinto1(self, buffer: Any) -> int:
        """Fill the reader's buffer (its callback)."""
        piece = self._file.read(len(buffer))
        buffer[: len(piece)] = piece
        lines, end, self._rest = (self._rest + piece).rpartition(_LINE)
        self._find_unreadable(_LINE + lines + end)
        self.marks.update(word for found in _MARKS.findall(lines + end) for word in found if word)
        return len(piece)

    def _find_unreadable(self, lines: bytes) -> None:
        start = 0 if self._event else lines.find(_LINE + _EVENT + b" ")  # before are names of weights
        found = None if start < 0 or self.unreadable else _UNREADABLE.search(lines, start + 1)
        last = lines.rfind(_LINE + _EVENT + b" ", 0, found.start() if found else len(lines))
        if last >= 0:
            self._event = lines[last:].split(maxsplit=2)[1]
        if found:
            self.unreadable = (self._event.decode(errors="replace"), found[0].decode(errors="replace"))


class _Reader:
    """A file of events, read one by one."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path, self._n_read = path, 0
        self._tally = _Tally(file)
        try:
            head = file.read(_HEAD)
        except _BROKEN as error:
            self._refuse(f"cannot be read ({error}); copy it again")
        if _START not in head:
            self._refuse("is not HepMC3 ASCII; write it with HepMC3's WriterAscii, or convert it")
        file.seek(0)
        self._reader = pyhepmc.io.ReaderAscii(pyhepmc.io.pyiostream(self._tally, _BUFFER))

    def take(self, n: int) -> Iterator[Any]:
        """Yield up to n events, in GeV and mm."""
        for _ in range(n):
            event = self._next()
            if event is None:
                return self._finish()
            self._n_read += 1
            event.set_units(pyhepmc.Units.GEV, pyhepmc.Units.MM)
            yield event
        return None

    def _next(self) -> Any:
        try:
            event = self._reader.read()
        except _BROKEN as error:
            self._refuse_unreadable()
            words = " ".join(str(error).split())
            self._refuse(f"ends early or is damaged, in event {self._n_read} of the file ({words}); copy it again")
        self._refuse_unreadable()
        if event is not None and not self._tally.marks[_UNITS]:
            self._refuse("names no units; each event needs a line such as 'U GEV MM'")
        return event

    def _refuse_unreadable(self) -> None:
        if self._tally.unreadable:
            event, line = self._tally.unreadable
            what = f"holds a number that is not finite, or none ({line!r})"
            self._refuse(f"event {event} {what}; mend what writes it, or leave the event out")

    def _finish(self) -> None:
        """Compare what was read with what stands in the file, to its end, where checksums lie."""
        try:
            while self._tally.readinto1(bytearray(_BUFFER)):
                pass
        except _BROKEN as error:
            self._refuse(f"is cut or damaged in or behind event {self._n_read} of the file ({error}); copy it again")
        marks = self._tally.marks
        n = marks[_EVENT]
        if self._n_read < n and marks[_START] <= 1:
            self._refuse(f"is cut or damaged in event {self._n_read} of the file (counted from 0); copy it again")
        if marks[_START] != 1 or marks[_END] != 1:
            found = f"has {marks[_START]} starts and {marks[_END]} ends of its listing of {n} events"
            self._refuse(f"{found}, expected one of each: it was cut, or files were put behind each other")
        if marks[_UNITS] != n:
            self._refuse(f"names units in {marks[_UNITS]} of {n} events; each needs a line such as 'U GEV MM'")

    def _refuse(self, what: str) -> NoReturn:
        raise UserError(f"{self._path}: {what}")


@dataclass(frozen=True)
class _Batch:
    """Particles and vertices of some events, end to end."""

    event: I8
    weight: NDArray[np.float64]
    attributes: list[dict[str, str]]
    offsets: I8
    """Particles of event i are `offsets[i]:offsets[i + 1]`."""
    particles: NDArray[Any]
    vertices: NDArray[Any]
    made_at: I8
    """The vertex of each particle, a place in `vertices`; -1 without one."""
    mother: I8
    """The first particle into that vertex, a place in `particles`; -1 without one."""

    @classmethod
    def of(cls, events: list[Any], path: Path) -> "_Batch":
        data = [_data(event) for event in events]
        offsets = offsets_of(np.array([len(d.particles) for d in data], dtype=np.int64))
        first_vertex = offsets_of(np.array([len(d.vertices) for d in data], dtype=np.int64))
        n_links = np.array([len(d.links1) for d in data])
        source, target = (np.concatenate([getattr(d, name) for d in data]) for name in ("links1", "links2"))
        # links name particles by 1, 2, ... and vertices by -1, -2, ... within their event
        owner = np.repeat(np.arange(len(data)), n_links)
        n_named = [np.diff(first)[owner] for first in (offsets, first_vertex)]
        for link in (source, target):
            odd = (link == 0) | (link > n_named[0]) | (-link > n_named[1])
            if odd.any():
                raise _damaged(path, events[owner[np.argmax(odd)]], f"a link to {link[odd][0]}, which is not there")
        shift = [np.repeat(first[:-1], n_links) - 1 for first in (offsets, first_vertex)]
        places = [np.where(link > 0, link + shift[0], shift[1] - link) for link in (source, target)]
        made = source < 0
        made_at, into = np.full(offsets[-1], -1), np.full(first_vertex[-1], -1)
        made_at[places[1][made]] = places[0][made]
        into[places[1][~made][::-1]] = places[0][~made][::-1]  # of several, the first is written last
        return cls(
            event=np.array([event.event_number for event in events], dtype=np.int64),
            weight=np.array([event.weights[0] if len(event.weights) else 1.0 for event in events]),
            attributes=[_attributes(event, d, path) for event, d in zip(events, data, strict=True)],
            offsets=offsets,
            particles=np.concatenate([d.particles for d in data]),
            vertices=np.concatenate([_by_id(event, d.vertices) for event, d in zip(events, data, strict=True)]),
            made_at=made_at,
            mother=np.where(made_at >= 0, into[made_at], -1),
        )


def _data(event: Any) -> Any:
    data = pyhepmc.GenEventData()
    event.write_data(data)
    return data


def _attributes(event: Any, data: Any, path: Path) -> dict[str, str]:
    try:
        return dict(zip(data.attribute_name, data.attribute_string, strict=True))
    except UnicodeDecodeError as error:
        raise _damaged(path, event, "an attribute that is no text") from error


def _damaged(path: Path, event: Any, what: str) -> UserError:
    return UserError(f"{path}: event {event.event_number} has {what}; copy or write the file again")


def _by_id(event: Any, vertices: NDArray[Any]) -> NDArray[Any]:
    """Put vertices into the order of their ids, by which links name them: a file that was read keeps its own order."""
    ordered = np.empty_like(vertices)
    ordered[-event.numpy.vertices.id - 1] = vertices
    return ordered


def _hadrons(batch: _Batch, where: str) -> Hadrons:
    """Give stable particles, heavy hadrons and the hard process of a batch."""
    rows = batch.particles
    final = rows["status"] == _FINAL
    columns = {name: rows[name][final] for name in _MOMENTUM}
    columns |= {"id": rows["pid"][final], "m": rows["mass"][final]} | _vertices(batch, np.flatnonzero(final))
    columns["charge"] = _known_charges(columns["id"], where)
    particles = Ragged(select_elements(batch.offsets, final), columns)
    heavy = heavy_hadrons(batch.offsets, _record(batch))
    hard = _hard(batch, where)
    splitting = np.zeros(int(hard.partons.offsets[-1]), dtype=np.int8)
    return Hadrons(batch.event, hard, particles, heavy, splitting)


def _record(batch: _Batch) -> dict[str, NDArray[Any]]:
    """Give what `heavy_hadrons` reads, with a row behind the last event as mother of particles without one."""
    n, first = len(batch.particles), batch.offsets[row_of(batch.offsets)]
    columns = {name: batch.particles[name] for name in _MOMENTUM} | {"id": batch.particles["pid"]}
    columns["mother1"] = np.where(batch.mother >= 0, batch.mother, n) - first
    return {name: np.append(column, np.zeros(1, column.dtype)) for name, column in columns.items()}


def _known_charges(ids: I4, where: str) -> NDArray[np.int8]:
    """Look up charges in Pythia's table of particles."""
    table = _particle_table()
    for particle in np.unique(ids).tolist():
        if not table.particleData.isParticle(particle):
            raise UserError(f"{where}: stable particle with PDG id {particle}, which Pythia's table lacks; decay it")
    return charges_of(ids, table)


@cache
def _particle_table() -> Any:
    return make([])


def _vertices(batch: _Batch, chosen: I8) -> dict[str, NDArray[np.float64]]:
    """Give production vertices of chosen particles.

    A vertex without a position of its own lies where the vertex before it does (HepMC3's rule), the first ones at the
    origin.
    """
    vertices = batch.vertices
    placed = np.any([vertices[axis] != 0 for axis in "xyzt"], axis=0)
    before = np.full(len(vertices), -1)
    made = np.flatnonzero(batch.mother >= 0)
    before[batch.made_at[made]] = batch.made_at[batch.mother[made]]
    where = _ascend(batch.made_at[chosen], before, placed)
    return {axis: np.where(where >= 0, vertices[axis][where], 0.0) for axis in "xyzt"}


def _ascend(start: I8, above: I8, wanted: NDArray[np.bool_]) -> I8:
    """Go up from places until they are wanted; -1 where there is nothing above, or only a circle."""
    here = start.copy()
    for _ in range(len(above)):
        going = np.flatnonzero((here >= 0) & ~wanted[here])
        if not len(going):
            return here
        here[going] = above[here[going]]
    return np.where((here >= 0) & wanted[here], here, -1)


def _hard(batch: _Batch, where: str) -> HardEvents:
    """Give the particles of the hard process, with its own mother for each."""
    rows = batch.particles
    hard = np.isin(rows["status"], tuple(_HARD))
    chosen = np.flatnonzero(hard)
    offsets = select_elements(batch.offsets, hard)
    place = np.cumsum(hard) - 1 - offsets[:-1][row_of(batch.offsets)]
    above = _ascend(batch.mother[chosen], batch.mother, hard)
    mother = np.where(above >= 0, place[above], -1).astype(np.int32)
    status = rows["status"][chosen]
    columns = {name: rows[name][chosen] for name in _MOMENTUM} | {"id": rows["pid"][chosen], "m": rows["mass"][chosen]}
    columns |= {"status": np.select([status == code for code in _HARD], list(_HARD.values())).astype(np.int32)}
    columns |= {"mother1": mother, "mother2": np.full_like(mother, -1)}
    columns |= {name: np.zeros_like(mother) for name in ("col", "acol")}
    columns |= {name: np.zeros(len(chosen)) for name in ("tau", "spin")}
    return HardEvents(
        event=batch.event,
        process=_attribute(batch, "signal_process_id", 0, where).astype(np.int32),
        weight=batch.weight,
        scale=_attribute(batch, "event_scale", np.nan, where),
        alpha_qcd=_attribute(batch, "alphaQCD", np.nan, where),
        alpha_qed=_attribute(batch, "alphaQED", np.nan, where),
        partons=Ragged(offsets, columns),
    )


def _attribute(batch: _Batch, name: str, missing: float, where: str) -> NDArray[np.float64]:
    """Give a number that stands with each event, or `missing`."""
    words = [attributes.get(name) for attributes in batch.attributes]
    values = np.array([missing if word is None else _number(word) for word in words])
    bad = ~(np.abs(values) <= _LARGEST) & np.array([word is not None for word in words], dtype=bool)
    if bad.any():
        i = int(np.argmax(bad))
        found = f"event {batch.event[i]} has the {name} {words[i]!r}, not a number of up to {_LARGEST}"
        raise UserError(f"{where}: {found}; mend what writes it, or leave the event out")
    return values


def _number(word: str) -> float:
    """Read a number; what is none becomes NaN."""
    try:
        return float(word)
    except ValueError:
        return float("nan")


# --- writing ------------------------------------------------------------------------------------------------------

_DIGITS = 16  # behind the point: every number comes back to the bit
_GZIP_LEVEL = 4
_CHECKED = {int(zstd.CompressionParameter.checksum_flag): 1}  # else damage would give other numbers
_BEAM, _PROTON, _PROTON_MASS = 4, 2212, 0.93827
_DECAYED, _PSEUDOPARTICLE = 2, 90  # PDG ids 81 to 100 are a generator's own
_SCALES = {"event_scale": "scale", "alphaQCD": "alpha_qcd", "alphaQED": "alpha_qed"}


def write_hepmc(batches: Hadrons | Iterable[Hadrons], path: Path, energy: float) -> int:
    """Write events as HepMC3 ASCII (plain, .gz or .zst by the name), event numbers kept; GeV, mm.

    What `read_hepmc` reads of it is the same to the bit, but for the order of the particles and what HepMC has no room
    for (colours, second mothers). Written are beams, hard process, heavy hadrons (decayed) and stable particles, of
    pile-up, too. A pseudoparticle (PDG id 90, decayed) leads to each place where stable particles come from, for the
    decays between are not kept. The event's own weight comes first, then those of a Les Houches file and of variations
    of the shower, by their names; `read_hepmc` reads the first.

    Parameters
    ----------
    energy
        Of the collision, GeV.

    Returns
    -------
    int
        Number of events written.
    """
    pieces = iter([batches] if isinstance(batches, Hadrons) else batches)
    first, n_events = next(pieces, None), 0
    run = pyhepmc.GenRunInfo()
    run.weight_names = ["Weight", *(_further_weights(first.hard) if first else {})]
    with _created(path) as file, pyhepmc.io.pyiostream(file) as words, pyhepmc.io.WriterAscii(words, run) as writer:
        writer.precision = _DIGITS
        for hadrons in chain([first] if first else [], pieces):
            for event in _events(hadrons, energy):
                event.run_info = run
                writer.write_event(event)
            n_events += len(hadrons.event)
    return n_events


@contextmanager
def _created(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to be written; the same events give the same bytes, compressed or not."""
    with path.open("wb") as raw:
        if path.suffix == ".gz":
            with gzip.GzipFile("", "wb", _GZIP_LEVEL, raw, mtime=0) as file:
                yield cast(IO[bytes], file)
        elif path.suffix == ".zst":
            with zstd.ZstdFile(raw, "wb", options=_CHECKED) as file:
                yield cast(IO[bytes], file)
        else:
            yield raw


def _further_weights(hard: HardEvents) -> _Columns:
    """Give weights beside the event's own: those that came with the hard process, and the shower's variations."""
    came = {name.removeprefix("weight_"): v for name, v in hard.further.items() if name.startswith("weight_")}
    return {name: values * hard.weight for name, values in (came | hard.variations).items()}


def _events(hadrons: Hadrons, energy: float) -> Iterator[Any]:
    """Turn events into HepMC's, one by one: their rows are put together from flat columns."""
    hard, seen = hadrons.hard, hadrons.seen
    weights = np.stack([hard.weight, *_further_weights(hard).values()], axis=1).tolist()
    tables = (hard.partons, hadrons.heavy, seen)
    for i, number in enumerate(hadrons.event.tolist()):
        partons, heavy, particles = (
            {name: column[rows.offsets[i] : rows.offsets[i + 1]] for name, column in rows.columns.items()}
            for rows in tables
        )
        event = pyhepmc.GenEvent(pyhepmc.Units.GEV, pyhepmc.Units.MM)
        event.from_hepevt(number, **_rows(partons, heavy, particles, energy))
        event.weights = weights[i]
        event.attributes["signal_process_id"] = int(hard.process[i])
        for theirs, ours in _SCALES.items():
            if np.isfinite(value := getattr(hard, ours)[i]):
                event.attributes[theirs] = repr(float(value))  # of a number the library writes eight digits
        yield event


def _rows(partons: _Columns, heavy: _Columns, particles: _Columns, energy: float) -> dict[str, NDArray[Any]]:
    """Lay an event out in HEPEVT's manner: two beams, hard process, heavy hadrons, pseudoparticles, particles.

    A row's mothers are a stretch of rows, counted from 1; all that has none of its own comes from the beams.
    """
    places = np.stack([particles[axis] for axis in "xyzt"], axis=1)
    vertices, vertex = np.unique(places, axis=0, return_inverse=True)
    away = vertices.any(axis=1)
    counts = (2, len(partons["id"]), len(heavy["id"]), int(away.sum()), len(vertex))
    first = offsets_of(np.array(counts)) + 1
    number = np.where(away, np.cumsum(away) - 1 + first[3], 0)[vertex]
    parents = np.tile(np.array([[1, 2]], dtype=np.int32), (sum(counts), 1))
    parents[:2] = 0
    mother = partons["mother1"] + first[1]
    own = np.flatnonzero(partons["mother1"] >= 0)
    parents[first[1] - 1 + own] = np.stack([mother, mother], axis=1)[own]
    displaced = np.flatnonzero(number)
    parents[first[4] - 1 + displaced] = number[displaced, None]
    columns = {n: np.zeros(sum(counts)) for n in ("px", "py", "pz", "en", "m", "vx", "vy", "vz", "vt")}
    pid, status = np.zeros((2, sum(counts)), dtype=np.int32)
    tables = {1: partons, 2: heavy, 4: particles}
    for k, table in tables.items():
        rows = slice(first[k] - 1, first[k + 1] - 1)
        pid[rows] = table["id"]
        for theirs, ours in zip(("px", "py", "pz", "en"), _MOMENTUM, strict=True):
            columns[theirs][rows] = table[ours]
        if "m" in table:
            columns["m"][rows] = table["m"]
    heavy_rows = slice(first[2] - 1, first[3] - 1)
    columns["m"][heavy_rows] = _masses(heavy)
    for theirs, axis in zip(("vx", "vy", "vz", "vt"), range(4), strict=True):
        columns[theirs][first[4] - 1 :] = places[:, axis]
    between = slice(first[3] - 1, first[4] - 1)
    for theirs, ours in zip(("px", "py", "pz", "en"), _MOMENTUM, strict=True):
        columns[theirs][between] = np.bincount(vertex, weights=particles[ours], minlength=len(vertices))[away]
    pz = np.sqrt((energy / 2) ** 2 - _PROTON_MASS**2)
    columns["pz"][:2], columns["en"][:2], columns["m"][:2] = (pz, -pz), energy / 2, _PROTON_MASS
    pid[:2], pid[between] = _PROTON, _PSEUDOPARTICLE
    status[:2], status[heavy_rows], status[between], status[first[4] - 1 :] = _BEAM, _DECAYED, _DECAYED, _FINAL
    status[first[1] - 1 : first[2] - 1] = np.abs(partons["status"])
    return {**columns, "pid": pid, "status": status, "parents": parents}


def _masses(rows: _Columns) -> NDArray[np.float64]:
    squared = rows["e"] ** 2 - sum(rows[name] ** 2 for name in ("px", "py", "pz"))
    return np.sqrt(np.maximum(squared, 0.0))
