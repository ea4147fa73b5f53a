"""Writing Zarr v3 arrays: sharded, zstd, crc32c.

Written out by hand because zarr-python 3.1 takes 10 ms to make and fill one small array and a part has some forty
(0.5 s against 0.05 s); what is written is plain Zarr v3, and it is zarr-python that reads it back.
Specification: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html
"""

import json
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd  # type: ignore[import-untyped]
from numpy.typing import NDArray

CHUNK_BYTES = 256 * 1024  # about 70 jets of 60 constituents with 15 features: a training batch reads one or two
SHARD_BYTES = 64 * 1024 * 1024
_ZSTD_LEVEL = 1
_MISSING = np.iinfo(np.uint64).max  # marks a chunk that lies wholly beyond the array's end in the shard's index


def write_group(folder: Path, attributes: dict[str, Any]) -> None:
    """Make a group's folder and its metadata."""
    folder.mkdir()
    _write_metadata(folder, {"zarr_format": 3, "node_type": "group", "attributes": attributes})


def write_array(folder: Path, array: NDArray[Any], attributes: dict[str, Any]) -> None:
    """Write an array (n,) or (n, k), cut along its first axis into chunks and shards of whole chunks."""
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    rows = rows_per_chunk(array)
    shard_rows = rows * min(-(-len(array) // rows) or 1, max(1, SHARD_BYTES // CHUNK_BYTES))
    folder.mkdir()
    _write_metadata(folder, _array_metadata(array, rows, shard_rows, attributes))
    if array.size:
        for number, start in enumerate(range(0, len(array), shard_rows)):
            name = ".".join(["c", str(number), *["0"] * (array.ndim - 1)])
            (folder / name).write_bytes(_shard(array[start : start + shard_rows], rows, shard_rows // rows))


def rows_per_chunk(array: NDArray[Any]) -> int:
    """Give the rows of a chunk: a power of two near `CHUNK_BYTES`, or the whole array where it is smaller."""
    row_bytes = max(1, array.dtype.itemsize * int(np.prod(array.shape[1:])))
    limit: int = 1 << max(0, (CHUNK_BYTES // row_bytes).bit_length() - 1)
    return max(1, min(limit, len(array)))


def _shard(array: NDArray[Any], rows: int, n_chunks: int) -> bytes:
    """Encode one shard: its chunks one after the other, then (offset, size) of each, then the index's crc32c."""
    index = np.full((n_chunks, 2), _MISSING, dtype="<u8")
    pieces, position = [], 0
    for number, start in enumerate(range(0, len(array), rows)):
        pieces.append(_chunk(array[start : start + rows], rows))
        index[number] = position, len(pieces[-1])
        position += len(pieces[-1])
    return b"".join([*pieces, _with_crc32c(index.tobytes())])


def _chunk(array: NDArray[Any], rows: int) -> bytes:
    """Encode one chunk; the last of an array is filled up, for all chunks are stored in one shape."""
    if len(array) < rows:
        padding = np.full((rows - len(array), *array.shape[1:]), _fill_value(array.dtype), array.dtype)
        array = np.concatenate([array, padding])
    return _with_crc32c(Zstd(level=_ZSTD_LEVEL).encode(array))


def _with_crc32c(data: bytes) -> bytes:
    return data + google_crc32c.value(data).to_bytes(4, "little")


def _fill_value(dtype: np.dtype[Any]) -> Any:
    return {"f": np.nan, "b": False}.get(dtype.kind, 0)


def _array_metadata(array: NDArray[Any], rows: int, shard_rows: int, attributes: dict[str, Any]) -> dict[str, Any]:
    width = [max(1, n) for n in array.shape[1:]]  # Zarr wants chunks of at least one element
    little_endian = {"name": "bytes", "configuration": {"endian": "little"}}
    zstd = {"name": "zstd", "configuration": {"level": _ZSTD_LEVEL, "checksum": False}}
    sharding = {
        "chunk_shape": [rows, *width],
        "codecs": [{"name": "bytes"} if array.dtype.itemsize == 1 else little_endian, zstd, {"name": "crc32c"}],
        "index_codecs": [little_endian, {"name": "crc32c"}],
        "index_location": "end",
    }
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(array.shape),
        "data_type": array.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [shard_rows, *width]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},  # no folder a shard
        "fill_value": "NaN" if array.dtype.kind == "f" else _fill_value(array.dtype),
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "attributes": attributes,
    }


def _write_metadata(folder: Path, metadata: dict[str, Any]) -> None:
    (folder / "zarr.json").write_text(json.dumps(metadata, indent=1, allow_nan=False))
