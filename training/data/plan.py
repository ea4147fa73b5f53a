"""Which objects, in which order, in which views: integers only, no data.

Rows are numbers of objects in the whole sample, never in a part, so the plan cannot see how the data is split. Whole
groups of neighbouring rows are read together (a disk wants neighbours), groups are shuffled, as many as `shuffle`
allows are read at a time, and their objects are dealt to the batches like cards.

The plan of an epoch has the same batches however many ranks share them. Each rank has its own groups of a load, but
for one or two at the borders, and an equal share of every batch; the shares of a batch, rank after rank, are the batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from resim.errors import UserError
from training.keys import generator

Rows = NDArray[np.int64]
Key = tuple[int | str, ...]


@dataclass(frozen=True)
class Load:
    """Rows of one rank that are fetched together, and the batches that they make."""

    epoch: int
    first: int
    """Step of the first batch, counted from the start of the epoch."""
    rows: Rows
    """Ascending."""
    batches: list[NDArray[np.int64]]
    """Positions in `rows`; every position occurs once."""


@dataclass(frozen=True)
class Plan:
    """The order of some rows; everything but the epoch and the rank.

    Every epoch has the same number of steps, and its batches differ in size by one at most: none is left so small that
    a contrastive loss lacks negatives.
    """

    rows: Rows
    """The rows wanted, ascending."""
    group: int
    """So many neighbouring rows of a sample are read together."""
    shuffle: int
    """Rows that are read at a time, about."""
    batch: int
    """Largest batch, of all ranks together."""
    key: Key
    starts: Rows = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    """The first row of each sample: groups begin there anew."""

    @property
    def steps(self) -> int:
        """Count the batches of an epoch."""
        return -(-len(self.rows) // self.batch)

    def epoch(self, epoch: int, start: int = 0, rank: int = 0, ranks: int = 1) -> Iterator[Load]:
        """Plan one rank's share of an epoch from step `start` on, in loads.

        Raises
        ------
        UserError
            If a batch has fewer objects than there are ranks.
        """
        if not 0 <= rank < ranks:
            raise ValueError(f"rank {rank} is outside 0..{ranks - 1}")
        if ranks > 1 and len(self.rows) < ranks * self.steps:
            smallest = len(self.rows) // self.steps
            raise UserError(
                f"a batch of {smallest} objects cannot be shared by {ranks} processes; start fewer, or raise the batch"
            )
        order, edges = self._order(epoch), np.arange(self.steps + 1) * len(self.rows) // max(1, self.steps)
        loads = min(self.steps, -(-len(self.rows) // self.shuffle))
        for number, (first, stop) in enumerate(pairwise(np.arange(loads + 1) * self.steps // max(1, loads))):
            if stop > start:
                draws = generator(*self.key, "deal", epoch, number)
                cards = order[edges[first] : edges[stop]]
                batch = dealt(len(cards), int(stop - first), draws)
                mine = _share(len(cards), int(stop - first), rank, ranks)
                yield _load(epoch, max(int(first), start), cards[mine], batch[mine] + first)

    def _order(self, epoch: int) -> Rows:
        """Shuffle the groups; rows of a group stay together and ascending."""
        first = self.starts[np.searchsorted(self.starts, self.rows, side="right") - 1]
        group_of = first + (self.rows - first) // self.group * self.group
        groups = np.split(self.rows, np.flatnonzero(np.diff(group_of, prepend=-1))[1:])
        return np.concatenate([groups[i] for i in generator(*self.key, "order", epoch).permutation(len(groups))])


def dealt(cards: int, batches: int, draws: np.random.Generator) -> NDArray[np.int64]:
    """Deal cards to batches, (cards,): in each round every batch gets one, in an order that is drawn anew.

    So neighbours go to different batches, and any whole number of rounds has the same number of cards for each.
    """
    rounds = -(-cards // max(1, batches))
    return draws.permuted(np.tile(np.arange(batches), (rounds, 1)), axis=1).ravel()[:cards]


def _share(cards: int, batches: int, rank: int, ranks: int) -> slice:
    """Give a rank its rounds of a load's cards; the last one also has the round that is not full."""
    rounds = cards // max(1, batches)
    start, stop = (batches * (rounds * i // ranks) for i in (rank, rank + 1))
    return slice(start, stop if rank + 1 < ranks else cards)


def _load(epoch: int, first: int, cards: Rows, batch: NDArray[np.int64]) -> Load:
    """Put cards of batches from `first` on into a load."""
    cards, batch = cards[batch >= first], batch[batch >= first]
    rows = np.sort(cards)
    by_batch = np.argsort(batch, kind="stable")
    edges = np.flatnonzero(np.diff(batch[by_batch]))
    return Load(epoch, first, rows, np.split(np.searchsorted(rows, cards[by_batch]), edges + 1))


def choose_pairs(
    present_NV: NDArray[np.bool_],
    uniform_NV: NDArray[np.float64],
    weight_V: NDArray[np.float64],
    first: int | None = None,
) -> NDArray[np.int64]:
    """Choose two different views for each object, of those in which it is present.

    The first is drawn in proportion to the weights, then the second of what is left; both are the views with the
    smallest exponential clocks (Efraimidis and Spirakis, Inf. Proc. Lett. 97 (2006) 181). An object that is present in
    one view only is paired with itself.

    Parameters
    ----------
    present_NV
        (N, V); at least one view must be present for each object.
    uniform_NV
        (N, V) in [0, 1); objects that share them share their pair but for absences.
    weight_V
        (V,) positive.
    first
        The view that comes first wherever it is present; drawn if None.

    Returns
    -------
    NDArray
        (N, 2) view numbers.
    """
    clock = -np.log1p(-uniform_NV) / weight_V
    if first is not None:
        clock[:, first] = -1
    pairs = np.argsort(np.where(present_NV, clock, np.inf), axis=1, kind="stable")[:, :2]
    return np.where(present_NV.sum(axis=1, keepdims=True) > 1, pairs, pairs[:, :1])
