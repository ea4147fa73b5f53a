"""Parts made by Dask's workers are those that one process makes, also where a worker is killed."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import dask_jobqueue  # noqa: F401 - its defaults, before tests set some for a while
import psutil
import pytest
from distributed import Client, LocalCluster

from resim.config import Config
from resim.distributed import _connected, _make, simulate_parts
from resim.errors import UserError
from resim.plan import choose_views
from resim.simulate import Simulation, part_ranges, simulate_part
from resim.store import validate, write_manifest
from tests.conftest import resim
from tests.e2e.runs import BIN
from tests.lanes import CASES, LARTPC, LaneCase

pytestmark = pytest.mark.timeout(600)  # workers of a fresh checkout compile
RANGES = part_ranges(0, 40, 10, 10)
SAMPLE = LARTPC.samples[0]
JOB = {"cores": 1, "memory": "2 GB", "disk": "1 GB"}


def simulation_of(case: LaneCase, sample: str | None = None) -> Simulation:
    return Simulation(Config.model_validate(case.config()), sample or case.samples[0])


def digest(folder: Path) -> str:
    write_manifest(folder, sorted(folder.glob("part-*")))
    return resim("digest", folder).stdout


def make(scheduler: str, folder: Path, sample: str = SAMPLE, **more: Any) -> None:
    simulation = simulation_of(LARTPC, sample)
    simulate_parts(scheduler, simulation, RANGES, folder, choose_views(simulation.all_views, LARTPC.cheap), **more)


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """Start a scheduler and two workers of two threads, which tests find by its address."""
    with LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the digest that one process gives."""
    folder, simulation = tmp_path_factory.mktemp("alone"), simulation_of(LARTPC)
    for span in RANGES:
        simulate_part(simulation, *span, folder, choose_views(simulation.all_views, LARTPC.cheap))
    return digest(folder)


@contextlib.contextmanager
def killed_while_writing(folder: Path, times: int) -> Iterator[list[Path]]:
    """Kill the workers that write the first parts; a part's temporary name ends with the number of its process."""
    half, ended = list[Path](), threading.Event()

    def kill() -> None:
        while len(half) < times and not ended.is_set():
            for path in folder.glob(".part-*-*"):
                pid = path.name.rpartition("-")[2]
                if pid.isdecimal() and path not in half:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
                        half.append(path)
            time.sleep(0.001)

    killer = threading.Thread(target=kill)
    killer.start()
    yield half
    ended.set()
    killer.join()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_config_reaches_the_workers_as_it_is(case: LaneCase) -> None:
    simulation = simulation_of(case)
    there = Simulation(Config.model_validate_json(simulation.config.model_dump_json()), simulation.sample)
    assert [there.recipe(v) for v in there.all_views] == [simulation.recipe(v) for v in simulation.all_views]
    assert there.root_recipe == simulation.root_recipe


def test_the_digest_is_that_of_one_process(scheduler: str, wanted: str, tmp_path: Path) -> None:
    simulation, told = simulation_of(LARTPC), list[int]()
    views = choose_views(simulation.all_views, LARTPC.cheap)
    parts = simulate_parts(scheduler, simulation, RANGES, tmp_path, views, progress=told.append)
    assert [(part.first, part.stop) for part in parts] == RANGES
    assert told == [10] * 4
    assert digest(tmp_path) == wanted


def test_a_worker_killed_at_half_a_part_costs_nothing_but_time(
    scheduler: str, wanted: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with killed_while_writing(tmp_path, 2) as half:
        make(scheduler, tmp_path)
    assert len(half) == 2
    assert digest(tmp_path) == wanted
    assert not validate(tmp_path)
    for _ in half:
        record_property("fault", ("kill -9 of a Dask worker", "right"))
    with Client(scheduler) as client:
        client.wait_for_workers(2, timeout=60)


def test_a_scheduler_without_workers_is_waited_for_with_a_word(wanted: str, tmp_path: Path, write_config: Any) -> None:
    words = ["--config", write_config(LARTPC.config()), "--sample", SAMPLE, "--out", tmp_path / "data"]
    spread = ["--events", "0:40", "--shard-size", 10, "--views", ",".join(LARTPC.cheap)]
    with LocalCluster(n_workers=0, threads_per_worker=1, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        command = [BIN / "resim", "simulate", *words, *spread, "--dask", address]
        with subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True) as run:
            assert run.stderr is not None
            assert run.stderr.readline() == f"resim: the scheduler at {address} has no workers yet; waiting for some\n"
            cluster.scale(1)
            assert run.wait(200) == 0
            assert run.stderr.read() == ""
    assert resim("digest", tmp_path / "data").stdout == wanted


def test_a_part_that_kills_its_workers_is_named(tmp_path: Path) -> None:
    told = r"--dask local: part-\d+-\d+ lost its worker 2 times, to a lack of memory most likely; give each more"
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        killed_while_writing(tmp_path, 99),
        pytest.raises(UserError, match=told),
    ):
        make("local", tmp_path, workers=1)


def test_a_mistake_that_a_worker_finds_is_the_same_line(scheduler: str, tmp_path: Path, write_config: Any) -> None:
    proton, electron = LARTPC.samples
    words = ["--config", write_config(LARTPC.config()), "--out", tmp_path / "data", "--views", "nominal"]
    assert resim("simulate", *words, "--sample", proton, "--events", "10:20").returncode == 0
    # without a manifest nobody looks before the workers do
    spread = ["--shard-size", 10, "--dask", scheduler, "--no-manifest"]
    done = resim("simulate", *words, "--sample", electron, *spread)
    part = tmp_path / "data" / "part-00000010-00000020"
    assert done.returncode == 2
    assert done.stderr == f"resim: {part}: holds the sample {proton!r}, not {electron!r}; choose another --out\n"


def test_a_worker_of_another_version_makes_nothing(tmp_path: Path) -> None:
    simulation = simulation_of(LARTPC)
    told, recipes = (simulation.config.model_dump_json(), SAMPLE, None), {"nominal": "of another version"}
    with pytest.raises(UserError, match=r"would make view 'nominal' otherwise: .* start workers in this command's"):
        _make(told, (0, 10), str(tmp_path / "data"), recipes)
    assert not (tmp_path / "data").exists()


def test_own_workers_have_a_thread_each_and_no_port_open_to_others() -> None:
    with _connected("local", 2) as client:
        threads = client.run(lambda: (os.environ["OMP_NUM_THREADS"], os.environ["OPENBLAS_NUM_THREADS"]))
        assert list(threads.values()) == [("1", "1")] * 2
        assert set(client.nthreads().values()) == {1}
        limits = [worker["memory_limit"] for worker in client.scheduler_info(-1)["workers"].values()]
        assert sum(limits) <= psutil.virtual_memory().total
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        ports = [port for process in processes for port in process.net_connections("inet") if port.status == "LISTEN"]
        assert ports
        assert {port.laddr.ip for port in ports} <= {"127.0.0.1", "::1"}


def test_the_command_starts_workers_of_its_own(wanted: str, tmp_path: Path, write_config: Any) -> None:
    words = ["--config", write_config(LARTPC.config()), "--sample", SAMPLE, "--views", ",".join(LARTPC.cheap)]
    words += ["--shard-size", 20, "--out", tmp_path / "data", "--dask", "local", "--workers", 1]
    done = resim("simulate", *words)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert resim("digest", tmp_path / "data").stdout == wanted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda s: s.name)
def test_workers_end_with_the_command(number: signal.Signals, tmp_path: Path, write_config: Any) -> None:
    config = write_config(LARTPC.config(block_size=1, events_per_part=1))
    words = ["simulate", "--config", config, "--sample", SAMPLE, "--out", tmp_path / "data", "--views", "nominal"]
    command = [BIN / "resim", *words, "--dask", "local", "--workers", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as running:
        while not list((tmp_path / "data").glob("part-*")):
            assert running.poll() is None
            time.sleep(0.01)
        workers = psutil.Process(running.pid).children(recursive=True)
        assert workers
        if number == signal.SIGINT:  # a terminal sends it to all
            os.killpg(running.pid, number)
        else:
            running.send_signal(number)
        error = running.communicate(timeout=60)[1]
    assert running.returncode != 0
    assert "Traceback" not in error
    assert psutil.wait_procs(workers, timeout=30)[1] == []
    assert not [found for part in (tmp_path / "data").glob("part-*") for found in validate(part)]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--dask", "tcp://127.0.0.1:1"], "--dask tcp://127.0.0.1:1: no scheduler answers there; give local, slurm"),
        (["--dask", "nonsense"], "--dask nonsense: no scheduler answers there"),
        (["--workers", "2"], "--workers: are Dask's; give --dask with it"),
        (
            ["--dask", "tcp://127.0.0.1:1", "--workers", "2"],
            "--workers 2: the scheduler at tcp://127.0.0.1:1 has its own",
        ),
        (["--dask", "slurm"], "jobqueue.slurm says nothing of cores and memory in Dask's configuration"),
    ],
)
def test_mistakes_are_one_line(options: list[str], told: str, tmp_path: Path, write_config: Any) -> None:
    words = ["--config", write_config(LARTPC.config()), "--sample", SAMPLE, "--out", tmp_path / "data"]
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        done = resim("simulate", *words, *options)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("data/*"))


def test_jobs_are_asked_for_where_they_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        dask.config.set({f"jobqueue.htcondor.{key}": value for key, value in JOB.items()}),
        pytest.raises(UserError, match="--dask htcondor: condor_submit is not found; run this where jobs are"),
    ):
        make("htcondor", tmp_path / "data")


def test_a_refused_job_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask alone prints a traceback and waits forever."""
    program = tmp_path / "condor_submit"
    program.write_text("#!/bin/sh\necho 'ERROR: no queue manager' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with (
        dask.config.set({f"jobqueue.htcondor.{key}": value for key, value in JOB.items()}),
        pytest.raises(
            UserError, match=r"--dask htcondor: condor_submit refuses the job \(ERROR: no queue manager\); mend"
        ),
    ):
        make("htcondor", tmp_path / "data", workers=2)


def test_a_scheduler_that_goes_away_is_told(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    file = tmp_path / "scheduler.json"
    with subprocess.Popen([*command, "--no-dashboard", "--scheduler-file", file], stderr=subprocess.DEVNULL) as started:
        while not file.exists() or not file.read_text():
            time.sleep(0.05)
        with Client(scheduler_file=str(file)) as client:
            address = client.scheduler.address
        timer = threading.Timer(3, started.kill)  # there is no worker, so the command waits
        timer.start()
        with pytest.raises(UserError, match=f"--dask {address}: the scheduler is gone; start it, and run"):
            make(address, tmp_path / "data")
        timer.join()
