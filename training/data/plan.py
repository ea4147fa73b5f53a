"""Which objects, in which order: integers only, no data.

Rows are numbers of objects in the whole sample, never in a part, so the plan cannot see how the data is split. Whole
groups of neighbouring rows are read together (a disk wants neighbours), groups are shuffled, as many as `shuffle`
allows are read at a time, and their objects are shuffled among each other.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Load:
    """Rows that are fetched together, ascending, and batches of positions in them; every position occurs once."""

    rows: Rows
    batches: list[NDArray[np.int64]]


def plan_epoch(rows: Rows, *, group: int, shuffle: int, batch: int, generator: np.random.Generator) -> Iterator[Load]:
    """Plan one epoch: every row once, in loads.

    The batches of a load differ in size by one at most: no batch is left so small that a contrastive loss lacks
    negatives.

    Parameters
    ----------
    rows
        The rows wanted, ascending.
    group
        Rows with the same `row // group` are read together.
    shuffle
        A load takes groups until the next would bring it above this many rows, but at least one.
    batch
        Largest batch.
    generator
        Of this epoch; the same one gives the same plan.
    """
    starts = np.flatnonzero(np.diff(rows // group, prepend=-1))
    groups = np.split(rows, starts[1:]) if len(rows) else []
    for members in _filled([groups[i] for i in generator.permutation(len(groups))], shuffle):
        chosen = np.sort(np.concatenate(members))
        count = -(-len(chosen) // batch)
        yield Load(chosen, np.array_split(generator.permutation(len(chosen)), count))


def _filled(groups: list[Rows], limit: int) -> Iterator[list[Rows]]:
    """Cut a list of groups into runs of at most `limit` rows."""
    run: list[Rows] = []
    for members in groups:
        if run and sum(map(len, run)) + len(members) > limit:
            yield run
            run = []
        run.append(members)
    if run:
        yield run


def choose_pairs(present_NV: NDArray[np.bool_], order_NV: NDArray[np.int64]) -> NDArray[np.int64]:
    """Choose two different views for each object: the first two in its order of views in which it is present.

    An object that is present in one view only is paired with itself.

    Parameters
    ----------
    present_NV
        (N, V); at least one view must be present for each object.
    order_NV
        (N, V) a permutation of the view numbers; objects that share it share their pair but for absences.

    Returns
    -------
    NDArray
        (N, 2) view numbers.
    """
    absent = ~np.take_along_axis(present_NV, order_NV, axis=1)
    ranks = np.argsort(absent, axis=1, kind="stable")[:, :2]
    pairs = np.take_along_axis(order_NV, ranks, axis=1)
    return np.where(present_NV.sum(axis=1, keepdims=True) > 1, pairs, pairs[:, :1])
