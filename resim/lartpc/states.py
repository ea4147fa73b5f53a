"""The states between the stages of the LArTPC lane: a block of events in flat columns.

cm, µs, MeV, electrons. Axes as in edep-sim: x is the drift, y up, z the beam. A particle is named by its PDG id.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from resim.ragged import Ragged

F8 = NDArray[np.float64]
I4 = NDArray[np.int32]
I8 = NDArray[np.int64]

SEGMENT_COLUMNS: dict[str, type] = {
    "pdg": np.int32,
    "track": np.int32,
    **dict.fromkeys(
        ("x_start", "y_start", "z_start", "x_end", "y_end", "z_end", "length", "energy", "time"), np.float32
    ),
}
CLOUD_COLUMNS: dict[str, type] = {
    **dict.fromkeys(("x_start", "y_start", "z_start", "x_end", "y_end", "z_end", "energy", "electrons"), np.float32),
    "plane": np.int32,
    **dict.fromkeys(("drift_time", "arrival", "sigma_long", "sigma_trans"), np.float32),
}
PIXEL_COLUMNS: dict[str, type] = {"pixel": np.int64, "first": np.int32, "ticks": np.int32}
HIT_COLUMNS: dict[str, type] = {"pixel": np.int64, "time": np.float32, "adc": np.float32}
VOXEL_COLUMNS: dict[str, type] = dict.fromkeys(("x", "y", "z", "adc", "charge"), np.float32)


@dataclass(frozen=True)
class _Block:
    """What all states have: events in ascending order, and columns that follow them."""

    event: I8
    weights: ClassVar[Mapping[str, F8]] = {}
    """By which events could be turned into others: there are none."""

    def take(self, rows: NDArray[Any]) -> Self:
        """Select events by index or mask."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        kept: dict[str, Any] = {
            name: value.take(rows) if isinstance(value, Ragged | _Block) else value[rows]
            for name, value in values.items()
        }
        return type(self)(**kept)

    @classmethod
    def join(cls, pieces: Sequence[Self]) -> Self:
        """Put pieces behind each other."""
        return cls(**{f.name: _joined([getattr(piece, f.name) for piece in pieces]) for f in fields(cls)})


def _joined(values: Sequence[Any]) -> Any:
    return values[0].join(values) if isinstance(values[0], Ragged | _Block) else np.concatenate(values)


@dataclass(frozen=True)
class Primaries(_Block):
    """What the gun shoots: one particle an event."""

    pdg: I4
    kinetic_energy: F8
    """MeV."""
    vertex: F8
    """(n, 3), cm."""
    direction: F8
    """(n, 3), unit vectors."""


@dataclass(frozen=True)
class Deposits(_Block):
    """Energy left in the argon: straight segments, in the order in which they were made.

    `segments` columns (`SEGMENT_COLUMNS`): pdg, track (number of the particle in its event, 0 the primary), start and
    end (cm), length of the path between them (cm; at least the chord), energy (MeV), time of the middle (µs after the
    primary). Energy of particles below the cut is a segment of length 0.
    """

    primaries: Primaries
    segments: Ragged
    escaped: F8
    """MeV an event, that left the volume."""
    invisible: F8
    """MeV an event, to neutrinos, nuclear binding, and what else ionises nothing."""


@dataclass(frozen=True)
class Charge(_Block):
    """Electrons that arrive at the anodes.

    `clouds` columns (`CLOUD_COLUMNS`), one row for each segment that drifts somewhere, or few that touch: start, end
    (cm) and energy (MeV), electrons (at the anode), plane (number of the anode), drift_time (µs, of the middle), arrival (µs
    after the event's time), sigma_long and sigma_trans (cm).
    """

    deposits: Deposits
    clouds: Ragged
    velocity: F8
    """cm/µs an event."""


@dataclass(frozen=True)
class Pixels(_Block):
    """Charge induced on pixels, tick by tick.

    `pixels` columns (`PIXEL_COLUMNS`): pixel (id, see geometry.py), first (tick of the first entry), ticks (their
    number); rising pixel, first. `charge`: (sum of ticks,) float32, electrons a tick of 0.1 µs, pixel after pixel.
    """

    source: Charge
    pixels: Ragged
    charge: Ragged


@dataclass(frozen=True)
class Hits(_Block):
    """What the electronics send.

    `hits` columns (`HIT_COLUMNS`): pixel, time (µs), adc (counts, whole numbers); rising pixel, time.
    """

    source: Charge
    hits: Ragged


@dataclass(frozen=True)
class Images(_Block):
    """Sparse images: the end of the chain.

    `voxels` columns (`VOXEL_COLUMNS`): centre (cm), adc (counts), charge (ke); rising x, y, z.
    """

    source: Hits
    voxels: Ragged
