"""What the store asks of its arrays."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from resim.store.encoding import CHUNK_BYTES, SHARD_BYTES, rows_per_chunk, write_array, write_group

_GENERATOR = np.random.Generator(np.random.Philox(7))
_ARRAYS: dict[str, NDArray[Any]] = {
    "empty": np.zeros(0, np.int64),
    "no rows": np.zeros((0, 15), np.float32),
    "no columns": np.zeros((5, 0), np.float32),
    "one": np.array([3], np.int8),
    "bool": _GENERATOR.random(1000) < 0.5,
    "all false": np.zeros(12, np.bool_),
    "nan": np.full((7, 3), np.nan, np.float32),
    "big-endian": np.arange(10, dtype=">i4"),
    "strided": np.arange(100, dtype=np.float64)[::3],
    "exactly one chunk": _GENERATOR.normal(size=CHUNK_BYTES // 4).astype(np.float32),
    "one row more": _GENERATOR.normal(size=CHUNK_BYTES // 4 + 1).astype(np.float32),
    "wide rows": _GENERATOR.normal(size=(3, CHUNK_BYTES)).astype(np.float32),
    "many chunks": _GENERATOR.normal(size=(30_000, 15)).astype(np.float32),
}


@pytest.mark.parametrize("name", _ARRAYS)
def test_zarr_reads_what_is_written(name: str, tmp_path: Path) -> None:
    array = _ARRAYS[name]
    write_array(tmp_path / "a", array, {"unit": "GeV"})
    stored = zarr.open_array(tmp_path / "a", mode="r")
    np.testing.assert_array_equal(np.asarray(stored[...]), array)
    assert stored.dtype == array.dtype.newbyteorder("=")
    assert dict(stored.attrs) == {"unit": "GeV"}
    np.testing.assert_array_equal(np.asarray(stored[len(array) // 2 :]), array[len(array) // 2 :])


def test_one_file_up_to_the_size_of_a_shard_then_more(tmp_path: Path) -> None:
    array = np.zeros(SHARD_BYTES + 70_000, dtype=np.int8)
    array[:: CHUNK_BYTES // 3] = 1
    write_array(tmp_path / "a", array, {})
    assert sorted(file.name for file in (tmp_path / "a").iterdir()) == ["c.0", "c.1", "zarr.json"]
    stored = zarr.open_array(tmp_path / "a", mode="r")
    for start in (0, SHARD_BYTES - 2 * CHUNK_BYTES):
        rows = slice(start, start + 5 * CHUNK_BYTES)
        np.testing.assert_array_equal(np.asarray(stored[rows]), array[rows])


@pytest.mark.parametrize("lost", [False, True])
def test_files_are_those_that_zarrs_own_codecs_write(
    lost: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the byte, in several chunks; also where one of them holds nothing but fill values."""
    array = np.random.Generator(np.random.Philox(1)).integers(0, 900, (200_000, 3)).astype(np.float32)
    if lost:
        array[: rows_per_chunk(array)] = np.nan
    write_array(tmp_path / "compiled", array, {})
    monkeypatch.setattr("resim.store.encoding.COMPILED", {})
    write_array(tmp_path / "plain", array, {})
    assert len(array) > 2 * rows_per_chunk(array)
    assert (tmp_path / "compiled/c.0.0").read_bytes() == (tmp_path / "plain/c.0.0").read_bytes()


def test_a_chunk_holds_whole_training_groups() -> None:
    jets = np.zeros((1_000_000, 15), np.float32)  # 60 constituents in a jet
    assert 64 <= rows_per_chunk(jets) / 60 <= 128
    assert 64 * 1024 <= rows_per_chunk(jets) * 60 <= CHUNK_BYTES


def test_every_chunk_carries_crc32c(tmp_path: Path) -> None:
    """Zarr itself notices any flipped byte of a shard, be it in a chunk, a checksum or the index."""
    array = np.arange(100_000, dtype=np.int64)
    write_array(tmp_path / "a", array, {})
    shard = tmp_path / "a" / "c.0"
    sound = shard.read_bytes()
    for position in np.linspace(0, len(sound) - 1, 60).astype(int):
        flipped = bytearray(sound)
        flipped[position] ^= 1 << (position % 8)
        shard.write_bytes(flipped)
        with pytest.raises((ValueError, RuntimeError)):
            zarr.open_array(tmp_path / "a", mode="r")[...]


def test_a_name_with_colons_is_no_url(tmp_path: Path) -> None:
    write_group(tmp_path / "a::b", {"mine": 1})
    write_array(tmp_path / "a::b" / "x", np.arange(3), {})
    assert [path.name for path in tmp_path.iterdir()] == ["a::b"]
    assert sorted(path.name for path in (tmp_path / "a::b").iterdir()) == ["x", "zarr.json"]
