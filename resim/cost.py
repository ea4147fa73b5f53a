"""Metering: what each stage of each view takes, in a record that travels with the part and adds up over parts."""

import resource
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

START = "start"
"""Owner of what starting the engines costs: no view's price, for it comes once a process."""

STORING = ("import", "write")
"""Stages that every data set has, simulated or not: they do not tell what making a view takes."""


@dataclass(frozen=True)
class CostRecord:
    """What a stage took for a view that owns it (a stage that views share is owned by the one it is named after)."""

    stage: str
    view: str
    cpu_s: float = 0.0
    """CPU seconds, user and system, of the process and of its children that have ended."""
    wall_s: float = 0.0
    """Elapsed seconds."""
    peak_mb: float = 0.0
    """Highest resident memory of the process (or a child) up to the end of the stage, in MB of 10^6 bytes."""
    bytes_read: int = 0
    bytes_written: int = 0
    events: int = 0
    objects: int = 0

    def __add__(self, other: "CostRecord") -> "CostRecord":
        """Sum everything but the peak memory, of which the larger counts; stage and view stay those of the first."""
        return CostRecord(
            stage=self.stage,
            view=self.view,
            cpu_s=self.cpu_s + other.cpu_s,
            wall_s=self.wall_s + other.wall_s,
            peak_mb=max(self.peak_mb, other.peak_mb),
            bytes_read=self.bytes_read + other.bytes_read,
            bytes_written=self.bytes_written + other.bytes_written,
            events=self.events + other.events,
            objects=self.objects + other.objects,
        )


@dataclass
class Measurement:
    """What the measured code itself adds to its record."""

    events: int = 0
    objects: int = 0
    bytes_read: int = 0
    bytes_written: int = 0


class Meter:
    """Collects records, one for each (stage, view).

    Measurements must not be nested: the inner time would count twice.
    """

    def __init__(self) -> None:
        self._records: dict[tuple[str, str], CostRecord] = {}

    @property
    def records(self) -> tuple[CostRecord, ...]:
        """Give the records in the order in which their stages were first measured."""
        return tuple(self._records.values())

    @contextmanager
    def measure(self, stage: str, view: str, events: int = 0) -> Iterator[Measurement]:
        """Meter a block of code, also when it raises; objects and bytes are set on what is yielded."""
        measurement = Measurement(events=events)
        cpu, wall = _cpu_seconds(), time.perf_counter()
        try:
            yield measurement
        finally:
            cpu, wall = _cpu_seconds() - cpu, time.perf_counter() - wall
            self.record(CostRecord(stage, view, cpu, wall, _peak_mb(), **asdict(measurement)))

    def record(self, record: CostRecord) -> None:
        """Add a record that was measured elsewhere."""
        key = record.stage, record.view
        self._records[key] = self._records[key] + record if key in self._records else record


def add(records: Iterable[CostRecord]) -> tuple[CostRecord, ...]:
    """Sum records by stage and view, as of the parts of a data set."""
    meter = Meter()
    for record in records:
        meter.record(record)
    return meter.records


def marginal_cost(records: Iterable[CostRecord], view: str) -> CostRecord:
    """Give what a view adds: the sum over its own stages, as stage "all".

    Stages that it shares are recorded under the view that owns them and are not in it. Every stage sees the same
    events, so events and objects are the most that any stage saw, not the sum.
    """
    own = [record for record in add(records) if record.view == view]
    total = sum(own, start=CostRecord("all", view))
    events, objects = (max((getattr(r, what) for r in own), default=0) for what in ("events", "objects"))
    return replace(total, events=events, objects=objects)


def to_json(records: Iterable[CostRecord]) -> list[dict[str, Any]]:
    """Turn records into what JSON can hold."""
    return [asdict(record) for record in records]


def from_json(records: Iterable[dict[str, Any]]) -> tuple[CostRecord, ...]:
    """Turn what `to_json` gave into records again."""
    return tuple(CostRecord(**record) for record in records)


def _cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _peak_mb() -> float:
    """Give the peak resident memory; Linux counts it in KiB (getrusage(2))."""
    who = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    return max(resource.getrusage(w).ru_maxrss for w in who) * 1024 / 1e6
