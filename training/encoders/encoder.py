"""What the encoders share. Axes: B jets, P constituents, I inputs, D width, H heads."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from resim.errors import UserError


class Encoder(nn.Module):
    """A network that maps values (B, P, I) and a mask (B, P) of present constituents to vectors (B, `width`).

    What absent constituents hold, and how many there are, changes nothing; nor does the order of constituents.
    """

    width: int


def attended(present_BP: Tensor) -> Tensor:
    """Give the mask (B, 1, 1, P) of what is looked at; softmax over nothing is NaN, so an empty jet looks at it all."""
    return (present_BP | ~present_BP.any(dim=1, keepdim=True))[:, None, None, :]


def run(layer: Callable[..., Tensor], *inputs: Any, recompute: bool) -> Tensor:
    """Apply a layer; with `recompute` keep its inputs alone and compute the rest again in the backward pass."""
    if recompute and torch.is_grad_enabled():
        return checkpoint(layer, *inputs, use_reentrant=False, preserve_rng_state=False)  # the layers draw nothing
    return layer(*inputs)


@torch.no_grad()
def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw matrices Xavier-uniform from the generator and zero the biases; whatever was drawn before is overwritten."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            bound = math.sqrt(6 / (layer.in_features + layer.out_features))
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.zero_()


def load_layers(network: nn.Module, weights: Mapping[str, object], where: str) -> None:
    """Put weights that were read from `where` into a network.

    Raises
    ------
    UserError
        If they are of another architecture; names the first layer that differs.
    """
    expected = network.state_dict()
    for name in [*expected, *(name for name in weights if name not in expected)]:
        wanted, found = (_shape(layers.get(name)) for layers in (expected, weights))
        if wanted != found:
            raise UserError(f"{where}: of another architecture: layer {name!r} is {found}, expected {wanted}")
    network.load_state_dict(weights)


def _shape(weight: object) -> str:
    return str(tuple(weight.shape)) if isinstance(weight, Tensor) else "missing" if weight is None else "no tensor"
