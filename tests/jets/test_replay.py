"""Replay against Pythia run straight through; `python -m benchmarks.replay` is the same on 5,000 events."""

import pytest

from benchmarks.replay import QUANTITIES, compare
from tests.jets.events import CONFIG


@pytest.mark.parametrize("sample", ["qcd", "hbb"])
def test_replayed_events_are_like_those_run_straight_through(sample: str) -> None:
    """Seeds are fixed, so this passes or fails for good; with p > 0.01 for each of four, chance would fail 4 %."""
    found = compare(CONFIG, sample, 300)
    assert {name: found[name]["p"] > 0.01 for name in QUANTITIES} == dict.fromkeys(QUANTITIES, True), found
