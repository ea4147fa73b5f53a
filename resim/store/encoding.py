"""Zarr v3 arrays as the store has them: sharded, zstd, crc32c on every chunk and on the index of every shard."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BytesCodec, Crc32cCodec, ZstdCodec
from zarrs import ZarrsCodecPipeline

from resim.ending import unbroken

CHUNK_BYTES = 256 * 1024  # about 70 jets of 60 constituents with 15 features: a training batch reads one or two
SHARD_BYTES = 64 * 1024 * 1024
_ZSTD_LEVEL = 1
# Files on a disk are coded by zarrs: some 0.6 of the CPU time of Zarr's own codecs to write, and half of it to read
# a few chunks at a time; and the interpreter's lock, for which a training in another thread waits, is free meanwhile.
# With one worker chunks lie in a shard in their order, so that files are the same to the byte, and Zarr's own.
COMPILED = {"codec_pipeline.path": f"zarrs.{ZarrsCodecPipeline.__name__}", "threading.max_workers": 1}


@unbroken()
def write_group(folder: Path, attributes: dict[str, Any]) -> None:
    """Make a group's folder and its metadata."""
    zarr.create_group(folder, attributes=attributes, zarr_format=3)


@unbroken()
def write_array(folder: Path, array: NDArray[Any], attributes: dict[str, Any]) -> None:
    """Write an array (n,) or (n, k), cut along its first axis into chunks and shards of whole chunks."""
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    rows = rows_per_chunk(array)
    width = tuple(max(1, n) for n in array.shape[1:])  # Zarr wants chunks of at least one element
    shard_rows = rows * min(-(-len(array) // rows) or 1, max(1, SHARD_BYTES // CHUNK_BYTES))
    # zarrs leaves out chunks of fill values alone, whatever it is told.
    sparse = array.dtype.kind != "f" or bool(np.isnan(array).any())
    with zarr.config.set({} if sparse else COMPILED):
        stored = zarr.create_array(
            folder,  # of a path as text, Zarr would take `::` for a URL's
            shape=array.shape,
            dtype=array.dtype,
            chunks=(rows, *width),
            shards=(shard_rows, *width),
            serializer=BytesCodec(endian="little" if array.dtype.itemsize > 1 else None),
            compressors=(ZstdCodec(level=_ZSTD_LEVEL), Crc32cCodec()),
            fill_value=np.nan if array.dtype.kind == "f" else array.dtype.type(0),
            chunk_key_encoding={"name": "default", "separator": "."},  # no folder a shard
            attributes=attributes,
            zarr_format=3,
            config={"write_empty_chunks": True},  # a missing shard is then always damage
        )
        if array.size:
            _fill(stored, array)


def _fill(stored: zarr.Array[Any], array: NDArray[Any]) -> None:
    """Write all elements; a disk that is full is an OSError, also where zarrs notices it."""
    try:
        stored[...] = array
    except RuntimeError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def rows_per_chunk(array: NDArray[Any]) -> int:
    """Give the rows of a chunk: a power of two near `CHUNK_BYTES`, or the whole array where it is smaller."""
    row_bytes = max(1, array.dtype.itemsize * int(np.prod(array.shape[1:])))
    limit: int = 1 << max(0, (CHUNK_BYTES // row_bytes).bit_length() - 1)
    return max(1, min(limit, len(array)))
