"""Ten thousand shards that are done: the same command again, more events, another view, and their manifest.

Times are CPU seconds of the command: it has one thread, so on a core of its own it takes as long by the clock, and what
else this machine does cannot fail a test.
"""

import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from resim.store import read_manifest, validate
from tests.conftest import ROOT, Done
from tests.e2e.runs import BIN, command, environment
from tests.scale.finished import SHARDS, config, empty_parts

pytestmark = [pytest.mark.timeout(1800), pytest.mark.slow]
TARGET = "views"
LONGEST_WORD = 131_072
"""Bytes of the longest argument that Linux hands to a program; `sh -c` is given a rule's whole command as one."""
NOOP_CPU_S = 90


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    words = [sys.executable, "-m", "tests.scale.finished", str(folder), TARGET]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, env=_environment())
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def _environment() -> dict[str, str]:
    return environment() | {"PYTHONPATH": str(ROOT)}


def _run(folder: Path, *arguments: str, **changes: Any) -> tuple[Done, float]:
    """Run the workflow by the local profile on a changed config; give its CPU seconds, too."""
    (folder / "config.yaml").write_text(yaml.safe_dump(config(**changes), sort_keys=False))
    words = command(folder, TARGET, "--profile", str(ROOT / "workflow/profiles/local"), *arguments)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=_environment())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _jobs(done: Done) -> dict[str, int]:
    """Read the counts of a dry run, which it tells before the jobs and behind them."""
    return {name: int(n) for name, n in re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE)}


def test_a_run_with_nothing_to_do_says_so_soon(finished: Path) -> None:
    done, seconds = _run(finished)
    assert "Nothing to be done" in done.stdout + done.stderr
    assert "missing provenance" not in done.stdout + done.stderr
    assert seconds < NOOP_CPU_S


def test_more_events_make_the_new_shards_alone(finished: Path) -> None:
    done, _ = _run(finished, "--dry-run", shards=SHARDS + 10)
    assert _jobs(done) == {"simulate": 10, "manifest": 1, "views": 1, "total": 12}
    asked = re.findall(r"resim simulate .*--events (\d+):(\d+) ", done.stdout + done.stderr)
    assert sorted(asked) == [(f"{SHARDS + i}", f"{SHARDS + i + 1}") for i in range(10)]
    # Each word of a command must be one that the kernel takes.
    commands = re.findall(r"^Shell command: (resim .*)$", done.stdout + done.stderr, re.MULTILINE)
    assert len(commands) == 11
    assert max(map(len, commands)) < 1000


def test_a_new_view_is_all_that_jobs_are_run_for(finished: Path) -> None:
    """That each then makes this view alone is for test_workflow.py to show: here it is the number of jobs."""
    done, _ = _run(finished, "--dry-run", views={"nominal": {}, "noise": {"from": "readout"}})
    assert _jobs(done) == {"simulate": SHARDS, "manifest": 1, "views": 1, "total": SHARDS + 2}
    reasons = re.findall(r"^Reason: (Params have changed .*)$", done.stdout + done.stderr, re.MULTILINE)
    assert len(reasons) == SHARDS
    before, now = re.findall(r"\{.*?\}", reasons[0])
    assert "noise" not in before
    assert now.startswith(before.removesuffix("}"))  # nominal has its recipe still


def test_the_manifest_of_all_is_written_by_a_short_command(tmp_path: Path) -> None:
    parts = empty_parts(tmp_path, SHARDS)
    assert validate(parts[1]) == validate(parts[-1]) == []
    assert sum(len(str(part)) for part in parts) > LONGEST_WORD
    words = [str(BIN / "resim"), "manifest", str(tmp_path), "--events", f"0:{SHARDS}", "--shard-size", "1"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment())
    assert (done.returncode, done.stderr) == (0, "")
    assert [entry.first for entry in read_manifest(tmp_path).parts] == list(range(SHARDS))
    shutil.rmtree(parts[7])
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 2
    assert parts[7].name in done.stderr
