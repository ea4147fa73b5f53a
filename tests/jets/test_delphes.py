"""Our detector against Delphes: the tolerances of `benchmarks.delphes`, on the events that the reference ships.

Keys are fixed, so these pass or fail for good.
"""

import math
from functools import cache
from typing import Any

import pytest

from benchmarks.delphes import SAMPLES, Detector, Shipped, compare_gun, compare_shipped, read_reference, read_shipped
from benchmarks.response import Row
from tests.interop.reference import reference

GROUPS = {"tracking efficiency", "e-flow track pT", "e-flow", "jets"}
GUN_GROUPS = {"tracking efficiency", "track pT", "e-flow track pT", "ECAL response", "HCAL response"}

FAULTS: dict[str, tuple[dict[str, Any], str, set[str]]] = {
    "ecal_scale": ({"ecal": {"scale": 1.05}}, "gun", {"ECAL response"}),
    "hcal_resolution": ({"hcal": {"resolution_factor": 1.2}}, "gun", {"HCAL response"}),
    "track_efficiency": ({"tracking": {"efficiency_factor": 0.95}}, "gun", {"tracking efficiency"}),
    "track_resolution": ({"tracking": {"resolution_factor": 1.2}}, "gun", {"track pT", "e-flow track pT"}),
    # without the field no track curls: the efficiency is then taken at the eta of the momentum
    "eta_of_the_momentum": ({"magnetic_field": 0.0}, "qcd", {"tracking efficiency", "e-flow"}),
    "hcal_scale": ({"hcal": {"scale": 0.85}}, "qcd", {"e-flow", "jets"}),
    "noise": ({"ecal": {"significance_min": 0.0, "energy_min": 0.0}}, "hbb", {"e-flow"}),
}


shipped = cache(read_shipped)


def compared(changes: dict[str, Any], events: str, n_passes: int = 4) -> list[Row]:
    detector, folder = Detector.of(changes), reference()
    if events == "gun":
        return compare_gun(detector, read_reference(folder)["particle_gun"], n_passes)
    return compare_shipped(Shipped.of(detector, shipped(folder, events), events, n_passes))


@cache
def unchanged(events: str) -> list[Row]:
    return compared({}, events, 12)


def groups_of(rows: list[Row]) -> set[str]:
    return {row.quantity.group.partition(",")[0] for row in rows}


def outside(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.verdict == "outside"]


def told(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.verdict != "left out"]


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_shipped_events_look_as_in_delphes(sample: str) -> None:
    rows = told(unchanged(sample))
    assert outside(rows) == []
    assert groups_of(rows) == GROUPS
    assert len(rows) > 130


def test_the_particle_gun_looks_as_in_delphes() -> None:
    rows = told(unchanged("gun"))
    assert outside(rows) == []
    assert groups_of(rows) == GUN_GROUPS
    assert len(rows) > 220


def test_what_is_not_compared_is_named() -> None:
    """Every quantity has its row whatever the events; one that lacks a side, or its entries, says so."""
    tables = [unchanged(sample) for sample in SAMPLES]
    assert {row.quantity for row in tables[0]} == {row.quantity for row in tables[1]}
    for rows in tables:
        left_out = [row for row in rows if row.verdict == "left out"]
        assert "track pT" in groups_of(left_out)  # the reference ships no tracks of before the calorimeters
        assert all(math.isnan(row.error) and math.isnan(row.ours + row.delphes) for row in left_out)
        assert "muon" in {row.quantity.group.rpartition(" ")[2] for row in left_out}


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_reference_can_tell_what_matters(sample: str) -> None:
    """Of the energy flow and the tracks between 1 and 100 GeV the reference's errors are below the tolerances."""
    within = [row for row in unchanged(sample) if row.verdict == "within"]
    assert {row.quantity.where for row in within if row.quantity.group == "e-flow"} >= {
        "EFlowTrack",
        "EFlowPhoton",
        "EFlowNeutralHadron",
        "EFlowTrack, pT",
        "EFlowPhoton, pT",
        "EFlowNeutralHadron, pT",
    }
    hadrons = [row.quantity.where for row in within if row.quantity.group == "tracking efficiency, charged_hadron"]
    assert {f"{pt}, |η| < 1.5" for pt in ("0.1 < pT < 1", "1 < pT < 10", "10 < pT < 100")} <= set(hadrons)
    assert {row.quantity.where for row in within if row.quantity.group == "jets"} >= {"pT response", "mass"}


@pytest.mark.parametrize("fault", FAULTS)
def test_another_detector_does_not_pass(fault: str) -> None:
    changes, events, seen_in = FAULTS[fault]
    assert groups_of(outside(compared(changes, events))) >= seen_in
