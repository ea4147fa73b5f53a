"""Digests of content: the same for the same arrays, however they are cut into parts, chunks and files.

The unit is a block of events. A data set's digest is made of its blocks' digests in the order of the blocks, with those
that gave no object among them.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resim.store.files import canonical_json, sha256
from resim.store.tables import Checkpoint, ObjectTable, Schema, ViewTable

BlockDigests = dict[str, str]  # block number, as JSON has keys -> hex digest


def digest_objects(objects: ObjectTable, attributes: dict[str, Any]) -> BlockDigests:
    """Digest every column of each block; `attributes` are the part's."""
    return {
        str(block): sha256(*_described(sorted((name, values[rows]) for name, values in objects.columns.items())))
        for block, rows in blocks(objects.columns["event"], attributes)
    }


def digest_view(view: ViewTable, objects: ObjectTable, schema: Schema, attributes: dict[str, Any]) -> BlockDigests:
    """Digest a view's arrays and column names for each block, with the ids of the block's objects."""
    described = [schema.view_columns, schema.constituent_columns, *(e.columns for _, e in sorted(view.extras.items()))]
    names = canonical_json([[column.name for column in columns] for columns in described])
    counts = np.diff(view.offsets)  # offsets themselves depend on where the part begins
    digests = {}
    for block, rows in blocks(objects.columns["event"], attributes):
        arrays = [
            ("object", objects.columns["object"][rows]),
            ("present", view.present[rows]),
            ("columns", view.columns[rows]),
            ("counts", counts[rows]),
            ("constituents", view.constituents[view.offsets[rows.start] : view.offsets[rows.stop]]),
            *((name, extra.values[rows]) for name, extra in sorted(view.extras.items())),
        ]
        digests[str(block)] = sha256(names, *_described(arrays))
    return digests


def digest_checkpoint(checkpoint: Checkpoint, attributes: dict[str, Any]) -> BlockDigests:
    """Digest every column of each block, and how many particles its events have."""
    counts, offsets = np.diff(checkpoint.offsets), checkpoint.offsets
    digests = {}
    for block, rows in blocks(checkpoint.events["event"], attributes):
        particles = slice(offsets[rows.start], offsets[rows.stop])
        arrays = [
            *((f"events/{name}", values[rows]) for name, values in sorted(checkpoint.events.items())),
            ("counts", counts[rows]),
            *((f"particles/{name}", values[particles]) for name, values in sorted(checkpoint.particles.items())),
        ]
        digests[str(block)] = sha256(*_described(arrays))
    return digests


def combine(digests: dict[str, Any]) -> str:
    """Make one digest of named ones; the order of the names does not matter."""
    return sha256(canonical_json(digests))


def block_numbers(attributes: dict[str, Any]) -> range:
    """Give the blocks that a part with these attributes covers."""
    size = attributes["block_size"]
    return range(attributes["first"] // size, attributes["stop"] // size)


def blocks(events: NDArray[np.int64], attributes: dict[str, Any]) -> Iterator[tuple[int, slice]]:
    """Yield every block with the rows that its events gave; `events` is sorted, `attributes` are the part's."""
    numbers = block_numbers(attributes)
    edges = np.searchsorted(events, np.arange(numbers.start, numbers.stop + 1) * attributes["block_size"])
    for block, start, stop in zip(numbers, edges[:-1], edges[1:], strict=True):
        yield block, slice(int(start), int(stop))


def _described(arrays: Sequence[tuple[str, NDArray[Any]]]) -> Iterator[bytes | memoryview]:
    """Yield name, type and shape, then the bytes, of each array: little-endian, with one bit pattern for NaN."""
    for name, array in arrays:
        plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        if plain.dtype.kind == "f":
            plain = np.where(np.isnan(plain), plain.dtype.type(np.nan), plain)
        yield canonical_json([name, plain.dtype.name, list(plain.shape)])
        yield plain.tobytes()
