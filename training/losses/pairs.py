"""What the losses over pairs of projections share. The 2 B projections are the first views, then the second views."""

import torch
from torch import Tensor
from torch.nn import functional


def similarities(first_BD: Tensor, second_BD: Tensor, temperature: float) -> Tensor:
    """Give cosine similarities over the temperature, (2 B, 2 B), -inf on the diagonal: none is compared with itself."""
    z = functional.normalize(torch.cat([first_BD, second_BD]), dim=1)  # (2B, D)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    return (z @ z.T / temperature).masked_fill(itself, -torch.inf)


def weights(labels_B: Tensor, alpha: float) -> Tensor:
    """Give w_ij = alpha [same class] + (1 - alpha) [same object], w_ii = 0, (2 B, 2 B); the partner always has 1."""
    classes = labels_B.repeat(2)
    objects = torch.arange(len(labels_B), device=labels_B.device).repeat(2)
    same_class, same_object = (x[:, None] == x for x in (classes, objects))
    return (alpha * same_class + (1 - alpha) * same_object).fill_diagonal_(0)
