"""Disks that are full or cannot be written: one line that says so, and the same command when they are mended."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import Faults
from tests.faults.runs import assert_only_whole, assert_right, hidden, interrupt, is_clear, simulate

pytestmark = pytest.mark.timeout(900)


def mount(folder: Path, options: str) -> bool:
    words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 4 kB in memory; those who may not are told that nothing was tried."""
    folder = tmp_path / "data"
    folder.mkdir()
    if os.geteuid() or not mount(folder, "size=4k"):
        pytest.skip("NOT TRIED: full and read-only disks need root, and a container that may mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.faults
@pytest.mark.parametrize("options", [["size=4k", "size=200k", "size=700k"], ["nr_inodes=40", "nr_inodes=150"]], ids=str)
def test_a_full_disk_is_told_and_with_room_the_same_command_goes_on(
    options: list[str], faults: Faults, reference: Path, disk: Path
) -> None:
    for size in options:
        mount(disk, f"remount,size=100m,{size}")
        with faults.inject(f"disk full ({'bytes' if 'size' in size else 'inodes'})") as outcome:
            done = simulate(disk)
            assert is_clear(done), done.stderr
            assert f"{disk}: no space left" in done.stderr
            assert hidden(disk) == []
            assert_only_whole(disk)
            outcome.clear_error()
    mount(disk, "remount,size=100m,nr_inodes=10000")
    assert simulate(disk).returncode == 0
    assert_right(disk, reference)


def test_a_disk_that_cannot_be_written_is_told(faults: Faults, disk: Path) -> None:
    mount(disk, "remount,ro")
    with faults.inject("read-only output folder") as outcome:
        done = simulate(disk)
        assert is_clear(done), done.stderr
        assert f"{disk}: cannot write there (Read-only file system)" in done.stderr
        assert list(disk.iterdir()) == []
        outcome.clear_error()


@pytest.mark.faults
def test_a_disk_that_becomes_read_only_keeps_what_is_there(faults: Faults, reference: Path, disk: Path) -> None:
    mount(disk, "remount,size=100m")
    with faults.inject("output folder becomes read-only") as outcome:
        done, _ = interrupt(disk, (2, 0), lambda _: _freeze(disk))
        assert is_clear(done), done.stderr
        assert "Read-only file system" in done.stderr
        assert_only_whole(disk)
        outcome.clear_error()
    mount(disk, "remount,rw")
    assert simulate(disk).returncode == 0
    assert_right(disk, reference)


def _freeze(disk: Path) -> None:
    """Make it read-only as soon as no file is open for writing: until then the system refuses."""
    while not mount(disk, "remount,ro"):
        pass
