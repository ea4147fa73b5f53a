"""Deposits made by hand."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from resim.lartpc.states import SEGMENT_COLUMNS, Deposits, Primaries
from resim.ragged import Ragged, offsets_of

Segment = tuple[tuple[float, float, float], tuple[float, float, float], float, float]
"""Start and end (cm), energy (MeV), time (µs)."""


def segment(
    start: Sequence[float], end: Sequence[float] | None = None, energy: float = 0.2, time: float = 0.0
) -> Segment:
    a, b = np.asarray(start, dtype=float), np.asarray(start if end is None else end, dtype=float)
    return (a[0], a[1], a[2]), (b[0], b[1], b[2]), energy, time


def track(
    start: Sequence[float], direction: Sequence[float], length: float, dedx: float = 2.1, step: float = 0.1
) -> list[Segment]:
    """Give a straight line in steps of equal length, cm; dE/dx in MeV/cm."""
    unit = np.asarray(direction, dtype=float) / np.linalg.norm(direction)
    points = np.asarray(start) + np.arange(round(length / step) + 1)[:, None] * step * unit
    return [segment(a, b, dedx * step) for a, b in pairwise(points)]


def deposits(events: Sequence[Sequence[Segment]], first: int = 0) -> Deposits:
    """Put events, numbered from `first`, into a block."""
    n, rows = len(events), [row for event in events for row in event]
    ends = np.array([[*a, *b] for a, b, _, _ in rows], dtype=float).reshape(-1, 6)
    values = {
        "pdg": np.full(len(rows), 13),
        "track": np.zeros(len(rows)),
        **dict(zip(("x_start", "y_start", "z_start", "x_end", "y_end", "z_end"), ends.T, strict=True)),
        "length": np.linalg.norm(ends[:, 3:] - ends[:, :3], axis=1),
        "energy": np.array([energy for *_, energy, _ in rows]),
        "time": np.array([time for *_, time in rows]),
    }
    columns = {name: np.asarray(values[name]).astype(dtype) for name, dtype in SEGMENT_COLUMNS.items()}
    event, zero = first + np.arange(n), np.zeros(n)
    primaries = Primaries(event, np.full(n, 13, dtype=np.int32), zero, np.zeros((n, 3)), np.zeros((n, 3)))
    offsets = offsets_of(np.array([len(e) for e in events], dtype=np.int64))
    return Deposits(event, primaries, Ragged(offsets, columns), zero, zero)
