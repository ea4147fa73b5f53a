"""Batches of jets in the order of a plan: from the parts through augmentation to inputs, in a background thread."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from training.config import LoaderConfig
from training.data.features import FloatArray, Normalisation
from training.data.fetch import Index, Source, prefetched
from training.data.plan import Load, Rows, choose_pairs, plan_epoch
from training.keys import generator, uniform_by_id
from training.meter import Meter

_Fetched = tuple[int, Load, list[FloatArray]]  # epoch, load, one array of jets or two
Augment = Callable[[FloatArray, np.random.Generator], FloatArray]


@dataclass(frozen=True)
class Jets:
    """Inputs of B jets."""

    values: torch.Tensor
    """(B, P, I) standardised inputs, float32."""
    present: torch.Tensor
    """(B, P) bool, where there is a constituent."""


@dataclass(frozen=True)
class Batch:
    """Objects of one step, in one view or two."""

    rows: Rows
    """(B,) row of each object in the index."""
    labels: torch.Tensor
    """(B,) float32."""
    views: tuple[Jets, ...]
    epoch: int


@dataclass(frozen=True)
class Loader:
    """Everything that settles the batches of a training but the epoch.

    `views` of length one gives that view alone; longer, a pair of two different ones, chosen anew every epoch for each
    group of neighbouring objects. `augment` is applied to every jet by itself; with it a single view becomes a pair of
    augmented ones.
    """

    source: Source
    index: Index
    rows: Rows
    views: tuple[str, ...]
    normalisation: Normalisation
    config: LoaderConfig
    batch: int
    key: tuple[int | str, ...]
    meter: Meter
    augment: Augment | None = None

    def batches(self, epochs: range) -> Generator[Batch, None, None]:
        """Yield the batches of some epochs. One thread reads the next load, another makes batches of the last."""
        return prefetched(self._batches(prefetched(self._loads(epochs), depth=1)))

    def steps(self, epochs: int) -> int:
        """Count the batches of some epochs; the plan alone tells."""
        return sum(len(load.batches) for epoch in range(epochs) for load in self._plan(epoch))

    def _plan(self, epoch: int) -> Iterator[Load]:
        order = generator(*self.key, "order", epoch)
        sizes = {"group": self.config.group, "shuffle": self.config.shuffle, "batch": self.batch}
        return plan_epoch(self.rows, **sizes, generator=order)

    def _loads(self, epochs: range) -> Generator[_Fetched, None, None]:
        for epoch in epochs:
            for load in self._plan(epoch):
                with self.meter("read", len(load.rows)):
                    jets = self._fetch(load, epoch)
                yield epoch, load, jets

    def _batches(self, loads: Generator[_Fetched, None, None]) -> Generator[Batch, None, None]:
        with closing(loads):
            for epoch, load, jets in loads:
                draws = generator(*self.key, "augment", epoch, int(load.rows[0]))
                for places in load.batches:
                    views = tuple(self._convert(view[places], draws) for view in jets)
                    rows = load.rows[places]
                    labels = torch.from_numpy(self.index.label[rows].astype(np.float32))
                    yield Batch(rows, labels, views, epoch)

    def _fetch(self, load: Load, epoch: int) -> list[FloatArray]:
        """Read a load's jets, (n, P, F) each: one view, the same twice, or a chosen pair."""
        if len(self.views) == 1:
            jets = self.source.read(self.views[0], load.rows)
            return [jets, jets] if self.augment else [jets]
        chosen = self._pairs(load.rows, epoch)
        pair: list[FloatArray] = []
        for code, view in enumerate(self.views):
            wanted = np.flatnonzero((chosen == code).any(axis=1))
            jets = self.source.read(view, load.rows[wanted])
            pair = pair or [np.empty((len(chosen), *jets.shape[1:]), dtype=np.float32) for _ in range(2)]
            for side in range(2):
                here = chosen[wanted, side] == code
                pair[side][wanted[here]] = jets[here]
        return pair

    def _pairs(self, rows: Rows, epoch: int) -> NDArray[np.int64]:
        """Choose two views (n, 2) for each row, by seed, epoch and group: of a group only a pair of views is read."""
        groups, group_of = np.unique(rows // self.config.group, return_inverse=True)
        order = np.argsort(uniform_by_id(groups, len(self.views), *self.key, "pairs", epoch), axis=1)
        present = np.stack([self.index.present[view][rows] for view in self.views], axis=1)
        return choose_pairs(present, order[group_of])

    def _convert(self, jets: FloatArray, draws: np.random.Generator) -> Jets:
        if self.augment:
            with self.meter("augment", len(jets)):
                jets = self.augment(jets, draws)
        with self.meter("convert", len(jets)):
            values, present = self.normalisation(jets)
        return Jets(torch.from_numpy(values), torch.from_numpy(present))


def in_order(
    source: Source, view: str, rows: Rows, normalisation: Normalisation, batch: int
) -> Generator[tuple[slice, Jets], None, None]:
    """Yield the rows' jets as they are, in order, with their places, read ahead in a background thread."""

    def pieces() -> Generator[tuple[slice, Jets], None, None]:
        for start in range(0, len(rows), batch):
            values, present = normalisation(source.read(view, rows[start : start + batch]))
            yield slice(start, start + len(values)), Jets(torch.from_numpy(values), torch.from_numpy(present))

    return prefetched(pieces())
