"""Energy deposits that edep-sim (Geant4) made: its ROOT files, and the HDF5 files that its dumpTree scripts write.

Both become `Primaries` and `Deposits` in cm, µs and MeV. Events are numbered as in the file. The primary is the first
trajectory without a parent; in files without trajectories (larnd-sim needs none) it is not known, and the
particle of the first segment stands for it: kinetic energy is then what was deposited, direction that of the segment.
What left the volume and what ionised nothing is not in such files: both are 0. Times are counted from the primary's,
or, where the file has none, from the start of the event's earliest segment.

Positions are cm in the HDF5 files (their vertices, which some write in mm, are not read). No ROOT file of edep-sim was
at hand to test with; the layout is that of its headers, and HDF5 is the better choice: it needs no Python objects.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import uproot
from numpy.typing import NDArray

from resim.errors import UserError
from resim.interop.files import file_digest
from resim.lartpc.states import F8, I8, Deposits, Primaries
from resim.lartpc.transport import particles
from resim.ragged import Ragged, offsets_of

_TREE = "EDepSimEvents"
_TABLES = ("segments", "tracks")
# What a field is called now, and in the files of 2023 and before.
_EVENT, _TRACK, _PDG = ("event_id", "eventID"), ("traj_id", "trackID"), ("pdg_id", "pdgId")
_PARENT, _MOMENTUM, _POSITION = ("parent_id", "parentID"), ("pxyz_start", "pxyz"), ("xyz_start", "xyz")
_TIME = ("t_start", "t")
_ENDS = ("x_start", "y_start", "z_start", "x_end", "y_end", "z_end")
_AXES = ("fX", "fY", "fZ")
_BRANCHES = {
    "EventId": "np",
    "Primaries.Position": "ak",
    "Trajectories.ParentId": "ak",
    "Trajectories.PDGCode": "ak",
    "Trajectories.InitialMomentum": "ak",
    "SegmentDetectors": "np",
}
"""What is read, and as what: NumPy's are Python objects, for uproot has no columns for a map of detectors."""
_LIMITS = {
    "position": (-1e4, 1e4, "cm"),
    "energy": (0.0, 1e6, "MeV"),
    "length": (0.0, 1e4, "cm"),
    "time after the primary": (-1e7, 1e7, "µs"),
}
"""Of a segment. Beyond, pixels and ticks have no number."""
_MOST = 1e9
"""Of a primary: MeV, cm."""
_MASSES = {
    particles.ELECTRON: particles.ELECTRON_MASS,
    particles.PHOTON: 0.0,
    particles.MUON: particles.MUON_MASS,
    particles.PI_PLUS: particles.PION_MASS,
    particles.PI_ZERO: particles.PI_ZERO_MASS,
    particles.PROTON: particles.PROTON_MASS,
    particles.NEUTRON: particles.NEUTRON_MASS,
}


@dataclass(frozen=True)
class _Segments:
    """Rows of all events, in the order of the file: event, track, pdg (n,); ends (n, 6) cm; energy, length, times.

    `time` is that of the middle, `start` that of the beginning (or middle, where files have no other), both of the
    file's clock.
    """

    event: I8
    track: I8
    pdg: I8
    ends: F8
    energy: F8
    length: F8
    time: F8
    start: F8


@dataclass(frozen=True)
class _Tracks:
    """Trajectories: event, parent, pdg (n,), momentum (n, 3) MeV, position (n, 3) cm; time (n,) µs, where known."""

    event: I8
    parent: I8
    pdg: I8
    momentum: F8
    position: F8
    time: F8 | None


def read_edep(path: Path, events: Sequence[int] | None = None) -> Deposits:
    """Read the energy deposits of a file of edep-sim.

    Parameters
    ----------
    path
        `.root`, as edep-sim writes it, or HDF5, as its dumpTree scripts do.
    events
        Ids of the events wanted; all if not given. They come in ascending order.

    Raises
    ------
    UserError
        If the file is neither, lacks a table or a field, has numbers that are none, or not the events asked for.
    """
    _check_there(path)
    segments, tracks = _read_root(path) if path.suffix == ".root" else _read_hdf5(path)
    there = event_ids(path)
    wanted = there if events is None else np.unique(np.asarray(events, dtype=np.int64))
    missing = np.setdiff1d(wanted, there)
    if len(missing):
        raise UserError(f"{path}: has no event {missing[0]}; it has {len(there)} events{_range(there)}")
    return _deposits(path, segments, tracks, wanted)


def event_ids(path: Path) -> I8:
    """Give the ids of the events of a file, ascending, without reading the rest."""
    _check_there(path)
    if path.suffix == ".root":
        return np.unique(np.asarray(_root_values(path, ("EventId",))["EventId"], dtype=np.int64))
    tables = _hdf5_tables(path, lambda name, table: _field(path, table, name, _EVENT, "iu"))
    return np.unique(np.concatenate(list(tables.values())))


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; give one that edep-sim or its dumpTree wrote")


class EdepFiles:
    """Events of some files, numbered through from 0: by file, and within it by their ids there."""

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.paths = [Path(path) for path in paths]

    @property
    def digest(self) -> str:
        """Digest the content of the files."""
        return hashlib.sha256("".join(file_digest(path) for path in self.paths).encode()).hexdigest()

    def read(self, first: int, stop: int) -> Deposits:
        """Read the events [first, stop).

        Raises
        ------
        UserError
            If a file is none of edep-sim's, or together they have fewer events.
        """
        pieces, start = [], 0
        for path in self.paths:
            number = start + np.arange(_count(path, file_digest(path)))
            start += len(number)
            rows = np.flatnonzero((number >= first) & (number < stop))
            if len(rows):
                pieces.append(_numbered(_whole(path, file_digest(path)).take(rows), number[rows]))
            if start >= stop:
                return Deposits.join(pieces)
        where, remedy = ", ".join(map(str, self.paths)), "lower `events` of the sample, or give more files"
        raise UserError(f"{where}: {start} events are there, and {stop} are asked for; {remedy}")


@lru_cache(maxsize=4096)
def _count(path: Path, _digest: str) -> int:
    return len(event_ids(path))


@lru_cache(maxsize=2)
def _whole(path: Path, _digest: str) -> Deposits:
    """Keep what was last read: blocks are smaller than files."""
    return read_edep(path)


def _numbered(deposits: Deposits, event: I8) -> Deposits:
    return replace(deposits, event=event, primaries=replace(deposits.primaries, event=event))


def _range(ids: I8) -> str:
    return f", {ids[0]} to {ids[-1]}" if len(ids) else ""


def _check(path: Path, segments: _Segments, rows: I8, time: F8) -> None:
    """Refuse what no simulation can mean; `time` (n,) of the rows is after the primary."""
    for values, (name, (low, high, unit)) in zip(
        (segments.ends[rows], segments.energy[rows], segments.length[rows], time), _LIMITS.items(), strict=True
    ):
        bad = np.argwhere(~((values >= low) & (values <= high)))
        if len(bad):
            found = f"{name} of segment {rows[bad[0, 0]]} is {values[tuple(bad[0])]:g}"
            raise UserError(f"{path}: {found}, not {low:g} to {high:g} {unit}; write the file again")


def _deposits(path: Path, segments: _Segments, tracks: _Tracks | None, events: I8) -> Deposits:
    """Sort segments by event, and put the primaries beside."""
    rows = np.flatnonzero(np.isin(segments.event, events))
    rows = rows[np.argsort(segments.event[rows], kind="stable")]
    place = np.searchsorted(events, segments.event[rows])
    offsets = offsets_of(np.bincount(place, minlength=len(events)))
    first = None if tracks is None else _first_primary(path, tracks, events)
    zero = _earliest(segments, rows, place, len(events)) if first is None or first.time is None else first.time
    time = segments.time[rows] - zero[place]
    _check(path, segments, rows, time)
    chord = np.linalg.norm(segments.ends[:, 3:] - segments.ends[:, :3], axis=1)
    columns: dict[str, NDArray[Any]] = {
        "pdg": segments.pdg[rows].astype(np.int32),
        "track": segments.track[rows].astype(np.int32),
        **{name: segments.ends[rows, i].astype(np.float32) for i, name in enumerate(_ENDS)},
        "length": np.maximum(segments.length, chord)[rows].astype(np.float32),
        "energy": segments.energy[rows].astype(np.float32),
        "time": time.astype(np.float32),
    }
    primaries = _guessed(segments, rows, offsets, events) if first is None else _primaries(path, first)
    none = np.zeros(len(events))
    return Deposits(events, primaries, Ragged(offsets, columns), none, none.copy())


def _earliest(segments: _Segments, rows: I8, place: I8, events: int) -> F8:
    """Give the start of the earliest segment of each event."""
    zero = np.full(events, np.inf)
    np.fmin.at(zero, place, segments.start[rows])
    return zero


def _first_primary(path: Path, tracks: _Tracks, events: I8) -> _Tracks:
    """Take the first trajectory of each event that has no parent, which files of all ages say by -1."""
    orphans = np.flatnonzero(tracks.parent < 0)
    ids, first = np.unique(tracks.event[orphans], return_index=True)
    missing = np.setdiff1d(events, ids)
    if len(missing):
        raise UserError(f"{path}: event {missing[0]} has no primary trajectory; simulate with primaries saved")
    rows = orphans[first[np.searchsorted(ids, events)]]
    taken = {f.name: getattr(tracks, f.name) for f in fields(tracks)}
    kept: dict[str, Any] = {name: None if values is None else values[rows] for name, values in taken.items()}
    found = _Tracks(**kept)
    told = {"momentum": found.momentum, "position": found.position, "time": found.time}
    for name, values in told.items():
        limit = np.inf if name == "time" else _MOST
        if values is not None and not (np.isfinite(values) & (np.abs(values) <= limit)).all():
            raise UserError(f"{path}: {name} of a primary is not a number, or beyond {limit:g}; write the file again")
    return found


def _primaries(path: Path, tracks: _Tracks) -> Primaries:
    """Make primaries of one trajectory an event."""
    unknown = [int(pdg) for pdg in np.unique(tracks.pdg) if abs(pdg) not in _MASSES]
    if unknown:
        raise UserError(
            f"{path}: primary of PDG id {unknown[0]}; e, gamma, mu, pi, p and n (and their anti-particles) do"
        )
    size = np.linalg.norm(tracks.momentum, axis=1)
    mass = np.array([_MASSES[abs(int(pdg))] for pdg in tracks.pdg])
    direction = np.where(size[:, None] > 0, tracks.momentum / np.maximum(size, 1e-30)[:, None], [0.0, 0.0, 1.0])
    return Primaries(tracks.event, tracks.pdg.astype(np.int32), np.hypot(size, mass) - mass, tracks.position, direction)


def _guessed(segments: _Segments, rows: I8, offsets: I8, events: I8) -> Primaries:
    """Let the first segment of an event stand for the primary."""
    first = rows[offsets[:-1]]
    ends = segments.ends[first]
    along = ends[:, 3:] - ends[:, :3]
    size = np.linalg.norm(along, axis=1)[:, None]
    direction = np.where(size > 0, along / np.maximum(size, 1e-30), [0.0, 0.0, 1.0])
    energy = np.add.reduceat(segments.energy[rows], offsets[:-1]) if len(events) else np.zeros(0)
    return Primaries(events, segments.pdg[first].astype(np.int32), energy, ends[:, :3], direction)


def _field(
    path: Path, table: Any, where: str, names: Sequence[str], kinds: str = "iuf", width: tuple[int, ...] = ()
) -> NDArray[Any]:
    """Give a field of a table, numbers of these kinds, under the first of its names that is there."""
    for name in names:
        if name in (table.dtype.names or ()):
            values = np.asarray(table[name])
            if values.dtype.kind not in kinds or values.shape != (*table.shape, *width):
                told = f"{where}.{name} has type {values.dtype} and shape {values.shape}"
                raise UserError(f"{path}: {told}, not numbers as edep-sim's dumpTree writes; write the file again")
            return values.astype(np.float64 if "f" in kinds else np.int64)
    raise UserError(f"{path}: {where} has no field {' or '.join(names)}; it must be what edep-sim's dumpTree writes")


def _read_hdf5(path: Path) -> tuple[_Segments, _Tracks | None]:
    tables = _hdf5_tables(path, lambda _, table: table[()])
    name = next(name for name in _TABLES if name in tables)
    return _hdf5_segments(path, tables[name], name), _hdf5_tracks(path, tables)


def _hdf5_tables(path: Path, take: Callable[[str, h5py.Dataset], Any]) -> dict[str, Any]:
    """Take something of each table of a file."""
    try:
        with h5py.File(path, "r") as file:
            names = next(([name] for name in _TABLES if name in file), [])
            there = ", ".join(file) or "nothing"
            names += [name for name in ("trajectories",) if name in file]
            for name in names:
                if not isinstance(file[name], h5py.Dataset) or file[name].ndim != 1:
                    raise UserError(f"{path}: {name} is no table, a row an entry; give a file of edep-sim's dumpTree")
            tables = {name: take(name, file[name]) for name in names}
    except (OSError, KeyError) as error:
        raise UserError(f"{path}: is neither HDF5 nor named .root; give a file of edep-sim or its dumpTree") from error
    if not set(_TABLES) & set(tables):
        raise UserError(f"{path}: has no data set segments (in old files: tracks), but {there}; give a dumpTree file")
    return tables


def _hdf5_segments(path: Path, table: Any, name: str) -> _Segments:
    """Take the fields of the segments: cm, µs, MeV already; dx is the chord."""

    def field(*names: str, kinds: str = "iuf") -> NDArray[Any]:
        return _field(path, table, name, names, kinds)

    return _Segments(
        field(*_EVENT, kinds="iu"),
        field(*_TRACK, kinds="iu"),
        field(*_PDG, kinds="iu"),
        np.stack([field(end) for end in _ENDS], axis=1),
        field("dE"),
        field("dx"),
        field("t0"),
        field("t0_start", "t0"),
    )


def _hdf5_tracks(path: Path, tables: Mapping[str, Any]) -> _Tracks | None:
    """Take the trajectories, if they are there."""
    if "trajectories" not in tables:
        return None
    table = tables["trajectories"]

    def field(names: Sequence[str], kinds: str = "iu", *width: int) -> NDArray[Any]:
        return _field(path, table, "trajectories", names, kinds, width)

    timed = any(name in (table.dtype.names or ()) for name in _TIME)
    return _Tracks(
        field(_EVENT),
        field(_PARENT),
        field(_PDG),
        field(_MOMENTUM, "iuf", 3),
        field(_POSITION, "iuf", 3),
        field(_TIME, "iuf") if timed else None,
    )


def _read_root(path: Path) -> tuple[_Segments, _Tracks]:
    """Read the tree of edep-sim (its io/TG4*.h): mm and ns there, the rest as here."""
    values = _root_values(path, tuple(_BRANCHES))
    events = np.asarray(values["EventId"], dtype=np.int64)
    try:
        segments = _root_segments(events, values["SegmentDetectors"], values["Trajectories.PDGCode"])
        return segments, _root_tracks(events, values)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        words = " ".join(str(error).split())[:200] or type(error).__name__
        told = f"{path}: tree {_TREE} is not laid out as edep-sim writes it ({words})"
        raise UserError(f"{told}; convert it with edep-sim's dumpTree") from error


def _root_values(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """Read some branches."""
    try:
        with uproot.open(path) as file:
            if _TREE not in file:
                raise UserError(f"{path}: has no tree {_TREE}; give a file that edep-sim wrote")
            branches = {key.split("/")[-1]: branch for key, branch in file[_TREE].iteritems()}
            missing = [name for name in names if name not in branches]
            if missing:
                raise UserError(f"{path}: tree {_TREE} has no branch {missing[0]}; give a file that edep-sim wrote")
            return {name: branches[name].array(library=_BRANCHES[name]) for name in names}
    except (OSError, LookupError, ValueError, uproot.DeserializationError) as error:
        raise UserError(
            f"{path}: cannot be read ({type(error).__name__}); convert it with edep-sim's dumpTree"
        ) from error


def _root_segments(events: I8, detectors: Any, pdg: ak.Array) -> _Segments:
    """Flatten the segments of all sensitive detectors; a segment's track is the first that contributed to it."""
    rows = []
    for event, maps, ids in zip(events, detectors, pdg, strict=True):
        for hit in (hit for hits in maps.values() for hit in hits):
            track = int(hit.member("Contrib")[0])
            start, stop = _four(hit.member("Start")), _four(hit.member("Stop"))
            length, energy = hit.member("TrackLength"), hit.member("EnergyDeposit")
            times = (start[3] + stop[3]) / 2, start[3]
            rows.append((event, track, ids[track], *start[:3], *stop[:3], energy, length, *times))
    table = np.array(rows, dtype=np.float64).reshape(-1, 13)
    numbers, tracks, kind = (table[:, i].astype(np.int64) for i in range(3))
    energy, length, time, begun = table[:, 9], table[:, 10] / 10, table[:, 11] / 1e3, table[:, 12] / 1e3
    return _Segments(numbers, tracks, kind, table[:, 3:9] / 10, energy, length, time, begun)


def _four(vector: Any) -> tuple[float, float, float, float]:
    """Take a TLorentzVector apart."""
    place = vector.member("fP")
    return place.member("fX"), place.member("fY"), place.member("fZ"), vector.member("fE")


def _root_tracks(events: I8, values: Mapping[str, Any]) -> _Tracks:
    """Flatten the trajectories; they start where the event's first vertex is, which is so for the primaries."""
    parent, momentum = values["Trajectories.ParentId"], values["Trajectories.InitialMomentum"]["fP"]
    first = ak.firsts(values["Primaries.Position"])
    vertex, time = first["fP"], ak.to_numpy(ak.fill_none(first["fE"], np.nan)) / 1e3
    counts = ak.to_numpy(ak.num(parent))
    position = np.stack([ak.to_numpy(ak.fill_none(vertex[axis], np.nan)) for axis in _AXES], axis=1) / 10
    return _Tracks(
        np.repeat(events, counts),
        ak.to_numpy(ak.flatten(parent)).astype(np.int64),
        ak.to_numpy(ak.flatten(values["Trajectories.PDGCode"])).astype(np.int64),
        np.stack([ak.to_numpy(ak.flatten(momentum[axis])) for axis in _AXES], axis=1),
        np.repeat(position, counts, axis=0),
        np.repeat(time, counts),
    )
