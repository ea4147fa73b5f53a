"""Sparse images on a grid: which cells are occupied, which are neighbours, and sums over groups of rows.

Axes: N rows (voxels, cells or pairs of cells), G groups, C columns, B images, P voxels. No gradient here is added to
one place from several in an order left to chance: sums and their gradients are the same bits every time.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from training.encoders.encoder import Encoder
from training.lanes import Normalisation

_BITS = 16
_HALF = 1 << (_BITS - 1)
_MARGIN = 2  # cells at the border of what a key can tell, where a neighbour would be in the next row
_PLACE_BITS = (1 << 3 * _BITS) - 1
_HALVED = sum((_HALF - 1) << shift * _BITS for shift in range(3))
CORNERS = 8


class Groups(NamedTuple):
    """Rows in groups, some of which may be empty."""

    of: Tensor
    """(N,) number of the group of each row."""
    order: Tensor
    """(N,) rows, group by group."""
    starts: Tensor
    """(G,) where each group begins in `order`."""

    @classmethod
    def by(cls, of_N: Tensor, count: int) -> "Groups":
        """Group rows by a number from 0 to `count` less one; rows of a group keep their order."""
        ordered, order = torch.sort(of_N, stable=True)
        return cls(of_N, order, torch.searchsorted(ordered, torch.arange(count, device=of_N.device)))

    @classmethod
    def rising(cls, of_N: Tensor, count: int) -> "Groups":
        """Group rows by a number that rises already."""
        rows, groups = (torch.arange(n, device=of_N.device) for n in (len(of_N), count))
        return cls(of_N, rows, torch.searchsorted(of_N, groups))

    @property
    def sizes(self) -> Tensor:
        """Count the rows of each group, (G,)."""
        return torch.diff(self.starts, append=self.starts.new_tensor([len(self.of)]))

    def sum(self, x_NC: Tensor) -> Tensor:
        """Sum up the rows of each group, (G, C), in single precision or better."""
        return _Sum.apply(x_NC, self)

    def square_sum(self, x_NC: Tensor) -> Tensor:
        """Sum up the squares of the rows of each group, (G, C), likewise."""
        return _SquareSum.apply(x_NC, self)

    def spread(self, x_GC: Tensor) -> Tensor:
        """Give each row what its group has, (N, C)."""
        return _Spread.apply(x_GC, self)

    def padded(self, x_NC: Tensor) -> tuple[Tensor, Tensor]:
        """Put the rows of each group side by side, (G, L, C) with zeros behind, and say where rows are, (G, L)."""
        sizes = self.sizes
        longest = max(1, int(sizes.max())) if len(sizes) else 1
        rank = torch.empty_like(self.of)
        rank[self.order] = torch.arange(len(self.of), device=self.of.device) - self.starts[self.of[self.order]]
        empty = x_NC.new_zeros(len(sizes) * longest, x_NC.shape[1])
        filled = torch.index_copy(empty, 0, self.of * longest + rank, x_NC).view(len(sizes), longest, -1)
        return filled, torch.arange(longest, device=self.of.device) < sizes[:, None]


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NC: Tensor, groups: Groups) -> Tensor:
        ctx.groups, ctx.dtype = groups, x_NC.dtype
        return _summed(_precise(x_NC), groups.order, groups.starts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0].index_select(0, ctx.groups.of).to(ctx.dtype), None


class _SquareSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NC: Tensor, groups: Groups) -> Tensor:
        ctx.save_for_backward(x_NC)
        ctx.groups = groups
        return _summed(_precise(x_NC).square(), groups.order, groups.starts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x_NC,) = ctx.saved_tensors
        return (2 * gradients[0]).to(x_NC.dtype).index_select(0, ctx.groups.of).mul_(x_NC), None


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_GC: Tensor, groups: Groups) -> Tensor:
        ctx.groups, ctx.dtype = groups, x_GC.dtype
        return x_GC.index_select(0, groups.of)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        groups = ctx.groups
        return _summed(_precise(gradients[0]), groups.order, groups.starts).to(ctx.dtype), None


class Neighbours(NamedTuple):
    """Pairs of occupied cells that are near each other, step by step; a cell is a neighbour of itself."""

    first: Groups
    """Of each pair, the cell that looks."""
    second: Tensor
    """(N,) the cell that it sees."""
    counts: tuple[int, ...]
    """How many pairs are a step apart, of each step from the first to the second: x slowest, 0 the most negative."""


class _Depthwise(torch.autograd.Function):
    """Sum over neighbours of (weight of the step) x (neighbour), column by column.

    If a cell sees another, that one sees it by the opposite step: the gradient is the same sum with mirrored weights.
    """

    @staticmethod
    def forward(ctx: Any, x_NC: Tensor, weight_KC: Tensor, near: Neighbours) -> Tensor:
        ctx.save_for_backward(x_NC, weight_KC)
        ctx.near = near
        return _weighted(_precise(x_NC).index_select(0, near.second), weight_KC, near)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (x_NC, weight_KC), near = ctx.saved_tensors, ctx.near
        seen = _precise(gradients[0]).index_select(0, near.second)
        by_step = (seen * x_NC.index_select(0, near.first.of)).split(near.counts)
        of_weight = torch.stack([pairs.sum(dim=0) for pairs in by_step]).flip(0)
        of_x = _weighted(seen, weight_KC.flip(0), near)
        return of_x.to(x_NC.dtype), of_weight.to(weight_KC.dtype), None


def _weighted(seen_NC: Tensor, weight_KC: Tensor, near: Neighbours) -> Tensor:
    """Sum up what cells see, times the weights of the steps; spoils what is given, which is large."""
    for pairs, weight in zip(seen_NC.split(near.counts), weight_KC, strict=True):
        pairs *= weight
    return _summed(seen_NC, near.first.order, near.first.starts)


def depthwise(x_NC: Tensor, weight_KC: Tensor, near: Neighbours) -> Tensor:
    """Convolve each column by itself over occupied cells, and only there: (N, C), of weights a row for each step."""
    return _Depthwise.apply(x_NC, weight_KC, near)


def _summed(x_NC: Tensor, order_N: Tensor, starts_G: Tensor) -> Tensor:
    """Sum rows up in the order given, group by group; of the ways that torch has, the fastest on a CPU."""
    return functional.embedding_bag(order_N, x_NC, starts_G, mode="sum")


def _precise(x: Tensor) -> Tensor:
    """Give single precision or better."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def keys(image_N: Tensor, cell_N3: Tensor) -> Tensor:
    """Give numbers of cells that rise with image, x, y and z, (N,).

    Cells are told apart to 32,766 cells from 0 in each direction; what lies beyond is put there.
    """
    x, y, z = (cell_N3 + _HALF).clamp(_MARGIN, 2 * _HALF - 1 - _MARGIN).unbind(dim=1)
    return ((image_N << _BITS | x) << _BITS | y) << _BITS | z


def image_of(key_N: Tensor) -> Tensor:
    """Give the image of cells, (N,)."""
    return key_N >> 3 * _BITS


def coarser(key_N: Tensor) -> tuple[Tensor, Tensor]:
    """Give the keys of cells of twice the edge, (N,), and in which of their eight corners the cells are, (N,)."""
    place = key_N & _PLACE_BITS
    corner = (key_N >> 2 * _BITS - 2 & 4) | (key_N >> _BITS - 1 & 2) | (key_N & 1)
    return (key_N - place) | (place >> 1 & _HALVED), corner


def neighbours(key_N: Tensor, size: int) -> Neighbours:
    """Find the occupied cells in a cube of `size` cells about each, by their distinct rising keys.

    Cells that differ in z alone follow each other: one search finds where a column begins, and there it is climbed.
    Columns of lower keys are not searched, for who is seen sees back.
    """
    half, many, device = size // 2, size**2 // 2 + 1, key_N.device
    columns = torch.arange(size**2 - many, size**2, device=device)  # from the cell's own on
    ahead = (columns // size - half << 2 * _BITS) + (columns % size - half << _BITS) - half
    lowest = key_N + ahead[:, None]  # (columns, N)
    padded = torch.cat([key_N, key_N.new_tensor([torch.iinfo(torch.int64).max])])
    at, found = [torch.searchsorted(key_N, lowest)], list[Tensor]()
    for climbed in range(size):
        found.append(padded[at[-1]] == lowest + climbed)
        at.append(at[-1] + found[-1])
    here = torch.stack(found, dim=1)  # (columns, size, N), steps as they rise
    here[0, : half + 1] = False
    first, second = here.nonzero(as_tuple=True)[2], torch.stack(at[:-1], dim=1)[here]
    alone = torch.arange(len(key_N), device=device)
    forward = here.sum(dim=2).flatten().tolist()[half + 1 :]
    return Neighbours(
        Groups.by(torch.cat([second.flip(0), alone, first]), len(key_N)),
        torch.cat([first.flip(0), alone, second]),
        (*forward[::-1], len(key_N), *forward),
    )


class SparseEncoder(Encoder):
    """A network over the present voxels alone, whatever their number: in flat rows, without padding."""

    place_mean: Tensor
    place_width: Tensor

    def __init__(self, normalisation: Normalisation) -> None:
        super().__init__()
        self._inputs = normalisation.lane.inputs
        for name in ("mean", "width"):  # to have places in cm back from standardised inputs
            values = torch.from_numpy(getattr(normalisation, name)[self._columns("x", "y", "z")])
            self.register_buffer(f"place_{name}", values, persistent=False)  # a checkpoint has them already

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Stay as it is: the number of cells is another in every batch, and known from what is in it alone."""

    def rows(self, values_BPI: Tensor, present_BP: Tensor, *names: str) -> tuple[Tensor, Tensor, Tensor]:
        """Give of all present voxels the image (N,), the place (N, 3) in cm, and some inputs (N, I)."""
        image, voxel = present_BP.nonzero(as_tuple=True)
        values = values_BPI[image, voxel]
        place = values[:, self._columns("x", "y", "z")] * self.place_width + self.place_mean
        return image, place, values[:, self._columns(*names)]

    def _columns(self, *names: str) -> list[int]:
        return [self._inputs.index(name) for name in names]
