"""Meter what the parts of a training cost."""

import resource
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

_adding = threading.Lock()  # loaders side by side share a meter; not one of its own: it is sent to other processes


@dataclass
class Meter:
    """CPU seconds of the calling thread, and objects, summed by purpose."""

    cpu_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    objects: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    @contextmanager
    def __call__(self, purpose: str, objects: int) -> Iterator[None]:
        """Add what the body costs."""
        started = time.thread_time()
        try:
            yield
        finally:
            spent = time.thread_time() - started
            with _adding:
                self.cpu_s[purpose] += spent
                self.objects[purpose] += objects

    def add(self, other: "Meter") -> None:
        """Add what another one metered, in another process or an earlier one."""
        with _adding:
            for purpose, seconds in other.cpu_s.items():
                self.cpu_s[purpose] += seconds
                self.objects[purpose] += other.objects[purpose]


def _cpu_s() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


@dataclass
class Clock:
    """CPU seconds of the whole process and of its ended children, and wall seconds, since it was made."""

    cpu_started: float = field(default_factory=_cpu_s)
    wall_started: float = field(default_factory=time.perf_counter)

    def cpu_s(self) -> float:
        """Give the CPU seconds of all threads of the process and of the children that ended."""
        return _cpu_s() - self.cpu_started

    def wall_s(self) -> float:
        """Give the wall seconds."""
        return time.perf_counter() - self.wall_started

    def add(self, cpu_s: float, wall_s: float) -> None:
        """Add what an earlier process took."""
        self.cpu_started -= cpu_s
        self.wall_started -= wall_s


@dataclass
class Spent:
    """What processes that work together have taken."""

    cpu_s: float
    """All of them."""
    wall_s: float
    """The first."""
    peak_mb: float
    """The largest."""
    meter: Meter
    """All of them."""

    @classmethod
    def together(cls, each: Sequence["Spent"]) -> "Spent":
        """Sum up what each of them took."""
        meter = Meter()
        for one in each:
            meter.add(one.meter)
        cpu_s, peak_mb = sum(one.cpu_s for one in each), max(one.peak_mb for one in each)
        return cls(cpu_s, each[0].wall_s, peak_mb, meter)


def peak_mb() -> float:
    """Give the peak resident memory of the process, MiB (Linux reports KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
