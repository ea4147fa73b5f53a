"""Recombination, drift, attachment and diffusion have the published values."""

import math

import numpy as np
import pytest

from resim.keys import stream
from resim.lartpc.charge import THROWN, ChargeSettings, birks, box, charge, drift_velocity, mobility
from resim.lartpc.states import Charge
from tests.lartpc.handmade import deposits, segment, track

STREAM = stream(1, "muon", "charge")
IN_ARGON = (10.0, 0.0, 462.0)  # in the middle module of ND-LAr's first row


def charged(events: list, drawn: dict | None = None, **changes: object) -> Charge:
    return charge(deposits(events), ChargeSettings(**changes), drawn or {}, STREAM)


@pytest.mark.parametrize(
    ("field", "velocity"), [(0.40, 0.14205), (0.45, 0.15128), (0.50, 0.159645), (0.55, 0.16730), (0.60, 0.17435)]
)
def test_drift_velocity(field: float, velocity: float) -> None:
    """Values of larnd-sim's formula; at 0.5 kV/cm and 87 K BNL's properties page gives 1.6 mm/µs."""
    assert float(drift_velocity(field, 87.17)) == pytest.approx(velocity, rel=1e-4)


def test_mobility_at_no_field_and_its_temperature() -> None:
    assert float(mobility(0.0, 89.0)) == pytest.approx(551.6)  # a0 of Li et al., NIM A 816 (2016) 160
    assert float(mobility(0.5, 92.0) / mobility(0.5, 87.0)) == pytest.approx((92 / 87) ** -1.5)


def test_birks() -> None:
    """2.1 MeV/cm at 0.5 kV/cm: R 0.6969, 62.0 ke/cm."""
    assert birks(2.1 / (0.5 * 1.38), 0.8, 0.0486) == pytest.approx(0.6969, abs=5e-5)
    state = charged([[segment(IN_ARGON, (10, 0.1, 462), 0.21)]], lifetime=1e12)
    assert state.clouds["electrons"][0] / 0.1 == pytest.approx(62.0e3, rel=2e-3)


def test_box() -> None:
    """2.1 MeV/cm at 0.5 kV/cm: xi = 0.63, ln(1.56) / 0.63 = 0.7058 (ln 1.56 = 0.44469); no ionisation, no charge."""
    assert box(2.1 / (0.5 * 1.38), 0.93, 0.207) == pytest.approx(0.44469 / 0.63, abs=1e-4)
    assert box(0.1, 0.93, 0.207) == 0.0


def test_lifetime_and_diffusion_over_the_whole_drift() -> None:
    """From the cathode of ND-LAr: 315.7 µs, sigma 0.0503 cm along and 0.0745 cm across the drift."""
    state = charged([[segment((0.0, 0, 462), (0.0, 0.1, 462), 0.21)]])
    cloud = {name: float(column[0]) for name, column in state.clouds.columns.items()}
    assert cloud["drift_time"] == pytest.approx(315.7, abs=0.05)
    assert cloud["sigma_long"] == pytest.approx(0.0503, abs=5e-5)
    assert cloud["sigma_trans"] == pytest.approx(0.0745, abs=5e-5)
    assert cloud["electrons"] == pytest.approx(0.6969 * 0.21e6 / 23.6 * math.exp(-315.7 / 2200), rel=1e-3)


def test_charge_arrives_later_by_its_own_time() -> None:
    now, late = charged([[segment(IN_ARGON), segment(IN_ARGON, time=2.2)]]).clouds["arrival"]
    assert late - now == pytest.approx(2.2, abs=1e-4)


def test_both_sides_of_a_cathode() -> None:
    state = charged([[segment((-10, 0, 462)), segment((10, 0, 462))]])
    assert state.clouds["plane"].tolist() == [31, 30]  # module 15: fourth along the drift, first along the beam
    assert state.clouds["drift_time"][0] == pytest.approx(40.4 / 0.159645, rel=1e-4)
    assert state.clouds["drift_time"][0] == state.clouds["drift_time"][1]


def test_nothing_drifts_between_modules_or_outside() -> None:
    gap, above, before = (51.05, 0, 462), (10, 156, 462), (10, 0, 400)
    assert len(charged([[segment(gap), segment(above), segment(before)]]).clouds["electrons"]) == 0


def test_a_point_has_the_ionisation_of_the_card() -> None:
    point, line = charged([[segment(IN_ARGON, energy=0.2)], [segment(IN_ARGON, (10, 0.04, 462), 0.2)]]).clouds[
        "electrons"
    ]
    assert point == pytest.approx(line, rel=1e-6)  # 0.2 MeV on 0.04 cm are 5 MeV/cm


@pytest.mark.parametrize("model", ["birks", "box"])
def test_drawn_values_are_those_of_a_card_event_by_event(model: str) -> None:
    events = [track(IN_ARGON, (1, 2, 3), 5.0), track((-20, 30, 470), (1, -1, 0), 3.0), [segment((5, 5, 450))]]
    ranges = {
        "field": (0.45, 0.55),
        "temperature": (86, 88),
        "lifetime": (500, 5000),
        "diffusion_long": (2e-6, 9e-6),
        "diffusion_trans": (4e-6, 14e-6),
        "birks_a": (0.78, 0.88),
        "birks_k": (0.04, 0.07),
        "box_alpha": (0.9, 0.95),
        "box_beta": (0.2, 0.22),
    }
    drawn = {name: np.linspace(*ranges[name], 3) for name in THROWN}
    together = charged(events, drawn, recombination=model)
    for row, event in enumerate(events):
        alone = charged([event], recombination=model, **{name: float(drawn[name][row]) for name in THROWN})
        mine = together.clouds.take(np.array([row]))
        assert all(np.array_equal(mine[name], alone.clouds[name]) for name in mine.columns)
        assert together.velocity[row] == alone.velocity[0]


def test_monotone_in_what_is_thrown() -> None:
    event = [track(IN_ARGON, (1, 1, 1), 10.0)]

    def total(**changes: object) -> float:
        return float(charged(event, **changes).clouds["electrons"].sum())

    assert total(lifetime=500.0) < total() < total(lifetime=5000.0)
    assert total(field=0.45) < total() < total(field=0.55)
    assert total(birks_k=0.07) < total() < total(birks_a=0.88)
    wide, narrow = (charged(event, diffusion_trans=value).clouds["sigma_trans"] for value in (14e-6, 4e-6))
    assert np.allclose(wide / narrow, math.sqrt(3.5))


def test_no_events_and_empty_events() -> None:
    assert len(charged([]).clouds) == 0
    state = charged([[], track(IN_ARGON, (0, 1, 0), 1.0), []])
    assert np.diff(state.clouds.offsets).tolist() == [0, 10, 0]


def test_drawn_values_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"field: drawn values of shape \(2,\) for 1 events"):
        charged([[segment(IN_ARGON)]], {"field": np.full(2, 0.5)})
