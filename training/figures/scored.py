"""Objects with what a classifier or a regression says of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training import metrics


@dataclass(frozen=True)
class Scored:
    """Objects with their scores."""

    score: NDArray[np.float64]
    """(n,) logit of the second of two classes, or the target as it is told; (n, K) logits of more classes."""
    label: NDArray[np.float64]
    """(n,) number of the class, or the target."""
    weight: NDArray[np.float64]
    """(W, n), the first without resampling."""

    def of(self, label: int) -> "Scored":
        """Give the objects of one class."""
        return self.take(self.label == label)

    def take(self, chosen: NDArray[np.bool_]) -> "Scored":
        """Give some of the objects."""
        return Scored(self.score[chosen], self.label[chosen], self.weight[:, chosen])

    @property
    def effective_background(self) -> float:
        """How many background objects of equal weight would settle as much."""
        return metrics.effective_number(self.of(0).weight[0])
