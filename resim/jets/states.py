"""The states between the stages of the jets lane. GeV, mm; a block of events in flat columns."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from resim.ragged import offsets_of, select_rows

F8 = NDArray[np.float64]
I4 = NDArray[np.int32]
I8 = NDArray[np.int64]


@dataclass(frozen=True)
class Ragged:
    """Rows of particles: `offsets` (n + 1,) and one flat array a column, each (offsets[-1],)."""

    offsets: I8
    columns: dict[str, NDArray[Any]]

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def join(cls, pieces: Sequence[Self]) -> Self:
        """Put rows behind each other; all pieces (at least one) have the columns of the first."""
        counts = np.concatenate([np.diff(piece.offsets) for piece in pieces])
        names = pieces[0].columns
        return cls(offsets_of(counts), {name: np.concatenate([piece[name] for piece in pieces]) for name in names})

    def take(self, rows: NDArray[Any]) -> Self:
        """Select rows by index or mask."""
        offsets, elements = select_rows(self.offsets, rows)
        return type(self)(offsets, {name: column[elements] for name, column in self.columns.items()})


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

    def take(self, rows: NDArray[Any]) -> "HardEvents":
        """Select events by index or mask."""
        flat = {n: getattr(self, n)[rows] for n in ("event", "process", "weight", "scale", "alpha_qcd", "alpha_qed")}
        return HardEvents(**flat, partons=self.partons.take(rows))


@dataclass(frozen=True)
class PartonLevel:
    """Events after shower, multiple interactions and colour reconnection, as Pythia keeps them."""

    event: I8
    hard: HardEvents
    records: list[Any]
    """Copies of `pythia8.Event`, one an event."""
    attempts: list[int]
    """How many times hadronization had been tried on the event before this parton level."""
    settings: tuple[tuple[str, Any], ...]
    """Pythia's settings up to here; some act on the hadronization, too (a tune)."""
    engine: Any
    """The Pythia instance that made the records: they point into its particle data, so it must outlive them."""

    def take(self, rows: NDArray[Any]) -> "PartonLevel":
        """Select events by index or mask."""
        chosen = np.arange(len(self.event))[rows]
        records, attempts = [self.records[i] for i in chosen], [self.attempts[i] for i in chosen]
        return PartonLevel(self.event[rows], self.hard.take(rows), records, attempts, self.settings, self.engine)


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

    def take(self, rows: NDArray[Any]) -> "Hadrons":
        """Select events by index or mask."""
        _, partons = select_rows(self.hard.partons.offsets, rows)
        return Hadrons(
            self.event[rows],
            self.hard.take(rows),
            self.particles.take(rows),
            self.heavy.take(rows),
            self.splitting[partons],
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


@dataclass(frozen=True)
class Objects:
    """The jets matched to hard partons: the end of the chain, one row a jet that exists, sorted by `object`."""

    object: I8
    """8 * event + slot."""
    columns: NDArray[np.float32]
    """(n, len(JET_COLUMNS)) object-level quantities."""
    constituents: Ragged = field(repr=False)
    """One column, `features`: (offsets[-1], 15) float32, falling pT in each jet."""
