"""Self-triggered pixels: threshold, noise, integration, digitisation, as LArPix and larnd-sim do. Electrons, mV, ticks.

A pixel adds up its charge from a Gaussian beginning (reset noise), behind a buffer that passes it on exponentially. In
each tick the sum plus its noise is compared with the threshold plus the discriminator's; from the tick that reaches it,
`hold` more are added, the value is digitised, the pixel is reset. Only pixels that charge arrives at are looked at:
a hit of noise alone, on a pixel without charge, is not made.
"""

import math
from typing import Annotated, NamedTuple, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import BaseModel, Field, model_validator
from scipy.special import log_ndtr

from resim.keys import Stream, four
from resim.lartpc.charge import Drawn, event_values
from resim.lartpc.geometry import TICK, Geometry
from resim.lartpc.pixels import grown
from resim.lartpc.states import F8, HIT_COLUMNS, I4, I8, Hits, Pixels
from resim.ragged import Ragged

F4 = NDArray[np.float32]

_FAR = 5.0  # standard deviations of noise that are taken as decided: 3e-7 of the ticks
_STEPS = 200  # entries of the table of hazards in a standard deviation
_HAZARDS = -log_ndtr(np.linspace(-_FAR, _FAR, round(2 * _FAR * _STEPS) + 1))
_CERTAIN = 1e9
_PLACES = 20  # bits for the draws of one pixel


class Digitisation(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """Charge to ADC counts, and back; defaults are larnd-sim's for ND-LAr."""

    gain: float = Field(4.0, gt=0, le=1000, description="mV for 1,000 electrons")
    v_pedestal: float = Field(580.0, description="voltage without charge, mV; from v_cm to below v_ref")
    v_cm: float = Field(288.0, ge=-10_000, le=10_000, description="voltage of ADC count 0, mV")
    v_ref: float = Field(1300.0, ge=-10_000, le=10_000, description="voltage at which the counts end, mV")
    adc_counts: int = Field(256, ge=2, le=2**24, description="number of ADC counts")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.v_ref <= self.v_cm:
            raise ValueError(f"v_ref {self.v_ref} must be above v_cm {self.v_cm}")
        if not self.v_cm <= self.v_pedestal < self.v_ref:
            allowed = f"from v_cm {self.v_cm} to below v_ref {self.v_ref}"
            raise ValueError(f"v_pedestal {self.v_pedestal} must be {allowed}")
        return self

    @property
    def pedestal(self) -> float:
        """Give the ADC counts of no charge, not rounded."""
        return (self.v_pedestal - self.v_cm) * self.adc_counts / (self.v_ref - self.v_cm)

    def charge(self, adc: F8) -> F8:
        """Turn ADC counts into charge, ke: the inverse of the digitisation."""
        return (adc / self.adc_counts * (self.v_ref - self.v_cm) + self.v_cm - self.v_pedestal) / self.gain

    def adc(self, charge: F8) -> F8:
        """Digitise charge, ke."""
        counts = np.maximum(charge * self.gain + self.v_pedestal - self.v_cm, 0)
        return np.minimum(np.rint(counts * self.adc_counts / (self.v_ref - self.v_cm)), self.adc_counts - 1)


class ReadoutSettings(Digitisation):
    """The electronics of a pixel; defaults are larnd-sim's for ND-LAr."""

    threshold: float = Field(7000.0, gt=0, le=1e9, description="charge at which a pixel triggers, electrons")
    reset_noise: float = Field(900.0, ge=0, le=1e6, description="spread of the charge after a reset, electrons")
    uncorrelated_noise: float = Field(
        500.0, ge=0, le=1e6, description="spread from tick to tick, and of a value, electrons"
    )
    discriminator_noise: float = Field(650.0, ge=0, le=1e6, description="spread of the threshold, electrons")
    trigger_noise: bool = Field(
        True, description="whether the last two take part in every tick's decision; larnd-sim-jax: no"
    )
    rise_time: float = Field(
        0.1, ge=0, le=100, description="time constant of the buffer, µs; 0: none, as in larnd-sim-jax"
    )
    hold: int = Field(
        18, ge=0, le=10_000, description="ticks of integration after the trigger: 3 and the ADC's hold delay of 15"
    )
    reset: int = Field(1, ge=0, le=10_000, description="ticks of a reset, whose charge is lost")
    busy: int = Field(
        9,
        ge=0,
        le=10_000,
        description="ticks after a hit without a trigger, the reset's first among them; larnd-sim-jax: 0",
    )
    latency: int = Field(
        -1,
        ge=-10_000,
        le=10_000,
        description="ticks from the trigger to the time of the hit: 19 to the end of the hold, less 2 µs",
    )
    max_hits: int = Field(10, ge=1, le=10_000, description="most hits of a pixel in an event")
    dead_fraction: float = Field(
        0.0, ge=0, le=1, description="share of dead pixels: the same in all events, samples and views"
    )
    dead_pixels: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (), description="numbers of further dead pixels, of those that the geometry has"
    )


THROWN = "threshold", "gain", "reset_noise", "uncorrelated_noise", "discriminator_noise", "dead_fraction"
"""Fields of the card that may be drawn event by event."""


class _Values(NamedTuple):
    """The fields `THROWN`, (n,) each."""

    threshold: F8
    gain: F8
    reset_noise: F8
    uncorrelated_noise: F8
    discriminator_noise: F8
    dead_fraction: F8


class _Pixel(NamedTuple):
    """What the loop over ticks needs of the card, and of an event's values."""

    threshold: float
    reset_noise: float
    value_noise: float
    discriminator_noise: float
    hopeless: float
    """Sum that noise does not lift to the threshold."""
    steps: float
    """Entries of the table of hazards in an electron; 0 without noise."""
    passed: float
    """Share of its charge that the buffer passes on in a tick,"""
    kept: float
    """and that it keeps."""
    hold: int
    reset: int
    busy: int
    window: int
    hazards: F8
    """Of a trigger in a tick, by standard deviations that the sum lacks, from -_FAR to _FAR."""


class _Draws(NamedTuple):
    """Where the random numbers of a pixel begin."""

    key0: np.uint64
    key1: np.uint64
    event: int
    place: int


def readout(state: Pixels, card: ReadoutSettings, drawn: Drawn, layout: Geometry, stream: Stream) -> Hits:
    """Run the electronics of all pixels with charge.

    Parameters
    ----------
    drawn
        Values event by event of fields in `THROWN`; other names are left to other stages.
    stream
        Noise belongs to an event and a pixel in it, whatever the other pixels do. Which pixels are dead hangs on the
        seed alone: they are the detector's, and a larger share has those of a smaller one.
    """
    values = _Values(*event_values(card, drawn, THROWN, len(state.event)))
    passed = 1 - math.exp(-TICK / card.rise_time) if card.rise_time > 0 else 1.0
    ticks = (passed, card.hold, card.reset, card.busy, layout.ticks, card.max_hits, card.trigger_noise)
    dead = np.isin(state.pixels["pixel"], np.array(card.dead_pixels, dtype=np.int64))
    table = state.pixels["pixel"], state.pixels["first"], state.pixels["ticks"]
    offsets, pixel, tick, electrons, row = _trigger(
        state.event,
        state.pixels.offsets,
        state.charge.offsets,
        table,
        state.charge["charge"],
        values,
        ticks,
        (stream.key, Stream((stream.name[0], "dead pixels")).key),
        dead,
        _HAZARDS,
    )
    adc = card.model_copy(update={"gain": 1.0}).adc(electrons * values.gain[row] / 1000)
    keep = adc > np.rint(card.pedestal)
    kept = np.concatenate([[0], np.cumsum(keep)])[offsets]
    times = (tick[keep] + card.latency) * TICK
    columns = {"pixel": pixel[keep], "time": times, "adc": adc[keep]}
    hits = {name: columns[name].astype(dtype) for name, dtype in HIT_COLUMNS.items()}
    return Hits(state.event, state.source, Ragged(kept, hits))


@njit(cache=True)
def _trigger(
    events: I8,
    pixel_offsets: I8,
    tick_offsets: I8,
    table: tuple[I8, I4, I4],
    charge: NDArray[np.float32],
    values: _Values,
    ticks: tuple[float, int, int, int, int, int, bool],
    keys: tuple[NDArray[np.uint64], NDArray[np.uint64]],
    dead: NDArray[np.bool_],
    hazards: F8,
) -> tuple[I8, I8, I8, F8, I8]:
    """Give offsets of the hits by event, and their pixel, tick of the trigger, electrons, and row of the event."""
    pixels, first, length = table
    passed, hold, reset, busy, window, max_hits, noisy = ticks
    offsets = np.zeros(len(events) + 1, np.int64)
    room = max(256, len(pixels))
    pixel, tick, electrons, rows = (
        np.empty(room, np.int64),
        np.empty(room, np.int64),
        np.empty(room),
        np.empty(room, np.int64),
    )
    found_tick, found_charge, end = np.empty(max_hits, np.int64), np.empty(max_hits), 0
    for row in range(len(events)):
        own, discriminator = values.uncorrelated_noise[row], values.discriminator_noise[row]
        both = math.sqrt(own * own + discriminator * discriminator) if noisy else 0.0
        settings = _Pixel(
            values.threshold[row],
            values.reset_noise[row],
            own,
            discriminator,
            values.threshold[row] - _FAR * both,
            _STEPS / both if both > 0 else 0.0,
            passed,
            1 - passed,
            hold,
            reset,
            busy,
            window,
            hazards,
        )
        begin = tick_offsets[row]
        for i in range(pixel_offsets[row], pixel_offsets[row + 1]):
            wave = charge[begin : begin + length[i]]
            begin += length[i]
            if dead[i] or _is_dead(pixels[i], values.dead_fraction[row], keys[1]):
                continue
            draws = _Draws(keys[0][0], keys[0][1], events[row], pixels[i] << _PLACES)
            count = _hits(wave, first[i], settings, draws, found_tick, found_charge)
            if end + count > len(pixel):
                size = 2 * (end + count)
                pixel, tick, rows = grown(pixel, size), grown(tick, size), grown(rows, size)
                electrons = grown(electrons, size)
            for j in range(count):
                pixel[end], tick[end], electrons[end], rows[end] = pixels[i], found_tick[j], found_charge[j], row
                end += 1
        offsets[row + 1] = end
    return offsets, pixel[:end], tick[:end], electrons[:end], rows[:end]


@njit(cache=True)
def _is_dead(pixel: int, fraction: float, key: NDArray[np.uint64]) -> bool:
    """Say whether a pixel is dead by the key, which is the same in all events."""
    return fraction > 0 and four(key[0], key[1], 0, pixel)[0] < fraction


@njit(cache=True, error_model="numpy")
def _hits(  # noqa: C901 - calls in its loops make it twice as slow
    wave: F4, first: int, s: _Pixel, draws: _Draws, found_tick: I8, found_charge: F8
) -> int:
    """Run a pixel through its ticks; fill in triggers and values, and give their number.

    `wave` is its charge from tick `first` on; before and after it, only noise is compared with the threshold. The
    tick of a trigger comes from one exponential number, used up by the hazards of the ticks: exact, and one draw
    instead of one a tick. Where not even eight ticks bring the sum into reach of the threshold, they are one step.
    """
    stop, count, free, t, place = first + len(wave), 0, 0, 0, draws.place
    noise, _, patience = _drawn(draws, place)
    summed, buffered, left = s.reset_noise * noise, 0.0, _total(wave)
    while t < s.window and count < len(found_tick) and summed + buffered + left >= s.hopeless:
        if t < first or (t >= stop and buffered < 1):
            t, until = max(t, free), first if t < first else s.window
            hazard = _hazard(summed, s)
            if t >= until or patience >= hazard * (until - t):
                patience -= hazard * max(until - t, 0)
                t = until
                continue
            t += int(patience / hazard)
        else:
            while t + 8 <= stop and summed < s.hopeless:
                eight, rest = _eight(wave[t - first : t - first + 8], buffered, s.kept)
                if summed + buffered + eight - rest >= s.hopeless:
                    break
                summed, buffered, left, t = summed + buffered + eight - rest, rest, left - eight, t + 8
            in_reach, end = False, max(stop, t + 1)
            while t < end and not in_reach:
                charge = float(wave[t - first]) if t < stop else 0.0
                left -= charge
                summed += (buffered + charge) * s.passed
                buffered = (buffered + charge) * s.kept
                t += 1
                in_reach = summed >= s.hopeless
            if t <= free or not in_reach:
                continue
            patience -= _hazard(summed, s)
            if patience >= 0:
                continue
            t -= 1
        trigger = t
        for t in range(trigger + 1, trigger + 1 + s.hold):
            charge = float(wave[t - first]) if first <= t < stop else 0.0
            left -= charge
            summed += (buffered + charge) * s.passed
            buffered = (buffered + charge) * s.kept
        t = trigger + 1 + s.hold + s.reset
        of_value, of_threshold, _ = _drawn(draws, place + 1)
        value = summed + s.value_noise * of_value
        if value >= s.threshold + s.discriminator_noise * of_threshold:
            found_tick[count], found_charge[count] = trigger, value
            count += 1
            free = t + max(s.busy - 1, 0)
        place += 2
        noise, _, patience = _drawn(draws, place)
        summed, buffered = s.reset_noise * noise, 0.0
    return count


@njit(cache=True)
def _drawn(draws: _Draws, place: int) -> tuple[float, float, float]:
    """Draw two standard normals (Box and Muller), and an exponential of mean 1."""
    a, b, c, _ = four(draws.key0, draws.key1, draws.event, place)
    radius, angle = math.sqrt(-2 * math.log1p(-a)), 2 * math.pi * b
    return radius * math.cos(angle), radius * math.sin(angle), -math.log1p(-c)


@njit(cache=True)
def _eight(wave: F4, buffered: float, kept: float) -> tuple[float, float]:
    """Give the charge of eight ticks, and what the buffer keeps after them."""
    a, b, c, d = float(wave[0]), float(wave[1]), float(wave[2]), float(wave[3])
    e, f, g, h = float(wave[4]), float(wave[5]), float(wave[6]), float(wave[7])
    two = kept * kept
    early = ((a + buffered) * kept + b) * two + (c * kept + d)
    late = (e * kept + f) * two + (g * kept + h)
    return (a + b + c + d) + (e + f + g + h), (early * two * two + late) * kept


@njit(cache=True)
def _total(wave: F4) -> float:
    """Add up, in eight sums that do not wait for each other."""
    a = b = c = d = e = f = g = h = np.float32(0)
    whole = len(wave) // 8 * 8
    for i in range(0, whole, 8):
        a, b, c, d = a + wave[i], b + wave[i + 1], c + wave[i + 2], d + wave[i + 3]
        e, f, g, h = e + wave[i + 4], f + wave[i + 5], g + wave[i + 6], h + wave[i + 7]
    total = float((a + b) + (c + d)) + float((e + f) + (g + h))
    for i in range(whole, len(wave)):
        total += float(wave[i])
    return total


@njit(cache=True, error_model="numpy")
def _hazard(summed: float, s: _Pixel) -> float:
    """Give -log of the probability that Gaussian noise does not lift a sum to the threshold in a tick."""
    if summed < s.hopeless:
        return 0.0
    place = (s.threshold - summed) * s.steps + _FAR * _STEPS
    if place <= 0 or s.steps == 0:
        return _CERTAIN
    i = min(int(place), len(s.hazards) - 2)
    return s.hazards[i] + (place - i) * (s.hazards[i + 1] - s.hazards[i])
