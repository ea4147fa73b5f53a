"""Reading what the detector and the truth of a jet need out of Pythia's batches of event records."""

from collections.abc import Sequence
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from resim.jets.states import HEAVY_COLUMNS, PARTICLE_COLUMNS, Hadrons, HardEvents
from resim.ragged import Ragged, row_of, select_elements

_LIGHT = 400  # no heavy hadron has a smaller PDG id, and most particles do
_SYSTEM_ROWS = 3  # Pythia's record opens with the system and the two beams; the hard process follows
_GLUON, _OUTGOING = 21, 23  # PDG id; Pythia's status code
_SHOWER = (41, 59)  # Pythia's status codes of what the showers make


def read_hadrons(batches: Sequence[ak.Array], hard: HardEvents, pythia: Any) -> tuple[NDArray[np.int64], Hadrons]:
    """Pick the stable particles and the heavy hadrons out of batches of Pythia.

    Returns
    -------
    rows
        Which of the events Pythia could make, (n,).
    Hadrons
        Those events.
    """
    gone = [ak.to_numpy(ak.is_none(batch)) for batch in batches]
    made = np.flatnonzero(~np.concatenate(gone)) if gone else np.empty(0, dtype=np.int64)
    # a batch without events has no columns either
    full = [batch for batch, missing in zip(batches, gone, strict=True) if not missing.all()]
    records = [batch.layout.content["prt"] for batch in full]
    read = [_read(record, pythia) for record in records]
    particles = Ragged.join([Ragged.empty(0, PARTICLE_COLUMNS), *(p for p, _ in read)])
    heavy = Ragged.join([Ragged.empty(0, HEAVY_COLUMNS), *(h for _, h in read)])
    kept = hard.take(made)
    return made, Hadrons(kept.event, kept, particles, heavy, _splittings(records, kept.partons))


def _read(record: Any, pythia: Any) -> tuple[Ragged, Ragged]:
    """Give stable particles and heavy hadrons of one batch."""
    offsets, columns = _flat(record)
    final = columns["status"] > 0
    chosen = np.flatnonzero(final)  # taking by index is several times faster than by mask
    particles = {name: columns[name][chosen] for name in ("id", "px", "py", "pz", "e", "m")}
    particles |= _vertices(record.content["vProd"], chosen)
    particles["charge"] = charges_of(particles["id"], pythia)
    return Ragged(select_elements(offsets, final), particles), heavy_hadrons(offsets, columns)


def _flat(records: Any) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]]]:
    """Give offsets and flat columns of Pythia's event records without a copy.

    Works on awkward's layout (a list of records): the public operations copy all columns first.
    """
    content = records.content
    columns = {n: content[n].data for n in ("id", "status", "mother1", "mother2", "daughter1", "daughter2", "m")}
    columns |= {n: content["p"][n].data for n in ("px", "py", "pz", "e")}
    return np.asarray(records.offsets.data, dtype=np.int64), columns


def _vertices(vertex: Any, chosen: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Give production vertices of chosen particles; those without one come from the origin."""
    rows = vertex.index.data[chosen]
    displaced = np.flatnonzero(rows >= 0)
    columns = {}
    for name, axis in zip("xyzt", ("px", "py", "pz", "e"), strict=True):
        columns[name] = np.zeros(len(rows))
        columns[name][displaced] = vertex.content[axis].data[rows[displaced]]
    return columns


def charges_of(ids: NDArray[np.int32], pythia: Any) -> NDArray[np.int8]:
    """Look up charges in units of e."""
    known, where = np.unique(ids, return_inverse=True)
    return np.array([round(pythia.particleData.charge(int(i))) for i in known], dtype=np.int8)[where]


def _flavour(ids: NDArray[np.int32]) -> NDArray[np.int8]:
    """Tell open b (5) and c (4) hadrons by the PDG numbering scheme: the heaviest quark leads the quark digits."""
    size = np.abs(ids)
    # Excited states differ in the digits above the quarks; nuclei (10 digits) and partons (under 3) are neither.
    quarks = size % 10_000
    leading = np.where(quarks >= 1000, quarks // 1000, quarks // 100 % 10)
    hadron = (size > 100) & (size < 10_000_000) & (quarks // 10 % 10 > 0)
    hadron &= (quarks >= 1000) | (quarks // 100 != quarks // 10 % 10)  # charmonium and bottomonium do not decay weakly
    return np.where(hadron & np.isin(leading, (4, 5)), leading, 0).astype(np.int8)


def heavy_hadrons(offsets: NDArray[np.int64], columns: dict[str, NDArray[Any]]) -> Ragged:
    """Select the last b (c) hadron of each decay chain: those with no b (c) hadron among their daughters."""
    candidates = np.flatnonzero(np.abs(columns["id"]) > _LIGHT)
    found = _flavour(columns["id"][candidates])
    flavour = np.zeros(len(columns["id"]), dtype=np.int8)
    flavour[candidates] = found
    is_heavy = candidates[found > 0]
    mother = columns["mother1"][is_heavy] + offsets[np.searchsorted(offsets, is_heavy, side="right") - 1]
    passed_on = mother[flavour[mother] == flavour[is_heavy]]
    last = flavour > 0
    last[passed_on] = False
    chosen = {n: columns[n][last] for n in HEAVY_COLUMNS if n != "flavour"}
    return Ragged(select_elements(offsets, last), {**chosen, "flavour": flavour[last]})


def _splittings(records: Sequence[Any], partons: Ragged) -> NDArray[np.int8]:
    """Give `Hadrons.splitting` for the hard processes `partons`, whose events lie in the records of some batches."""
    stops = np.cumsum([len(record) for record in records], dtype=np.int64)
    starts = stops - [len(record) for record in records]
    found = [
        _first_branchings(*_flat(record), partons.take(np.arange(start, stop)))
        for record, start, stop in zip(records, starts, stops, strict=True)
    ]
    return np.concatenate([np.empty(0, dtype=np.int8), *found])


def _first_branchings(offsets: NDArray[np.int64], record: dict[str, NDArray[Any]], partons: Ragged) -> NDArray[np.int8]:
    """Follow each outgoing hard gluon down the record to its first branching in the shower.

    A parton that only takes recoil is copied: it has one daughter. In Pythia's simple shower the branching parton has
    two. In Vincia an emission has two mothers, the ends of the antenna: it counts for the one with which it has the
    smaller invariant mass, as in the collinear limit, and the other is followed further.
    """
    splitting = np.zeros(int(partons.offsets[-1]), dtype=np.int8)
    gluon = np.flatnonzero((partons["id"] == _GLUON) & (partons["status"] == _OUTGOING))
    event = row_of(partons.offsets)[gluon]
    start = offsets[event]
    at = start + _SYSTEM_ROWS + gluon - partons.offsets[event]
    while len(gluon):
        branching, copy = _branch(record, at, start)
        splitting[gluon] = branching
        on = (branching == 0) & (copy >= 0)
        gluon, start, at = gluon[on], start[on], copy[on]
    return splitting


def _branch(
    record: dict[str, NDArray[Any]], at: NDArray[np.int64], start: NDArray[np.int64]
) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Tell what gluons in rows `at` branch into (0: they do not, here) and which row continues them (-1: none).

    `start` are the rows where their events begin.
    """
    first, second = (start + record[name][at] for name in ("daughter1", "daughter2"))
    second = np.where(second == start, first, second)
    ids = np.abs(record["id"][first]), np.abs(record["id"][second])
    status = np.abs(record["status"][first])
    # hadrons have no place here: strings are made of the partons that are left
    pair = (first != second) & (status >= _SHOWER[0]) & (status <= _SHOWER[1]) & (ids[0] <= _GLUON)
    # of two daughters the emission of an antenna is the one with two mothers
    emitted = np.where(record["mother2"][second] > 0, second, first)
    other = np.where(emitted == first, second, first)
    own = pair & (ids[0] == ids[1]) & _is_nearest(record, emitted, at, start)
    copy = np.where(first == second, first, np.where(pair, other, start))
    copy = np.where((copy > start) & (record["id"][copy] == _GLUON), copy, -1)
    return np.where(own, ids[0], 0).astype(np.int8), copy


def _is_nearest(
    record: dict[str, NDArray[Any]], emitted: NDArray[np.int64], at: NDArray[np.int64], start: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Tell whether rows `at` are the mothers of smaller invariant mass with `emitted`; an only mother is."""
    mothers = [start + record[name][emitted] for name in ("mother1", "mother2")]
    other = np.where(mothers[0] == at, mothers[1], mothers[0])
    return (other == start) | (_invariant(record, emitted, at) <= _invariant(record, emitted, other))


def _invariant(record: dict[str, NDArray[Any]], a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the products of four-momenta of rows."""
    return record["e"][a] * record["e"][b] - sum(record[n][a] * record[n][b] for n in ("px", "py", "pz"))
