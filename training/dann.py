"""Domain-adversarial training (Ganin et al., JMLR 17 (2016) 59, arXiv:1505.07818), whose domains are the views.

Beside every batch of labelled objects go objects of the whole train split without their labels, each in a view drawn
anew every epoch. A second head learns to tell the views apart from the encoder's outputs; its gradient is reversed on
the way to the encoder, which so learns to make the views alike.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.data.loader import Batch
from training.losses.ranks import gathered


@dataclass(frozen=True)
class Adversarial:
    """The loss of a step: the task's on the labelled objects, and that of the domain classifier on those beside."""

    task_loss: Callable[[Batch], Tensor]
    encoder: nn.Module
    domains: nn.Module
    """(B, D) to the logits of the domains."""
    domain_of: tuple[int, ...]
    """(V,) the domain of each view."""
    weight: float
    steps: int
    """An epoch."""
    epochs: int

    def __call__(self, batch: Batch) -> Tensor:
        """Add both; where nothing is beside, as in validation, there is the task's alone."""
        if batch.beside is None:
            return self.task_loss(batch)
        progress = (batch.epoch * self.steps + batch.step) / (self.epochs * self.steps)
        logits = self.logits(batch.beside, self.weight * reversal(progress))
        view_B = batch.beside.shown[:, 0]
        domain_B = view_B.new_tensor(self.domain_of)[view_B]
        return self.task_loss(batch) + functional.cross_entropy(gathered(logits), gathered(domain_B))

    def logits(self, batch: Batch, strength: float) -> Tensor:
        """Tell the domains of objects, in single precision; gradients of the encoder are reversed."""
        (jets,) = batch.views
        return self.domains(reversed_gradient(jets.through(self.encoder), strength)).float()


def domains_of(views: Sequence[str], told: Literal["views", "nominal"]) -> tuple[int, ...]:
    """Give the domain of each view: its own, or 0 for nominal and 1 for all others."""
    return tuple(range(len(views))) if told == "views" else tuple(int(view != "nominal") for view in views)


def reversal(progress: float) -> float:
    """Give lambda, by which the gradient is multiplied and reversed, from 0 at the start to nearly 1 at the end.

    As published (section 5.2.2): 2 / (1 + exp(-10 p)) - 1, for the encoder alone; the domain classifier learns at full
    rate from the start.
    """
    return 2 / (1 + math.exp(-10 * progress)) - 1


def reversed_gradient(x: Tensor, strength: float) -> Tensor:
    """Give x; in the backward pass multiply its gradient by minus `strength`."""
    return _Reversed.apply(x, strength)


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None
