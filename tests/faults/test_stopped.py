"""A simulation that is killed or told to stop: what has a part's name is whole, and the same command goes on."""

import os
import resource
import signal
from pathlib import Path

import pytest

from tests.conftest import Done
from tests.faults.conftest import Faults
from tests.faults.runs import Moment, assert_only_whole, assert_right, hidden, interrupt, is_clear, simulate

pytestmark = pytest.mark.timeout(900)
MOMENTS = [(0, 0), (0, 1), (0, 30), (0, 55), (1, 1), (2, 40), (3, 50)]


@pytest.mark.faults
def test_killed_at_any_moment_and_again_while_it_goes_on(faults: Faults, reference: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for moment in MOMENTS:
        with faults.inject("kill -9 of a simulation") as outcome:
            done, _ = interrupt(folder, moment, lambda pid: os.kill(pid, signal.SIGKILL))
            assert done.returncode == -signal.SIGKILL
            assert_only_whole(folder)
            outcome.right()
    assert simulate(folder).returncode == 0
    assert_right(folder, reference)


STOPS: list[tuple[signal.Signals, Moment]] = [
    (signal.SIGTERM, (0, 0)),
    (signal.SIGINT, (0, 30)),
    (signal.SIGTERM, (1, 30)),
    (signal.SIGTERM, (2, 55)),
]
GRACE_S = 30  # Slurm's KillWait, HTCondor's job_max_vacate_time is longer; here the machine may be busy


def test_told_to_stop_it_ends_in_time_and_leaves_nothing_half_written(
    faults: Faults, reference: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    for number, moment in STOPS:
        with faults.inject(f"{number.name} before the deadline's SIGKILL") as outcome:
            done, seconds = interrupt(folder, moment, lambda pid, n=number: os.kill(pid, n))  # type: ignore[misc]
            assert is_clear(done, 128 + number), done.stderr
            assert f"stopped by {number.name}; what is whole was kept" in done.stderr
            assert seconds < GRACE_S
            assert hidden(folder) == []
            assert_only_whole(folder)
            outcome.clear_error()
    assert simulate(folder).returncode == 0
    assert_right(folder, reference)


def limit_memory(pid: int, more_mb: int) -> None:
    """Let a process have so much more address space than it has."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    allowed = pages * resource.getpagesize() + more_mb * 1_000_000
    resource.prlimit(pid, resource.RLIMIT_AS, (allowed, allowed))


def says_memory(done: Done) -> bool:
    """Tell whether it ended with a line of ours or of a library (OpenBLAS) that names what is missing."""
    return "Traceback" not in done.stderr and "memory" in done.stderr.splitlines()[-1].lower()


@pytest.mark.faults
def test_without_memory_it_says_so_or_is_gone_and_nothing_is_half_written(
    faults: Faults, reference: Path, tmp_path: Path
) -> None:
    folder, ends = tmp_path / "data", set()
    for more_mb in (30, 100, 300):
        with faults.inject("memory runs out (RLIMIT_AS)") as outcome:
            done, _ = interrupt(folder, (0, 0), lambda pid, mb=more_mb: limit_memory(pid, mb))  # type: ignore[misc]
            ends.add(done.returncode)
            assert done.returncode <= 0 or says_memory(done), done.stderr
            assert_only_whole(folder)
            outcome.clear_error() if done.returncode else outcome.right()
    assert ends != {0}
    assert simulate(folder).returncode == 0
    assert_right(folder, reference)
