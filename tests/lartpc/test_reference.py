"""Against larnd-sim-jax's output for the same segments; what it is and how sure it is: data/README.md."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from resim.keys import stream
from resim.lartpc.charge import ChargeSettings, charge
from resim.lartpc.geometry import TICK, geometry
from resim.lartpc.pixels import PixelSettings, pixels
from resim.lartpc.readout import ReadoutSettings, readout
from resim.lartpc.states import Charge, Deposits, Hits, Primaries
from resim.ragged import Ragged, offsets_of

DATA = Path(__file__).with_name("data")
EVENTS = 6
LAYOUT = geometry("module0")
STREAM = stream(1, "reference", "pixels")
CHANGES: dict[str, dict[str, float]] = {
    "nominal": {},
    "lifetime500": {"lifetime": 500.0},
    "lifetime5000": {"lifetime": 5000.0},
    "efield045": {"field": 0.45},
    "efield055": {"field": 0.55},
    "tran4e-6": {"diffusion_trans": 4e-6},
    "tran14e-6": {"diffusion_trans": 14e-6},
}
CONSTANTS: dict[str, Any] = {"geometry": "module0", "ionisation": 1e6 / 4.237e4}
ELECTRONICS: dict[str, Any] = {
    "threshold": 5000.0,
    "v_cm": 284.277,
    "v_ref": 1282.715,
    "adc_counts": 2**20,
    "discriminator_noise": 0.0,
    "trigger_noise": False,
    "rise_time": 0.0,
    "busy": 0,
}
NOISE_FREE = ReadoutSettings(reset_noise=0.0, uncorrelated_noise=0.0, **ELECTRONICS)


@lru_cache
def segments() -> Deposits:
    table = np.load(DATA / "segments.npz")
    ends = {f"{axis}_{end}": table[f"{axis}_{end}"] for end in ("start", "end") for axis in "xyz"}
    columns = {
        "pdg": table["pdgId"],
        "track": table["trackID"].astype(np.int32),
        **ends,
        "length": table["dx"],
        "energy": table["dE"],
        "time": table["t0"].astype(np.float32),
    }
    event, zero = np.arange(EVENTS), np.zeros(EVENTS)
    primaries = Primaries(event, np.full(EVENTS, 13, np.int32), zero, np.zeros((EVENTS, 3)), np.zeros((EVENTS, 3)))
    offsets = offsets_of(np.bincount(table["eventID"], minlength=EVENTS))
    return Deposits(event, primaries, Ragged(offsets, columns), zero, zero)


def drifted(name: str) -> Charge:
    return charge(segments(), ChargeSettings(**CONSTANTS, **CHANGES[name]), {}, STREAM)


@lru_cache
def sent(name: str) -> Hits:
    state = pixels(drifted(name), PixelSettings(delay=-5.1), LAYOUT, STREAM)
    return readout(state, NOISE_FREE, {}, LAYOUT, STREAM)


class Table:
    """Hits as the reference has them."""

    def __init__(self, event: NDArray[Any], pixel: NDArray[Any], tick: NDArray[Any], ke: NDArray[Any]) -> None:
        self.event, self.pixel, self.tick, self.ke = event, pixel, tick, ke

    def first_ticks(self) -> dict[tuple[int, int], float]:
        ticks: dict[tuple[int, int], float] = {}
        for event, pixel, tick in zip(self.event.tolist(), self.pixel.tolist(), self.tick.tolist(), strict=True):
            ticks[event, pixel] = min(tick, ticks.get((event, pixel), np.inf))
        return ticks

    def pixels(self) -> int:
        return len(np.unique(self.pixel + LAYOUT.pixels * self.event))


def mine(hits: Hits, card: ReadoutSettings = NOISE_FREE) -> Table:
    event = np.repeat(np.arange(EVENTS), np.diff(hits.hits.offsets))
    ke = card.charge(hits.hits["adc"].astype(np.float64))
    return Table(event, hits.hits["pixel"], hits.hits["time"] / TICK, ke)


def reference(name: str) -> Table:
    table = np.load(DATA / f"out_{name}.npz")
    ke = table["charge_ke"].astype(np.float64)
    return Table(table["event"], table["pixel_id"] % LAYOUT.pixels, table["tick_0p1us"].astype(np.float64), ke)


def spread(table: Table) -> float:
    """RMS of the hits of event 1 about its line in the plane of the pixels, weighted with charge, cm."""
    line = segments().segments.take(np.array([1]))
    start = np.array([line["y_start"][0], line["z_start"][0]], dtype=np.float64)
    along = np.array([line["y_end"][-1], line["z_end"][-1]]) - start
    along /= np.linalg.norm(along)
    chosen = table.event == 1
    _, y, z = LAYOUT.place(table.pixel[chosen])
    across = (y - start[0]) * along[1] - (z - start[1]) * along[0]
    return float(np.sqrt(np.average(across**2, weights=table.ke[chosen])))


@pytest.mark.parametrize("name", CHANGES)
def test_charge_at_the_anode(name: str) -> None:
    clouds = drifted(name).clouds
    row = np.repeat(np.arange(EVENTS), np.diff(clouds.offsets))
    found = np.bincount(row, clouds["electrons"], minlength=EVENTS) / 1000
    summary = json.loads((DATA / "summary.json").read_text())[name]
    wanted = [summary[str(event)]["electrons_at_anode_ke"] for event in range(EVENTS)]
    assert np.allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize("name", CHANGES)
def test_collected_charge_hits_and_pixels(name: str) -> None:
    """Within four standard deviations of the difference of two seeds of the reference: 11 ke, 3 hits, 3 pixels each."""
    found, wanted = mine(sent(name)), reference(name)
    assert found.ke.sum() == pytest.approx(wanted.ke.sum(), abs=4 * np.sqrt(2) * 11)
    assert len(found.ke) == pytest.approx(len(wanted.ke), abs=4 * np.sqrt(2) * 3)
    assert found.pixels() == pytest.approx(wanted.pixels(), abs=4 * np.sqrt(2) * 3)


@pytest.mark.parametrize("name", CHANGES)
def test_drift_times(name: str) -> None:
    """First hits of the same pixels: their times agree to a tick (0.016 cm) on the median, with the offset of both."""
    found, wanted = mine(sent(name)).first_ticks(), reference(name).first_ticks()
    difference = np.array([found[pixel] - wanted[pixel] for pixel in found.keys() & wanted.keys()])
    assert len(difference) > 250
    assert abs(np.median(difference)) <= 1
    assert np.mean(np.abs(difference) <= 5) > 0.8


@pytest.mark.parametrize(("name", "width"), [("tran4e-6", 0.1271), ("nominal", 0.1309), ("tran14e-6", 0.1329)])
def test_spread_of_the_hits(name: str, width: float) -> None:
    assert spread(mine(sent(name))) == pytest.approx(width, abs=4 * 0.0012)


def test_diffusion_makes_hits() -> None:
    counts = [len(mine(sent(name)).ke) for name in ("tran4e-6", "nominal", "tran14e-6")]
    assert counts[0] < counts[1] < counts[2]


def test_diffusion_reaches_more_pixels() -> None:
    counts = [mine(sent(name)).pixels() for name in ("tran4e-6", "nominal", "tran14e-6")]
    assert counts[0] < counts[1] < counts[2]


def test_noise() -> None:
    """Reset noise 900 and uncorrelated noise 500 electrons: charge, hits and pixels within their seeds' spread."""
    card = ReadoutSettings(reset_noise=900.0, uncorrelated_noise=500.0, **ELECTRONICS)
    state = pixels(drifted("nominal"), PixelSettings(delay=-5.1), LAYOUT, STREAM)
    found, wanted = mine(readout(state, card, {}, LAYOUT, STREAM), card), reference("nominal_noise")
    assert found.ke.sum() == pytest.approx(wanted.ke.sum(), abs=4 * np.sqrt(2 * len(wanted.ke)) * 1.03)
    assert len(found.ke) == pytest.approx(len(wanted.ke), abs=20)
    assert found.pixels() == pytest.approx(wanted.pixels(), abs=20)
