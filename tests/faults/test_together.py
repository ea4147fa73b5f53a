"""Several runs on one output folder."""

import subprocess
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from resim.store import extend_manifest, open_dataset
from tests.conftest import Done
from tests.faults.conftest import Faults
from tests.faults.runs import PARTS, assert_right, command, is_clear, simulate

pytestmark = pytest.mark.timeout(900)


def together(*commands: list[str]) -> list[Done]:
    running = [subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for c in commands]
    ended = [(*process.communicate(timeout=280), process) for process in running]
    return [Done(process.args, process.returncode, out, err) for out, err, process in ended]


@pytest.mark.faults
def test_two_runs_of_the_same_events_never_mix_their_files(faults: Faults, reference: Path, tmp_path: Path) -> None:
    words = command(tmp_path / "data")
    with faults.inject("two runs, same events") as outcome:
        ended = together(words, words)
        told = [done for done in ended if done.returncode]
        assert all(is_clear(done) and "another process is writing this part" in done.stderr for done in told), ended
        assert len(told) < 2
        assert_right(tmp_path / "data", reference)
        outcome.clear_error() if told else outcome.right()
    assert simulate(tmp_path / "data").returncode == 0
    assert_right(tmp_path / "data", reference)


@pytest.mark.faults
def test_two_runs_of_other_events_are_both_listed(faults: Faults, reference: Path, tmp_path: Path) -> None:
    with faults.inject("two runs, other events") as outcome:
        ended = together(*(command(tmp_path / "data", "--events", events) for events in ("0:20", "20:40")))
        assert [done.returncode for done in ended] == [0, 0]
        assert_right(tmp_path / "data", reference)
        outcome.right()


def _list(part: Path) -> None:
    extend_manifest(part.parent, [part])


def test_runs_that_end_at_the_same_time_list_the_parts_of_each_other(faults: Faults, reference: Path) -> None:
    manifest = reference / "manifest.json"
    whole = manifest.read_text()
    with ProcessPoolExecutor(len(PARTS), mp_context=get_context("spawn")) as pool:
        for _ in range(20):
            with faults.inject("manifest written by four at once") as outcome:
                manifest.unlink()
                list(pool.map(_list, [reference / name for name in PARTS]))
                assert len(open_dataset(reference).parts) == len(PARTS)
                assert manifest.read_text() == whole
                outcome.right()
