"""A small pre-norm transformer over constituents, without positions: their order carries nothing.

Axes: B jets, P constituents, I inputs, D width, H heads.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.config import EncoderConfig


class Block(nn.Module):
    """Self-attention among the present constituents, then a two-layer perceptron, each added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x_BPD: Tensor, attend_B11P: Tensor) -> Tensor:
        """Keep the shape; absent constituents (False in `attend_B11P`) are not looked at."""
        b, p, d = x_BPD.shape
        qkv = self.query_key_value(self.norm_attention(x_BPD)).view(b, p, 3, self.heads, d // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # (B, H, P, D / H) each
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=attend_B11P)
        x_BPD = x_BPD + self.mix(seen.transpose(1, 2).reshape(b, p, d))
        return x_BPD + self.down(functional.gelu(self.up(self.norm_mlp(x_BPD))))


class Transformer(nn.Module):
    """Embed constituents, let them attend to each other, take the mean of those present."""

    def __init__(self, inputs: int, config: EncoderConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.width = config.width
        self.embed = nn.Sequential(nn.Linear(inputs, config.width), nn.GELU(), nn.Linear(config.width, config.width))
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        initialise(self, generator)

    def forward(self, values_BPI: Tensor, present_BP: Tensor) -> Tensor:
        """Give one vector (B, D) a jet; a jet without constituents gives the vector of an empty sum."""
        # An absent constituent may attend to itself alone: softmax over nothing would be NaN
        attend = present_BP[:, None, None, :] | ~present_BP.any(dim=1)[:, None, None, None]
        x_BPD = self.embed(values_BPI)
        for block in self.blocks:
            x_BPD = block(x_BPD, attend)
        weights = present_BP[:, :, None].to(x_BPD.dtype)
        return (self.norm(x_BPD) * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def head(inputs: int, outputs: int, generator: torch.Generator) -> nn.Sequential:
    """Make a two-layer perceptron: the projection head of contrastive training, the classifier of supervised."""
    layers = nn.Sequential(nn.Linear(inputs, inputs), nn.GELU(), nn.Linear(inputs, outputs))
    initialise(layers, generator)
    return layers


@torch.no_grad()
def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw matrices Xavier-uniform from the generator and zero the biases; whatever was drawn before is overwritten."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            bound = math.sqrt(6 / (layer.in_features + layer.out_features))
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.zero_()
