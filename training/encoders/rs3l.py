"""The network of RS3L (Harris et al., arXiv:2403.07066): dynamic edge convolutions over constituents, summed up.

Layers have the names and shapes of the authors' checkpoints (github.com/jeffkrupa/deepjet-geometric, MIT licence),
which `load_rs3l` reads. Axes besides B, P, I, D: N neighbours.
"""

from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from resim.errors import UserError
from training.data.jets import FEATURES
from training.encoders.encoder import Encoder, initialise, load_layers, run

NEIGHBOURS = 24
HIDDEN = 128


class RS3L(Encoder):
    """Encode constituents, convolve three times over the nearest in the space of the last layer, sum, and decode.

    Its output is not normalised; the authors' loss and heads take it normalised to length one.
    """

    def __init__(self, inputs: int, outputs: int, generator: torch.Generator, *, recompute: bool = False) -> None:
        super().__init__()
        self.width, self.recompute = outputs, recompute
        self.pf_encode = nn.Sequential(nn.Linear(inputs, HIDDEN), nn.ELU(), nn.Linear(HIDDEN, HIDDEN), nn.ELU())
        self.conv1, self.conv2, self.conv3 = (EdgeConvolution(HIDDEN) for _ in range(3))
        decode = [module for a, b in pairwise((HIDDEN, 64, 32, 32)) for module in (nn.Linear(a, b), nn.ELU())]
        self.output = nn.Sequential(*decode, nn.Linear(32, outputs))
        initialise(self, generator)

    def forward(self, values_BPI: Tensor, present_BP: Tensor) -> Tensor:
        """Give one vector (B, outputs) a jet; a jet without constituents gives that of an empty sum."""
        x_BPD = self.pf_encode(values_BPI)
        for convolution in (self.conv1, self.conv2, self.conv3):
            x_BPD = run(convolution, x_BPD, present_BP, recompute=self.recompute)
        return self.output(torch.where(present_BP[:, :, None], x_BPD, 0).sum(dim=1))


class EdgeConvolution(nn.Module):
    """EdgeConv over nearest neighbours (Wang et al., arXiv:1801.07829): max over j of ELU(W [x_i, x_j - x_i] + b).

    W splits into U x_i + V (x_j - x_i), and ELU rises everywhere, so that this is ELU((U - V) x_i + b + max V x_j): two
    products a constituent in place of one an edge, and nothing of the size of the edges is kept.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.nn = nn.Sequential(nn.Linear(2 * width, width), nn.ELU())  # so named in checkpoints

    def forward(self, x_BPD: Tensor, present_BP: Tensor) -> Tensor:
        """Keep the shape; what comes out for absent constituents is arbitrary, but finite."""
        weight, bias = self.nn.parameters()
        of_own, of_other = weight.chunk(2, dim=1)
        own_BPD = functional.linear(x_BPD, of_own - of_other, bias)
        other_BPD = functional.linear(x_BPD, of_other)
        return functional.elu(own_BPD + largest(other_BPD, nearest(x_BPD.detach(), present_BP)))


def nearest(x_BPD: Tensor, present_BP: Tensor) -> Tensor:
    """Find the numbers of the nearest present constituents of each, (B, P, N), itself again where there are fewer.

    As in torch_geometric's DynamicEdgeConv, with which the published networks were trained, a point is a neighbour of
    itself. Where a jet has no more than N constituents, all of them are neighbours.
    """
    x = _precise(torch.where(present_BP[:, :, None], x_BPD, 0))
    distance = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")  # near points cancel in the other mode
    distance = distance.masked_fill(~present_BP[:, None, :], torch.inf)
    found = distance.topk(min(NEIGHBOURS, x.shape[1]), dim=2, largest=False)
    itself = torch.arange(x.shape[1], device=x.device)[:, None]
    return torch.where(found.values.isfinite(), found.indices, itself)


def largest(x_BPD: Tensor, neighbours_BPN: Tensor) -> Tensor:
    """Give the largest value among the neighbours of each constituent in each column, (B, P, D)."""
    b, p, n = neighbours_BPN.shape
    rows = x_BPD.flatten(end_dim=1)  # (B P, D)
    numbers = (neighbours_BPN + p * torch.arange(b, device=rows.device)[:, None, None]).flatten()
    bags = torch.arange(0, len(numbers), n, device=rows.device)
    # A bag is a set of rows, mode 2 is max; the last of what comes back is the row that has it, (B P, D). The gathering
    # with a gradient, unlike embedding_bag's own, is deterministic on a GPU
    winner = torch.ops.aten._embedding_bag(_precise(rows.detach()), numbers, bags, False, 2)[3]
    return rows.gather(0, winner).view_as(x_BPD)


def _precise(x: Tensor) -> Tensor:
    """Give single precision or better."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def load_rs3l(path: Path | str) -> RS3L:
    """Load a published checkpoint, with any number of outputs; code in the file is never run.

    The network takes the fifteen features as they are stored (`training.data.jets.FEATURES`), zero-padded,
    (B, P, 15), and a mask (B, P) of present constituents, and gives (B, outputs), not normalised.

    Raises
    ------
    UserError
        If the file is missing or no file of weights, or a layer is missing, unknown or of another shape, the first of
        which is named.
    """
    path = Path(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; expected a published RS3L checkpoint") from None
    except Exception as error:  # noqa: BLE001 torch raises half a dozen types for what is not weights alone
        raise UserError(
            f"{path}: not a file of weights ({type(error).__name__}); expected an RS3L checkpoint"
        ) from None
    weights = content.get("model") if isinstance(content, dict) else None
    if not isinstance(weights, dict):
        raise UserError(f"{path}: holds no 'model' with weights; expected an RS3L checkpoint (model, opt, lr)")
    last = weights.get("output.6.bias")
    outputs = len(last) if isinstance(last, Tensor) and last.ndim == 1 else 8
    network = RS3L(len(FEATURES), outputs, torch.Generator())
    load_layers(network, weights, str(path))
    return network.eval()
