"""Parts and manifests that are deleted, or cut short: readers say so, and the same command makes them again."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from resim.errors import UserError
from resim.read import read
from resim.store import validate
from tests.conftest import resim
from tests.faults.conftest import Faults
from tests.faults.runs import PARTS, assert_right, command, digest

pytestmark = pytest.mark.timeout(900)


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


FILES = (
    "digest.json",
    "data.zarr/zarr.json",
    "data.zarr/objects/weight/c.0",
    "data.zarr/views/nominal/columns/zarr.json",
    "data.zarr/views/nominal/constituents/c.0.0",
    "data.zarr/checkpoints/gun/events/float64/c.0.0",
)
DAMAGE: tuple[tuple[str, Callable[[Path], None]], ...] = (
    ("deleted", Path.unlink),
    ("cut in half", halve),
    ("emptied", empty),
    ("lengthened by a byte", lengthen),
)


@pytest.fixture
def folder(reference: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(reference, tmp_path / "data"))


def readers_tell(folder: Path, wanted: str) -> None:
    """Check that readers of all data end with an error, or with what was there before."""
    done = resim("digest", folder)
    assert (done.returncode, done.stdout.strip()) in [(2, ""), (0, wanted)]
    try:
        read(folder)
    except UserError:
        return
    assert done.returncode == 0 or "checkpoints" in done.stderr


def made_again(folder: Path, *options: str) -> None:
    assert resim(*command(folder, *options)[1:]).returncode == 0


@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_told_and_the_same_command_mends_it(
    file: str, faults: Faults, reference: Path, folder: Path
) -> None:
    for name, damage in DAMAGE:
        with faults.inject(f"file of a part {name}") as outcome:
            damage(folder / PARTS[1] / file)
            assert validate(folder)
            readers_tell(folder, digest(reference))
            made_again(folder, "--events", "10:20")
            assert_right(folder, reference)
            outcome.clear_error()


def test_a_deleted_part_is_told_and_made_again(faults: Faults, reference: Path, folder: Path) -> None:
    for name in (PARTS[0], PARTS[3]):
        with faults.inject("part deleted") as outcome:
            shutil.rmtree(folder / name)
            readers_tell(folder, digest(reference))
            made_again(folder)
            assert_right(folder, reference)
            outcome.clear_error()


def test_a_deleted_manifest_is_told_and_made_again(faults: Faults, reference: Path, folder: Path) -> None:
    with faults.inject("manifest deleted") as outcome:
        (folder / "manifest.json").unlink()
        assert "is no data set (it has no manifest.json)" in resim("digest", folder).stderr
        made_again(folder)
        assert_right(folder, reference)
        outcome.clear_error()


@pytest.mark.parametrize("damage", [halve, empty], ids=["cut in half", "emptied"])
def test_a_damaged_manifest_is_told_with_the_remedy(
    damage: Callable[[Path], None], faults: Faults, reference: Path, folder: Path
) -> None:
    """What else it listed nobody knows any more, so no command writes over it unasked."""
    with faults.inject("manifest cut short") as outcome:
        damage(folder / "manifest.json")
        for words in (["digest", folder], command(folder)[1:]):
            done = resim(*words)
            assert done.returncode == 2
            assert "manifest.json: is not JSON" in done.stderr
        assert resim("manifest", folder).returncode == 0
        assert_right(folder, reference)
        outcome.clear_error()
