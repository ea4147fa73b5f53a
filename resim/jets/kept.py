"""Event records between shower and hadronization, laid out for the disk and back, to the bit.

What Pythia holds is read through its batch interface (an instance without emissions is handed the kept records):
asking particle by particle takes as long as making the event. Going back, particles are appended one by one, so that
only those are kept that hadronization looks at: the hard process, and what is left of the shower. Where there are
hadrons already (onia), their decays look at the shower's history, and all of it is kept.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pythia8mc as pythia8
from numpy.typing import NDArray

from resim.chain import Settings
from resim.jets.engine import NO_SHOWER, Cuts
from resim.jets.pythia import initialise, make
from resim.jets.replay import REPLAY_SETTINGS, Replay, next_batches
from resim.jets.states import HardEvents, Origin, Records
from resim.ragged import Ragged, offsets_of, row_of, select_elements
from resim.store import Checkpoint, Column

_INTEGERS = ("id", "status", "mother1", "mother2", "daughter1", "daughter2", "col", "acol")
_NUMBERS = ("px", "py", "pz", "e", "m", "scale", "pol")  # in the order of Pythia's Event::append, after the integers
_SYSTEM_ROWS = 3  # Pythia's record opens with the system and the two beams; the hard process follows
_VERTEX = ("x", "y", "z", "t")
_JUNCTION = 9999
"""Status of rows that are colour junctions: id is their kind, col, acol and mother1 the colours of the legs, mother2,
daughter1 and daughter2 their colours at the ends, px, py and pz their status codes."""
_MEANING = "as in Pythia's event record"
_COLUMNS = (
    Column("event", "", "event id"),
    Column("attempt", "", "how often the event had come this far before"),
    Column("last_colour", "", "highest colour tag in use"),
    *(Column(name, "", _MEANING) for name in _INTEGERS),
    *(Column(name, "GeV" if name != "pol" else "", _MEANING) for name in _NUMBERS),
    Column("tau", "mm/c", _MEANING),
    Column("splitting", "", "what an outgoing gluon of the hard process first splits into (PDG id); 0 for other rows"),
    Column("has_vertex", "", "1 where the production vertex is set"),
    *(Column(name, "mm/c" if name == "t" else "mm", "production vertex") for name in _VERTEX),
)


def to_checkpoint(state: Records, energy: float) -> Checkpoint:
    """Lay records out for the store."""
    pieces = [_table(state.take(state.origin == i), energy) for i in range(len(state.origins))]
    order = np.argsort(
        np.concatenate([state.event[state.origin == i] for i in range(len(state.origins))]), kind="stable"
    )
    table = _needed(Ragged.join(pieces).take(order), state)
    events = {
        "event": state.event,
        "attempt": np.array(state.attempts, dtype=np.int64),
        "last_colour": np.array([record.lastColTag() for record in state.records], dtype=np.int64),
    }
    return Checkpoint(events, table.offsets, table.columns, _COLUMNS)


def _needed(table: Ragged, state: Records) -> Ragged:
    """Leave out the history of the shower, and say instead what it made of the hard gluons."""
    row = row_of(table.offsets)
    place = np.arange(len(row)) - table.offsets[row]
    n_hard = np.diff(state.hard.partons.offsets)
    from_hard = (place >= _SYSTEM_ROWS) & (place < _SYSTEM_ROWS + n_hard[row])
    left = table["status"] > 0
    size = np.abs(table["id"])
    hadron = left & (table["status"] != _JUNCTION) & (size > 100) & (size // 10 % 10 > 0)  # diquarks have a 0 there
    keep = left | (place < _SYSTEM_ROWS + n_hard[row]) | np.isin(row, row[hadron])
    columns = dict(table.columns)
    columns["splitting"] = np.zeros(len(row), dtype=np.int8)
    columns["splitting"][from_hard] = state.splitting
    whole = np.isin(row, row[hadron]) | (table["status"] == _JUNCTION)
    for name in ("mother1", "mother2", "daughter1", "daughter2"):  # they would point to other rows
        columns[name] = np.where(whole, columns[name], np.int32(0))
    return Ragged(select_elements(table.offsets, keep), {name: values[keep] for name, values in columns.items()})


def _table(state: Records, energy: float) -> Ragged:
    pythia, source, cuts = _reader(energy)
    source.load(state.hard, None)
    cuts.load(1, state, [], [])
    batches = next_batches(pythia, source)
    return Ragged.join([_nothing(), *(_columns(batch) for batch in batches)]).beside(_junctions(state.records))


@lru_cache(maxsize=1)
def _reader(energy: float) -> tuple[Any, Replay, Cuts]:
    settings = {**NO_SHOWER, "HadronLevel:all": False}
    pythia = make([*settings.items(), *REPLAY_SETTINGS.items()])
    source = Replay(pythia.rndm, energy)
    cuts = Cuts(pythia, source)
    if not (pythia.setLHAupPtr(source) and pythia.setUserHooksPtr(cuts)):
        raise RuntimeError("Pythia did not take the replay or the hook")
    return initialise(pythia, settings.items()), source, cuts


def _columns(batch: Any) -> Ragged:
    """Read every row of a batch's records."""
    records = batch.layout.content["prt"]
    particles, vertex = records.content, records.content["vProd"]
    columns: dict[str, NDArray[Any]] = {name: np.asarray(particles[name].data, dtype=np.int32) for name in _INTEGERS}
    columns |= {name: np.asarray(particles["p"][name].data) for name in ("px", "py", "pz", "e")}
    columns |= {name: np.asarray(particles[name].data) for name in ("m", "scale", "pol", "tau")}
    row = np.asarray(vertex.index.data)
    columns["has_vertex"] = (row >= 0).astype(np.int8)
    for name, axis in zip(_VERTEX, ("px", "py", "pz", "e"), strict=True):
        columns[name] = np.zeros(len(row))
        columns[name][row >= 0] = np.asarray(vertex.content[axis].data)[row[row >= 0]]
    return Ragged(np.asarray(records.offsets.data, dtype=np.int64), columns)


def _nothing() -> Ragged:
    columns: dict[str, NDArray[Any]] = dict.fromkeys(_INTEGERS, np.empty(0, dtype=np.int32))
    columns |= dict.fromkeys((*_NUMBERS, "tau", *_VERTEX), np.empty(0)) | {"has_vertex": np.empty(0, dtype=np.int8)}
    return Ragged(np.zeros(1, dtype=np.int64), columns)


def _junctions(records: Sequence[Any]) -> Ragged:
    """Make rows of the junctions of each event; there are few."""
    rows = [_junction(record, i) for record in records for i in range(record.sizeJunction())]
    columns = {name: np.zeros(len(rows), dtype=values.dtype) for name, values in _nothing().columns.items()}
    names = ("id", "col", "acol", "mother1", "mother2", "daughter1", "daughter2", "px", "py", "pz")
    for name, values in zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True):
        columns[name][:] = values
    columns["status"][:] = _JUNCTION
    return Ragged(offsets_of(np.array([record.sizeJunction() for record in records], dtype=np.int64)), columns)


def _junction(record: Any, i: int) -> tuple[int, ...]:
    legs = range(3)
    return (
        record.kindJunction(i),
        *(record.colJunction(i, leg) for leg in legs),
        *(record.endColJunction(i, leg) for leg in legs),
        *(record.statusJunction(i, leg) for leg in legs),
    )


def from_checkpoint(checkpoint: Checkpoint, hard: HardEvents, settings: Settings) -> Records:
    """Give records back.

    Parameters
    ----------
    hard
        The hard processes of the same events.
    settings
        Pythia's settings up to there.
    """
    columns = checkpoint.particles
    rows = list(zip(*(columns[name].tolist() for name in (*_INTEGERS, *_NUMBERS)), strict=True))
    extra = (columns["tau"] != 0) | (columns["has_vertex"] != 0)
    last = checkpoint.events["last_colour"].tolist()
    records = []
    for i, (start, stop) in enumerate(
        zip(checkpoint.offsets[:-1].tolist(), checkpoint.offsets[1:].tolist(), strict=True)
    ):
        event = pythia8.Event()
        for row in rows[start:stop]:
            if row[1] == _JUNCTION:
                _append_junction(event, row)
            else:
                event.append(*row)
        for place in np.flatnonzero(extra[start:stop]).tolist():
            _set_vertex(event[place], columns, start + place)
        event.initColTag(last[i])
        records.append(event)
    origin = np.zeros(len(records), dtype=np.int64)
    attempts = checkpoint.events["attempt"].tolist()
    event, splitting = checkpoint.events["event"], _splitting(checkpoint, hard)
    return Records(event, hard, records, attempts, (Origin(settings, None),), origin, splitting)


def _splitting(checkpoint: Checkpoint, hard: HardEvents) -> NDArray[np.int8]:
    row = row_of(checkpoint.offsets)
    place = np.arange(len(row)) - checkpoint.offsets[row]
    from_hard = (place >= _SYSTEM_ROWS) & (place < _SYSTEM_ROWS + np.diff(hard.partons.offsets)[row])
    splitting: NDArray[np.int8] = checkpoint.particles["splitting"][from_hard]
    return splitting


def _append_junction(event: Any, row: tuple[Any, ...]) -> None:
    kind, _, first, second, third, *rest = (row[0], row[1], row[6], row[7], row[2], row[3], row[4], row[5])
    number = event.sizeJunction()
    event.appendJunction(kind, first, second, third)
    for leg, (end, status) in enumerate(zip(rest, (row[8], row[9], row[10]), strict=True)):
        event.endColJunction(number, leg, end)
        event.statusJunction(number, leg, int(status))


def _set_vertex(particle: Any, columns: dict[str, NDArray[Any]], row: int) -> None:
    particle.tau(float(columns["tau"][row]))
    if columns["has_vertex"][row]:
        particle.vProd(*(float(columns[name][row]) for name in _VERTEX))
