"""Charge is shared among pixels as diffusion says, and induces the published current."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from resim.keys import stream
from resim.lartpc.charge import ChargeSettings, charge
from resim.lartpc.geometry import geometry
from resim.lartpc.pixels import LENGTH, PixelSettings, pixels, response
from resim.lartpc.states import Pixels
from tests.lartpc.handmade import Segment, deposits, segment, track

LAYOUT = geometry("ndlar")
STREAM = stream(1, "muon", "pixels")
EVENTS = [
    track((10, 0, 462), (1, 2, 3), 6.0),
    [],
    track((-20, 30, 470), (1, -1, 0.3), 4.0),
    [segment((5, 5, 450), energy=1.0)],
    track((40, -20, 440), (0.1, 1, 1), 3.0, dedx=15.0),
]


def induced(events: list[list[Segment]], card: PixelSettings | None = None, **changes: float) -> Pixels:
    state = charge(deposits(events), ChargeSettings(**changes), {}, STREAM)
    return pixels(state, card or PixelSettings(), LAYOUT, STREAM)


def waves(state: Pixels) -> list[NDArray[np.float32]]:
    return np.split(state.charge["charge"], np.cumsum(state.pixels["ticks"])[:-1])


def same(one: Pixels, other: Pixels) -> bool:
    names = one.pixels.columns
    return (
        np.array_equal(one.pixels.offsets, other.pixels.offsets)
        and np.array_equal(one.charge["charge"], other.charge["charge"])
        and all(np.array_equal(one.pixels[name], other.pixels[name]) for name in names)
    )


def test_response_at_the_centre() -> None:
    """One time constant of 0.679 µs, up to 2.948 µs: each tick by hand, and the whole of it."""
    mine = response(np.zeros(1), np.zeros(1), np.zeros(1))[0]
    edges = np.minimum((np.arange(LENGTH + 1) - 0.5) * 0.1, 2.948)
    wanted = np.diff(np.exp((edges - 2.948) / 0.679))
    assert np.allclose(mine, wanted / wanted.sum(), atol=1e-3)  # the least width, 1 ns, shows in one tick


def test_response_off_the_centre() -> None:
    """At (0.1, 0.2) cm the polynomials are, by hand: a 0.91477, b 0.25349 µs, c 2.45581 µs, up to 3.2737 µs."""
    a, b, c, end = 0.91477, 0.25349, 2.45581, 3.2737
    fine = (np.arange(200_000) + 0.5) * 1e-4 - 15
    current = np.where(fine < end, a * np.exp((fine - end) / b) / b + (1 - a) * np.exp((fine - end) / c) / c, 0)
    wanted, _ = np.histogram(fine, (np.arange(LENGTH + 1) - 0.5) * 0.1, weights=current)
    mine = response(np.array([0.1]), np.array([0.2]), np.zeros(1))[0]
    assert np.allclose(mine, wanted / wanted.sum(), atol=3e-4)


def test_diffusion_widens_the_response_and_keeps_its_mean() -> None:
    centre = np.zeros(2)
    sharp, wide = response(centre, centre, np.array([0.0, 0.3]))
    ticks = np.arange(LENGTH) * 0.1
    assert sharp.sum() == pytest.approx(1)
    assert wide.sum() == pytest.approx(1)
    means = sharp @ ticks, wide @ ticks
    variances = [shape @ (ticks - mean) ** 2 for shape, mean in zip((sharp, wide), means, strict=True)]
    assert means[1] == pytest.approx(means[0], abs=0.01)
    assert variances[1] - variances[0] == pytest.approx(0.3**2, rel=0.15)  # the window cuts the early tail


def test_no_charge_is_lost_inside() -> None:
    state = induced(EVENTS, PixelSettings(least=0))
    n = len(EVENTS)
    row = np.repeat(np.arange(n), np.diff(state.charge.offsets))
    found = np.bincount(row, state.charge["charge"], minlength=n)
    clouds = state.source.clouds
    made = np.bincount(np.repeat(np.arange(n), np.diff(clouds.offsets)), clouds["electrons"], minlength=n)
    assert np.allclose(found, made, rtol=1e-5)


@pytest.mark.parametrize("sigmas", [0.0, 0.5, 1.0, -1.0])
def test_diffusion_shares_charge_between_pixels(sigmas: float) -> None:
    """A line along the drift, some sigmas from the border of two pixels: shares as the Gaussian has them."""
    row, column = 400, 128
    border = float(LAYOUT.low[30, 1] + row * LAYOUT.pitch)
    z = float(LAYOUT.low[30, 2] + (column + 0.5) * LAYOUT.pitch)
    sigma = math.sqrt(2 * 8.8e-6 * 40 / 0.159645)
    line = track((10.2, border + sigmas * sigma, z), (1, 0, 0), 0.4, dedx=20.0)
    state = induced([line])
    above = state.pixels["pixel"] // LAYOUT.columns % LAYOUT.rows >= row
    sums = np.add.reduceat(state.charge["charge"], np.concatenate([[0], np.cumsum(state.pixels["ticks"])[:-1]]))
    assert sums[above].sum() / sums.sum() == pytest.approx(0.5 * math.erfc(-sigmas / math.sqrt(2)), abs=0.01)


def test_shares_are_those_of_many_electrons() -> None:
    """A slanted track, each of its electrons displaced at random: charge of the pixels, mean time and width."""
    state = induced(EVENTS[:1])
    clouds, generator = state.source.clouds, np.random.Generator(np.random.Philox(1))
    row = np.repeat(np.arange(len(clouds["electrons"])), clouds["electrons"].astype(int))
    along = generator.random(len(row))[:, None]
    start, end = (np.stack([clouds[f"{axis}_{e}"][row] for axis in "xyz"], axis=1) for e in ("start", "end"))
    place = start + along * (end - start)
    place[:, 1:] += clouds["sigma_trans"][row, None] * generator.standard_normal((len(row), 2))
    plane = clouds["plane"][row]
    cell = np.floor((place[:, 1:] - LAYOUT.low[plane, 1:]) / LAYOUT.pitch).astype(int)
    pixel, inverse, counts = np.unique(
        LAYOUT.pixel(plane, cell[:, 1], cell[:, 0]), return_inverse=True, return_counts=True
    )
    middle = np.stack(LAYOUT.place(pixel)[1:], axis=1)[inverse]
    y, z = np.abs(place[:, 1:] - middle).T
    depth = np.abs(place[:, 0] - LAYOUT.anode[plane]) / state.source.velocity[0]
    ticks = np.arange(LENGTH) * 0.1
    shapes = response(y[::50], z[::50], clouds["sigma_long"][row[::50]].astype(float) / state.source.velocity[0])
    arrival = (depth[::50] - 2.948)[:, None] + ticks
    powers = np.stack([np.ones(len(arrival)), (shapes * arrival).sum(axis=1), (shapes * arrival**2).sum(axis=1)])
    strong = counts > 7000
    zeroth, first, second = (np.bincount(inverse[::50], power, minlength=len(pixel))[strong] for power in powers)
    mean = first / zeroth
    width = np.sqrt(second / zeroth - mean**2)
    found = {
        int(p): (wave.sum(), *mean_and_width(wave, int(begin)))
        for p, begin, wave in zip(state.pixels["pixel"], state.pixels["first"], waves(state), strict=True)
    }
    mine = np.array([found.get(p, (0.0, 0.0, 0.0)) for p in pixel.tolist()])
    assert strong.sum() > 10
    assert np.all(np.abs(mine[:, 0] - counts)[counts > 500] < 5 * np.sqrt(counts[counts > 500]) + 0.02 * counts.max())
    late = mine[strong, 1] - mean
    assert np.abs(late.mean()) < 0.05
    assert np.all(np.abs(late) < 0.3)
    wider = mine[strong, 2] / width
    assert wider.mean() == pytest.approx(1, abs=0.015)


def mean_and_width(wave: NDArray[np.float32], first: int) -> tuple[float, float]:
    """Of the current on a pixel in time, µs."""
    time = (first + np.arange(len(wave))) * 0.1
    mean = np.average(time, weights=wave)
    return mean, math.sqrt(np.average((time - mean) ** 2, weights=wave))


def test_current_ends_where_charge_arrives() -> None:
    """Above the centre of a pixel, by default, at the time of arrival; a later deposit gives the same, later."""
    z, y = float(LAYOUT.low[30, 2] + 100.5 * LAYOUT.pitch), float(LAYOUT.low[30, 1] + 300.5 * LAYOUT.pitch)
    place = (20.0, y, z)
    now = induced([[segment(place)]], diffusion_trans=0.0, diffusion_long=0.0)
    late = induced([[segment(place, time=3.0)]], diffusion_trans=0.0, diffusion_long=0.0)
    arrival = 30.4 / 0.159645 / 0.1
    end = now.pixels["first"][0] + np.flatnonzero(now.charge["charge"] > 1).max()
    assert len(now.pixels["pixel"]) == 1
    assert abs(end - arrival) <= 2
    assert late.pixels["first"][0] - now.pixels["first"][0] == 30
    assert np.array_equal(late.charge["charge"], now.charge["charge"])


def test_what_comes_after_the_window_is_lost() -> None:
    late = induced([[segment((20, 0, 462), time=400.0)], [segment((20, 0, 462))]])
    assert np.diff(late.pixels.offsets).tolist()[0] == 0
    assert np.diff(late.pixels.offsets).tolist()[1] > 0
    cut = induced([[segment((0.1, 0, 462), time=6.0)]])  # its last microseconds come after 320 µs
    assert 0 < cut.charge["charge"].sum() < 0.9 * cut.source.clouds["electrons"].sum()
    assert (cut.pixels["first"] + cut.pixels["ticks"]).max() == LAYOUT.ticks


def test_charge_that_diffuses_over_the_edge_is_lost() -> None:
    edge = float(LAYOUT.high[30, 2])
    state = induced([track((5, 0, edge), (0, 1, 0), 4.0)])
    share = state.charge["charge"].sum() / state.source.clouds["electrons"].sum()
    assert share == pytest.approx(0.5, abs=0.03)


def test_events_alone_and_in_blocks_are_the_same_bits() -> None:
    whole = induced(EVENTS)
    for row in range(len(EVENTS)):
        source = charge(deposits([EVENTS[row]], first=row), ChargeSettings(), {}, STREAM)
        assert same(pixels(source, PixelSettings(), LAYOUT, STREAM), whole.take(np.array([row])))
    order = np.array([3, 0, 4])
    assert same(pixels(whole.source.take(order), PixelSettings(), LAYOUT, STREAM), whole.take(order))


def test_pixels_rise_in_an_event() -> None:
    state = induced(EVENTS)
    row = np.repeat(np.arange(len(EVENTS)), np.diff(state.pixels.offsets))
    assert np.all(np.diff(state.pixels["pixel"])[np.diff(row) == 0] > 0)


def test_pixels_with_little_charge_are_left_out() -> None:
    every, default = induced(EVENTS, PixelSettings(least=0)), induced(EVENTS)
    sums = np.array([wave.sum() for wave in waves(every)])
    assert np.array_equal(every.pixels["pixel"][sums > 500], default.pixels["pixel"])
    assert (sums < 500).sum() > 0


def test_nothing_gives_nothing() -> None:
    assert len(induced([]).pixels) == 0
    assert induced([[], [segment((51.05, 0, 462))]]).charge["charge"].size == 0
