"""Networks that turn the constituents of a jet, or the voxels of an image, into one vector."""

import torch

from training.config import EncoderConfig
from training.encoders.convnext import ConvNeXt
from training.encoders.encoder import Encoder
from training.encoders.part import ParT
from training.encoders.patches import Patches
from training.encoders.rs3l import RS3L, load_rs3l
from training.encoders.transformer import Transformer
from training.lanes import Normalisation

__all__ = ["Encoder", "load_rs3l", "make_encoder"]


def make_encoder(config: EncoderConfig, normalisation: Normalisation, generator: torch.Generator) -> Encoder:
    """Make the encoder that the config names, for inputs standardised so; the generator settles its weights."""
    inputs = len(normalisation.lane.inputs)
    match config.kind:
        case "plain":
            return Transformer(inputs, config, generator)
        case "part":
            return ParT(config, normalisation, generator)
        case "rs3l":
            return RS3L(inputs, config.outputs, generator, recompute=config.recompute)
        case "convnext":
            return ConvNeXt(config, normalisation, generator)
        case "patches":
            return Patches(config, normalisation, generator)
