"""Les Houches event files (hep-ph/0609017, version 3: arXiv:1405.1067), of MadGraph, POWHEG and the like, and back.

GeV. What Pythia's replay needs, and every further weight and scale of the event, is kept.
"""

import gzip
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pylhe

from resim.errors import UserError
from resim.interop.files import State, file_state
from resim.jets.states import HardEvents
from resim.ragged import Ragged, offsets_of, row_of

_INTEGERS = ("id", "status", "mother1", "mother2", "color1", "color2")
_NUMBERS = ("px", "py", "pz", "e", "m", "lifetime", "spin")
_OURS = {"color1": "col", "color2": "acol", "lifetime": "tau"}
_STATUS = {-1: -21, 2: -22, 1: 23}  # Les Houches to Pythia: incoming, resonance, outgoing
_INCOMING, _N_INCOMING = -1, 2
_LARGEST = np.iinfo(np.int32).max
_ROUNDING = 1e-6  # by which a parton may have more energy than its beam: files have few digits
_GZIP = b"\x1f\x8b"
_PIECE = 1 << 20
_PROTON = 2212
_UNIT_WEIGHTS = 3  # strategy: events as they come, weights as they stand
# seventeen digits bring every number back to the bit
_FORMAT = replace(
    pylhe.RWGT_FORMAT,
    eventinfo="{nparticles:d} {pid:d} {weight:.17g} {scale:.17g} {aqed:.17g} {aqcd:.17g}",
    particle="{id:d} {status:d} {mother1:d} {mother2:d} {color1:d} {color2:d} "
    "{px:.17g} {py:.17g} {pz:.17g} {e:.17g} {m:.17g} {lifetime:.17g} {spin:.17g}",
)


@lru_cache(maxsize=16)
def _require_undamaged(path: Path, _state: State) -> None:
    """Read a compressed file to its end, where the checksum lies: before it, damage gives other numbers."""
    try:
        with path.open("rb") as raw:
            if raw.read(len(_GZIP)) != _GZIP:
                return
        with gzip.open(path) as file:
            while file.read(_PIECE):
                pass
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: is cut or damaged ({error}); write or copy the file again") from error


class LesHouchesFile:
    """Events of a file (`.lhe`, `.lhe.gz`) by number, from 0; reading goes on from where it stands, or starts again."""

    def __init__(self, path: Path, energy: float) -> None:
        self.path, self._energy = path, energy
        self._next = 0
        self._events: Iterator[pylhe.LHEEvent] | None = None

    def read(self, first: int, stop: int) -> HardEvents:
        """Read the events [first, stop).

        Raises
        ------
        UserError
            If the file is none, is damaged or ends too early, or has other beams; names the event.
        """
        if self._events is None or first < self._next:
            self._events, self._next = self._open(), 0
        try:
            events = self._advance(self._events, first - self._next, stop - first)
        except Exception as error:
            self._events = None
            raise self._damaged(error) from error
        if len(events) < stop - first:
            remedy = "lower `events` of the sample, or give a longer file"
            raise UserError(f"{self.path}: has {self._next} events, and {stop} are asked for; {remedy}")
        return self._columns(events, first)

    def _advance(self, events: Iterator[pylhe.LHEEvent], skipped: int, wanted: int) -> list[pylhe.LHEEvent]:
        found = []
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # how the library tells that the XML breaks off
            for i, event in enumerate(islice(events, skipped + wanted)):
                self._next += 1
                if i >= skipped:
                    found.append(event)
        return found

    def _open(self) -> Iterator[pylhe.LHEEvent]:
        if not self.path.is_file():
            raise UserError(f"{self.path}: no such file; give a Les Houches file (.lhe or .lhe.gz)")
        _require_undamaged(self.path, file_state(self.path))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", RuntimeWarning)
                file = pylhe.LHEFile.fromfile(self.path)
        except Exception as error:
            raise self._damaged(error) from error
        beams = file.init.initInfo
        found = (beams.beamA, beams.beamB, beams.energyA, beams.energyB)
        wanted = (_PROTON, _PROTON, self._energy / 2, self._energy / 2)
        if found != wanted:
            raise UserError(f"{self.path}: has beams {found} (PDG ids, GeV), and the sample {wanted}; set Beams:eCM")
        return iter(file.events)

    def _damaged(self, error: Exception) -> UserError:
        """Say in one line where reading ended; the library raises what its XML, gzip and number readers do."""
        words = " ".join(str(error).split()) or type(error).__name__
        return UserError(f"{self.path}, event {self._next}: cannot be read ({words}); write or copy the file again")

    def _columns(self, events: Sequence[pylhe.LHEEvent], first: int) -> HardEvents:
        particles = [particle for event in events for particle in event.particles]
        columns: dict[str, Any] = {
            n: np.array([getattr(p, n) for p in particles], float) for n in (*_INTEGERS, *_NUMBERS)
        }
        head = [
            (e.eventinfo.pid, e.eventinfo.weight, _shower_scale(e), e.eventinfo.aqcd, e.eventinfo.aqed) for e in events
        ]
        heads = np.array(head, float).T
        offsets = offsets_of(np.array([len(event.particles) for event in events], dtype=np.int64))
        self._check(events, heads, columns, offsets, first)
        for name in _INTEGERS:
            columns[name] = columns[name].astype(np.int32)
        columns["status"] = np.select([columns["status"] == s for s in _STATUS], list(_STATUS.values())).astype(
            np.int32
        )
        for name in ("mother1", "mother2"):
            columns[name] = columns[name] - np.int32(1)
        ids = np.arange(first, first + len(events), dtype=np.int64)
        partons = Ragged(offsets, {_OURS.get(n, n): column for n, column in columns.items()})
        further = _further(events, self.path, first)
        process, weight, scale, alpha_qcd, alpha_qed = heads
        return HardEvents(ids, process.astype(np.int32), weight, scale, alpha_qcd, alpha_qed, partons, further)

    def _check(
        self, events: Sequence[pylhe.LHEEvent], heads: Any, columns: dict[str, Any], offsets: Any, first: int
    ) -> None:
        """Refuse what cannot be an event, some of which Pythia does not come back from: names it."""
        announced, n = np.array([event.eventinfo.nparticles for event in events], float), np.diff(offsets)
        if (announced != n).any():
            i = int(np.argmax(announced != n))
            found = f"announces {announced[i]:g} particles and has {n[i]}"
            raise UserError(f"{self.path}, event {first + i}: {found}; write or copy the file again")
        _require_none(self.path, first, self._rules(heads, columns, offsets))

    def _rules(self, heads: Any, columns: dict[str, Any], offsets: Any) -> dict[str, Any]:
        """Say what an event must not have, and which events have it."""
        owner, n = row_of(offsets), np.diff(offsets)

        def some(rows: Any) -> Any:
            return np.bincount(owner[rows], minlength=len(n)) > 0

        integers, mothers = (np.array([columns[c] for c in names]) for names in (_INTEGERS, ("mother1", "mother2")))
        finite = np.isfinite([columns[c] for c in _NUMBERS]).all(0)
        known = np.isin(columns["status"], list(_STATUS))
        incoming, beam = columns["status"] == _INCOMING, self._energy / 2
        fitting = (columns["e"] > 0) & (columns["e"] <= beam * (1 + _ROUNDING))
        other_number = np.bincount(owner[incoming], minlength=len(n)) != _N_INCOMING
        too_large = (abs(heads[0]) > _LARGEST) | some((abs(integers) > _LARGEST).any(0))
        return {
            "a number that is not finite": ~np.isfinite(heads).all(0) | some(~finite),
            "an integer of more than 32 bits": too_large,
            f"a status that is none of {', '.join(map(str, _STATUS))}": some(~known),
            f"other than {_N_INCOMING} incoming partons (status {_INCOMING})": other_number,
            f"an incoming parton of an energy not above 0 or above the beam's {beam:g} GeV": some(incoming & ~fitting),
            "a mother that is none of its particles": some(((mothers < 0) | (mothers > n[owner])).any(0)),
        }


def _shower_scale(event: pylhe.LHEEvent) -> float:
    """Give the scale where the shower starts: `mups` of <scales> where it is told, else SCALUP."""
    return float(event.scales.get("mups", event.eventinfo.scale))


def _further(events: Sequence[pylhe.LHEEvent], path: Path, first: int) -> dict[str, Any]:
    """Give the further weights over the event's own, and the scales in GeV."""
    weight = np.array([event.eventinfo.weight for event in events])
    further = {}
    for (kind, name), column in _further_names(events, path, first).items():
        values = np.array([getattr(event, kind)[name] for event in events], float)
        if kind == "weights":
            lost = (weight == 0) & (values != 0) & np.isfinite(values)
            found = f"weight 0, over which its further weight {name!r}, which is not 0, would be kept"
            _require_none(path, first, {found: lost})
            with np.errstate(over="ignore"):  # is refused below
                values = values / np.where(weight == 0, 1.0, weight)
        _require_none(path, first, {f"a {column} that is not finite": ~np.isfinite(values)})
        further[column] = values
    return further


def _further_names(events: Sequence[pylhe.LHEEvent], path: Path, first: int) -> dict[tuple[str, str], str]:
    """Give the column of each further weight and scale, all of which every event must have."""
    known = [{("weights", n): None for n in e.weights} | {("scales", n): None for n in e.scales} for e in events]
    for i, names in enumerate(known):
        if odd := names.keys() ^ known[0].keys():
            remedy = "is not in all events; write the file with the same weights"
            raise UserError(f"{path}, event {first + i}: {_column(*min(odd))!r} {remedy}")
    columns: dict[tuple[str, str], str] = {}
    for kind, name in known[0] if known else ():
        twin = next((n for (_, n), column in columns.items() if column == _column(kind, name)), None)
        if twin is not None:
            found = f"{kind} {twin!r} and {name!r} are both kept as {_column(kind, name)!r}"
            raise UserError(f"{path}, event {first}: {found} (of signs only ._- are kept); rename one")
        columns[kind, name] = _column(kind, name)
    return columns


def _require_none(path: Path, first: int, rules: dict[str, Any]) -> None:
    """Refuse events: `rules` says what they must not have, and which ones have it."""
    for what, wrong in rules.items():
        if wrong.any():
            raise UserError(f"{path}, event {first + int(np.argmax(wrong))}: has {what}; leave the event out")


def _column(kind: str, name: str) -> str:
    return f"{kind.removesuffix('s')}_{_word(name)}"


def _word(name: str) -> str:
    """Make a name that can be a column's."""
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in str(name))


class _AllDigits(float):
    """A number that is written to the last digit, however few are asked for: of weights the library asks for five."""

    def __format__(self, form: str) -> str:
        return float.__repr__(self)


def write_lhe(hard: HardEvents, path: Path, energy: float) -> None:
    """Write hard processes as a Les Houches file, `.gz` by the name.

    Numbers come back to the bit; further weights, which are written times the event's own, to the last digit or two.

    Parameters
    ----------
    hard
        Events; their ids stand in a comment of each (`#event N`; `# event` Pythia takes for a line of its own).
    energy
        Of the collision, GeV.
    """
    beams = pylhe.LHEInitInfo(_PROTON, _PROTON, energy / 2, energy / 2, 0, 0, 0, 0, _UNIT_WEIGHTS, 1)
    init = pylhe.LHEInit(beams, [pylhe.LHEProcInfo(1.0, 0.0, 1.0, p) for p in np.unique(hard.process).tolist()], [])
    form = replace(_FORMAT, compress=path.suffix == ".gz")
    pylhe.LHEFile(init=init, events=_events(hard)).tofile(path, lheformat=form)


def _events(hard: HardEvents) -> Iterator[pylhe.LHEEvent]:
    back = {ours: theirs for theirs, ours in _STATUS.items()}
    partons = hard.partons
    theirs = {
        n: (partons[_OURS.get(n, n)] + 1 if n.startswith("mother") else partons[_OURS.get(n, n)]).tolist()
        for n in (*_INTEGERS, *_NUMBERS)
    }
    theirs["status"] = [back[s] for s in theirs["status"]]
    for i, event in enumerate(hard.event.tolist()):
        rows = range(partons.offsets[i], partons.offsets[i + 1])
        particles = [pylhe.LHEParticle(*(theirs[n][row] for n in (*_INTEGERS, *_NUMBERS))) for row in rows]
        info = pylhe.LHEEventInfo(
            len(particles), int(hard.process[i]), hard.weight[i], hard.scale[i], hard.alpha_qed[i], hard.alpha_qcd[i]
        )
        further = {name: float(values[i]) for name, values in hard.further.items()}
        came = {n.removeprefix("weight_"): v for n, v in further.items() if n.startswith("weight_")}
        weights: dict[str, float] = {n: _AllDigits(v * info.weight) for n, v in came.items()}
        scales = {n.removeprefix("scale_"): v for n, v in further.items() if n.startswith("scale_")}
        yield pylhe.LHEEvent(info, particles, weights, scales, optional=[f"#event {event}"])
