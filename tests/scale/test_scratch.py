"""Parts that are written on a disk of the machine and moved to that of the data set in one go."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from resim.errors import UserError
from resim.store import Part, open_part, validate, write_manifest, write_part
from resim.store.files import copy_tree
from tests.conftest import resim
from tests.lanes import LARTPC
from tests.store.store_samples import SCHEMA, attributes, some_part


def _write(out: Path, names: list[str], scratch: Path | None = None, **more: Any) -> Part:
    objects, view = some_part()
    kept = more.get("keep_views", ())
    views = {name: view for name in names if name not in kept}
    return write_part(out, objects, views, SCHEMA, attributes(0, 30, names), scratch=scratch, **more)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Give another file system, of a megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a file system cannot be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_part_is_the_same_by_either_way_and_scratch_is_left_empty(disk: Path, tmp_path: Path) -> None:
    direct = _write(tmp_path / "direct", ["nominal"])
    moved = _write(tmp_path / "moved", ["nominal"], disk)
    assert moved.digest["views"] == direct.digest["views"]
    assert moved.digest["files"].keys() == direct.digest["files"].keys()
    assert list(disk.iterdir()) == []
    assert [path.name for path in (tmp_path / "moved").iterdir()] == [moved.path.name]
    write_manifest(tmp_path / "moved", [moved.path])
    assert validate(tmp_path / "moved") == []
    assert moved.path.stat().st_mode == direct.path.stat().st_mode


def test_views_that_are_kept_come_along(disk: Path, tmp_path: Path) -> None:
    old = _write(tmp_path, ["nominal"])
    new = _write(tmp_path, ["nominal", "late"], disk, keep=old, keep_views=["nominal"])
    assert new.views == ("nominal", "late")
    write_manifest(tmp_path, [new.path])
    assert validate(tmp_path) == []


@pytest.mark.parametrize("full", ["scratch", "data set"])
def test_a_full_disk_is_named_and_leaves_nothing(full: str, disk: Path, tmp_path: Path) -> None:
    (disk / "ballast").write_bytes(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - 8192))
    out, scratch = (tmp_path / "data", disk) if full == "scratch" else (disk / "data", tmp_path)
    with pytest.raises(UserError, match=f"^{disk if full == 'scratch' else out}: no space left on the disk"):
        _write(out, ["nominal"], scratch)
    assert (list(scratch.glob("resim-*")), list(out.glob("*"))) == ([], [])


def test_a_full_disk_of_another_file_system_is_told_when_views_are_kept(disk: Path, tmp_path: Path) -> None:
    """There files are copied in place of links."""
    old = _write(tmp_path, ["nominal"])
    (disk / "ballast").write_bytes(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - 60_000))
    with pytest.raises(UserError, match="no space left on the disk"):
        _write(tmp_path, ["nominal", "late"], disk, keep=old, keep_views=["nominal"])
    assert open_part(old.path).views == ("nominal",)


def test_only_its_owner_may_look_into_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []

    def noted(source: Path, target: Path) -> None:
        modes.append(source.parent.stat().st_mode & 0o777)
        copy_tree(source, target)

    monkeypatch.setattr("resim.store.writing.copy_tree", noted)
    _write(tmp_path / "data", ["nominal"], tmp_path)
    assert modes == [0o700]


def test_scratch_may_name_a_variable_of_the_machine(
    tmp_path: Path, write_config: Callable[[Any], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(LARTPC.config(views={"nominal": {}}))
    command = ["simulate", "--config", config, "--sample", "proton", "--events", "0:10", "--out", tmp_path / "data"]
    told = resim(*command, "--scratch", "$NO_SUCH/x")
    assert told.returncode == 2
    assert "--scratch $NO_SUCH/x: $NO_SUCH/x is no folder; give one of this machine's own disk" in told.stderr
    assert not (tmp_path / "data").exists()
    used = tmp_path / "own disk"
    used.mkdir()
    monkeypatch.setenv("NODE_DISK", str(used))
    monkeypatch.setenv("RESIM_SCRATCH", "$NODE_DISK")
    before = used.stat().st_mtime_ns
    assert resim(*command).returncode == 0
    assert used.stat().st_mtime_ns > before
    assert (list(used.iterdir()), validate(tmp_path / "data")) == ([], [])
