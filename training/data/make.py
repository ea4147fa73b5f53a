"""Make batches of what the plan orders: read the jets, augment them, turn them into inputs. NumPy arrays alone.

A `Maker` can be handed to another process, which gives back the batches of one order at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from resim.errors import UserError
from training.data.fetch import Source
from training.data.packed import Packed
from training.data.plan import Key, Load, Rows
from training.keys import Draws
from training.lanes import FloatArray, Normalisation
from training.meter import Meter

Augment = Callable[[FloatArray, Draws], FloatArray]
_STEP = 8  # widths of buckets are multiples of this: fewer shapes for compiled networks, and what tensor cores like


@dataclass(frozen=True)
class Order:
    """All that is to be known of a load to make its batches."""

    load: Load
    sides: NDArray[np.int64]
    """(n, 1) or (n, 2) number of the view that each side of a row shows."""
    labels: NDArray[np.float32]
    """(n,)"""
    ids: NDArray[np.int64]
    """(n,) on which the draws of each object depend, see `Index.ids`."""


class Bucket(NamedTuple):
    """Jets of a batch of about the same length."""

    places: NDArray[np.int64]
    width: int
    """Constituents of the longest, rounded up."""


class Inputs(NamedTuple):
    """One view of a batch."""

    values: FloatArray
    present: NDArray[np.bool_]
    buckets: tuple[Bucket, ...]
    """Empty where the batch is not cut."""


class Made(NamedTuple):
    """A batch."""

    rows: Rows
    labels: NDArray[np.float32]
    shown: NDArray[np.int64]
    """(B, 1) or (B, 2) number of the view that each side shows."""
    views: tuple[Inputs, ...]
    epoch: int
    step: int


@dataclass(frozen=True)
class Maker(Dataset[Packed | UserError]):
    """What turns orders into batches."""

    source: Source
    views: tuple[str, ...]
    normalisation: Normalisation
    augment: Augment | None
    buckets: int
    key: Key

    def __getitem__(self, order: Order) -> Packed | UserError:
        """Make all batches of an order, with what they cost; a user's mistake is handed back, not raised."""
        meter = Meter()
        try:
            made = list(self.batches(order, self.fetch(order, meter), meter))
        except UserError as error:
            return error  # raised here, it would come with the worker's traceback
        return Packed.of((made, meter))

    def fetch(self, order: Order, meter: Meter) -> list[FloatArray]:
        """Read an order's jets as stored, (n, P, F) for each side."""
        rows, jets = order.load.rows, list[FloatArray]()
        with meter("read", len(rows)):
            for code in np.unique(order.sides):
                wanted = np.flatnonzero((order.sides == code).any(axis=1))
                found = self.source.read(self.views[code], rows[wanted])
                jets = jets or [np.empty((len(rows), *found.shape[1:]), np.float32) for _ in order.sides.T]
                for side, filled in zip(order.sides.T, jets, strict=True):
                    here = side[wanted] == code
                    filled[wanted[here]] = found[here]
        return jets

    def batches(self, order: Order, jets: Sequence[FloatArray], meter: Meter) -> Iterator[Made]:
        """Augment and convert batch by batch."""
        load = order.load
        for step, places in enumerate(load.batches, load.first):
            rows = load.rows[places]
            views = (
                self._convert(side[places], Draws(order.ids[places], (*self.key, "augment", load.epoch, number)), meter)
                for number, side in enumerate(jets)
            )
            yield Made(rows, order.labels[places], order.sides[places], tuple(views), load.epoch, step)

    def _convert(self, jets: FloatArray, draws: Draws, meter: Meter) -> Inputs:
        if self.augment:
            with meter("augment", len(jets)):
                jets = self.augment(jets, draws)
        with meter("convert", len(jets)):
            values, present = self.normalisation(jets)
            return Inputs(values, present, bucketed(present.sum(axis=1), self.buckets, present.shape[1]))


def bucketed(lengths: NDArray[np.int64], buckets: int, longest: int) -> tuple[Bucket, ...]:
    """Cut jets by their lengths into buckets of the same number of jets, none wider than `longest`; one is none."""
    if buckets == 1:
        return ()
    pieces = np.array_split(np.argsort(lengths, kind="stable"), min(buckets, len(lengths)))
    widths = [max(1, -(-int(lengths[piece].max()) // _STEP) * _STEP) for piece in pieces]
    return tuple(Bucket(piece, min(width, longest)) for piece, width in zip(pieces, widths, strict=True))
