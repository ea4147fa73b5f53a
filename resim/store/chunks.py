"""Read ranges of rows of an array that the store wrote, chunk by chunk.

Zarr reads the same bytes, but for a few chunks at a time its machinery takes longer than the decompression, and holds
the interpreter's lock, for which a training in another thread waits.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

import google_crc32c
import numpy as np
import zarr
from backports import zstd
from numpy.typing import NDArray
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, ZstdCodec
from zarr.core.metadata import ArrayV3Metadata

from resim.store.places import Place, range_of, size_of

_CHECKSUM = 4  # bytes of a crc32c, little-endian, behind what it is of
_WRITTEN = [BytesCodec, ZstdCodec, Crc32cCodec]  # by `resim.store.encoding`


class Chunks:
    """Rows of an array in `place`; `array` is the same for Zarr."""

    def __init__(self, array: zarr.Array[Any], place: Place) -> None:
        self._place, self._dtype, self._length = place, array.dtype, array.shape[0]
        self._row_shape = array.shape[1:]
        self._rows, shard_rows = array.chunks[0], (array.shards or array.chunks)[0]
        self._per_shard = shard_rows // self._rows
        self._index = cache(self._read_index)

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Read rows `start:stop`.

        Raises
        ------
        ValueError
            If a checksum does not fit.
        OSError
            If a file cannot be read.
        """
        start, stop, _ = rows.indices(self._length)
        found = np.empty((max(0, stop - start), *self._row_shape), self._dtype)
        if not found.size:
            return found
        for chunk, values in self._decoded(start // self._rows, -(-stop // self._rows)):
            first = chunk * self._rows
            here = slice(max(start, first), min(stop, first + self._rows))
            found[here.start - start : here.stop - start] = values[here.start - first : here.stop - first]
        return found

    def _decoded(self, first: int, last: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield chunks [first, last) with their numbers; those of a shard come in one read, for they are neighbours."""
        for shard in range(first // self._per_shard, -(-last // self._per_shard)):
            numbers = range(max(first, shard * self._per_shard), min(last, (shard + 1) * self._per_shard))
            extents = self._index(shard)[numbers.start - shard * self._per_shard :][: len(numbers)].tolist()
            begin = min(offset for offset, _ in extents)
            content = memoryview(range_of(self._file(shard), begin, max(offset + size for offset, size in extents)))
            for number, (offset, size) in zip(numbers, extents, strict=True):
                raw = zstd.decompress(_checked(content[offset - begin :][:size], f"chunk {number}"))
                yield number, np.frombuffer(raw, self._dtype).reshape(self._rows, *self._row_shape)

    def _read_index(self, shard: int) -> NDArray[np.uint64]:
        """Read where the chunks of a shard lie in its file, (n, 2) offset and size."""
        file, length = self._file(shard), 16 * self._per_shard + _CHECKSUM
        size = size_of(file)
        content = _checked(memoryview(range_of(file, size - length, size)), f"index of {file.name}")
        return np.frombuffer(content, "<u8").reshape(-1, 2)

    def _file(self, shard: int) -> Place:
        return self._place / ".".join(["c", str(shard), *("0" for _ in self._row_shape)])


def are_chunks(array: zarr.Array[Any]) -> bool:
    """Tell whether an array is encoded as the store writes its arrays; another writer's may not be."""
    metadata = array.metadata
    if not isinstance(metadata, ArrayV3Metadata) or len(metadata.codecs) != 1 or array.dtype.byteorder == ">":
        return False
    (sharding,) = metadata.codecs
    return isinstance(sharding, ShardingCodec) and [type(codec) for codec in sharding.codecs] == _WRITTEN


def _checked(content: memoryview, what: str) -> memoryview:
    """Cut off the checksum, which must fit."""
    body, checksum = content[:-_CHECKSUM], content[-_CHECKSUM:]
    if google_crc32c.value(bytes(body)) != int.from_bytes(checksum, "little"):
        raise ValueError(f"{what} does not fit its checksum")
    return body
