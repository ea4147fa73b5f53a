"""What happens to Snakemake itself, and to the files and times that it goes by."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

pytest.importorskip("torch")
from tests.conftest import Done
from tests.e2e.runs import BIN, command, environment, resim, snakemake
from tests.e2e.test_workflow import _config, _write
from tests.faults.conftest import Faults
from tests.faults.runs import assert_right
from tests.lanes import LARTPC

pytestmark = [pytest.mark.timeout(900), pytest.mark.faults]
DATA = f"results/data/{LARTPC.samples[0]}"
TARGET = [f"{DATA}/manifest.json", "--cores", "2"]
LATE_S = 8


def prepared(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    _write(folder, _config(LARTPC))
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = prepared(tmp_path_factory.mktemp("finished"))
    done = snakemake(folder, *TARGET)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """Give a copy of the finished run, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "run", copy_function=shutil.copy2))


def started(folder: Path) -> subprocess.Popen[bytes]:
    """Start Snakemake, and wait until a job is writing a part."""
    process = subprocess.Popen(
        command(folder, *TARGET), env=environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not list((folder / DATA).glob(".part-*")):
        assert process.poll() is None
        time.sleep(0.01)
    return process


def is_locked(done: Done) -> bool:
    return done.returncode == 1 and "Directory cannot be locked" in done.stderr and "Traceback" not in done.stderr


def assert_goes_on(folder: Path, finished: Path) -> None:
    """Unlock it as Snakemake says, and run it again."""
    assert is_locked(snakemake(folder, *TARGET))
    assert snakemake(folder, "--unlock").returncode == 0
    done = snakemake(folder, *TARGET)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_right(folder / DATA, finished / DATA)


def test_killed_with_its_jobs_it_goes_on_once_unlocked(faults: Faults, finished: Path, tmp_path: Path) -> None:
    with faults.inject("kill -9 of Snakemake and its jobs") as outcome:
        process = started(prepared(tmp_path))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert_goes_on(tmp_path, finished)
        outcome.right()


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


def test_a_file_that_appears_late_is_waited_for(
    faults: Faults, finished: Path, folder: Path, late: dict[str, str]
) -> None:
    with faults.inject("file appears late, within latency-wait") as outcome:
        assert run_late(folder, late, 60).returncode == 0
        assert_right(folder / DATA, finished / DATA)
        outcome.right()


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
