"""From hits to sparse images: positions from pixel and drift time, cells of a grid, numbers of an image. cm, µs, ke.

As in the published converter drift velocity and electronics are always those of the chain before anything is thrown,
and the event's time is known: a field that is off stretches or shrinks the image along the drift. There is no
correction for the lifetime.
"""

from typing import Any, Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from resim.lartpc.charge import ChargeSettings, drift_velocity
from resim.lartpc.geometry import Geometry
from resim.lartpc.readout import Digitisation
from resim.lartpc.states import F8, I8, VOXEL_COLUMNS, Hits, Images
from resim.ragged import Ragged, offsets_of, row_of

VOXEL_FEATURES: tuple[tuple[str, str, str], ...] = (
    ("x", "cm", "middle of the cell along the drift, with the nominal drift velocity"),
    ("y", "cm", "middle of the cell upwards"),
    ("z", "cm", "middle of the cell along the beam"),
    ("adc", "", "ADC counts; of several hits their charge's, on one pedestal"),
    ("charge", "ke", "charge by the nominal electronics, 1,000 electrons"),
)

IMAGE_COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("n_voxels", "", "cells of the image"),
    ("n_hits", "", "hits before they are put into cells"),
    ("charge", "ke", "charge of all cells, not corrected for the lifetime"),
    ("charge_max", "ke", "charge of the strongest cell; NaN for an empty image, as all that follow on the image"),
    ("x_mean", "cm", "centre of charge along the drift"),
    ("y_mean", "cm", "centre of charge upwards"),
    ("z_mean", "cm", "centre of charge along the beam"),
    ("x_extent", "cm", "from the first to the last cell along the drift"),
    ("y_extent", "cm", "from the first to the last cell upwards"),
    ("z_extent", "cm", "from the first to the last cell along the beam"),
    ("deposited", "MeV", "energy left in the argon"),
    ("escaped", "MeV", "energy that left the argon's volume"),
    ("active", "", "share of the deposited energy in drift volumes; NaN where none is deposited"),
    ("contained", "", "1 where all charge is in drift volumes and nothing escaped, else 0"),
)


class VoxelSettings(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """The grid of the image."""

    size: float | None = Field(None, ge=0.01, le=1000, description="edge of a cell, cm; null: the pitch of the pixels")
    merge: Literal["sum", "first"] = Field(
        "sum", description="hits of one cell: their charge is summed, or the first in time is kept and the rest is lost"
    )
    velocity: float | None = Field(
        None,
        gt=0,
        le=10,
        description="drift velocity that turns times into x, cm/µs; null: by field and temperature of chain.charge",
    )
    calibration: Digitisation | None = Field(
        None, description="what counts are turned into charge by; null, or a part not given: as in chain.readout"
    )


def nominal(charge: ChargeSettings, electronics: Digitisation) -> dict[str, float]:
    """Give the settings that follow from the chain before anything is thrown."""
    parts = {f"calibration.{name}": getattr(electronics, name) for name in Digitisation.model_fields}
    return {"velocity": float(drift_velocity(charge.field, charge.temperature)), **parts}


def positions(state: Hits, card: VoxelSettings, layout: Geometry) -> tuple[F8, F8, F8]:
    """Give x, y, z of all hits, cm; the velocity is that of the default chain, if none is given."""
    plane, y, z = layout.place(state.hits["pixel"])
    velocity = card.velocity or nominal(ChargeSettings(), Digitisation())["velocity"]
    return layout.anode[plane] + layout.away[plane] * state.hits["time"] * velocity, y, z


def voxels(state: Hits, card: VoxelSettings, layout: Geometry) -> Images:
    """Put hits into the cells of a grid whose corner is at 0, 0, 0."""
    size, calibration = card.size or layout.pitch, card.calibration or Digitisation()
    cells = [np.floor(values / size).astype(np.int64) for values in positions(state, card, layout)]
    rows = row_of(state.hits.offsets)
    order = np.lexsort((state.hits["time"], *cells[::-1], rows)) if card.merge == "first" else ordered(rows, cells)
    starts = starts_of_cells(rows, cells, order)
    adc = state.hits["adc"][order].astype(np.float64)
    if card.merge == "sum" and len(starts):
        adc = np.add.reduceat(adc, starts) - (np.diff(starts, append=len(adc)) - 1) * calibration.pedestal
    else:
        adc = adc[starts]
    found = order[starts]
    columns = dict(zip("xyz", ((values[found] + 0.5) * size for values in cells), strict=True))
    columns |= {"adc": adc, "charge": calibration.charge(adc)}
    offsets = offsets_of(np.bincount(rows[found], minlength=len(state.event)))
    return Images(
        state.event, state, Ragged(offsets, {n: columns[n].astype(dtype) for n, dtype in VOXEL_COLUMNS.items()})
    )


def starts_of_cells(rows: I8, cells: list[I8], order: I8) -> I8:
    """Tell where, in an order that is by event, x, y, z, another cell begins."""
    new = np.ones(len(order), dtype=bool)
    if len(order):
        new[1:] = np.any([np.diff(values[order]) != 0 for values in (rows, *cells)], axis=0)
    return np.flatnonzero(new)


def ordered(rows: I8, cells: list[I8]) -> I8:
    """Sort by event, x, y, z, keeping the order of what is equal: by one number where it fits 63 bits."""
    spans = [int(np.ptp(values)) + 1 if len(values) else 1 for values in cells]
    if float(rows.max(initial=0) + 1) * spans[0] * spans[1] * spans[2] > 2.0**62:
        return np.lexsort((*cells[::-1], rows))
    place = rows.copy()
    for values, span in zip(cells, spans, strict=True):
        place = place * span + (values - values.min(initial=np.iinfo(np.int64).max))
    return np.argsort(place, kind="stable")


def image_columns(images: Images) -> NDArray[np.float32]:
    """Describe images, (n, len(IMAGE_COLUMNS))."""
    deposits = images.source.source.deposits
    values = seen(images.voxels) | {
        "n_hits": np.diff(images.source.hits.offsets),
        "deposited": _sums(deposits.segments, "energy"),
        "escaped": deposits.escaped,
    }
    active = _sums(images.source.source.clouds, "energy")
    with np.errstate(invalid="ignore", divide="ignore"):
        values["active"] = active / values["deposited"]
    inside = np.isclose(active, values["deposited"], rtol=1e-6)
    values["contained"] = inside & (deposits.escaped <= 0)
    return np.stack([np.asarray(values[name], dtype=np.float32) for name, _, _ in IMAGE_COLUMNS], axis=1)


def seen(voxels: Ragged) -> dict[str, NDArray[Any]]:
    """Give those of `IMAGE_COLUMNS` that the voxels alone tell."""
    offsets, charge = voxels.offsets, voxels["charge"].astype(np.float64)
    n, row = len(voxels), row_of(offsets)
    summed = np.bincount(row, charge, minlength=n)
    values: dict[str, NDArray[Any]] = {
        "n_voxels": np.diff(offsets),
        "charge": summed,
        "charge_max": _by_row(np.maximum, charge, offsets),
    }
    with np.errstate(invalid="ignore", divide="ignore"):
        for axis in "xyz":
            position = voxels[axis].astype(np.float64)
            values[f"{axis}_mean"] = np.bincount(row, charge * position, minlength=n) / summed
            values[f"{axis}_extent"] = _by_row(np.maximum, position, offsets) - _by_row(np.minimum, position, offsets)
    return values


def _sums(table: Ragged, name: str) -> F8:
    """Add up a column event by event."""
    return _sums_of(table.offsets, table[name])


@njit(cache=True)
def _sums_of(offsets: I8, values: NDArray[np.float32]) -> F8:
    sums = np.zeros(len(offsets) - 1)
    for row in range(len(sums)):
        for i in range(offsets[row], offsets[row + 1]):
            sums[row] += values[i]
    return sums


def _by_row(operation: np.ufunc, values: F8, offsets: I8) -> F8:
    """Reduce the values of each row; NaN where there is none."""
    result = np.full(len(offsets) - 1, np.nan)
    filled = np.diff(offsets) > 0
    if filled.any():
        result[filled] = operation.reduceat(values, offsets[:-1][filled])
    return result
