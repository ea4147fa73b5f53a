"""Networks that turn a jet's constituents into one vector."""

import torch

from training.config import EncoderConfig
from training.data.features import INPUTS, Normalisation
from training.encoders.encoder import Encoder
from training.encoders.part import ParT
from training.encoders.rs3l import RS3L, load_rs3l
from training.encoders.transformer import Transformer

__all__ = ["Encoder", "load_rs3l", "make_encoder"]


def make_encoder(config: EncoderConfig, normalisation: Normalisation, generator: torch.Generator) -> Encoder:
    """Make the encoder that the config names, for inputs standardised so; the generator settles its weights."""
    if config.kind == "part":
        return ParT(config, normalisation, generator)
    if config.kind == "rs3l":
        return RS3L(len(INPUTS), config.outputs, generator, recompute=config.recompute)
    return Transformer(len(INPUTS), config, generator)
