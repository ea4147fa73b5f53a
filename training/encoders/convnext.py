"""ConvNeXt V2 (Woo et al., arXiv:2301.00808) on sparse images, in three dimensions.

Convolutions are submanifold ones (Graham et al., arXiv:1711.10275): only occupied cells have outputs, and see occupied
cells alone, so that a track stays as thin as it is. Global response normalisation runs over the cells of an image.
Axes as in `training.encoders.sparse`; K steps of a kernel.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.config import STAGES, EncoderConfig
from training.encoders.encoder import initialise, run
from training.encoders.sparse import (
    CORNERS,
    Groups,
    Neighbours,
    SparseEncoder,
    coarser,
    depthwise,
    image_of,
    keys,
    neighbours,
)
from training.lanes import Normalisation

_SEEN = ("charge", "log_charge")
_EPSILON = 1e-6  # as published


class Level(NamedTuple):
    """The occupied cells of a resolution."""

    key: Tensor
    near: Neighbours
    images: Groups


class Merge(NamedTuple):
    """How cells become cells of twice the edge."""

    cell: Tensor
    """(N,) the coarser cell of each."""
    corner: Tensor
    """(N,) where in it."""
    cells: int


class ConvNeXt(SparseEncoder):
    """Embed the charge of voxels, sum it up in cells of the grid, convolve at falling resolution, pool over each image.

    Two voxels in a cell are one of their sum. An image that is shifted by whole cells of the coarsest resolution gives
    the same. Images that are empty give all the same.
    """

    def __init__(self, config: EncoderConfig, normalisation: Normalisation, generator: torch.Generator) -> None:
        super().__init__(normalisation)
        widths, depths = STAGES[config.size]
        self.width, self.grid, self.kernel, self.recompute = widths[-1], config.grid, config.kernel, config.recompute
        self.embed, self.norm_embed = nn.Linear(len(_SEEN), widths[0]), nn.LayerNorm(widths[0], _EPSILON)
        self.halve = nn.ModuleList(Halve(fine, coarse) for fine, coarse in pairwise(widths))
        stages = (Stage(width, depth, config.kernel**3) for width, depth in zip(widths, depths, strict=True))
        self.stages = nn.ModuleList(stages)
        self.norm = nn.LayerNorm(self.width, _EPSILON)
        initialise(self, generator)
        for module in self.modules():
            if isinstance(module, Block):
                nn.init.normal_(module.weight, std=config.kernel**-1.5, generator=generator)

    def forward(self, values_BPI: Tensor, present_BP: Tensor) -> Tensor:
        """Give one vector (B, D) an image."""
        image, place, charge = self.rows(values_BPI, present_BP, *_SEEN)
        key, cell = torch.unique(keys(image, (place / self.grid).floor().long()), return_inverse=True)
        x = self.norm_embed(Groups.by(cell, len(key)).sum(self.embed(charge)))
        level = self._level(key, len(present_BP))
        for number, stage in enumerate(self.stages):
            if number:
                coarse, merge = merged(level.key)
                x, level = self.halve[number - 1](x, merge), self._level(coarse, len(present_BP))
            x = stage(x, level, recompute=self.recompute)
        return self.norm(pooled(x, level.images))

    def _level(self, key: Tensor, images: int) -> Level:
        return Level(key, neighbours(key, self.kernel), Groups.rising(image_of(key), images))


def merged(key_N: Tensor) -> tuple[Tensor, Merge]:
    """Give the keys of the cells of twice the edge, and how these become those."""
    coarse, corner = coarser(key_N)
    key, cell = torch.unique(coarse, return_inverse=True)
    return key, Merge(cell, corner, len(key))


def pooled(x_NC: Tensor, images: Groups) -> Tensor:
    """Add up the mean and the maximum over the cells of each image, (B, C); 0 for one without."""
    filled, here = images.padded(x_NC)
    count = here.sum(dim=1, keepdim=True)
    largest = filled.masked_fill(~here[:, :, None], -torch.inf).amax(dim=1)
    return filled.sum(dim=1) / count.clamp(min=1) + torch.where(count > 0, largest, 0)


class Halve(nn.Module):
    """A convolution of two cells along each edge, two cells apart."""

    def __init__(self, fine: int, coarse: int) -> None:
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(fine, _EPSILON), nn.Linear(CORNERS * fine, coarse)

    def forward(self, x_NC: Tensor, merge: Merge) -> Tensor:
        """Give a row for each coarser cell; a corner that is not occupied is zero."""
        x_NC, at = self.norm(x_NC), CORNERS * merge.cell + merge.corner
        empty = x_NC.new_zeros(CORNERS * merge.cells, x_NC.shape[1])
        return self.mix(torch.index_copy(empty, 0, at, x_NC).view(merge.cells, self.mix.in_features))


class Stage(nn.Module):
    """Blocks at one resolution."""

    def __init__(self, width: int, depth: int, steps: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, steps) for _ in range(depth))

    def forward(self, x_NC: Tensor, level: Level, *, recompute: bool) -> Tensor:
        """Keep the shape."""
        for block in self.blocks:
            x_NC = run(block, x_NC, level.near, level.images, recompute=recompute)
        return x_NC


class Block(nn.Module):
    """A convolution of each column by itself, then a two-layer perceptron with response normalisation, added."""

    def __init__(self, width: int, steps: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(steps, width)), nn.Parameter(torch.zeros(width))
        self.norm = nn.LayerNorm(width, _EPSILON)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.response = Response(4 * width)

    def forward(self, x_NC: Tensor, near: Neighbours, images: Groups) -> Tensor:
        """Keep the shape."""
        hidden = functional.gelu(self.up(self.norm(depthwise(x_NC, self.weight, near) + self.bias)))
        return x_NC + self.down(self.response(hidden, images))


class Response(nn.Module):
    """Global response normalisation: columns compete for an image by their lengths over its cells."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x_NC: Tensor, images: Groups) -> Tensor:
        """Keep the shape."""
        length_BC = (images.square_sum(x_NC) + _EPSILON**2).sqrt()  # the root of 0 has no gradient
        relative_BC = length_BC / (length_BC.mean(dim=1, keepdim=True) + _EPSILON)
        return torch.addcmul(self.shift, x_NC, images.spread(1 + self.scale * relative_BC))
