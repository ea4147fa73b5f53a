"""The workflow through the Slurm profile, on a real Slurm of one node, and what may befall it there."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.slurm import Slurm, missing, slurm_of_one_node, told, until
from tests.conftest import ROOT
from tests.e2e.runs import BIN, command, environment, resim, snakemake
from tests.lanes import LARTPC

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(missing()), reason=f"NO SLURM HERE, so the profile is not tried: {missing()}"),
]
PROFILE = ["--profile", str(ROOT / "workflow/profiles/slurm")]
# What a test cannot wait for: first looks after 20 s, and files that a disk of this machine shows at once.
QUICK = ["--slurm-init-seconds-before-status-checks=1", "--seconds-between-status-checks=2", "--latency-wait=5"]
Recorded = Callable[[str, object], None]
"""Notes what came of a fault, for the table of `make faults`."""
BOTH, ONE = ("electron", "proton"), ("proton",)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with slurm_of_one_node(tmp_path_factory.mktemp("slurm")) as slurm:
        yield slurm


@pytest.fixture
def slurm(started: Slurm) -> Iterator[Slurm]:
    """Give a Slurm without jobs, that has not told of any that is over."""
    started.forget()
    yield started
    told("scancel", "--user", "root")
    started.wait_until_free()


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Give the digests of a run on this machine alone."""
    folder = tmp_path_factory.mktemp("local")
    write_config(folder, BOTH)
    done = snakemake(folder, "views", "--cores", "2", "--scheduler", "greedy")
    assert done.returncode == 0, done.stderr[-3000:]
    return {sample: digest(folder, sample) for sample in BOTH}


def write_config(folder: Path, samples: tuple[str, ...]) -> None:
    """Write the config of two parts a sample, in views that take little time."""
    values = LARTPC.config(views=LARTPC.only("nominal", "noise"))
    values["samples"] = {name: values["samples"][name] for name in samples}
    kept = {name: value for name, value in values.items() if name not in ("training", "evaluation")}
    (folder / "config.yaml").write_text(yaml.safe_dump(kept, sort_keys=False))


def digest(folder: Path, sample: str) -> str:
    return resim("digest", folder / "results/data" / sample)


@contextlib.contextmanager
def submitting(folder: Path, *arguments: str, samples: tuple[str, ...] = ONE) -> Iterator[subprocess.Popen[bytes]]:
    """Run the simulation through the profile, beside what is done to it; it must end well if nobody killed it."""
    write_config(folder, samples)
    words = command(folder, "views", *PROFILE, *QUICK, *arguments)
    with (folder / "told.txt").open("w") as file:
        process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, env=environment())
        try:
            yield process
            assert process.wait(timeout=600) in (0, -signal.SIGKILL), (folder / "told.txt").read_text()[-5000:]
        finally:
            process.kill()
            process.wait()


def at_work(folder: Path) -> tuple[str, int]:
    """Wait until a part is being made; give the number of its job, and its process."""
    found: list[tuple[str, int]] = []

    def look() -> bool:
        found.extend(simulations(folder))
        return bool(found)

    until(look, "a part is being made")
    return found[0]


def simulations(folder: Path) -> Iterator[tuple[str, int]]:
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, KeyError, IndexError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if words[1].endswith(b"/resim") and words[2] == b"simulate" and (entry / "cwd").resolve() == folder:
                variables = dict(line.split(b"=", 1) for line in (entry / "environ").read_bytes().split(b"\0") if line)
                yield variables[b"SLURM_JOB_ID"].decode(), int(entry.name)


def signalled(folder: Path, number: signal.Signals) -> list[str]:
    """Send a signal to all parts that are being made; list their jobs."""
    found = dict(simulations(folder))
    for process in found.values():
        os.kill(process, number)
    return list(found)


def parts(folder: Path) -> list[Path]:
    """List the finished parts."""
    return sorted(path.parent for path in (folder / "results/data").glob("*/part-*/digest.json"))


def inodes(folder: Path) -> dict[Path, int]:
    """Tell apart the files of parts, so that those made again show."""
    return {file: file.stat().st_ino for part in parts(folder) for file in part.rglob("*") if file.name != "done"}


def states(slurm: Slurm) -> list[str]:
    return sorted(job["JobState"] for job in slurm.ended())


def asked(slurm: Slurm, state: str, what: str) -> list[str]:
    """List what the jobs that ended so had asked for: mem of Tres, or the time limit in minutes."""
    jobs = [job for job in slurm.ended() if job["JobState"] == state]
    found = [{**job, **dict(word.split("=", 1) for word in job["Tres"].split(","))}[what] for job in jobs]
    return sorted(found)


def test_the_same_digests_as_on_one_machine(slurm: Slurm, wanted: dict[str, str], tmp_path: Path) -> None:
    with submitting(tmp_path, samples=BOTH):
        pass
    assert {sample: digest(tmp_path, sample) for sample in BOTH} == wanted
    assert states(slurm) == ["COMPLETED"] * 6
    # Manifests, then parts: 40 images at 0.05 MB. What the rules ask for is what Slurm was asked for.
    assert asked(slurm, "COMPLETED", "mem") == ["1000M"] * 2 + ["1202M"] * 4


def test_a_job_that_is_cancelled_comes_back_with_more_memory(
    slurm: Slurm, wanted: dict[str, str], tmp_path: Path, record_property: Recorded
) -> None:
    with submitting(tmp_path):
        job, _ = at_work(tmp_path)
        told("scancel", job)
    assert digest(tmp_path, "proton") == wanted["proton"]
    assert [ended["JobId"] for ended in slurm.ended() if ended["JobState"] == "CANCELLED"] == [job]
    assert asked(slurm, "COMPLETED", "mem") == ["1000M", "1202M", "2404M"]
    record_property("fault", ("a job cancelled", "right"))


def test_a_job_that_is_killed_for_memory_comes_back_with_more(
    slurm: Slurm, wanted: dict[str, str], tmp_path: Path, record_property: Recorded
) -> None:
    """At 450 MB there is room for Snakemake, and not for the simulation in it; at twice that for both."""
    with submitting(tmp_path, "--set-resources", "simulate:mem_mb=450*attempt"):
        pass
    assert digest(tmp_path, "proton") == wanted["proton"]
    failed = {job["JobId"] for job in slurm.ended() if job["JobState"] != "COMPLETED"}
    assert len(failed) == 2
    assert failed <= slurm.killed_for_memory()
    assert asked(slurm, "COMPLETED", "mem") == ["1000M", "900M", "900M"]
    for _ in failed:
        record_property("fault", ("a job over its memory, killed by Slurm", "right"))


def test_a_job_over_its_time_leaves_no_part_and_comes_back_with_more(
    slurm: Slurm, wanted: dict[str, str], tmp_path: Path, record_property: Recorded
) -> None:
    """The part is halted while it is made; Slurm wakes it with SIGCONT when the time is over, and sends SIGTERM."""
    with submitting(tmp_path):
        job, process = at_work(tmp_path)
        os.kill(process, signal.SIGSTOP)
        told("scontrol", "update", f"JobId={job}", "EndTime=now+1")
        until(lambda: "TIMEOUT" in states(slurm), "the time is over")
        assert len(parts(tmp_path)) < 2
        assert not (tmp_path / "results/data/proton/manifest.json").exists()
    assert digest(tmp_path, "proton") == wanted["proton"]
    assert [ended["JobId"] for ended in slurm.ended() if ended["JobState"] == "TIMEOUT"] == [job]
    assert asked(slurm, "COMPLETED", "TimeLimit") == ["30", "30", "60"]
    assert [path.name for path in (tmp_path / "results/data/proton").iterdir() if path.name.startswith(".")] == []
    record_property("fault", ("a job over its time, killed by Slurm", "right"))


def test_the_controller_is_killed_and_the_run_goes_on(
    slurm: Slurm, wanted: dict[str, str], tmp_path: Path, record_property: Recorded
) -> None:
    """Slurm writes its state down every five seconds, and forgets what it had been given since then.

    Snakemake is halted meanwhile, so that it asks before and after. Asking while nobody answers, it turns to sacct,
    which without a database of accounts fails for good, and then loses sight of its jobs.
    """
    with submitting(tmp_path) as process:
        # Their steps must be there, for which srun asks the controller.
        until(lambda: len(signalled(tmp_path, signal.SIGSTOP)) == 2, "both parts are being made")
        time.sleep(6)
        process.send_signal(signal.SIGSTOP)
        assert slurm.ended() == []
        slurm.kill_controller()
        signalled(tmp_path, signal.SIGCONT)
        try:
            until(lambda: len(parts(tmp_path)) == 2, "both parts are made without it")
        finally:
            slurm.start_controller()
            process.send_signal(signal.SIGCONT)
    assert digest(tmp_path, "proton") == wanted["proton"]
    assert states(slurm) == ["COMPLETED"] * 3
    record_property("fault", ("kill -9 of slurmctld", "right"))


def test_snakemake_is_killed_and_its_jobs_end_their_parts(
    slurm: Slurm, wanted: dict[str, str], tmp_path: Path, record_property: Recorded
) -> None:
    with submitting(tmp_path) as process:
        until(lambda: len(slurm.running()) == 2, "both parts have jobs")
        at_work(tmp_path)
        process.kill()
    assert len(slurm.running()) > 0
    slurm.wait_until_free()
    assert states(slurm) == ["COMPLETED"] * 2
    made = inodes(tmp_path)
    assert len(parts(tmp_path)) == 2

    refused = snakemake(tmp_path, "views", *PROFILE)
    assert refused.returncode == 1
    assert "--unlock" in refused.stderr
    assert snakemake(tmp_path, "--unlock").returncode == 0
    with submitting(tmp_path):
        pass
    assert digest(tmp_path, "proton") == wanted["proton"]
    assert inodes(tmp_path) == made
    record_property("fault", ("kill -9 of Snakemake, its jobs at Slurm", "right"))


def halted(data: Path) -> bool:
    """Halt who makes a part now: its hidden name ends with the number of the process."""
    makers = [path.name.rpartition("-")[2] for path in data.glob(".part-*-*")]
    for maker in filter(str.isdecimal, makers):
        os.kill(int(maker), signal.SIGSTOP)
        return True
    return False


def test_workers_of_dask_are_jobs_and_those_cancelled_are_replaced(
    slurm: Slurm, wanted: dict[str, str], tmp_path: Path, record_property: Recorded
) -> None:
    write_config(tmp_path, ONE)
    data = tmp_path / "results/data/proton"
    jobqueue = tmp_path / "jobqueue.yaml"
    jobqueue.write_text(yaml.safe_dump({"jobqueue": {"slurm": {"cores": 1, "memory": "2 GB"}}}))
    words = ["simulate", "--config", "config.yaml", "--sample", "proton", "--out", str(data)]
    process = subprocess.Popen(
        [str(BIN / "resim"), *words, "--dask", "slurm", "--workers", "2"],
        cwd=tmp_path, env={**environment(), "DASK_CONFIG": str(jobqueue)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    until(lambda: halted(data), "a part is being made")
    until(lambda: len(slurm.running()) == 2, "both workers have jobs")
    cancelled = slurm.running()
    told("scancel", *cancelled)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert digest(tmp_path, "proton") == wanted["proton"]
    slurm.wait_until_free()
    ended = {job["JobId"]: job["JobState"] for job in slurm.ended()}
    assert {ended[job] for job in cancelled} == {"CANCELLED"}
    assert len(ended) > 2
    for _ in cancelled:
        record_property("fault", ("kill of a Dask worker's job", "right"))
