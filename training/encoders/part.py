"""A transformer in the manner of ParT (Qu et al., arXiv:2202.03772): attention that knows each pair of constituents.

What a pair is to each other is added to its attention scores, in all blocks alike; one learned vector attends to the
constituents at the end and sums them up (class attention, Touvron et al., arXiv:2103.17239). Blocks are plain pre-norm:
ParT's further norms and learned scales are left out.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.config import EncoderConfig
from training.data.jets import INPUTS
from training.encoders.encoder import Encoder, attended, initialise, run
from training.encoders.pairwise import pairwise, standardised
from training.encoders.transformer import Block
from training.lanes import Normalisation

_POOLING_BLOCKS = 2  # as published
_MOMENTUM = [INPUTS.index(name) for name in ("log_pt", "deta", "dphi")]


class ParT(Encoder):
    """Embed constituents, let them attend to each other by what each pair is, sum up by class attention."""

    momentum_mean: Tensor
    momentum_width: Tensor

    def __init__(self, config: EncoderConfig, normalisation: Normalisation, generator: torch.Generator) -> None:
        super().__init__()
        self.width, layers, heads = config.shape
        self.recompute = config.recompute
        for name in ("mean", "width"):  # to have momenta back from standardised inputs
            values = torch.from_numpy(getattr(normalisation, name)[_MOMENTUM])
            self.register_buffer(f"momentum_{name}", values, persistent=False)  # a checkpoint has them already
        self.embed = nn.Sequential(nn.Linear(len(INPUTS), self.width), nn.GELU(), nn.Linear(self.width, self.width))
        self.pair = PairBias(self.width // 4, heads)
        self.blocks = nn.ModuleList(Block(self.width, heads) for _ in range(layers))
        self.summary = nn.Parameter(torch.empty(self.width))
        self.pooling = nn.ModuleList(ClassBlock(self.width, heads) for _ in range(_POOLING_BLOCKS))
        self.norm = nn.LayerNorm(self.width)
        initialise(self, generator)
        nn.init.normal_(self.summary, std=0.02, generator=generator)

    def forward(self, values_BPI: Tensor, present_BP: Tensor) -> Tensor:
        """Give one vector (B, D) a jet; all jets without constituents give the same."""
        bias = run(self.bias, values_BPI, present_BP, recompute=self.recompute)
        x_BPD = self.embed(values_BPI)
        for block in self.blocks:
            x_BPD = run(block, x_BPD, bias, recompute=self.recompute)
        summary = self.summary.to(x_BPD.dtype).expand(len(x_BPD), 1, -1)
        for block in self.pooling:
            summary = run(block, summary, x_BPD, present_BP, recompute=self.recompute)
        return self.norm(summary)[:, 0]

    def bias(self, values_BPI: Tensor, present_BP: Tensor) -> Tensor:
        """Give what is added to the attention scores, (B, H, P, P); -inf where there is no constituent."""
        with torch.autocast(values_BPI.device.type, enabled=False):  # differences of logarithms need single precision
            momenta = torch.where(present_BP[:, :, None], values_BPI[:, :, _MOMENTUM].float(), 0)
            features = standardised(pairwise(*(momenta * self.momentum_width + self.momentum_mean).unbind(dim=2)))
        return self.pair(features).masked_fill(~attended(present_BP), -torch.inf)


class PairBias(nn.Module):
    """A perceptron from four features of a pair to one number for each head."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, hidden), nn.Linear(hidden, heads)

    def forward(self, pairs_4BPP: Tensor) -> Tensor:
        """Give (B, H, P, P). Channels come first throughout: one large product, and no copy before attention."""
        flat_4N = pairs_4BPP.flatten(start_dim=1)
        hidden = functional.gelu(self.up.weight @ flat_4N + self.up.bias[:, None])
        biases_HN = self.down.weight @ hidden + self.down.bias[:, None]
        return biases_HN.view(-1, *pairs_4BPP.shape[1:]).transpose(0, 1)


class ClassBlock(nn.Module):
    """Attention of one vector to the present constituents and itself, then a two-layer perceptron."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.mix = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, summary_B1D: Tensor, x_BPD: Tensor, present_BP: Tensor) -> Tensor:
        """Give the summary, (B, 1, D), with what it has seen added."""
        all_BQD = self.norm_attention(torch.cat([summary_B1D, x_BPD], dim=1))
        b, q, d = all_BQD.shape
        query = self.query(all_BQD[:, :1]).view(b, 1, self.heads, -1).transpose(1, 2)
        key, value = self.key_value(all_BQD).view(b, q, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        attend = functional.pad(present_BP, (1, 0), value=True)[:, None, None, :]  # (B, 1, 1, 1 + P)
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=attend)
        summary_B1D = summary_B1D + self.mix(seen.reshape(b, 1, d))
        return summary_B1D + self.down(functional.gelu(self.up(self.norm_mlp(summary_B1D))))
