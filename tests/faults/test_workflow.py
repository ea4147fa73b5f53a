"""What happens to Snakemake itself, and to the files and times that it goes by."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
from tests.conftest import Done
from tests.e2e.runs import BIN, command, environment, resim, snakemake
from tests.e2e.test_workflow import _config, _write
from tests.faults.conftest import Faults
from tests.faults.runs import assert_right
from tests.lanes import CASES, JETS, LARTPC, LaneCase

pytestmark = pytest.mark.timeout(900)
LATE_S = 8


def data_of(case: LaneCase) -> str:
    return f"results/data/{case.samples[0]}"


def target_of(case: LaneCase) -> list[str]:
    return [f"{data_of(case)}/manifest.json", "--cores", "2"]


DATA, TARGET = data_of(LARTPC), target_of(LARTPC)


def prepared(folder: Path, case: LaneCase = LARTPC, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    _write(folder, _config(case, **changes))
    return folder


@pytest.fixture(scope="module")
def finished_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[LaneCase], Path]:
    made = dict[str, Path]()

    def find(case: LaneCase) -> Path:
        if case.name not in made:
            folder = prepared(tmp_path_factory.mktemp("finished"), case)
            done = snakemake(folder, *target_of(case))
            assert done.returncode == 0, done.stderr[-3000:]
            made[case.name] = folder
        return made[case.name]

    return find


@pytest.fixture(scope="module")
def finished(finished_of: Callable[[LaneCase], Path]) -> Path:
    return finished_of(LARTPC)


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """Give a copy of the finished run, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "run", copy_function=shutil.copy2))


def started(folder: Path, case: LaneCase = LARTPC) -> subprocess.Popen[bytes]:
    """Start Snakemake, and wait until a job is writing a part."""
    process = subprocess.Popen(
        command(folder, *target_of(case)), env=environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not list((folder / data_of(case)).glob(".part-*")):
        assert process.poll() is None
        time.sleep(0.01)
    return process


def is_locked(done: Done) -> bool:
    return done.returncode == 1 and "Directory cannot be locked" in done.stderr and "Traceback" not in done.stderr


def assert_goes_on(folder: Path, finished: Path, case: LaneCase = LARTPC) -> None:
    """Unlock it as Snakemake says, and run it again."""
    assert is_locked(snakemake(folder, *target_of(case)))
    assert snakemake(folder, "--unlock").returncode == 0
    assert_ends_right(folder, finished, case)


def assert_ends_right(folder: Path, finished: Path, case: LaneCase) -> None:
    done = snakemake(folder, *target_of(case))
    assert done.returncode == 0, done.stderr[-3000:]
    assert_right(folder / data_of(case), finished / data_of(case))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_killed_with_its_jobs_it_goes_on_once_unlocked(
    case: LaneCase, faults: Faults, finished_of: Callable[[LaneCase], Path], tmp_path: Path
) -> None:
    with faults.inject("kill -9 of Snakemake and its jobs") as outcome:
        # parts of another size than what it must be equal to
        process = started(prepared(tmp_path, case, events_per_part=40), case)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert_goes_on(tmp_path, finished_of(case), case)
        outcome.right()


@pytest.mark.parametrize("case", [JETS, pytest.param(LARTPC, marks=pytest.mark.faults)], ids=lambda case: case.name)
def test_where_its_jobs_are_killed_it_says_so_and_the_same_command_goes_on(
    case: LaneCase, faults: Faults, finished_of: Callable[[LaneCase], Path], tmp_path: Path
) -> None:
    with faults.inject("kill -9 of a job of Snakemake") as outcome:
        process = started(prepared(tmp_path, case), case)
        assert kill_simulations(process.pid) > 0
        assert process.wait(timeout=280) == 1
        assert_ends_right(tmp_path, finished_of(case), case)
        outcome.right()


def kill_simulations(session: int) -> int:
    """Kill the simulations of a session; a bare machine has no pkill."""
    killed = 0
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and _session_of(entry.name) == session:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if b"simulate" in words and words[0].rsplit(b"/")[-1].startswith(b"python"):
                    os.kill(int(entry.name), signal.SIGKILL)
                    killed += 1
    return killed


@pytest.mark.faults
def test_killed_alone_it_goes_on_once_its_jobs_have_ended(faults: Faults, finished: Path, tmp_path: Path) -> None:
    with faults.inject("kill -9 of Snakemake alone") as outcome:
        process = started(prepared(tmp_path))
        process.kill()
        process.wait()
        wait_for_orphans(process.pid)
        assert_goes_on(tmp_path, finished)
        outcome.right()


def wait_for_orphans(session: int) -> None:
    """Wait until nothing of a session is left."""
    while any(_session_of(entry.name) == session for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        time.sleep(0.1)


def _session_of(pid: str) -> int:
    try:
        return os.getsid(int(pid))
    except ProcessLookupError:
        return -1


@pytest.mark.faults
def test_a_second_run_in_the_same_folder_is_refused(faults: Faults, finished: Path, tmp_path: Path) -> None:
    with faults.inject("two Snakemakes in one folder") as outcome:
        process = started(prepared(tmp_path))
        os.killpg(process.pid, signal.SIGSTOP)  # or it may have ended before the second has started
        assert is_locked(snakemake(tmp_path, *TARGET))
        os.killpg(process.pid, signal.SIGCONT)
        assert process.wait(timeout=280) == 0
        assert_right(tmp_path / DATA, finished / DATA)
        outcome.clear_error()


@pytest.fixture
def late(folder: Path, tmp_path: Path) -> dict[str, str]:
    """Let the manifest be made again, and seen only some seconds after its job has ended, as on some network disks."""
    (folder / TARGET[0]).unlink()
    programs = tmp_path / "bin"
    programs.mkdir()
    script = programs / "resim"
    script.write_text(
        f'#!/bin/bash\n{BIN}/resim "$@" && mv {TARGET[0]} hidden\n'
        f"(sleep {LATE_S}; mv hidden {TARGET[0]}) > /dev/null 2>&1 &\n"
    )
    script.chmod(0o755)
    return {**environment(), "PATH": f"{programs}:{environment()['PATH']}"}


def run_late(folder: Path, late: dict[str, str], latency_wait: int) -> Done:
    words = command(folder, *TARGET, "--latency-wait", str(latency_wait))
    return subprocess.run(words, capture_output=True, text=True, timeout=280, check=False, env=late)


@pytest.mark.faults
def test_a_file_that_appears_late_is_waited_for(
    faults: Faults, finished: Path, folder: Path, late: dict[str, str]
) -> None:
    with faults.inject("file appears late, within latency-wait") as outcome:
        assert run_late(folder, late, 60).returncode == 0
        assert_right(folder / DATA, finished / DATA)
        outcome.right()


@pytest.mark.faults
def test_a_file_that_appears_too_late_is_told(
    faults: Faults, finished: Path, folder: Path, late: dict[str, str]
) -> None:
    with faults.inject("file appears late, after latency-wait") as outcome:
        done = run_late(folder, late, 1)
        assert done.returncode == 1
        assert "MissingOutputException" in done.stderr
        assert "--latency-wait" in done.stderr
        while (folder / "hidden").exists():
            time.sleep(0.1)
        assert snakemake(folder, *TARGET).returncode == 0
        assert_right(folder / DATA, finished / DATA)
        outcome.clear_error()


def put(files: Iterable[Path], days: float) -> None:
    """Give files times that lie so many days ahead, as a clock gives that is set back afterwards."""
    then = time.time() + days * 86400
    for file in files:
        os.utime(file, (then, then))


@pytest.mark.faults
@pytest.mark.parametrize(
    ("pattern", "days"),
    [("**/*", 1), ("**/*", -9000), ("**/done", 1), ("**/manifest.json", -9000)],
    ids=["all in the future", "all long ago", "parts after the manifest", "manifest before the parts"],
)
def test_times_of_another_clock_change_no_data(
    pattern: str, days: float, faults: Faults, finished: Path, folder: Path
) -> None:
    """Whatever is thought old is made again the same; whatever the config changes is made again however new it is."""
    with faults.inject("clock set back") as outcome:
        parts = sorted((folder / DATA).glob("part-*/digest.json"))
        written = [path.stat().st_ino for path in parts]
        put((folder / DATA).glob(pattern), days)
        assert snakemake(folder, *TARGET).returncode == 0
        assert_right(folder / DATA, finished / DATA)
        assert [path.stat().st_ino for path in parts] == written
        outcome.right()


@pytest.mark.faults
def test_a_changed_view_is_made_again_though_all_files_are_of_the_future(
    faults: Faults, finished: Path, folder: Path, tmp_path: Path
) -> None:
    with faults.inject("clock set back, then the config changed") as outcome:
        put((folder / DATA).glob("**/*"), 1)
        values = _config(LARTPC)
        values["views"][LARTPC.last] = {"from": LARTPC.cut, "set": LARTPC.change}
        _write(folder, values)
        assert snakemake(folder, *TARGET).returncode == 0
        words = ["--config", folder / "config.yaml", "--sample", LARTPC.samples[0], "--out", tmp_path / "wanted"]
        resim("simulate", *words)
        assert_right(folder / DATA, tmp_path / "wanted")
        assert resim("digest", folder / DATA) != resim("digest", finished / DATA)
        outcome.right()


@pytest.mark.faults
def test_parts_of_the_future_are_told_when_they_are_to_be_listed(faults: Faults, finished: Path, folder: Path) -> None:
    """Snakemake would make the manifest again each time, for it stays older than they are."""
    with faults.inject("clock set back between parts and manifest") as outcome:
        (folder / TARGET[0]).unlink()
        put((folder / DATA).glob("**/done"), 1)
        done = snakemake(folder, *TARGET)
        assert done.returncode == 1
        assert "This could indicate a clock skew problem" in done.stderr
        put((folder / DATA).glob("**/done"), 0)
        assert snakemake(folder, *TARGET).returncode == 0
        assert_right(folder / DATA, finished / DATA)
        outcome.clear_error()
