"""The states between the stages of the jets lane. GeV, mm; a block of events in flat columns."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resim.ragged import Ragged, select_rows

F8 = NDArray[np.float64]
I4 = NDArray[np.int32]
I8 = NDArray[np.int64]
NEUTRINOS = (12, 14, 16)  # PDG ids


PARTON_INTEGERS = ("id", "status", "mother1", "mother2", "col", "acol")
PARTON_NUMBERS = ("px", "py", "pz", "e", "m", "tau", "spin")
_EVENT_COLUMNS = ("event", "process", "weight", "scale", "alpha_qcd", "alpha_qed")


@dataclass(frozen=True)
class HardEvents:
    """The hard processes of a block: what the shower starts from.

    `partons` columns: id, status (Pythia's codes: -21 incoming, -22 resonance, 23 outgoing), mother1, mother2 (rows
    of the same event's table, -1 none), col, acol (int32); px, py, pz, e, m, tau (mm/c), spin (float64).
    """

    event: I8
    process: I4
    """Pythia's process code."""
    weight: F8
    """Relative weight of the event: undoes the bias in pTHat."""
    scale: F8
    """Factorisation scale in GeV; the shower starts here."""
    alpha_qcd: F8
    alpha_qed: F8
    partons: Ragged
    further: dict[str, F8] = field(default_factory=dict)
    """What else came with the hard process (of a Les Houches file): `weight_NAME`, over `weight`; `scale_NAME`, GeV."""
    variations: dict[str, F8] = field(default_factory=dict)
    """Weights that turn the shower that followed into one with other parameters, by name; nothing before the shower."""

    def take(self, rows: NDArray[Any]) -> "HardEvents":
        """Select events by index or mask."""
        flat = {name: getattr(self, name)[rows] for name in _EVENT_COLUMNS}
        further = {name: values[rows] for name, values in self.further.items()}
        variations = {name: values[rows] for name, values in self.variations.items()}
        return HardEvents(**flat, partons=self.partons.take(rows), further=further, variations=variations)

    @classmethod
    def unknown(cls, event: I8) -> "HardEvents":
        """Give events of whose hard process nothing is known: weight 1, no partons."""
        n = len(event)
        none: dict[str, type] = dict.fromkeys(PARTON_INTEGERS, np.int32) | dict.fromkeys(PARTON_NUMBERS, np.float64)
        unknown, partons = np.full(n, np.nan), Ragged.empty(n, none)
        return cls(event, np.zeros(n, dtype=np.int32), np.ones(n), unknown, unknown, unknown, partons)

    @classmethod
    def join(cls, pieces: "Sequence[HardEvents]") -> "HardEvents":
        """Put pieces behind each other."""
        flat = {name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in _EVENT_COLUMNS}
        further = {n: np.concatenate([piece.further[n] for piece in pieces]) for n in pieces[0].further}
        variations = {n: np.concatenate([piece.variations[n] for piece in pieces]) for n in pieces[0].variations}
        return cls(**flat, partons=Ragged.join([p.partons for p in pieces]), further=further, variations=variations)


@dataclass(frozen=True)
class Origin:
    """Where event records come from."""

    settings: tuple[tuple[str, Any], ...]
    """Pythia's settings up to there; some act further on, too (a tune)."""
    engine: Any
    """The instance that made the records: they point into its particle data, so it must outlive them."""


@dataclass(frozen=True)
class Records:
    """Events between two of Pythia's stages, as it keeps them: after the shower, or with hadrons not yet decayed."""

    event: I8
    hard: HardEvents
    records: list[Any]
    """Copies of `pythia8.Event`, one an event."""
    attempts: list[int]
    """How many times the event had come this far before."""
    origins: tuple[Origin, ...]
    origin: I8
    """Which of the origins each event has, (n,)."""
    splitting: NDArray[np.int8]
    """As in `Hadrons`."""

    def take(self, rows: NDArray[Any]) -> "Records":
        """Select events by index or mask."""
        chosen = np.arange(len(self.event))[rows].tolist()
        records, attempts = [self.records[i] for i in chosen], [self.attempts[i] for i in chosen]
        hard, splitting = self.hard.take(rows), self.splitting[select_rows(self.hard.partons.offsets, rows)[1]]
        return Records(self.event[rows], hard, records, attempts, self.origins, self.origin[rows], splitting)

    @classmethod
    def join(cls, pieces: "Sequence[Records]") -> "Records":
        """Put pieces behind each other."""
        origins = tuple(origin for piece in pieces for origin in piece.origins)
        first = np.cumsum([0, *(len(piece.origins) for piece in pieces)])
        return cls(
            np.concatenate([piece.event for piece in pieces]),
            HardEvents.join([piece.hard for piece in pieces]),
            [record for piece in pieces for record in piece.records],
            [attempt for piece in pieces for attempt in piece.attempts],
            origins,
            np.concatenate([piece.origin + n for piece, n in zip(pieces, first, strict=False)]),
            np.concatenate([piece.splitting for piece in pieces]),
        )


_MOMENTUM: dict[str, type] = dict.fromkeys(("px", "py", "pz", "e"), np.float64)
PARTICLE_COLUMNS: dict[str, type] = {
    "id": np.int32,
    "charge": np.int8,
    **_MOMENTUM,
    **dict.fromkeys(("m", "x", "y", "z", "t"), np.float64),
}
HEAVY_COLUMNS: dict[str, type] = {"id": np.int32, "flavour": np.int8, **_MOMENTUM}


@dataclass(frozen=True)
class Hadrons:
    """Stable particles of the events, and what of the chain before them the truth of a jet needs.

    `particles` columns: id (int32), charge (int8, units of e), px, py, pz, e, m, x, y, z, t (production vertex; mm
    and mm/c). `heavy` columns: id (int32), flavour (int8: 5 or 4), px, py, pz, e: weakly decaying b and c hadrons
    (the last of each chain of the same flavour).
    """

    event: I8
    hard: HardEvents
    particles: Ragged
    heavy: Ragged
    splitting: NDArray[np.int8]
    """One number a row of `hard.partons`: what an outgoing gluon first splits into, 21 for two gluons, 1 to 5 for a
    quark pair; 0 for all else, and where it is not known."""
    pileup: Ragged | None = None
    """Particles of other collisions, with the columns of `particles`: seen by the detector, no part of the truth."""
    derived: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)
    """What a stage has computed of the hard collisions alone, for the views that start from the same ones."""

    @property
    def seen(self) -> Ragged:
        """All that goes into the detector; in each event the particles of the hard collision come first."""
        return self.seen_between(0, len(self.event))

    def seen_between(self, first: int, stop: int) -> Ragged:
        """Give `seen` of a stretch of events."""
        own = self.particles.between(first, stop)
        return own if self.pileup is None else own.beside(self.pileup.between(first, stop))

    @classmethod
    def unknown(cls, event: I8) -> "Hadrons":
        """Give events of which nothing is known but their ids."""
        particles, heavy = (Ragged.empty(len(event), columns) for columns in (PARTICLE_COLUMNS, HEAVY_COLUMNS))
        return cls(event, HardEvents.unknown(event), particles, heavy, np.empty(0, dtype=np.int8))

    def take(self, rows: NDArray[Any]) -> "Hadrons":
        """Select events by index or mask."""
        _, partons = select_rows(self.hard.partons.offsets, rows)
        return Hadrons(
            self.event[rows],
            self.hard.take(rows),
            self.particles.take(rows),
            self.heavy.take(rows),
            self.splitting[partons],
            None if self.pileup is None else self.pileup.take(rows),
        )

    @classmethod
    def join(cls, pieces: "Sequence[Hadrons]") -> "Hadrons":
        """Put pieces behind each other."""
        return cls(
            np.concatenate([piece.event for piece in pieces]),
            HardEvents.join([piece.hard for piece in pieces]),
            Ragged.join([piece.particles for piece in pieces]),
            Ragged.join([piece.heavy for piece in pieces]),
            np.concatenate([piece.splitting for piece in pieces]),
            _joined_pileup(pieces),
        )


def _joined_pileup(pieces: Sequence[Hadrons]) -> Ragged | None:
    """Put the pile-up of pieces behind each other; some may have none."""
    there = [piece.pileup for piece in pieces if piece.pileup is not None]
    if not there:
        return None
    none = {name: column[:0] for name, column in there[0].columns.items()}
    empty = [Ragged(np.zeros(len(piece.event) + 1, dtype=np.int64), none) for piece in pieces]
    return Ragged.join(
        [nothing if piece.pileup is None else piece.pileup for piece, nothing in zip(pieces, empty, strict=True)]
    )


@dataclass(frozen=True)
class Candidates:
    """Energy-flow candidates: what the detector saw, each energy counted once.

    `candidates` columns: px, py, pz, e (float64), charge (int8), kind (int8: 0 charged hadron, 1 neutral hadron, 2
    photon, 3 electron, 4 muon; of tracks the true species), d0, dz and their resolutions d0_error, dz_error (mm; 0 for
    neutrals), identified (bool: an electron or muon that is recognised as one).
    """

    hadrons: Hadrons
    """What went into the detector."""
    candidates: Ragged

    @property
    def event(self) -> I8:
        """Ids of the events, ascending."""
        return self.hadrons.event

    def take(self, rows: NDArray[Any]) -> "Candidates":
        """Select events by index or mask."""
        return Candidates(self.hadrons.take(rows), self.candidates.take(rows))

    @classmethod
    def join(cls, pieces: "Sequence[Candidates]") -> "Candidates":
        """Put pieces behind each other."""
        hadrons = Hadrons.join([piece.hadrons for piece in pieces])
        return cls(hadrons, Ragged.join([piece.candidates for piece in pieces]))
