"""VICReg: invariance, variance and covariance without negatives (Bardes et al., arXiv:2105.04906).

The means are those of the authors' published code, for which the paper's weights 25, 25 and 1 are meant: invariance
over rows and columns, variance over columns and the two views.
"""

import torch
from torch import Tensor
from torch.nn import functional

_EPSILON = 1e-4  # added to variances, as published: the root of none has a finite gradient


def vicreg(
    first_BD: Tensor, second_BD: Tensor, invariance_weight: float, variance_weight: float, covariance_weight: float
) -> Tensor:
    """Draw partners together, and keep the columns of each view spread and uncorrelated.

    Parameters
    ----------
    first_BD, second_BD
        Projections of the two views; rows of the same number are partners. Their lengths matter.
    invariance_weight, variance_weight, covariance_weight
        Of the three terms; lambda, mu and nu of the paper.
    """
    views = first_BD, second_BD
    spread = sum(variance(view) for view in views) / 2
    mixing = sum(covariance(view) for view in views)
    distance = functional.mse_loss(first_BD, second_BD)
    return invariance_weight * distance + variance_weight * spread + covariance_weight * mixing


def variance(x_BD: Tensor) -> Tensor:
    """Give how far standard deviations fall short of 1, the mean over columns; 1 for a single row, nearly."""
    variances = _centred(x_BD).square().sum(dim=0) / _freedom(x_BD)  # (D,)
    return functional.relu(1 - torch.sqrt(variances + _EPSILON)).mean()


def covariance(x_BD: Tensor) -> Tensor:
    """Give the sum of squares of the covariances between different columns over the number of columns."""
    centred = _centred(x_BD)
    covariances = centred.T @ centred / _freedom(x_BD)  # (D, D)
    return (covariances.square().sum() - covariances.diagonal().square().sum()) / x_BD.shape[1]


def _centred(x_BD: Tensor) -> Tensor:
    return x_BD - x_BD.mean(dim=0)


def _freedom(x_BD: Tensor) -> int:
    return max(1, len(x_BD) - 1)  # of one row the variance is 0, not 0 / 0
