"""Losses that compare two views of a batch of objects, one a file; `objective` is the one that the config names."""

from collections.abc import Callable

import torch
from torch import Tensor

from training.config import PretrainConfig
from training.losses.ntxent import ntxent
from training.losses.ranks import gathered
from training.losses.supcon_in import supcon_in
from training.losses.supcon_out import supcon_out
from training.losses.vicreg import vicreg

_LOSSES: dict[str, Callable[[PretrainConfig, Tensor, Tensor, Tensor], Tensor]] = {
    "ntxent": lambda c, first, second, _: ntxent(first, second, c.temperature),
    "supcon_in": lambda c, first, second, labels: supcon_in(first, second, labels, c.alpha, c.temperature),
    "supcon_out": lambda c, first, second, labels: supcon_out(first, second, labels, c.alpha, c.temperature),
    "vicreg": lambda c, first, second, _: vicreg(
        first, second, c.vicreg.invariance, c.vicreg.variance, c.vicreg.covariance
    ),
}


def objective(config: PretrainConfig, first_BD: Tensor, second_BD: Tensor, labels_B: Tensor) -> Tensor:
    """Compute the loss that the config names, of the rows of all ranks together; every rank must call this.

    Parameters
    ----------
    config
        Which loss, and its settings.
    first_BD, second_BD
        Projections of the two views on this rank; rows of the same number are the same object.
    labels_B
        Class of each object; read by the supervised losses alone, and there only where `alpha` is above 0.
    """
    with torch.autocast(first_BD.device.type, enabled=False):  # similarities over a small temperature need 24 bits
        first, second, labels = (gathered(x.float()) for x in (first_BD, second_BD, labels_B))
        return _LOSSES[config.loss](config, first, second, labels)
