"""Energy deposits of the primaries, by the transport in `resim.lartpc.transport`. MeV, cm, µs."""

from functools import lru_cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, model_validator

from resim.errors import UserError
from resim.keys import Stream
from resim.lartpc.geometry import DEFAULT, geometry
from resim.lartpc.states import F8, SEGMENT_COLUMNS, Deposits, Primaries
from resim.lartpc.transport.kernel import Limits, total_energy, transport
from resim.lartpc.transport.tables import Tables, make_tables
from resim.ragged import Ragged

Triple = tuple[float, float, float]

_LARGEST = 10_000.0  # cm: positions are stored in single precision
MOST_STEPS = 20_000_000
"""Steps an event may take: one of 10 GeV takes a few 100,000 with the default settings."""

_VALUES = ("x_start", "y_start", "z_start", "x_end", "y_end", "z_end", "length", "energy", "time")


class DepositSettings(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """How particles are followed in liquid argon."""

    step: float = Field(0.1, ge=0.01, le=1, description="longest segment, cm; edep-sim's hitLength was 0.1")
    electron_cut: float = Field(
        0.1, ge=0.02, le=1, description="kinetic energy from which electrons are made and followed, MeV"
    )
    photon_cut: float = Field(0.02, ge=0.005, le=1, description="energy from which photons are, MeV")
    neutron_cut: float = Field(
        1.0, ge=0.01, le=20, description="kinetic energy from which neutrons are followed, MeV; below, it is invisible"
    )
    hadronic: bool = Field(True, description="whether hadrons scatter and break up nuclei in flight")
    world_centre: Triple | None = Field(
        None, description="centre of the box of liquid argon, cm; null: that of the geometry's drift volumes"
    )
    world_half_size: Triple | None = Field(
        None,
        description="half its sides, cm, up to 1e4; what leaves has escaped; null: to 100 cm round all drift volumes",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        centre, half = self.world_centre or (0.0, 0.0, 0.0), self.world_half_size or (1.0, 1.0, 1.0)
        if not 0 < min(half) <= max(half) <= _LARGEST:
            raise ValueError(f"world_half_size must be positive and at most {_LARGEST:.0f} cm, got {list(half)}")
        if max(map(abs, centre)) > _LARGEST:
            raise ValueError(f"world_centre must lie within {_LARGEST:.0f} cm of the origin, got {list(centre)}")
        return self

    def limits(self) -> Limits:
        """Give what the kernel needs to know; the argon is that of the default geometry, if none is given."""
        argon = geometry(DEFAULT).argon()
        centre, half = np.array(self.world_centre or argon[0]), np.array(self.world_half_size or argon[1])
        cuts = self.electron_cut, self.photon_cut, self.neutron_cut
        return Limits(self.step, *cuts, self.hadronic, MOST_STEPS, centre - half, centre + half)


@lru_cache(maxsize=4)
def _tables(step: float, electron_cut: float, photon_cut: float) -> Tables:
    return make_tables(step, electron_cut, photon_cut)


def initial_energy(primaries: Primaries) -> F8:
    """Give what the primaries bring, MeV: kinetic energy, and the mass of those that decay or annihilate."""
    pairs = zip(primaries.pdg.tolist(), primaries.kinetic_energy.tolist(), strict=True)
    return np.array([total_energy(pdg, kinetic) for pdg, kinetic in pairs], dtype=np.float64)


def deposit(primaries: Primaries, card: DepositSettings, stream: Stream) -> Deposits:
    """Follow the primaries and all that they make.

    Of each event, segments + escaped + invisible = `initial_energy`, but for the rounding of the segments to single
    precision (less than 1e-6).

    Raises
    ------
    UserError
        If an event takes more than `MOST_STEPS` steps.
    """
    rows = np.zeros((len(primaries.event), 10))
    rows[:, 0], rows[:, 1:4], rows[:, 4:7] = primaries.kinetic_energy, primaries.vertex, primaries.direction
    rows[:, 9] = primaries.pdg
    tables = _tables(card.step, card.electron_cut, card.photon_cut)
    made = transport(stream.key, np.asarray(primaries.event, dtype=np.int64), rows, tables, card.limits())
    offsets, ids, values, escaped, invisible, steps = made
    endless = primaries.event[steps > MOST_STEPS]
    if len(endless):
        raise UserError(
            f"deposits: {len(endless)} event(s), the first of them {endless[0]}, took more than {MOST_STEPS:,} steps;"
            " shoot less energy, or raise step, electron_cut or photon_cut"
        )
    return Deposits(primaries.event, primaries, Ragged(offsets, _columns(ids, values)), escaped, invisible)


def _columns(ids: NDArray[np.int32], values: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {"pdg": ids[:, 0].copy(), "track": ids[:, 1].copy()}
    columns.update((name, values[:, i].copy()) for i, name in enumerate(_VALUES))
    return {name: columns[name] for name in SEGMENT_COLUMNS}
