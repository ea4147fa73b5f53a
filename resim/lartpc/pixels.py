"""Diffusion, and the current that arriving charge induces on the pixels: electrons a tick of 0.1 µs. cm, µs.

Each segment becomes points of equal charge, evenly spaced along it and moved across the drift by Gaussian quantiles of
a low-discrepancy sequence (Roberts's R2) that goes on from segment to segment: thousands of electrons share the pixels
far more evenly than as many random points would. A point induces current on the pixel below it alone, in the
parametrised form of larnd-sim; diffusion along the drift is in the shape of the current.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from scipy.special import log_ndtr, ndtr, ndtri

from resim.keys import Stream, four
from resim.lartpc.geometry import TICK, Geometry
from resim.lartpc.states import F8, I4, I8, Charge, Pixels
from resim.ragged import Ragged

F4 = NDArray[np.float32]

LENGTH = 51  # ticks of a response: 5 µs and one
_AMPLITUDE = 1.060, -0.909, -0.909, 5.856, 0.207, 0.207
_FAST = 0.679, -1.083, -1.083, 8.772, -5.521, -5.521  # µs
_SLOW = 2.644, -9.174, -9.174, 13.483, 45.887, 45.887  # µs
_DELAY = 2.948, -2.705, -2.705, 4.825, 20.814, 20.814  # µs

_BINS = 8  # of the distance to the pixel's centre, in each direction, up to half a pitch
_WIDTH_STEP, _WIDTHS = 0.05, 24  # µs: of the spread in time by diffusion; beyond the last counts as the last
_QUANTILES = ndtri((np.arange(4096) + 0.5) / 4096)
_TO_QUANTILE = np.uint64(64 - 12)
_TURNS = np.uint64(0.7548776662466927 * 2**64), np.uint64(0.5698402909980532 * 2**64)
"""Steps of the R2 sequence: 1/g and 1/g^2 with g^3 = g + 1, as parts of 2^64."""
_TO_SLOT, _SLOT_FACTOR = np.uint64(20), np.uint64(0x9E3779B97F4A7C15)


class PixelSettings(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """How charge becomes current on the pixels."""

    delay: float = Field(
        -_DELAY[0],
        ge=-100,
        le=100,
        description="beginning of the response after the arrival of the charge, µs; -2.948: charge above the centre of "
        "a pixel is collected when it arrives, -5.1: as in larnd-sim-jax",
    )
    point_electrons: float = Field(
        500.0, ge=10, description="most electrons of a point; 1,500 takes half the time, and shares pixels less evenly"
    )
    most_points: int = Field(64, ge=1, le=100_000, description="points of a segment, whatever its charge")


def response(x: F8, y: F8, width: F8) -> F8:
    """Give the current that charge induces on the pixel below it, integrated over each tick: (n, LENGTH), sums 1.

    Tick k is 0.1 k - 0.05 to 0.1 k + 0.05 µs. With weights a and 1 - a of two time constants s, the current is
    exp((t - t0) / s) / s up to t0, smeared by a Gaussian.

    Parameters
    ----------
    x, y
        (n,) distances to the centre of the pixel, cm.
    width
        (n,) spread of the arrival times, µs.
    """
    terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=1)
    share = np.minimum(terms @ np.array(_AMPLITUDE), 1)[:, None]
    edges = (np.arange(LENGTH + 1) - 0.5) * TICK
    late = (terms @ np.array(_DELAY))[:, None] - edges
    sigma = np.maximum(width, 1e-3)[:, None]
    below = share * _tail(late, (terms @ np.array(_FAST))[:, None], sigma)
    below += (1 - share) * _tail(late, (terms @ np.array(_SLOW))[:, None], sigma)
    ticks = np.diff(below, axis=1)
    return ticks / ticks.sum(axis=1, keepdims=True)


def _tail(late: F8, scale: F8, sigma: F8) -> F8:
    """Give the probability that an exponential plus a Gaussian number is above `late`."""
    ratio = sigma / scale
    grown = np.exp(ratio**2 / 2 - late / scale + log_ndtr(late / sigma - ratio))
    return ndtr(-late / sigma) + grown


@lru_cache(maxsize=4)
def _responses(pitch: float) -> F4:
    """Tabulate the response: (_BINS, _BINS, _WIDTHS, LENGTH), at the middles of bins of distance."""
    distance = (np.arange(_BINS) + 0.5) / _BINS * pitch / 2
    x, y, width = np.meshgrid(distance, distance, np.arange(_WIDTHS) * _WIDTH_STEP, indexing="ij")
    table = response(x.ravel(), y.ravel(), width.ravel())
    return table.reshape(_BINS * _BINS * _WIDTHS, LENGTH).astype(np.float32)


class _Points(NamedTuple):
    """Points of an event, room for the most of any: pixel's place among the event's, first tick, response, charge."""

    place: I4
    first: I4
    shape: I4
    charge: F4


class _Touched(NamedTuple):
    """Pixels of an event in the order in which they are met, and a hash table of them."""

    slots: I4
    """Place plus 1, 0 where nothing is; a power of two of them."""
    slot: I4
    """(pixels,) where the pixel is in the table."""
    pixel: I8
    first: I4
    stop: I4


def pixels(state: Charge, card: PixelSettings, layout: Geometry, stream: Stream) -> Pixels:
    """Diffuse the charge and induce currents; what is outside the anodes and the readout window is lost.

    Random is one point of the sequence an event, drawn from the event's key. Each event is computed alone.
    """
    clouds = state.clouds
    table = tuple(clouds[name] for name in _USED)
    settings = (card.delay / TICK, 1 / card.point_electrons, card.most_points)
    shapes = _responses(layout.pitch)
    counts, columns, charge = _induce(
        state.event, clouds.offsets, table, state.velocity, layout, settings, shapes, _QUANTILES, stream.key
    )
    found = Ragged(counts[0], dict(zip(("pixel", "first", "ticks"), columns, strict=True)))
    return Pixels(state.event, state, found, Ragged(counts[1], {"charge": charge}))


_USED = (
    *("x_start", "y_start", "z_start", "x_end", "y_end", "z_end"),
    *("electrons", "plane", "arrival", "sigma_long", "sigma_trans"),
)


@njit(cache=True)
def _points_of(charge: float, per_electron: float, most: int) -> int:
    """Give the number of points of a segment."""
    return min(1 + int(charge * per_electron), most)


@njit(cache=True)
def _induce(
    events: I8,
    starts: I8,
    clouds: tuple[NDArray[np.float32], ...],
    velocity: F8,
    layout: Geometry,
    settings: tuple[float, float, int],
    shapes: F4,
    quantiles: F8,
    key: NDArray[np.uint64],
) -> tuple[tuple[I8, I8], tuple[I8, I4, I4], F4]:
    """Give offsets of pixels and of ticks by event, the columns of the pixels, and the charge of their ticks."""
    n = len(events)
    pixel_offsets, tick_offsets = np.zeros(n + 1, np.int64), np.zeros(n + 1, np.int64)
    points, touched = _room(starts, clouds[6], settings)
    found, first, ticks = np.empty(1024, np.int64), np.empty(1024, np.int32), np.empty(1024, np.int32)
    charge = np.zeros(65536, np.float32)
    for row in range(n):
        m, k = _scatter(
            row, events[row], starts, clouds, velocity[row], layout, settings, quantiles, key, points, touched
        )
        pixel_end, tick_end = pixel_offsets[row], tick_offsets[row]
        order = np.argsort(touched.pixel[:k])
        if pixel_end + k > len(found):
            size = 2 * (pixel_end + k)
            found, first, ticks = _grown(found, size), _grown(first, size), _grown(ticks, size)
        begin = np.empty(k, np.int64)
        for p in order:
            found[pixel_end], first[pixel_end] = touched.pixel[p], touched.first[p]
            ticks[pixel_end] = touched.stop[p] - touched.first[p]
            begin[p] = tick_end - touched.first[p]
            tick_end += ticks[pixel_end]
            pixel_end += 1
        if tick_end > len(charge):
            charge = _grown(charge, 2 * tick_end)
        _add(points, m, begin, shapes, layout.ticks, charge)
        pixel_offsets[row + 1], tick_offsets[row + 1] = pixel_end, tick_end
    columns = found[:pixel_end].copy(), first[:pixel_end].copy(), ticks[:pixel_end].copy()
    return (pixel_offsets, tick_offsets), columns, charge[:tick_end].copy()


@njit(cache=True)
def _grown(old: Any, size: int) -> Any:
    new = np.zeros(size, old.dtype)
    new[: len(old)] = old
    return new


@njit(cache=True)
def _room(starts: I8, electrons: F4, settings: tuple[float, float, int]) -> tuple[_Points, _Touched]:
    """Make room for the event with most points."""
    most = 1
    for row in range(len(starts) - 1):
        count = 0
        for i in range(starts[row], starts[row + 1]):
            count += _points_of(electrons[i], settings[1], settings[2])
        most = max(most, count)
    slots = 2
    while slots < 2 * most:
        slots *= 2
    points = _Points(
        np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most, np.float32)
    )
    touched = _Touched(
        np.zeros(slots, np.int32),
        np.empty(most, np.int32),
        np.empty(most, np.int64),
        np.empty(most, np.int32),
        np.empty(most, np.int32),
    )
    return points, touched


@njit(cache=True)
def _scatter(
    row: int,
    event: int,
    starts: I8,
    clouds: tuple[NDArray[np.float32], ...],
    velocity: float,
    layout: Geometry,
    settings: tuple[float, float, int],
    quantiles: F8,
    key: NDArray[np.uint64],
    points: _Points,
    touched: _Touched,
) -> tuple[int, int]:
    """Cut an event's segments into points and find their pixels; give the numbers of both."""
    x0, y0, z0, x1, y1, z1, electrons, planes, arrival, long, trans = clouds
    delay, per_electron, most = settings
    drawn = four(key[0], key[1], event, 0)
    turn_y, turn_z = np.uint64(drawn[0] * 2.0**63), np.uint64(drawn[1] * 2.0**63)
    to_tick, to_pixel, to_bin = 1 / (velocity * TICK), 1 / layout.pitch, 2.0 * _BINS
    rows, columns = layout.rows, layout.columns
    m, k, last_pixel, last_place = 0, 0, np.int64(-1), 0
    for i in range(starts[row], starts[row + 1]):
        number = _points_of(electrons[i], per_electron, most)
        plane, sigma, share = planes[i], float(trans[i]), electrons[i] / number
        low_y, low_z, away = layout.low[plane, 1], layout.low[plane, 2], layout.away[plane]
        dx, dy, dz = (float(x1[i]) - x0[i]) / number, (float(y1[i]) - y0[i]) / number, (float(z1[i]) - z0[i]) / number
        width = min(int(long[i] / velocity / _WIDTH_STEP + 0.5), _WIDTHS - 1)
        middle = arrival[i] / TICK + delay + 0.5
        for j in range(number):
            turn_y += _TURNS[0]
            turn_z += _TURNS[1]
            y = (y0[i] + (j + 0.5) * dy + sigma * quantiles[turn_y >> _TO_QUANTILE] - low_y) * to_pixel
            z = (z0[i] + (j + 0.5) * dz + sigma * quantiles[turn_z >> _TO_QUANTILE] - low_z) * to_pixel
            first = math.floor(middle + away * (j + 0.5 - 0.5 * number) * dx * to_tick)
            if not (0 <= y < rows and 0 <= z < columns and -LENGTH < first < layout.ticks):
                continue
            in_y, in_z = int(y), int(z)
            pixel = in_z + columns * (in_y + rows * np.int64(plane))
            if pixel != last_pixel:
                last_pixel = pixel
                last_place, k = _find(pixel, k, touched)
            bin_y, bin_z = int(abs(y - in_y - 0.5) * to_bin), int(abs(z - in_z - 0.5) * to_bin)
            points.place[m], points.first[m], points.charge[m] = last_place, first, share
            points.shape[m] = (min(bin_z, _BINS - 1) * _BINS + min(bin_y, _BINS - 1)) * _WIDTHS + width
            touched.first[last_place] = min(touched.first[last_place], max(first, 0))
            touched.stop[last_place] = max(touched.stop[last_place], min(first + LENGTH, layout.ticks))
            m += 1
    for p in range(k):
        touched.slots[touched.slot[p]] = 0
    return m, k


@njit(cache=True)
def _find(pixel: np.int64, k: int, touched: _Touched) -> tuple[int, int]:
    """Give the place of a pixel among the k met so far, and their number, it among them."""
    mask = len(touched.slots) - 1
    slot = np.int64(np.uint64(pixel) * _SLOT_FACTOR >> _TO_SLOT) & mask
    while touched.slots[slot] > 0:
        place = touched.slots[slot] - 1
        if touched.pixel[place] == pixel:
            return place, k
        slot = (slot + 1) & mask
    touched.slots[slot], touched.slot[k], touched.pixel[k] = k + 1, slot, pixel
    touched.first[k], touched.stop[k] = 2147483647, 0
    return k, k + 1


@njit(cache=True)
def _add(points: _Points, m: int, begin: I8, shapes: F4, window: int, charge: F4) -> None:
    """Add the responses of an event's points to the waveforms of their pixels."""
    for i in range(m):
        first, share = points.first[i], points.charge[i]
        shape, place = shapes[points.shape[i]], begin[points.place[i]] + first
        if first >= 0 and first + LENGTH <= window:
            part = charge[place : place + LENGTH]
            for t in range(LENGTH):
                part[t] += share * shape[t]
        else:
            for t in range(max(0, -first), min(LENGTH, window - first)):
                charge[place + t] += share * shape[t]
