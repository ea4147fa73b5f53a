"""The workflow through the Slurm profile, on a real Slurm of one node."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.slurm import Slurm, missing, slurm_of_one_node
from tests.conftest import ROOT
from tests.e2e.runs import command, environment, resim, snakemake
from tests.lanes import LARTPC

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(missing()), reason=f"NO SLURM HERE, so the profile is not tried: {missing()}"),
]
PROFILE = ["--profile", str(ROOT / "workflow/profiles/slurm")]
# What a test cannot wait for: first looks after 20 s, and files that a disk of this machine shows at once.
QUICK = [
    "--slurm-init-seconds-before-status-checks",
    "1",
    "--seconds-between-status-checks",
    "2",
    "--latency-wait",
    "5",
]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with slurm_of_one_node(tmp_path_factory.mktemp("slurm")) as started:
        yield started


def config() -> dict[str, Any]:
    values = LARTPC.config(views=LARTPC.only("nominal", "noise"))
    return {name: value for name, value in values.items() if name not in ("training", "evaluation")}


def written(folder: Path) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config(), sort_keys=False))
    return path


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Give the digests of a run on this machine alone."""
    folder = tmp_path_factory.mktemp("local")
    written(folder)
    done = snakemake(folder, "views", "--cores", "2", "--scheduler", "greedy")
    assert done.returncode == 0, done.stderr[-3000:]
    return digests(folder)


def digests(folder: Path) -> dict[str, str]:
    return {sample: resim("digest", folder / "results/data" / sample) for sample in config()["samples"]}


def submitted(folder: Path, *arguments: str, meanwhile: Callable[[], None] = lambda: None) -> str:
    """Run the simulation through Slurm; give what Snakemake tells."""
    written(folder)
    words = command(folder, "views", *PROFILE, *QUICK, *arguments)
    with (folder / "told.txt").open("w+") as told:
        process = subprocess.Popen(words, stdout=told, stderr=subprocess.STDOUT, env=environment())
        try:
            meanwhile()
            code = process.wait(timeout=800)
        finally:
            process.kill()
        told.seek(0)
        text = told.read()
    assert code == 0, text[-5000:]
    return text


def test_the_same_digests_as_on_one_machine(slurm: Slurm, wanted: dict[str, str], tmp_path: Path) -> None:
    before = len(slurm.ended())
    submitted(tmp_path)
    assert digests(tmp_path) == wanted
    jobs = slurm.ended()[before:]
    assert len(jobs) == 6  # two parts and a manifest of two samples
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}


def test_a_job_that_is_cancelled_comes_back(slurm: Slurm, wanted: dict[str, str], tmp_path: Path) -> None:
    before = len(slurm.ended())

    def cancel() -> None:
        for _ in range(600):
            running = [job for job, state in slurm.squeue("%i %t") if state == "R"]
            if running and list((tmp_path / "results/logs/simulate").glob("*.log")):
                subprocess.run(["scancel", running[0]], check=True, timeout=60)
                return
            time.sleep(0.1)
        raise AssertionError("no job ran within a minute")

    submitted(tmp_path, meanwhile=cancel)
    assert digests(tmp_path) == wanted
    states = [job["JobState"] for job in slurm.ended()[before:]]
    assert states.count("CANCELLED") == 1
    assert states.count("COMPLETED") == 6


def test_a_job_that_is_killed_for_memory_comes_back_with_more(
    slurm: Slurm, wanted: dict[str, str], tmp_path: Path
) -> None:
    before = len(slurm.ended())
    submitted(tmp_path, "--set-resources", "simulate:mem_mb=150 if attempt == 1 else 2000")
    assert digests(tmp_path) == wanted
    states = [job["JobState"] for job in slurm.ended()[before:]]
    assert states.count("FAILED") + states.count("OUT_OF_MEMORY") == 4
    assert states.count("COMPLETED") == 6
