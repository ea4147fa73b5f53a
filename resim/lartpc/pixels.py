"""Diffusion, and the current that arriving charge induces on the pixels: electrons a tick of 0.1 µs. cm, µs.

A segment is a Gaussian cloud: diffusion, and along each axis the variance of a line as long as its own extent. Pixels
get the integrals of the Gaussian over them: of thousands of electrons, a share differs by some tens. A share induces
current on the pixel below it alone, in the parametrised form of larnd-sim, averaged over the part of the pixel that
its centroid and variance tell.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from scipy.special import log_ndtr, ndtr, ndtri

from resim.keys import Stream
from resim.lartpc.geometry import TICK, Geometry
from resim.lartpc.states import F8, I4, I8, Charge, Pixels
from resim.ragged import Ragged

F4 = NDArray[np.float32]

LENGTH = 51  # ticks of a response: 5 µs and one
_AMPLITUDE = 1.060, -0.909, -0.909, 5.856, 0.207, 0.207
_FAST = 0.679, -1.083, -1.083, 8.772, -5.521, -5.521  # µs
_SLOW = 2.644, -9.174, -9.174, 13.483, 45.887, 45.887  # µs
_DELAY = 2.948, -2.705, -2.705, 4.825, 20.814, 20.814  # µs

_BINS = 8  # of the distance of a share's centroid to the pixel's centre, in each direction, up to half a pitch
_SPREADS = 3  # of its variance, up to that of charge spread evenly over the pixel
_FINER = 2  # points of a bin in the averages over a share
_WIDTH_STEP, _WIDTHS = 0.1, 12  # µs: of the spread of the arrival times; beyond the last counts as the last
_NEGLIGIBLE = 1e-3  # of a response, at each end
_NOWHERE = np.int64(-(2**62))  # where the waveform of a pixel begins that is not looked at
_BLOCK = 16  # ticks that are added at once
_LONGEST = 0.4  # pitches: longer segments are cut,
_LONGER, _SHORTEST = 3.0, 0.05  # and those across the drift longer than so many sigmas, but not below so many pitches
_FEW = 20.0  # electrons: so many beyond its outermost pixel, on each side, a cloud leaves with it
_REACH = 3.0  # standard deviations, however many electrons
_REACHES = np.minimum(-ndtri(1 / np.maximum(np.arange(1024), 2)), _REACH)
"""To which a cloud goes, by its charge in _FEW."""
_MOST = 16  # pixels in a row that a cloud can reach
_FINE = 128  # entries of the table of the Gaussian in a standard deviation
_GRID = np.arange(-_REACH * _FINE, _REACH * _FINE + 2) / _FINE
_GAUSSIAN = np.stack([ndtr(_GRID), np.exp(-(_GRID**2) / 2) / math.sqrt(2 * math.pi)], axis=1)
"""Integral and density at -_REACH, ..., _REACH and one more, for interpolation."""


class PixelSettings(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """How charge becomes current on the pixels."""

    delay: float = Field(
        -_DELAY[0],
        ge=-100,
        le=100,
        description="beginning of the response after the arrival of the charge, µs; -2.948: charge above the centre of "
        "a pixel is collected when it arrives, -5.1: as in larnd-sim-jax",
    )
    least: float = Field(
        500.0,
        ge=0,
        le=5000,
        description="electrons that a pixel must get in an event to be looked at: fewer hardly trigger",
    )


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


class _Responses(NamedTuple):
    """Responses by bins of the share in both directions, the larger of the two first, and by bins of the width."""

    current: F4
    """(shapes, whole blocks of ticks), 0 behind the end."""
    start: I4
    """(shapes,) first tick that is not negligible."""
    ticks: I4
    """(shapes,) their number."""


@lru_cache(maxsize=4)
def _responses(pitch: float) -> _Responses:
    """Tabulate the response averaged over a share, without its negligible ends."""
    weights = _weights()
    larger, smaller = np.tril_indices(len(weights))
    distance = (np.arange(_BINS * _FINER) + 0.5) / (_BINS * _FINER) * pitch / 2
    z, y, width = np.meshgrid(distance, distance, np.arange(_WIDTHS) * _WIDTH_STEP, indexing="ij")
    points = response(z.ravel(), y.ravel(), width.ravel()).reshape(len(distance), len(distance), -1)
    table = (weights @ (weights @ points).transpose(1, 0, 2))[smaller, larger].reshape(-1, LENGTH)
    below = np.cumsum(table, axis=1)
    kept = (below > _NEGLIGIBLE) & (below - table < 1 - _NEGLIGIBLE)
    start, ticks = kept.argmax(axis=1), kept.sum(axis=1)
    table = np.where(kept, table, 0) / np.where(kept, table, 0).sum(axis=1, keepdims=True)
    behind = np.arange(-(-LENGTH // _BLOCK) * _BLOCK) + start[:, None]
    current = np.pad(table, ((0, 0), (0, behind.max() + 1 - LENGTH)))[np.arange(len(table))[:, None], behind]
    return _Responses(current.astype(np.float32), start.astype(np.int32), ticks.astype(np.int32))


def _weights() -> F8:
    """Give how the charge of a share lies along an axis: (bins of the share, bins of distance), rows add up to 1.

    Charge of some centroid and variance is taken as spread evenly over the interval that has them, cut at the borders
    of the pixel and folded at its centre.
    """
    centroid, variance = (np.arange(_BINS) + 0.5) / (2 * _BINS), (np.arange(_SPREADS) + 0.5) / (12 * _SPREADS)
    middle, half = (v.ravel()[:, None] for v in np.meshgrid(centroid, np.sqrt(3 * variance), indexing="ij"))
    low, high = np.maximum(middle - half, -0.5), np.minimum(middle + half, 0.5)
    edges = np.linspace(-0.5, 0.5, 2 * _BINS * _FINER + 1)
    overlap = np.clip(np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1]), 0, None) / (high - low)
    left, right = np.split(overlap, 2, axis=1)
    return np.ascontiguousarray(left[:, ::-1] + right)


class _Shares(NamedTuple):
    """Shares of an event, room for the most of any: place of the pixel, first tick, response, charge."""

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
    charge: F8


def pixels(state: Charge, card: PixelSettings, layout: Geometry, stream: Stream) -> Pixels:  # noqa: ARG001 - a stage
    """Diffuse the charge and induce currents; what is outside the anodes and the readout window is lost.

    Parameters
    ----------
    stream
        Not used, the interface of a stage: nothing is random.
    """
    clouds = state.clouds
    table = tuple(clouds[name] for name in _USED)
    settings = card.delay / TICK, card.least
    counts, columns, charge = _induce(
        clouds.offsets, table, state.velocity, layout, settings, _responses(layout.pitch), (_GAUSSIAN, _REACHES)
    )
    found = Ragged(counts[0], dict(zip(("pixel", "first", "ticks"), columns, strict=True)))
    return Pixels(state.event, state, found, Ragged(counts[1], {"charge": charge}))


_USED = (
    *("x_start", "y_start", "z_start", "x_end", "y_end", "z_end"),
    *("electrons", "plane", "arrival", "sigma_long", "sigma_trans"),
)
Clouds = tuple[NDArray[np.float32], ...]


@njit(cache=True)
def _induce(
    starts: I8,
    clouds: Clouds,
    velocity: F8,
    layout: Geometry,
    settings: tuple[float, float],
    responses: _Responses,
    gaussian: tuple[F8, F8],
) -> tuple[tuple[I8, I8], tuple[I8, I4, I4], F4]:
    """Give offsets of pixels and of ticks by event, the columns of the pixels, and the charge of their ticks."""
    n = len(velocity)
    pixel_offsets, tick_offsets = np.zeros(n + 1, np.int64), np.zeros(n + 1, np.int64)
    shares, touched = _room(starts, clouds, layout.pitch)
    found, first, ticks = np.empty(1024, np.int64), np.empty(1024, np.int32), np.empty(1024, np.int32)
    charge = np.empty(65536, np.float32)
    for row in range(n):
        m, k = _scatter(
            starts[row],
            starts[row + 1],
            clouds,
            velocity[row],
            layout,
            settings[0],
            responses,
            gaussian,
            shares,
            touched,
        )
        pixel_end, tick_end = pixel_offsets[row], tick_offsets[row]
        enough = np.flatnonzero(touched.charge[:k] >= settings[1])
        order = enough[np.argsort(touched.pixel[enough])]
        if pixel_end + k > len(found):
            size = 2 * (pixel_end + k)
            found, first, ticks = grown(found, size), grown(first, size), grown(ticks, size)
        begin = np.full(k, _NOWHERE)
        for p in order:
            found[pixel_end], first[pixel_end] = touched.pixel[p], touched.first[p]
            ticks[pixel_end] = touched.stop[p] - touched.first[p]
            begin[p] = tick_end - touched.first[p]
            tick_end += ticks[pixel_end]
            pixel_end += 1
        behind = tick_end + responses.current.shape[1]
        if behind > len(charge):
            charge = grown(charge, max(2 * behind, behind * n // (row + 1)))
        charge[tick_offsets[row] : behind] = 0
        _add(shares, m, begin, responses, layout.ticks, charge)
        pixel_offsets[row + 1], tick_offsets[row + 1] = pixel_end, tick_end
    columns = found[:pixel_end], first[:pixel_end], ticks[:pixel_end]
    return (pixel_offsets, tick_offsets), columns, charge[:tick_end]


@njit(cache=True)
def grown(old: Any, size: int) -> Any:
    """Copy an array into a larger one."""
    new = np.empty(size, old.dtype)
    new[: len(old)] = old
    return new


@njit(cache=True)
def _pieces(along: float, y: float, z: float, sigma: float, pitch: float) -> int:
    """Give the number of clouds of a segment, of its extents along the drift and across it."""
    allowed = min(max(_LONGER * sigma, _SHORTEST * pitch), _LONGEST * pitch)
    return 1 + int(max(max(abs(y), abs(z)) / allowed, abs(along) / (_LONGEST * pitch)))


@njit(cache=True)
def _room(starts: I8, clouds: Clouds, pitch: float) -> tuple[_Shares, _Touched]:
    """Make room for the event with most shares."""
    x0, y0, z0, x1, y1, z1, _, _, _, _, trans = clouds
    most = 1
    for row in range(len(starts) - 1):
        count = 0
        for i in range(starts[row], starts[row + 1]):
            width = math.sqrt((trans[i] / pitch) ** 2 + _LONGEST**2 / 12)
            pieces = _pieces(x1[i] - x0[i], y1[i] - y0[i], z1[i] - z0[i], trans[i], pitch)
            count += pieces * min(2 + int(2 * _REACH * width), _MOST) ** 2
        most = max(most, count)
    shares = _Shares(
        np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most, np.float32)
    )
    slots = 2
    while slots < 2 * most:
        slots *= 2
    touched = _Touched(
        np.zeros(slots, np.int32),
        np.empty(most, np.int32),
        np.empty(most, np.int64),
        np.empty(most, np.int32),
        np.empty(most, np.int32),
        np.empty(most),
    )
    return shares, touched


@njit(cache=True, error_model="numpy")
def _scatter(
    begin: int,
    end: int,
    clouds: Clouds,
    velocity: float,
    layout: Geometry,
    delay: float,
    responses: _Responses,
    gaussian: tuple[F8, F8],
    shares: _Shares,
    touched: _Touched,
) -> tuple[int, int]:
    """Share an event's segments among pixels; give the numbers of shares and of pixels."""
    x0, y0, z0, x1, y1, z1, electrons, planes, arrival, long, trans = clouds
    slots, slot_of, pixels_met, first_tick, stop_tick, summed = touched
    place_of, first_of, shape_of, charge_of = shares
    starts, ticks, reaches, table = responses.start, responses.ticks, gaussian[1], gaussian[0]
    pitch, rows, columns, window = layout.pitch, layout.rows, layout.columns, layout.ticks
    to_tick, to_pixel = 1 / (velocity * TICK), 1 / pitch
    part_y, bins_y = np.empty(_MOST), np.empty(_MOST, np.int64)
    part_z, bins_z = np.empty(_MOST), np.empty(_MOST, np.int64)
    m, k = 0, 0
    for i in range(begin, end):
        dx, dy, dz = float(x1[i]) - x0[i], float(y1[i]) - y0[i], float(z1[i]) - z0[i]
        number, plane, sigma = _pieces(dx, dy, dz, trans[i], pitch), np.int64(planes[i]), float(trans[i])
        dx, dy, dz, charge = dx / number, dy / number, dz / number, electrons[i] / number
        width = math.sqrt(float(long[i]) ** 2 + dx * dx / 12) / velocity
        width_bin = min(int(width / _WIDTH_STEP + 0.5), _WIDTHS - 1)
        sigma_y, sigma_z = math.sqrt(sigma**2 + dy * dy / 12) * to_pixel, math.sqrt(sigma**2 + dz * dz / 12) * to_pixel
        reach = reaches[int(min(charge / _FEW, len(reaches) - 1.0))]
        for j in range(number):
            y = (y0[i] + (j + 0.5) * dy - layout.low[plane, 1]) * to_pixel
            z = (z0[i] + (j + 0.5) * dz - layout.low[plane, 2]) * to_pixel
            low_row, rows_reached = _spread(y, sigma_y, reach, table, part_y, bins_y)
            low_column, columns_reached = _spread(z, sigma_z, reach, table, part_z, bins_z)
            later = layout.away[plane] * (j + 0.5 - 0.5 * number) * dx * to_tick
            tick = math.floor(arrival[i] / TICK + later + delay + 0.5)
            for a in range(max(0, -low_row), min(rows_reached, rows - low_row)):
                for b in range(max(0, -low_column), min(columns_reached, columns - low_column)):
                    larger, smaller = max(bins_z[b], bins_y[a]), min(bins_z[b], bins_y[a])
                    shape = (larger * (larger + 1) // 2 + smaller) * _WIDTHS + width_bin
                    first = tick + starts[shape]
                    stop = first + ticks[shape]
                    if stop <= 0 or first >= window:
                        continue
                    pixel = low_column + b + columns * (low_row + a + rows * plane)
                    slot, place = _find(pixel, slots, pixels_met)
                    if place < 0:
                        place, k = np.int64(k), k + 1
                        slots[slot], slot_of[place], pixels_met[place] = k, slot, pixel
                        first_tick[place], stop_tick[place], summed[place] = window, 0, 0.0
                    first_tick[place] = min(first_tick[place], max(first, 0))
                    stop_tick[place] = max(stop_tick[place], min(stop, window))
                    share = charge * part_y[a] * part_z[b]
                    summed[place] += share
                    place_of[m], first_of[m], shape_of[m], charge_of[m] = place, first, shape, share
                    m += 1
    for p in range(k):
        slots[slot_of[p]] = 0
    return m, k


@njit(cache=True)
def _find(pixel: np.int64, slots: I4, pixels: I8) -> tuple[np.int64, np.int64]:
    """Give the slot of a pixel in the table, and its place among those met; -1 if it is new, and the slot is free.

    Neighbours are close to each other in the table, as what is touched next is near what was.
    """
    mask = len(slots) - 1
    slot, none = pixel & mask, np.int64(-1)
    while slots[slot] > 0:
        place = np.int64(slots[slot] - 1)
        if pixels[place] == pixel:
            return slot, place
        slot = (slot + 1) & mask
    return slot, none


@njit(cache=True, error_model="numpy")
def _spread(mean: float, sigma: float, reach: float, gaussian: F8, parts: F8, bins: I8) -> tuple[int, int]:
    """Integrate a Gaussian over the pixels that it reaches, all in pitches; give the first of them and their number.

    Centroid and variance of each part, of which the bin is told, are those of a Gaussian cut at the borders of its
    pixel.
    """
    low, high = math.floor(mean - reach * sigma), math.floor(mean + reach * sigma)
    if low == high:
        parts[0], bins[0] = 1.0, _bin(abs(mean - low - 0.5), sigma * sigma)
        return low, 1
    if high - low >= _MOST:
        low = math.floor(mean) - _MOST // 2
        high = low + _MOST - 1
    below, density, moment, per_sigma = 0.0, 0.0, 0.0, 1 / sigma
    for p in range(low, high + 1):
        up_to, next_density, next_moment = 1.0, 0.0, 0.0
        if p < high:
            border = (p + 1 - mean) * per_sigma
            place = min(max((border + _REACH) * _FINE, 0.0), 2 * _REACH * _FINE)
            e = int(place)
            up_to = gaussian[e, 0] + (place - e) * (gaussian[e + 1, 0] - gaussian[e, 0])
            next_density = gaussian[e, 1] + (place - e) * (gaussian[e + 1, 1] - gaussian[e, 1])
            next_moment = border * next_density
        part = up_to - below
        per_part = 1 / max(part, 1e-9)
        shift = (density - next_density) * per_part
        variance = sigma * sigma * (1 + (moment - next_moment) * per_part - shift * shift)
        parts[p - low], bins[p - low] = part, _bin(abs(mean + sigma * shift - p - 0.5), variance)
        below, density, moment = up_to, next_density, next_moment
    return low, high - low + 1


@njit(cache=True)
def _bin(distance: float, variance: float) -> int:
    """Give the bin of a share along an axis, by the distance of its centroid and its variance, in pitches."""
    spread = int(min(max(variance, 0.0) * (12 * _SPREADS), _SPREADS - 1.0))
    return min(int(distance * (2 * _BINS)), _BINS - 1) * _SPREADS + spread


@njit(cache=True)
def _add(shares: _Shares, m: int, begin: I8, responses: _Responses, window: int, charge: F4) -> None:
    """Add the responses of an event's shares to the waveforms of their pixels."""
    place, first, shape, share = shares
    current, _, ticks = responses
    for i in range(m):
        start, length, at, amount = first[i], ticks[shape[i]], begin[place[i]], share[i]
        if at == _NOWHERE:
            continue
        if start >= 0 and start + length <= window:
            # Whole blocks: what is added behind the end is 0.
            for block in range(0, length, _BLOCK):
                part, shaped = charge[at + start + block :][:_BLOCK], current[shape[i], block : block + _BLOCK]
                for t in range(_BLOCK):
                    part[t] += amount * shaped[t]
        else:
            for t in range(max(0, -start), min(length, window - start)):
                charge[at + start + t] += amount * current[shape[i], t]
