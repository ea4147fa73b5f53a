"""Runs of `resim simulate` that something happens to: four parts of ten images, in two views."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from resim.store import open_dataset, part_name, validate
from tests.conftest import Done
from tests.e2e.runs import BIN
from tests.lanes import LARTPC

SAMPLE = LARTPC.samples[0]
RANGES = [(first, first + 10) for first in range(0, 40, 10)]
PARTS = [part_name(*r) for r in RANGES]
Moment = tuple[int, int]
"""So many parts are whole, and the next has so many files."""


def config(**changes: Any) -> dict[str, Any]:
    values = LARTPC.config(events_per_part=10, **changes)
    return values | {"views": LARTPC.only("nominal", LARTPC.last)}


def command(folder: Path, *options: str) -> list[str]:
    """Give the command that makes the data set in a folder; its config lies beside."""
    path = folder.with_name(f"{folder.name}.yaml")
    path.write_text(yaml.safe_dump(config(), sort_keys=False))
    return [str(BIN / "resim"), "simulate", "--config", str(path), "--sample", SAMPLE, "--out", str(folder), *options]


def simulate(folder: Path, *options: str) -> Done:
    """Run it to its end."""
    return subprocess.run(command(folder, *options), capture_output=True, text=True, timeout=280, check=False)


def interrupt(folder: Path, moment: Moment, act: Callable[[int], None]) -> tuple[Done, float]:
    """Run it, do something to its process at a moment, and give how it ended and how many seconds later."""
    words = command(folder)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not folder.is_dir() or reached(folder) < moment:
            assert process.poll() is None, f"ended before {moment}"
            time.sleep(0.001)
        act(process.pid)
        start = time.monotonic()
        out, err = process.communicate(timeout=250)
        return Done(words, process.returncode, out, err), time.monotonic() - start


def reached(folder: Path) -> Moment:
    files = sum(len(names) for path in folder.glob(".part-*") for _, _, names in os.walk(path))
    return len(list(folder.glob("part-*"))), files


def hidden(folder: Path) -> list[str]:
    """Name what is no part: temporaries and locks."""
    return [path.name for path in folder.glob(".*")]


def is_clear(done: Done, code: int = 2) -> bool:
    """Tell whether it ended with one line that says why; libraries may have warned before."""
    told = done.stderr.splitlines()
    return done.returncode == code and "Traceback" not in done.stderr and told[-1].startswith("resim: ")


def digest(folder: Path) -> str:
    return str(open_dataset(folder).manifest.digest["digest"])


def assert_right(folder: Path, reference: Path) -> None:
    """Compare with what it would be without faults, after all of it was checked."""
    assert validate(folder) == []
    assert digest(folder) == digest(reference)
    assert hidden(folder) == []


def assert_only_whole(folder: Path) -> None:
    """Check that every part that is there is whole, and that the manifest lists no other."""
    assert [problem for part in folder.glob("part-*") for problem in validate(part)] == []
    if (folder / "manifest.json").exists():
        assert [problem for problem in validate(folder) if not problem.warning] == []
