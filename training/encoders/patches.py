"""Cubes of voxels as tokens of the transformer that jets use."""

import torch
from torch import Tensor, nn

from training.config import EncoderConfig
from training.encoders.encoder import initialise
from training.encoders.sparse import Groups, SparseEncoder, image_of, keys
from training.encoders.transformer import Transformer
from training.lanes import Normalisation

_CHARGES, _FROM_CENTRE = ("charge", "log_charge"), ("dx", "dy", "dz")


class Patches(SparseEncoder):
    """Sum up embedded voxels in cubes, add where their voxels are in the image, let the cubes attend to each other."""

    def __init__(self, config: EncoderConfig, normalisation: Normalisation, generator: torch.Generator) -> None:
        super().__init__(config, normalisation)
        self.width, self.patch = config.shape.width, config.patch
        self.voxel, self.position = (
            nn.Sequential(nn.Linear(inputs, self.width), nn.GELU(), nn.Linear(self.width, self.width))
            for inputs in (len(_CHARGES) + 3, 3)
        )
        self.transformer = Transformer(self.width, config, generator)
        initialise(self.voxel, generator)
        initialise(self.position, generator)

    def forward(self, values_BPI: Tensor, present_BP: Tensor) -> Tensor:
        """Give one vector (B, D) an image; one without voxels gives zeros."""
        image, place, values = self.rows(values_BPI, present_BP, *_CHARGES, *_FROM_CENTRE)
        charges, from_centre = values.split([len(_CHARGES), 3], dim=1)
        at = place / (self.grid * self.patch)
        cube = at.floor()
        key, of = torch.unique(keys(image, cube.long()), return_inverse=True)
        cubes = Groups.by(of, len(key))
        tokens = cubes.sum(self.voxel(torch.cat([charges, at - cube - 0.5], dim=1)))
        tokens = tokens + self.position(cubes.sum(from_centre) / cubes.sizes[:, None])
        return self.transformer(*Groups.rising(image_of(key), len(present_BP)).padded(tokens))
