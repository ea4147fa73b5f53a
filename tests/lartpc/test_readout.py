"""The electronics: each tick by hand without noise, and the distributions of the noise."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from pydantic import ValidationError

from resim.keys import stream
from resim.lartpc.charge import ChargeSettings, charge
from resim.lartpc.geometry import geometry
from resim.lartpc.readout import THROWN, ReadoutSettings, readout
from resim.lartpc.states import Hits, Pixels
from resim.ragged import Ragged, offsets_of
from tests.lartpc.handmade import deposits

LAYOUT = geometry("ndlar")
STREAM = stream(1, "muon", "readout")
FINE = 2**20  # counts: what is tested is the charge, not its rounding
QUIET = {
    "reset_noise": 0.0,
    "uncorrelated_noise": 0.0,
    "discriminator_noise": 0.0,
    "rise_time": 0.0,
    "adc_counts": FINE,
}
Wave = tuple[int, int, Sequence[float]]
"""Number of a pixel, first tick, charge of its ticks."""


def waves(events: Sequence[Sequence[Wave]], first: int = 0) -> Pixels:
    source = charge(deposits([[] for _ in events], first), ChargeSettings(), {}, STREAM)
    rows = [wave for event in events for wave in event]
    table = {
        "pixel": np.array([pixel for pixel, _, _ in rows], dtype=np.int64),
        "first": np.array([tick for _, tick, _ in rows], dtype=np.int32),
        "ticks": np.array([len(values) for _, _, values in rows], dtype=np.int32),
    }
    flat = np.array([q for _, _, values in rows for q in values], dtype=np.float32)
    counts = np.array([len(event) for event in events], dtype=np.int64)
    lengths = np.array([sum(len(values) for _, _, values in event) for event in events], dtype=np.int64)
    return Pixels(
        source.event, source, Ragged(offsets_of(counts), table), Ragged(offsets_of(lengths), {"charge": flat})
    )


def sent(events: Sequence[Sequence[Wave]], drawn: Mapping[str, np.ndarray] | None = None, **changes: object) -> Hits:
    return readout(waves(events), ReadoutSettings(**changes), drawn or {}, LAYOUT, STREAM)


def values(hits: Hits, **changes: object) -> tuple[list[int], list[float]]:
    """Give ticks of the triggers and charges (electrons, to 5)."""
    card = ReadoutSettings(**changes)
    electrons = card.charge(hits.hits["adc"].astype(np.float64)) * 1000
    return (np.rint(hits.hits["time"] / 0.1).astype(int) + 1).tolist(), electrons.round(-1).tolist()


def test_digitisation() -> None:
    """larnd-sim's constants: pedestal 73.9, so 74; 988 electrons a count; 7,000 are 81; full at about 179 ke."""
    card = ReadoutSettings()
    assert card.pedestal == pytest.approx(73.87, abs=0.01)
    assert card.adc(np.array([0.0, 7.0, -1000.0, 1000.0])).tolist() == [74, 81, 0, 255]
    assert float(card.charge(np.array(101.0)) - card.charge(np.array(100.0))) == pytest.approx(0.988, abs=5e-4)
    assert float(card.charge(np.array(255.0))) == pytest.approx(179, abs=0.5)
    assert np.allclose(card.charge(card.adc(np.linspace(0, 178, 50))), np.linspace(0, 178, 50), atol=0.495)


def test_triggers_of_a_steady_current() -> None:
    """1,000 electrons a tick from tick 0: 7,000 are reached in tick 6, 18 more are added, tick 25 is lost.

    The next sum reaches 7,000 in tick 32, but the pixel is busy to tick 33; and once more.
    """
    hits = sent([[(5, 0, [1000.0] * 100)]], **QUIET)
    ticks, electrons = values(hits, **QUIET)
    assert ticks[:3] == [6, 34, 62]
    assert electrons[:3] == [25_000, 27_000, 27_000]


def test_triggers_without_a_busy_time() -> None:
    hits = sent([[(5, 0, [1000.0] * 100)]], busy=0, **QUIET)
    ticks, electrons = values(hits, **QUIET)
    assert ticks == [6, 32, 58, 84]
    assert electrons == [25_000, 25_000, 25_000, 22_000]


def test_a_remainder_is_lost_and_the_largest_number_of_hits_holds() -> None:
    assert values(sent([[(5, 10, [9000.0, *[0.0] * 30, 6000.0])]], **QUIET), **QUIET) == ([10], [9000])
    assert len(sent([[(5, 0, [1000.0] * 400)]], max_hits=4, **QUIET).hits["adc"]) == 4


def test_buffer_passes_charge_on_exponentially() -> None:
    """20 ke in tick 10 and a rise time of 0.1 µs: 12,642 at once, so the trigger; after 18 ticks all of it."""
    late = {**QUIET, "rise_time": 0.1}
    assert values(sent([[(5, 10, [20_000.0])]], **late), **late) == ([10], [20_000])
    assert values(sent([[(5, 10, [8000.0])]], **late), **late) == ([12], [8000])  # 5,057, 6,917, 7,602


def test_latency_and_window() -> None:
    assert sent([[(5, 10, [9000.0])]], **QUIET).hits["time"].tolist() == pytest.approx([0.9])
    assert sent([[(5, LAYOUT.ticks - 1, [9000.0])]], **QUIET).hits["time"].size == 1


def test_spread_of_a_value() -> None:
    """Reset and uncorrelated noise: sqrt(900² + 500²) = 1,030 electrons on a value."""
    event = [(pixel, 100, [50_000.0]) for pixel in range(4000)]
    hits = sent([event], adc_counts=FINE)
    _, electrons = values(hits, adc_counts=FINE)
    assert len(electrons) == 4000
    assert np.mean(electrons) == pytest.approx(50_000, abs=5 * 1030 / 63)
    assert np.std(electrons) == pytest.approx(1030, rel=0.05)


def test_noise_triggers_sooner_or_later() -> None:
    """A sum that stays one standard deviation below the threshold: 15.87 % a tick, so 5.30 ticks on the mean."""
    noise = {"uncorrelated_noise": 600.0, "discriminator_noise": 800.0, "reset_noise": 0.0, "rise_time": 0.0}
    event = [(pixel, 50, [6000.0]) for pixel in range(4000)]
    hits = sent([event], **noise)
    after = np.rint(hits.hits["time"] / 0.1) + 1 - 50
    _, first = np.unique(hits.hits["pixel"], return_index=True)
    assert len(first) > 400
    assert after.min() == 0
    assert after[first].mean() == pytest.approx(5.30, abs=5 * 5.8 / np.sqrt(len(first)))


def test_noise_belongs_to_the_pixel() -> None:
    event = [(pixel, 100, [3000.0, 3000.0, 2000.0] * 4) for pixel in range(300)]
    whole, some = sent([event]), sent([event[::7]])
    shared = np.isin(whole.hits["pixel"], some.hits["pixel"])
    assert some.hits["adc"].size > 10
    assert all(np.array_equal(whole.hits[name][shared], some.hits[name]) for name in whole.hits.columns)


def test_drawn_values_are_those_of_a_card_event_by_event() -> None:
    event = [(pixel, 100, [2000.0, 4000.0, 3000.0]) for pixel in range(50)]
    ranges = {
        "threshold": (5000, 9000),
        "gain": (3.8, 4.2),
        "reset_noise": (700, 1100),
        "uncorrelated_noise": (400, 600),
        "discriminator_noise": (500, 800),
        "dead_fraction": (0.0, 0.5),
    }
    drawn = {name: np.linspace(*ranges[name], 3) for name in THROWN}
    together = sent([event] * 3, drawn)
    for row in range(3):
        card = ReadoutSettings(**{name: float(drawn[name][row]) for name in THROWN})
        alone = readout(waves([event], first=row), card, {}, LAYOUT, STREAM)
        mine = together.hits.take(np.array([row]))
        assert mine["adc"].size > 0
        assert all(np.array_equal(mine[name], alone.hits[name]) for name in mine.columns)


def test_gain_scales_counts_above_the_pedestal() -> None:
    event = [(5, 100, [100_000.0])]
    low, high = (sent([event], {"gain": np.array([g])}, **QUIET).hits["adc"][0] for g in (4.0, 4.4))
    pedestal = ReadoutSettings(adc_counts=FINE).pedestal
    assert (high - pedestal) / (low - pedestal) == pytest.approx(1.1, rel=1e-5)


def test_dead_pixels_vanish() -> None:
    event = [(pixel, 100, [30_000.0]) for pixel in range(1000)]
    all_of_them = set(range(1000))
    assert set(sent([event], dead_pixels=(3, 999)).hits["pixel"].tolist()) == all_of_them - {3, 999}
    assert sent([event], dead_fraction=1.0).hits["pixel"].size == 0
    some, more = (set(sent([event], dead_fraction=share).hits["pixel"].tolist()) for share in (0.2, 0.4))
    assert more < some
    assert len(some) == pytest.approx(800, abs=60)
    twice = sent([event, event], dead_fraction=0.2)
    assert set(twice.hits["pixel"].tolist()) == some  # the same ones in every event,
    card = ReadoutSettings(dead_fraction=0.2)
    elsewhere = stream(STREAM.name[0], "pion", "readout", "noise", replica=2)
    other = readout(waves([event]), card, {}, LAYOUT, elsewhere)
    assert set(other.hits["pixel"].tolist()) == some  # sample and view


def test_hot_threshold_leaves_nothing() -> None:
    event = [(pixel, 100, [30_000.0]) for pixel in range(100)]
    assert sent([event], threshold=60_000.0).hits["adc"].size == 0


def test_no_events_and_empty_events() -> None:
    assert len(sent([]).hits) == 0
    hits = sent([[], [(5, 100, [30_000.0])], []])
    assert np.diff(hits.hits.offsets).tolist() == [0, 1, 0]


def test_voltages_must_rise() -> None:
    with pytest.raises(ValidationError, match=r"v_ref 200\.0 must be above v_cm 288\.0"):
        ReadoutSettings(v_ref=200.0)
