"""Diffusion, and the current that arriving charge induces on the pixels: electrons a tick of 0.1 µs. cm, µs.

A segment is a Gaussian cloud: diffusion, and along each axis the variance of a line as long as its own extent. Pixels
get the integrals of the Gaussian over them: of thousands of electrons, a share differs by some tens. A share induces
current on the pixel below it alone, in the parametrised form of larnd-sim, as charge at its centroid does.
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

_BINS = 8  # of the distance to the pixel's centre, in each direction, up to half a pitch
_WIDTH_STEP, _WIDTHS = 0.05, 24  # µs: of the spread of the arrival times; beyond the last counts as the last
_LATER = _DELAY[4]  # µs/cm2: half the second derivative of the delay; times a variance, the mean delay of a spread charge
_NEGLIGIBLE = 1e-4  # of a response, at its end
_BLOCK = 16  # ticks that are added at once
_LONGEST = 0.3  # pitches; longer segments are cut
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
    """Responses by bins of the distance in z and in y, and of the width."""

    current: F4
    """(shapes, whole blocks of ticks), 0 behind the end."""
    ticks: I4
    """(shapes,) ticks up to the end."""


@lru_cache(maxsize=4)
def _responses(pitch: float) -> _Responses:
    """Tabulate the response at the middles of bins of distance, without its negligible end."""
    distance = (np.arange(_BINS) + 0.5) / _BINS * pitch / 2
    z, y, width = np.meshgrid(distance, distance, np.arange(_WIDTHS) * _WIDTH_STEP, indexing="ij")
    table = response(z.ravel(), y.ravel(), width.ravel())
    table[np.cumsum(table[:, ::-1], axis=1)[:, ::-1] < _NEGLIGIBLE] = 0
    table /= table.sum(axis=1, keepdims=True)
    current = np.zeros((len(table), -(-LENGTH // _BLOCK) * _BLOCK), np.float32)
    current[:, :LENGTH] = table
    return _Responses(current, np.count_nonzero(table, axis=1).astype(np.int32))


class _Shares(NamedTuple):
    """Shares of an event, room for the most of any: place of the pixel, first tick, response, charge."""

    place: I4
    first: I4
    shape: I4
    charge: F4


class _Touched(NamedTuple):
    """Pixels of an event in the order in which they are met, and where each pixel of the detector is among them."""

    places: I4
    """(pixels of the detector,) place plus 1, 0 of those not met."""
    pixel: I8
    first: I4
    stop: I4


class _Spread(NamedTuple):
    """How a cloud is shared along an axis: (_MOST,) each, pixels one behind the other."""

    part: F8
    bins: I8
    """Of the distance of the part's centroid to the middle of the pixel."""
    variance: F8
    """Of the part, pitches squared."""


def pixels(state: Charge, card: PixelSettings, layout: Geometry, stream: Stream) -> Pixels:  # noqa: ARG001 - a stage
    """Diffuse the charge and induce currents; what is outside the anodes and the readout window is lost.

    Parameters
    ----------
    stream
        Not used, the interface of a stage: nothing is random.
    """
    clouds = state.clouds
    table = tuple(clouds[name] for name in _USED)
    # Allocated here: NumPy takes empty pages from the system, of which few are ever touched.
    places = np.zeros(layout.pixels, np.int32)
    counts, columns, charge = _induce(
        clouds.offsets, table, state.velocity, layout, card.delay / TICK, _responses(layout.pitch), (_GAUSSIAN, _REACHES), places
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
    delay: float,
    responses: _Responses,
    gaussian: tuple[F8, F8],
    places: I4,
) -> tuple[tuple[I8, I8], tuple[I8, I4, I4], F4]:
    """Give offsets of pixels and of ticks by event, the columns of the pixels, and the charge of their ticks."""
    n = len(velocity)
    pixel_offsets, tick_offsets = np.zeros(n + 1, np.int64), np.zeros(n + 1, np.int64)
    shares, touched = _room(starts, clouds, layout.pitch, places)
    found, first, ticks = np.empty(1024, np.int64), np.empty(1024, np.int32), np.empty(1024, np.int32)
    charge = np.empty(65536, np.float32)
    for row in range(n):
        clouds_of_row = starts[row], starts[row + 1]
        m, k = _scatter(clouds_of_row, clouds, velocity[row], layout, delay, responses.ticks, gaussian, shares, touched)
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
        behind = tick_end + responses.current.shape[1]
        if behind > len(charge):
            charge = _grown(charge, 2 * behind)
        charge[tick_offsets[row] : behind] = 0
        _add(shares, m, begin, responses, layout.ticks, charge)
        pixel_offsets[row + 1], tick_offsets[row + 1] = pixel_end, tick_end
    columns = found[:pixel_end], first[:pixel_end], ticks[:pixel_end]
    return (pixel_offsets, tick_offsets), columns, charge[:tick_end]


@njit(cache=True)
def _grown(old: Any, size: int) -> Any:
    new = np.empty(size, old.dtype)
    new[: len(old)] = old
    return new


@njit(cache=True)
def _pieces(i: int, clouds: Clouds, pitch: float) -> int:
    """Give the number of clouds of a segment."""
    longest = max(abs(clouds[3][i] - clouds[0][i]), abs(clouds[4][i] - clouds[1][i]), abs(clouds[5][i] - clouds[2][i]))
    return 1 + int(longest / (_LONGEST * pitch))


@njit(cache=True)
def _room(starts: I8, clouds: Clouds, pitch: float, places: I4) -> tuple[_Shares, _Touched]:
    """Make room for the event with most shares."""
    most = 1
    for row in range(len(starts) - 1):
        count = 0
        for i in range(starts[row], starts[row + 1]):
            width = math.sqrt((clouds[10][i] / pitch) ** 2 + _LONGEST**2 / 12)
            count += _pieces(i, clouds, pitch) * min(2 + int(2 * _REACH * width), _MOST) ** 2
        most = max(most, count)
    shares = _Shares(
        np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most, np.float32)
    )
    touched = _Touched(places, np.empty(most, np.int64), np.empty(most, np.int32), np.empty(most, np.int32))
    return shares, touched


@njit(cache=True, error_model="numpy")
def _scatter(
    rows: tuple[int, int],
    clouds: Clouds,
    velocity: float,
    layout: Geometry,
    delay: float,
    lengths: I4,
    gaussian: tuple[F8, F8],
    shares: _Shares,
    touched: _Touched,
) -> tuple[int, int]:
    """Share an event's segments among pixels; give the numbers of shares and of pixels."""
    x0, y0, z0, x1, y1, z1, electrons, planes, arrival, long, trans = clouds
    to_tick, to_pixel = 1 / (velocity * TICK), 1 / layout.pitch
    later = _LATER * layout.pitch**2 / TICK
    in_y, in_z = _axis(), _axis()
    m, k = 0, 0
    for i in range(*rows):
        number, plane = _pieces(i, clouds, layout.pitch), planes[i]
        low_y, low_z, away = layout.low[plane, 1], layout.low[plane, 2], layout.away[plane]
        dx, dy, dz = (float(x1[i]) - x0[i]) / number, (float(y1[i]) - y0[i]) / number, (float(z1[i]) - z0[i]) / number
        across, charge = float(trans[i]) ** 2, electrons[i] / number
        width = math.sqrt(float(long[i]) ** 2 + dx * dx / 12) / velocity
        width_bin = min(int(width / _WIDTH_STEP + 0.5), _WIDTHS - 1)
        sigma_y, sigma_z = math.sqrt(across + dy * dy / 12) * to_pixel, math.sqrt(across + dz * dz / 12) * to_pixel
        reach = gaussian[1][min(int(charge / _FEW), len(gaussian[1]) - 1)]
        for j in range(number):
            y, z = (y0[i] + (j + 0.5) * dy - low_y) * to_pixel, (z0[i] + (j + 0.5) * dz - low_z) * to_pixel
            low_row, rows_reached = _spread(y, sigma_y, reach, gaussian[0], in_y)
            low_column, columns_reached = _spread(z, sigma_z, reach, gaussian[0], in_z)
            tick = arrival[i] / TICK + away * (j + 0.5 - 0.5 * number) * dx * to_tick + delay + 0.5
            for a in range(max(0, -low_row), min(rows_reached, layout.rows - low_row)):
                for b in range(max(0, -low_column), min(columns_reached, layout.columns - low_column)):
                    first = math.floor(tick + later * (in_y.variance[a] + in_z.variance[b]))
                    shape = (in_z.bins[b] * _BINS + in_y.bins[a]) * _WIDTHS + width_bin
                    stop = first + lengths[shape]
                    if stop <= 0 or first >= layout.ticks:
                        continue
                    pixel = low_column + b + layout.columns * (low_row + a + layout.rows * np.int64(plane))
                    place = touched.places[pixel] - 1
                    if place < 0:
                        place = k
                        k += 1
                        touched.places[pixel], touched.pixel[place] = k, pixel
                        touched.first[place], touched.stop[place] = layout.ticks, 0
                    touched.first[place] = min(touched.first[place], max(first, 0))
                    touched.stop[place] = max(touched.stop[place], min(stop, layout.ticks))
                    shares.place[m], shares.first[m], shares.shape[m] = place, first, shape
                    shares.charge[m] = charge * in_y.part[a] * in_z.part[b]
                    m += 1
    for p in range(k):
        touched.places[touched.pixel[p]] = 0
    return m, k


@njit(cache=True)
def _axis() -> _Spread:
    return _Spread(np.empty(_MOST), np.empty(_MOST, np.int64), np.empty(_MOST))


@njit(cache=True, error_model="numpy")
def _spread(mean: float, sigma: float, reach: float, gaussian: F8, found: _Spread) -> tuple[int, int]:
    """Integrate a Gaussian over the pixels that it reaches, all in pitches; give the first of them and their number.

    The centroid and the variance of each part are those of a Gaussian cut at the borders of its pixel.
    """
    low, high = math.floor(mean - reach * sigma), math.floor(mean + reach * sigma)
    if low == high:
        found.part[0], found.variance[0] = 1.0, sigma * sigma
        found.bins[0] = min(int(abs(mean - low - 0.5) * (2 * _BINS)), _BINS - 1)
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
        found.part[p - low] = part
        found.bins[p - low] = min(int(abs(mean + sigma * shift - p - 0.5) * (2 * _BINS)), _BINS - 1)
        found.variance[p - low] = sigma * sigma * max(1 + (moment - next_moment) * per_part - shift * shift, 0.0)
        below, density, moment = up_to, next_density, next_moment
    return low, high - low + 1


@njit(cache=True)
def _add(shares: _Shares, m: int, begin: I8, responses: _Responses, window: int, charge: F4) -> None:
    """Add the responses of an event's shares to the waveforms of their pixels."""
    for i in range(m):
        first, share, length = shares.first[i], shares.charge[i], responses.ticks[shares.shape[i]]
        shape, place = responses.current[shares.shape[i]], begin[shares.place[i]] + first
        if first >= 0 and first + length <= window:
            # Whole blocks: what is added behind the end is 0.
            for block in range(0, length, _BLOCK):
                part, current = charge[place + block : place + block + _BLOCK], shape[block : block + _BLOCK]
                for t in range(_BLOCK):
                    part[t] += share * current[t]
        else:
            for t in range(max(0, -first), min(length, window - first)):
                charge[place + t] += share * shape[t]
