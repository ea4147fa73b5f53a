"""From deposits to electrons at the anodes: recombination, drift, attachment, diffusion. cm, µs, MeV, kV/cm, K.

The values at the middle of a segment hold for all of it, as in larnd-sim. Formulas and constants: docs/physics.md.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import BaseModel, Field, field_validator

from resim.errors import UserError
from resim.keys import Stream
from resim.lartpc.geometry import DEFAULT, MARGIN, TICK, Geometry, geometry
from resim.lartpc.states import CLOUD_COLUMNS, F8, I4, I8, Charge, Deposits
from resim.ragged import Ragged

Drawn = Mapping[str, F8]
"""Values of a card's fields event by event, (n,) each; fields that are not in it have the card's value."""

_MOBILITY = 551.6, 7158.3, 4440.43, 4.29, 43.63, 0.2053  # cm2/V/s and kV/cm; Li et al., NIM A 816 (2016) 160
_MOBILITY_KELVIN = 89.0


class ChargeSettings(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """The argon, its field, and the anodes that the charge drifts to."""

    geometry: str = Field(DEFAULT, description="drift volumes and pixels: a name in geometries.yaml")
    field: float = Field(0.5, ge=0.01, le=5, description="drift field, kV/cm")
    temperature: float = Field(87.17, ge=80, le=100, description="temperature of the argon, K")
    density: float = Field(1.38, ge=0.1, le=10, description="its density as recombination takes it, g/cm3")
    lifetime: float = Field(2200.0, ge=1, description="mean time before an electron is caught by an impurity, µs")
    diffusion_long: float = Field(
        4.0e-6,
        ge=0,
        le=5e-5,
        description="diffusion along the drift, cm2/µs; beyond 5e-5 currents would be wider than their table",
    )
    diffusion_trans: float = Field(
        8.8e-6,
        ge=0,
        le=1e-3,
        description="diffusion across the drift, cm2/µs; beyond 1e-3 a cloud would reach more pixels than are followed",
    )
    recombination: Literal["birks", "box"] = Field("birks", description="Birks's law or the modified box model")
    birks_a: float = Field(0.800, gt=0, le=1, description="Birks: share that escapes at no ionisation density")
    birks_k: float = Field(0.0486, ge=0, le=10, description="Birks: constant, (kV/cm) (g/cm2) / MeV")
    box_alpha: float = Field(0.93, ge=0.1, le=1, description="box: first constant")
    box_beta: float = Field(0.207, ge=1e-3, le=10, description="box: second constant, (kV/cm) (g/cm2) / MeV")
    ionisation: float = Field(23.6, ge=1, le=1000, description="energy of an ion pair, eV")
    point_dedx: float = Field(
        5.0,
        ge=0.1,
        le=1000,
        description="dE/dx of segments without length, MeV/cm: of electrons that stop within 0.1 to 0.3 MeV",
    )
    join: float = Field(
        0.15,
        ge=0,
        le=1,
        description="extent along each axis up to which touching segments of a track drift as one cloud, cm; 0: none",
    )

    @field_validator("geometry")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            geometry(name)
        except UserError as error:
            raise ValueError(str(error)) from error
        return name


THROWN = (
    *("field", "temperature", "lifetime", "diffusion_long", "diffusion_trans"),
    *("birks_a", "birks_k", "box_alpha", "box_beta"),
)
"""Fields of the card that may be drawn event by event."""


class Conditions(NamedTuple):
    """The fields `THROWN`, (n,) each, and what follows from them."""

    field: F8
    temperature: F8
    lifetime: F8
    diffusion_long: F8
    diffusion_trans: F8
    birks_a: F8
    birks_k: F8
    box_alpha: F8
    box_beta: F8


def event_values(card: BaseModel, drawn: Drawn, names: tuple[str, ...], n: int) -> list[F8]:
    """Give fields of a card for n events, (n,) each: as drawn, or else the card's number.

    Raises
    ------
    ValueError
        If drawn values are not one an event.
    """
    values = [np.ascontiguousarray(drawn.get(name, np.full(n, getattr(card, name))), np.float64) for name in names]
    for name, value in zip(names, values, strict=True):
        if value.shape != (n,):
            raise ValueError(f"{name}: drawn values of shape {value.shape} for {n} events; give one an event")
    return values


def mobility(field: F8 | float, temperature: F8 | float) -> F8:
    """Give the mobility of electrons, cm2/V/s, at a field (kV/cm) and a temperature (K); Li et al. (2016)."""
    e, (a0, a1, a2, a3, a4, a5) = np.asarray(field, dtype=np.float64), _MOBILITY
    above = a0 + a1 * e + a2 * e**1.5 + a3 * e**2.5
    below = 1 + a1 / a0 * e + a4 * e**2 + a5 * e**3
    return above / below * (np.asarray(temperature) / _MOBILITY_KELVIN) ** -1.5


def drift_velocity(field: F8 | float, temperature: F8 | float) -> F8:
    """Give the drift velocity, cm/µs: kV/cm times cm2/V/s is 1000 cm/s."""
    return mobility(field, temperature) * np.asarray(field) / 1000


@njit(cache=True)
def birks(dedx: float, a: float, k: float) -> float:
    """Give the share of electrons that escapes: Birks's law, Amoruso et al., NIM A 523 (2004) 275.

    `dedx` is over field times density: MeV/cm / (kV/cm g/cm3).
    """
    return a / (1 + k * dedx)


@njit(cache=True)
def box(dedx: float, alpha: float, beta: float) -> float:
    """Give the share of electrons that escapes: modified box model, Baller, JINST 8 (2013) P08005; `dedx` as above."""
    xi = beta * dedx
    return max(0.0, math.log(alpha + xi) / xi)


def charge(deposits: Deposits, card: ChargeSettings, drawn: Drawn, stream: Stream) -> Charge:  # noqa: ARG001 - a stage
    """Drift the electrons of all segments in a drift volume to its anode; nothing is random.

    Parameters
    ----------
    drawn
        Values event by event of fields in `THROWN`; other names are left to other stages.
    stream
        Not used: the interface of a stage.
    """
    layout = geometry(card.geometry)
    conditions = Conditions(*event_values(card, drawn, THROWN, len(deposits.event)))
    velocity = drift_velocity(conditions.field, conditions.temperature)
    segments = deposits.segments
    constants = (card.density, 1e6 / card.ionisation, card.point_dedx, card.join, card.recombination == "box")
    table = tuple(segments[name] for name in (*_ENDS, "length", "energy", "time"))
    offsets, columns = _drift(segments.offsets, segments["track"], table, layout, conditions, velocity, constants)
    clouds = Ragged(offsets, dict(zip(CLOUD_COLUMNS, columns, strict=True)))
    return Charge(deposits.event, deposits, clouds, velocity)


_ENDS = "x_start", "y_start", "z_start", "x_end", "y_end", "z_end"
_F4 = NDArray[np.float32]


@njit(cache=True)
def _plane_of(x: float, y: float, z: float, layout: Geometry, guess: int) -> int:
    """Give the first volume that holds a point, with its margin; -1 if none does.

    The guess is taken where no other volume can hold the point.
    """
    low, high = layout.low, layout.high
    if (
        low[guess, 0] + MARGIN < x < high[guess, 0] - MARGIN
        and low[guess, 1] + MARGIN < y < high[guess, 1] - MARGIN
        and low[guess, 2] + MARGIN < z < high[guess, 2] - MARGIN
    ):
        return guess
    for plane in range(len(low)):
        if (
            low[plane, 0] - MARGIN <= x <= high[plane, 0] + MARGIN
            and low[plane, 1] - MARGIN <= y <= high[plane, 1] + MARGIN
            and low[plane, 2] - MARGIN <= z <= high[plane, 2] + MARGIN
        ):
            return plane
    return -1


@njit(cache=True, error_model="numpy")
def _drift(
    starts: I8,
    track: I4,
    segments: tuple[_F4, ...],
    layout: Geometry,
    conditions: Conditions,
    velocity: F8,
    constants: tuple[float, float, float, float, bool],
) -> tuple[I8, tuple[NDArray[Any], ...]]:
    """Give offsets of the clouds by event, and their columns.

    What escapes recombination and the drift is counted segment by segment, at its own middle.
    """
    x0, y0, z0, x1, y1, z1, length, energy, time = segments
    density, pairs, point_dedx, join, is_box = constants
    n = len(energy)
    places, planes = np.empty((6, n), np.float32), np.empty(n, np.int32)
    values = np.empty((6, n), np.float32)  # energy, electrons, drift time, arrival, spreads
    xa, ya, za, xe, ye, ze = places
    summed, electrons, drift, arrival, long, trans = values
    offsets, end, plane = np.zeros(len(starts), np.int64), 0, 0
    for row in range(len(starts) - 1):
        strength, to_time = conditions.field[row] * density, 1 / velocity[row]
        life, last = -1 / conditions.lifetime[row], -2
        for i in range(starts[row], starts[row + 1]):
            x = (float(x0[i]) + x1[i]) / 2
            found = _plane_of(x, (float(y0[i]) + y1[i]) / 2, (float(z0[i]) + z1[i]) / 2, layout, plane)
            if found < 0 or not energy[i] > 0:
                continue
            dedx = (energy[i] / length[i] if length[i] > 0 else point_dedx) / strength
            if is_box:
                share = box(dedx, conditions.box_alpha[row], conditions.box_beta[row])
            else:
                share = birks(dedx, conditions.birks_a[row], conditions.birks_k[row])
            t = abs(x - layout.anode[found]) * to_time
            left = share * energy[i] * pairs * math.exp(t * life)
            c = end - 1
            if (
                last == i - 1
                and found == plane
                and track[i] == track[last]
                and abs(time[i] - arrival[c]) < TICK / 2
                and (x0[i] == xe[c] and y0[i] == ye[c] and z0[i] == ze[c])
                and max(abs(x1[i] - xa[c]), abs(y1[i] - ya[c]), abs(z1[i] - za[c])) <= join
            ):
                summed[c] += energy[i]
                electrons[c] += left
            else:
                c, end = end, end + 1
                xa[c], ya[c], za[c], planes[c], arrival[c] = x0[i], y0[i], z0[i], found, time[i]
                summed[c], electrons[c] = energy[i], left
            xe[c], ye[c], ze[c], last, plane = x1[i], y1[i], z1[i], i, found
        offsets[row + 1] = end
        for c in range(offsets[row], end):
            t = abs((float(xa[c]) + xe[c]) / 2 - layout.anode[planes[c]]) * to_time
            drift[c], arrival[c] = t, arrival[c] + t
            long[c] = math.sqrt(2 * conditions.diffusion_long[row] * t)
            trans[c] = math.sqrt(2 * conditions.diffusion_trans[row] * t)
    return offsets, (
        *(xa[:end], ya[:end], za[:end], xe[:end], ye[:end], ze[:end]),
        *(summed[:end], electrons[:end], planes[:end], drift[:end], arrival[:end], long[:end], trans[:end]),
    )
