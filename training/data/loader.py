"""Batches of jets in the order of a plan, made ahead in background threads or in other processes."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from resim.errors import UserError
from training.config import LoaderConfig, PairsConfig
from training.data.fetch import Index, Source, prefetched
from training.data.make import Augment, Inputs, Made, Maker, Order
from training.data.packed import Packed
from training.data.plan import Key, Load, Plan, Rows, choose_pairs
from training.keys import torch_generator, uniform_by_id
from training.lanes import Normalisation
from training.meter import Meter

_Fetched = tuple[Order, list[NDArray[np.float32]]]


@dataclass(frozen=True)
class Jets:
    """Inputs of B jets."""

    values: Tensor
    """(B, P, I) standardised inputs, float32."""
    present: Tensor
    """(B, P) bool, where there is a constituent."""
    buckets: tuple[tuple[Tensor, int], ...] = ()
    """Places of jets of about the same length, and what of P they need; empty where the batch is not cut."""

    @classmethod
    def of(cls, inputs: Inputs) -> "Jets":
        """Take over arrays."""
        buckets = tuple((torch.from_numpy(places), width) for places, width in inputs.buckets)
        return cls(torch.from_numpy(inputs.values), torch.from_numpy(inputs.present), buckets)

    def through(self, network: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Apply a network, bucket by bucket; the outputs (B, ...) are in the order of the batch."""
        if not self.buckets:
            return network(self.values, self.present)
        outputs = [network(self.values[at, :width], self.present[at, :width]) for at, width in self.buckets]
        return torch.cat(outputs)[torch.cat([at for at, _ in self.buckets]).argsort()]

    def changed(self, change: Callable[[Tensor], Tensor]) -> "Jets":
        """Apply a change to all tensors."""
        return Jets(change(self.values), change(self.present), tuple((change(at), width) for at, width in self.buckets))


@dataclass(frozen=True)
class Batch:
    """Objects of one step, in one view or two; of several ranks, this one's share of them."""

    rows: Rows
    """(B,) row of each object in the index."""
    labels: Tensor
    """(B,) float32: numbers of classes, or the target of a regression."""
    shown: Tensor
    """(B, 1) or (B, 2) int64, number in the loader's `views` of what is shown."""
    views: tuple[Jets, ...]
    epoch: int
    step: int
    """From the start of the epoch."""
    beside: "Batch | None" = None
    """Objects that accompany these, of the loader `beside`."""

    @classmethod
    def of(cls, made: Made) -> "Batch":
        """Take over arrays."""
        views = tuple(Jets.of(inputs) for inputs in made.views)
        labels, shown = torch.from_numpy(made.labels), torch.from_numpy(made.shown)
        return cls(made.rows, labels, shown, views, made.epoch, made.step)

    def to(self, device: torch.device | str) -> "Batch":
        """Copy to a device; from pinned memory without waiting for it."""
        return self._changed(lambda x: x.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """Copy to memory that a GPU reads by itself."""
        return self._changed(lambda x: x.pin_memory())

    def _changed(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        return replace(
            self,
            labels=change(self.labels),
            shown=change(self.shown),
            views=tuple(jets.changed(change) for jets in self.views),
            beside=self.beside and self.beside._changed(change),
        )


@dataclass(frozen=True)
class Loader:
    """Everything that settles the batches of a training but the epoch.

    `views` of length one gives that view alone; longer, a pair of two different ones, drawn anew every epoch as `pairs`
    says. `augment` is applied to every jet by itself; with it a single view becomes a pair of augmented ones. With
    `single` there is no pair but one view, drawn alike.

    The batches are the same for the same key: wherever the jets are read from, whatever the number of workers, and
    from whichever step they are asked for. The shares of all ranks, one after another, are the batch of one process.
    """

    source: Source
    index: Index
    labels: NDArray[np.float32]
    """(N,) of all objects of the index."""
    rows: Rows
    views: tuple[str, ...]
    normalisation: Normalisation
    config: LoaderConfig
    batch: int
    """Objects a step, of all ranks together."""
    key: Key
    meter: Meter
    augment: Augment | None = None
    pairs: PairsConfig = field(default_factory=PairsConfig)
    single: bool = False
    beside: "Loader | None" = None
    """What gives every batch another one to go with it; its epochs follow each other whatever their length is."""
    rank: int = 0
    ranks: int = 1
    pin: bool = False
    """Give batches in pinned memory; needs a GPU."""

    def of_rank(self, rank: int, ranks: int, *, pin: bool) -> "Loader":
        """Give a rank's share."""
        beside = self.beside and self.beside.of_rank(rank, ranks, pin=pin)
        return replace(self, rank=rank, ranks=ranks, pin=pin, beside=beside)

    def batches(self, epochs: range, start: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of some epochs, of the first one from step `start` on; they are made ahead."""
        orders = self._orders(epochs, start)
        made = self._by_workers(orders) if self.config.workers else self._by_threads(orders)
        batches = prefetched(self._batches(made))
        return self._accompanied(batches, self.beside, epochs, start) if self.beside else batches

    def steps(self, epochs: int) -> int:
        """Count the batches of some epochs, which are the same on every rank.

        Raises
        ------
        UserError
            If there is no object.
        """
        if not len(self.rows):
            views = ", ".join(self.views)
            raise UserError(f"no object to train on is in the views {views}; simulate more events, or name other views")
        return epochs * self._plan.steps

    def _accompanied(
        self, batches: Generator[Batch, None, None], beside: "Loader", epochs: range, start: int
    ) -> Generator[Batch, None, None]:
        """Put beside the n-th batch of all epochs the n-th of the other loader's."""
        first, last, length = self.steps(epochs.start) + start, self.steps(epochs.stop), beside.steps(1)
        others = beside.batches(range(first // length, -(-last // length)), first % length)
        with closing(batches), closing(others):
            for batch, other in zip(batches, others, strict=False):  # the other's last epoch may be longer
                yield replace(batch, beside=other)

    @property
    def _plan(self) -> Plan:
        return Plan(self.rows, self.config.group, self.config.shuffle, self.batch, self.key, self.index.starts)

    @property
    def _maker(self) -> Maker:
        return Maker(self.source, self.views, self.normalisation, self.augment, self.config.buckets, self.key)

    def _orders(self, epochs: range, start: int) -> Generator[Order, None, None]:
        for epoch in epochs:
            for load in self._plan.epoch(epoch, start if epoch == epochs[0] else 0, self.rank, self.ranks):
                yield Order(load, self._sides(load), self.labels[load.rows], self.index.ids(load.rows))

    def _sides(self, load: Load) -> NDArray[np.int64]:
        """Choose what each row shows, (n, 1 or 2) numbers of views: by seed, epoch and neighbourhood."""
        sides = 1 if self.single else 2
        if len(self.views) == 1:
            return np.zeros((len(load.rows), sides if self.augment else 1), dtype=np.int64)
        start, shared = self.index.starts[self.index.sample[load.rows]], self.pairs.shared_by
        firsts, first_of = np.unique(start + (load.rows - start) // shared * shared, return_inverse=True)
        uniform = uniform_by_id(self.index.ids(firsts), len(self.views), *self.key, "pairs", load.epoch)[first_of]
        present = np.stack([self.index.present[view][load.rows] for view in self.views], axis=1)
        weights = np.array([self.pairs.weights.get(view, 1.0) for view in self.views])
        first = None if self.single else first_view(self.views, self.pairs)
        return choose_pairs(present, uniform, weights, first)[:, :sides]

    def _by_threads(self, orders: Generator[Order, None, None]) -> Generator[Made, None, None]:
        """Read the next load in one thread while the last is converted in the caller's."""
        maker = self._maker
        with closing(prefetched(self._fetched(maker, orders), depth=1)) as loads:
            for order, jets in loads:
                yield from maker.batches(order, jets, self.meter)

    def _fetched(self, maker: Maker, orders: Generator[Order, None, None]) -> Generator[_Fetched, None, None]:
        for order in orders:
            yield order, maker.fetch(order, self.meter)

    def _by_workers(self, orders: Generator[Order, None, None]) -> Generator[Made, None, None]:
        """Have loads made by processes, each its own; they come back in their order."""
        loads: DataLoader[Packed | UserError] = DataLoader(
            self._maker,
            batch_size=None,
            sampler=orders,
            num_workers=self.config.workers,
            collate_fn=_unchanged,
            multiprocessing_context="spawn",  # a fork would copy the locks of the threads of Zarr and torch
            prefetch_factor=1,
            generator=torch_generator(*self.key, "workers"),  # torch wants one, or takes the global one
        )
        for packed in loads:
            if isinstance(packed, UserError):
                raise packed
            made, meter = packed.item()
            self.meter.add(meter)
            yield from made

    def _batches(self, made: Generator[Made, None, None]) -> Generator[Batch, None, None]:
        with closing(made):
            for each in made:
                batch = Batch.of(each)
                yield batch.pin_memory() if self.pin else batch


class Epochs:
    """The epochs of a loader, one an iteration; the state tells the next batch, whatever was made ahead.

    An iteration that is left goes on where it was.
    """

    def __init__(self, loader: Loader, epochs: int) -> None:
        self._loader, self._epochs = loader, epochs
        self._next = (0, 0)
        self._batches: Generator[Batch, None, None] | None = None

    def __len__(self) -> int:
        """Count the steps of an epoch."""
        return self._loader.steps(1)

    def __iter__(self) -> Iterator[Batch]:
        """Yield what is left of the epoch; the next epoch's first batches are made meanwhile."""
        epoch, step = self._next
        self._batches = self._batches or self._loader.batches(range(epoch, self._epochs), step)
        for batch in self._batches:
            last = batch.step + 1 == len(self)
            self._next = (batch.epoch + 1, 0) if last else (batch.epoch, batch.step + 1)
            yield batch
            if last:
                return

    def state_dict(self) -> dict[str, int]:
        """Tell the epoch and the step of the next batch."""
        return dict(zip(("epoch", "step"), self._next, strict=True))

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a state."""
        self.close()
        self._next = (state["epoch"], state["step"])

    def close(self) -> None:
        """End the threads and processes that make batches ahead."""
        if self._batches:
            self._batches.close()
        self._batches = None


def first_view(views: tuple[str, ...], pairs: PairsConfig) -> int | None:
    """Give the number of the view that is in every pair, if there is one."""
    return views.index("nominal") if pairs.first == "nominal" and len(views) > 1 else None


def rows_of(index: Index, split: str, views: tuple[str, ...], pairs: PairsConfig) -> Rows:
    """Give the rows of a split that have a view to show: the one that is in every pair, or any."""
    first = first_view(views, pairs)
    return index.rows(split, views if first is None else (views[first],))


def in_order(
    source: Source, view: str, rows: Rows, normalisation: Normalisation, batch: int
) -> Generator[tuple[slice, Jets], None, None]:
    """Yield the rows' jets as they are, in order, with their places, read ahead in a background thread."""

    def pieces() -> Generator[tuple[slice, Jets], None, None]:
        for start in range(0, len(rows), batch):
            values, present = normalisation(source.read(view, rows[start : start + batch]))
            yield slice(start, start + len(values)), Jets(torch.from_numpy(values), torch.from_numpy(present))

    return prefetched(pieces())


def _unchanged(item: Any) -> Any:
    return item
