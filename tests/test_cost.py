"""Metering."""

import subprocess
import sys
import time

import pytest

from resim.cost import CostRecord, Meter, add, from_json, marginal_cost, to_json

RECORDS = (
    CostRecord("shower", "nominal", 5.0, 6.0, 300.0, 0, 0, 100, 0),
    CostRecord("detector", "nominal", 1.0, 1.0, 310.0, 0, 0, 100, 90),
    CostRecord("shower", "nominal", 4.0, 5.0, 200.0, 1, 2, 50, 0),
    CostRecord("detector", "redetected", 0.5, 0.5, 310.0, 0, 0, 100, 90),
    CostRecord("write", "redetected", 0.25, 0.5, 320.0, 0, 4096, 100, 80),
)


def _burn(seconds: float) -> None:
    start = time.process_time()
    while time.process_time() - start < seconds:
        sum(range(1000))


def test_measures_cpu_and_wall_apart() -> None:
    meter = Meter()
    with meter.measure("shower", "nominal", events=10) as measurement:
        _burn(0.05)
        time.sleep(0.05)
        measurement.objects = 7
        measurement.bytes_written = 11
    (record,) = meter.records
    assert 0.05 <= record.cpu_s < record.wall_s
    assert record.wall_s >= 0.1
    assert record.peak_mb > 5
    assert (record.stage, record.view, record.events, record.objects) == ("shower", "nominal", 10, 7)
    assert record.bytes_written == 11


def test_children_count() -> None:
    meter = Meter()
    burn = "import time\nwhile time.process_time() < 0.2: pass"
    with meter.measure("showers outside", "nominal"):
        subprocess.run([sys.executable, "-c", burn], check=True)
    assert meter.records[0].cpu_s >= 0.2


def test_adds_up_over_measurements_and_keeps_the_order() -> None:
    meter = Meter()
    for stage in ("shower", "detector", "shower"):
        with meter.measure(stage, "nominal", events=3):
            pass
    assert [(record.stage, record.events) for record in meter.records] == [("shower", 6), ("detector", 3)]


def test_what_raises_is_metered_too() -> None:
    meter = Meter()
    with pytest.raises(RuntimeError, match="gave up"), meter.measure("shower", "nominal", events=2):
        raise RuntimeError("gave up")
    assert meter.records[0].events == 2


def test_add_sums_all_but_the_peak() -> None:
    total = {(record.stage, record.view): record for record in add(RECORDS)}
    assert len(total) == 4
    assert total["shower", "nominal"] == CostRecord("shower", "nominal", 9.0, 11.0, 300.0, 1, 2, 150, 0)


def test_the_price_of_a_view_is_what_it_adds() -> None:
    assert marginal_cost(RECORDS, "redetected") == CostRecord("all", "redetected", 0.75, 1.0, 320.0, 0, 4096, 100, 90)
    assert marginal_cost(RECORDS, "nominal").cpu_s == 10.0
    assert marginal_cost(RECORDS, "unheard of") == CostRecord("all", "unheard of")


def test_json_round_trip() -> None:
    assert from_json(to_json(RECORDS)) == RECORDS
    assert from_json([{"stage": "a", "view": "b"}]) == (CostRecord("a", "b"),)
