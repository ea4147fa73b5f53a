"""A small pre-norm transformer over constituents, without positions: their order carries nothing."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.config import EncoderConfig
from training.encoders.encoder import Encoder, attended, initialise, run


class Block(nn.Module):
    """Self-attention among the present constituents, then a two-layer perceptron, each added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x_BPD: Tensor, attend: Tensor) -> Tensor:
        """Keep the shape; `attend`, (B, 1 or H, 1 or P, P), is a mask (False: not seen) or is added to the scores."""
        b, p, d = x_BPD.shape
        qkv = self.query_key_value(self.norm_attention(x_BPD)).view(b, p, 3, self.heads, d // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # (B, H, P, D / H) each
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=attend)
        x_BPD = x_BPD + self.mix(seen.transpose(1, 2).reshape(b, p, d))
        return x_BPD + self.down(functional.gelu(self.up(self.norm_mlp(x_BPD))))


class Transformer(Encoder):
    """Embed constituents, let them attend to each other, take the mean of those present."""

    def __init__(self, inputs: int, config: EncoderConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.width, layers, heads = config.shape
        self.recompute = config.recompute
        self.embed = nn.Sequential(nn.Linear(inputs, self.width), nn.GELU(), nn.Linear(self.width, self.width))
        self.blocks = nn.ModuleList(Block(self.width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(self.width)
        initialise(self, generator)

    def forward(self, values_BPI: Tensor, present_BP: Tensor) -> Tensor:
        """Give one vector (B, D) a jet; a jet without constituents gives zeros."""
        attend = attended(present_BP)
        x_BPD = self.embed(values_BPI)
        for block in self.blocks:
            x_BPD = run(block, x_BPD, attend, recompute=self.recompute)
        weights = present_BP[:, :, None].to(x_BPD.dtype)
        return (self.norm(x_BPD) * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def head(inputs: int, outputs: int, generator: torch.Generator) -> nn.Sequential:
    """Make a two-layer perceptron: the projection head of contrastive training, the classifier of supervised."""
    layers = nn.Sequential(nn.Linear(inputs, inputs), nn.GELU(), nn.Linear(inputs, outputs))
    initialise(layers, generator)
    return layers
