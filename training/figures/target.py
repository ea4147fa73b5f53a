"""A regression: how far what is told lies from the target, in the target's unit."""

import numpy as np
from numpy.typing import NDArray

from training import metrics
from training.figures.scored import Scored


def quality(scored: Scored) -> dict[str, NDArray[np.float64]]:
    """Compute the errors' median, half the width of their central 68 %, root mean square, and R^2, (W,) each.

    R^2 is 0 where all targets are the same, as in scikit-learn.
    """
    error, weight = scored.score - scored.label, scored.weight
    low, median, high = metrics.quantiles(error, weight, (0.16, 0.5, 0.84))
    total = weight.sum(axis=1)
    square, mean = weight @ error**2 / total, weight @ scored.label / total
    variance = weight @ scored.label**2 / total - mean**2
    return {
        "bias": median,
        "resolution": (high - low) / 2,
        "rmse": np.sqrt(square),
        "r2": np.where(variance > 0, 1 - square / np.where(variance > 0, variance, 1), 0.0),
    }


def shift(before: Scored, after: Scored) -> dict[str, NDArray[np.float64]]:
    """Compute how far what is told moves, and its mean, (W,) each."""
    means = [each.weight @ each.score / each.weight.sum(axis=1) for each in (before, after)]
    moved = metrics.wasserstein(before.score, after.score, before.weight, after.weight)
    return {"wasserstein": moved, "mean_change": means[1] - means[0]}
