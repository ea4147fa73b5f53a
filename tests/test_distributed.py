"""Parts made by Dask's workers are those that one process makes, also where a worker is killed."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from distributed import Client, LocalCluster

from resim.config import Config
from resim.distributed import simulate_parts
from resim.plan import choose_views
from resim.simulate import Simulation, part_ranges, simulate_part
from resim.store import write_manifest
from tests.conftest import resim
from tests.lanes import CASES, LARTPC, LaneCase

pytestmark = pytest.mark.timeout(600)  # workers of a fresh checkout compile
RANGES = part_ranges(0, 40, 10, 10)


def simulation_of(case: LaneCase) -> Simulation:
    return Simulation(Config.model_validate(case.config()), case.samples[0])


def digest(folder: Path) -> str:
    write_manifest(folder, sorted(folder.glob("part-*")))
    return resim("digest", folder).stdout


@pytest.fixture(scope="module")
def scheduler() -> Iterator[LocalCluster]:
    """Start a scheduler and two workers, which tests find by its address."""
    with LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the digest that one process gives."""
    folder, simulation = tmp_path_factory.mktemp("alone"), simulation_of(LARTPC)
    for span in RANGES:
        simulate_part(simulation, *span, folder, choose_views(simulation.all_views, LARTPC.cheap))
    return digest(folder)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_config_reaches_the_workers_as_it_is(case: LaneCase) -> None:
    simulation = simulation_of(case)
    there = Simulation(Config.model_validate_json(simulation.config.model_dump_json()), simulation.sample)
    assert [there.recipe(v) for v in there.all_views] == [simulation.recipe(v) for v in simulation.all_views]
    assert there.root_recipe == simulation.root_recipe


def test_the_digest_is_that_of_one_process(scheduler: LocalCluster, wanted: str, tmp_path: Path) -> None:
    simulation, told = simulation_of(LARTPC), list[int]()
    views = choose_views(simulation.all_views, LARTPC.cheap)
    parts = simulate_parts(scheduler.scheduler_address, simulation, RANGES, tmp_path, views, progress=told.append)
    assert [(part.first, part.stop) for part in parts] == RANGES
    assert told == [10] * 4
    assert digest(tmp_path) == wanted


def test_a_killed_worker_costs_nothing_but_time(scheduler: LocalCluster, wanted: str, tmp_path: Path) -> None:
    with Client(scheduler.scheduler_address) as client:
        before = set(client.run(os.getpid).values())

        def kill() -> None:
            while not list(tmp_path.iterdir()):
                time.sleep(0.01)
            os.kill(min(before), signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        simulation = simulation_of(LARTPC)
        views = choose_views(simulation.all_views, LARTPC.cheap)
        simulate_parts(scheduler.scheduler_address, simulation, RANGES, tmp_path, views)
        killer.join()
        client.wait_for_workers(2, timeout=60)
        assert min(before) not in client.run(os.getpid).values()
    assert digest(tmp_path) == wanted


def test_the_command_starts_workers_of_its_own(wanted: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(LARTPC.config()))
    words = ["--config", config, "--sample", LARTPC.samples[0], "--views", ",".join(LARTPC.cheap)]
    done = resim(
        "simulate", *words, "--shard-size", "20", "--out", tmp_path / "data", "--dask", "local", "--workers", 1
    )
    assert done.returncode == 0, done.stderr
    assert resim("digest", tmp_path / "data").stdout == wanted


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
def test_mistakes_are_one_line(options: list[str], told: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(LARTPC.config()))
    done = resim("simulate", "--config", config, "--sample", "proton", "--out", tmp_path / "data", *options)
    assert done.returncode == 2
    assert told in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("data/*"))
