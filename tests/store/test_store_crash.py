"""Killed writers and full disks leave nothing that could be taken for a part."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from store_samples import SCHEMA, attributes, some_part

from resim.ending import Stopped, stoppable
from resim.errors import UserError
from resim.store import Part, encoding, open_part, remove_leftovers, validate, write_manifest, write_part
from resim.store.files import locked, storage_errors

NAME = "part-00000000-00000030"
_WRITER = """
import sys
from pathlib import Path
from test_store_crash import write_views
write_views(Path(sys.argv[1]), 150, seed=1)
"""


def write_views(directory: Path, n_views: int, seed: int = 0) -> Part:
    """Write a part with many views, so that there is time to interrupt it."""
    objects, view = some_part(seed=seed)
    views = {f"v{i}": view for i in range(n_views)}
    return write_part(directory, objects, views, SCHEMA, attributes(0, 30, list(views)))


def start_and_signal(directory: Path, n_files: int, number: signal.Signals) -> subprocess.Popen[bytes]:
    """Start a writer in another process and send it a signal once it has made so many files."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(directory)], env=environment)
    deadline = time.monotonic() + 60
    while _files_half_written(directory) < n_files:
        assert writer.poll() is None, "the writer ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    writer.send_signal(number)
    return writer


def start_and_kill(directory: Path, n_files: int) -> None:
    """Start a writer in another process and kill it once it has made so many files."""
    assert start_and_signal(directory, n_files, signal.SIGKILL).wait() == -signal.SIGKILL


def _files_half_written(directory: Path) -> int:
    return sum(len(files) for folder in directory.glob(".part-*") for _, _, files in os.walk(folder))


@pytest.mark.parametrize("n_files", [1, 400])
def test_a_killed_writer_leaves_no_part_and_the_next_one_cleans_up(n_files: int, tmp_path: Path) -> None:
    start_and_kill(tmp_path, n_files)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert len(left) == 2
    assert left[0].startswith(f".{NAME}-")
    assert left[1] == f".{NAME}.lock"
    part = write_views(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert validate(part.path) == []


def test_a_killed_writer_leaves_the_older_part_as_it_was(tmp_path: Path) -> None:
    old = write_views(tmp_path, 2)
    start_and_kill(tmp_path, 300)
    assert validate(tmp_path / NAME) == []
    assert open_part(tmp_path / NAME).digest == old.digest


def test_a_writer_that_is_stopped_within_an_array_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zarr writes in a thread of its own: it went on while the folder was removed, and made it again."""
    fill, written = encoding._fill, []

    def slow(stored: object, array: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.3)
        fill(stored, array)
        written.append(stored)

    monkeypatch.setattr(encoding, "_fill", slow)
    with pytest.raises(Stopped), stoppable():
        write_views(tmp_path, 2)
    assert len(written) == 1
    time.sleep(0.3)
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_another_process_is_writing_is_left_to_it(tmp_path: Path) -> None:
    other = start_and_signal(tmp_path, 100, signal.SIGSTOP)
    try:
        before = sorted(tmp_path.iterdir())
        with pytest.raises(UserError, match=f"{NAME}: another process is writing this part; wait for it or stop it"):
            write_views(tmp_path, 2)
        remove_leftovers(tmp_path / NAME)
        assert sorted(tmp_path.iterdir()) == before
    finally:
        other.send_signal(signal.SIGCONT)
    assert other.wait() == 0
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert len(open_part(tmp_path / NAME).views) == 150
    assert len(write_views(tmp_path, 2).views) == 2


def _add_one(counter: Path) -> None:
    """Add one to a number in a file, many times, under a lock that comes and goes."""
    for _ in range(500):
        while True:
            with suppress(UserError), locked(counter.with_suffix(".lock"), "busy"):
                counter.write_text(str(int(counter.read_text()) + 1))
                break


def test_a_lock_that_its_holders_remove_has_one_holder_at_a_time(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(_add_one, [counter] * 2))
    assert counter.read_text() == "1000"
    assert list(tmp_path.iterdir()) == [counter]


def test_leftovers_of_other_parts_are_left_alone(tmp_path: Path) -> None:
    other = tmp_path / ".part-00000030-00000060-host-1"
    other.mkdir()
    write_views(tmp_path, 1)
    assert other.exists()


def _put(path: Path, what: str, elsewhere: Path) -> None:
    if what == "file":
        path.write_text("x")
    else:
        path.symlink_to(elsewhere if what == "link" else elsewhere / "nowhere", target_is_directory=True)


@pytest.mark.parametrize("name", [NAME, f".{NAME}-host-1", f".{NAME}-host-1-old", f".{NAME}.lock"])
@pytest.mark.parametrize("what", ["file", "link", "broken link"])
def test_files_and_links_in_the_way_are_replaced_and_what_they_point_to_is_kept(
    name: str, what: str, tmp_path: Path
) -> None:
    elsewhere = write_views(tmp_path / "elsewhere", 1, seed=1).path
    folder = tmp_path / "out"
    folder.mkdir()
    _put(folder / name, what, elsewhere)
    write_views(folder, 1)
    assert [path.name for path in folder.iterdir()] == [NAME]
    assert not (folder / NAME).is_symlink()
    assert validate(folder / NAME) == validate(elsewhere) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = os.geteuid() == 0 and _run("mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder))
    if not mounted:
        pytest.skip("mounting a small tmpfs needs root and a container that may mount")
    yield folder
    _run("umount", str(folder))


def _run(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_full_disk_is_told_and_nothing_is_left(small_disk: Path) -> None:
    kept = write_views(small_disk, 1)
    with pytest.raises(UserError, match=rf"{small_disk}: no space left .*Free space or choose another folder"):
        write_views(small_disk, 100)
    assert [path.name for path in small_disk.iterdir()] == [NAME]
    assert validate(kept.path) == []


def test_a_read_only_disk_is_told(small_disk: Path) -> None:
    assert _run("mount", "-o", "remount,ro", str(small_disk))
    with pytest.raises(UserError, match=rf"{small_disk}: cannot write there \(Read-only file system\)"):
        write_views(small_disk, 1)


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(UserError, match="out: cannot write there"):
        write_views(tmp_path / "out", 1)


def test_a_folder_in_the_place_of_the_manifest_is_told(tmp_path: Path) -> None:
    part = write_views(tmp_path, 1)
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(UserError, match=r"manifest\.json: is a folder"):
        write_manifest(tmp_path, [part.path])
    with pytest.raises(UserError, match="cannot write there"), storage_errors(tmp_path):
        (tmp_path / "manifest.json").write_text("x")
    assert {path.name for path in tmp_path.iterdir()} == {NAME, "manifest.json"}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_quota_reads_like_a_full_disk(code: int, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no space left on the disk or in the quota"), storage_errors(tmp_path):
        raise OSError(code, os.strerror(code))


def test_other_errors_of_the_system_are_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Input/output error"), storage_errors(tmp_path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
