"""Les Houches event files (hep-ph/0609017, version 3: arXiv:1405.1067), of MadGraph, POWHEG and the like, and back.

GeV. What Pythia's replay needs, and every further weight and scale of the event, is kept.
"""

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pylhe

from resim.errors import UserError
from resim.jets.states import HardEvents, Ragged
from resim.ragged import offsets_of

_INTEGERS = ("id", "status", "mother1", "mother2", "color1", "color2")
_NUMBERS = ("px", "py", "pz", "e", "m", "lifetime", "spin")
_OURS = {"color1": "col", "color2": "acol", "lifetime": "tau"}
_STATUS = {-1: -21, 2: -22, 1: 23}  # Les Houches to Pythia: incoming, resonance, outgoing
_PROTON = 2212
_UNIT_WEIGHTS = 3  # strategy: events as they come, weights as they stand
# seventeen digits bring every number back to the bit
_FORMAT = replace(
    pylhe.RWGT_FORMAT,
    eventinfo="{nparticles:d} {pid:d} {weight:.17g} {scale:.17g} {aqed:.17g} {aqcd:.17g}",
    particle="{id:d} {status:d} {mother1:d} {mother2:d} {color1:d} {color2:d} "
    "{px:.17g} {py:.17g} {pz:.17g} {e:.17g} {m:.17g} {lifetime:.17g} {spin:.17g}",
)


def file_digest(path: Path) -> str:
    """Digest the content of a file; computed again only when its size or time has changed."""
    try:
        found = path.stat()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a Les Houches file") from error
    return _digest(path, (found.st_size, found.st_mtime_ns))


@lru_cache(maxsize=16)
def _digest(path: Path, _state: tuple[int, int]) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
            _OURS.get(n, n): np.array([getattr(p, n) for p in particles], np.int32) for n in _INTEGERS
        }
        columns |= {_OURS.get(n, n): np.array([getattr(p, n) for p in particles], np.float64) for n in _NUMBERS}
        offsets = offsets_of(np.array([len(event.particles) for event in events], dtype=np.int64))
        self._check(events, columns, offsets, first)
        columns["status"] = np.select([columns["status"] == s for s in _STATUS], list(_STATUS.values())).astype(
            np.int32
        )
        for name in ("mother1", "mother2"):
            columns[name] = columns[name] - np.int32(1)
        head = [
            (e.eventinfo.pid, e.eventinfo.weight, _shower_scale(e), e.eventinfo.aqcd, e.eventinfo.aqed) for e in events
        ]
        process, weight, scale, alpha_qcd, alpha_qed = (np.array(column) for column in zip(*head, strict=True))
        ids = np.arange(first, first + len(events), dtype=np.int64)
        partons = Ragged(offsets, columns)
        return HardEvents(
            ids,
            process.astype(np.int32),
            weight,
            scale,
            alpha_qcd,
            alpha_qed,
            partons,
            _further(events, self.path, first),
        )

    def _check(self, events: Sequence[pylhe.LHEEvent], columns: dict[str, Any], offsets: Any, first: int) -> None:
        """Refuse what cannot be an event: names it."""
        announced = np.array([event.eventinfo.nparticles for event in events])
        short = announced != np.diff(offsets)
        if short.any():
            i = int(np.argmax(short))
            found = f"announces {announced[i]} particles and has {np.diff(offsets)[i]}"
            raise UserError(f"{self.path}, event {first + i}: {found}; write or copy the file again")
        bad = ~np.isin(columns["status"], list(_STATUS)) | ~np.isfinite(
            [columns[n] for n in ("px", "py", "pz", "e", "m")]
        ).all(0)
        weights = np.array([event.eventinfo.weight for event in events])
        events_bad = np.union1d(
            np.searchsorted(offsets, np.flatnonzero(bad), side="right") - 1, np.flatnonzero(~np.isfinite(weights))
        )
        if len(events_bad):
            what = f"a status that is none of {', '.join(map(str, _STATUS))}, or a number that is not finite"
            raise UserError(f"{self.path}, event {first + int(events_bad[0])}: has {what}; leave the event out")


def _shower_scale(event: pylhe.LHEEvent) -> float:
    """Give the scale where the shower starts: `mups` of <scales> where it is told, else SCALUP."""
    return float(event.scales.get("mups", event.eventinfo.scale))


def _further(events: Sequence[pylhe.LHEEvent], path: Path, first: int) -> dict[str, Any]:
    """Give the further weights over the event's own (or as they stand, where it is 0), and the scales in GeV."""
    rows = [
        {
            **{f"weight_{_word(n)}": w / (e.eventinfo.weight or 1.0) for n, w in e.weights.items()},
            **{f"scale_{_word(n)}": float(s) for n, s in e.scales.items()},
        }
        for e in events
    ]
    for i, row in enumerate(rows):
        if row.keys() != rows[0].keys():
            odd = min(row.keys() ^ rows[0].keys())
            raise UserError(
                f"{path}, event {first + i}: {odd!r} is not in all events; write the file with the same weights"
            )
    return {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else ())}


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
