"""NT-Xent, the normalised temperature-scaled cross entropy (Chen et al., SimCLR, arXiv:2002.05709, equation 1)."""

import torch
from torch import Tensor
from torch.nn import functional

from training.losses.pairs import similarities


def ntxent(first_BD: Tensor, second_BD: Tensor, temperature: float) -> Tensor:
    """Ask each projection to find its partner among all other projections of the batch.

    Parameters
    ----------
    first_BD, second_BD
        Projections of the two views; rows of the same number are partners. Their lengths do not matter.
    temperature
        Positive; cosine similarities are divided by it.

    Returns
    -------
    Tensor
        Scalar: mean over the 2 B projections of -log softmax of the partner's similarity.
    """
    similarity = similarities(first_BD, second_BD, temperature)  # (2B, 2B)
    partner = torch.arange(len(similarity), device=similarity.device).roll(len(first_BD))  # (2B,)
    return functional.cross_entropy(similarity, partner)
