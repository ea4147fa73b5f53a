"""More than two classes. Every figure is a mean over classes or pairs of them, so that none depends on their sizes."""

from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from training import metrics
from training.figures.scored import Scored


def quality(scored: Scored, names: list[str]) -> dict[str, NDArray[np.float64]]:
    """Compute accuracy (mean of the classes' shares that are told right) and AUC, (W,) each.

    The AUC is the mean over ordered pairs of classes of how well the first's probability tells them apart
    (Hand and Till, Machine Learning 45 (2001) 171).
    """
    probability, right, pairs = softmax(scored.score, axis=1), _told_right(scored), []
    for first, second in permutations(range(len(names)), 2):
        both = (scored.label == first) | (scored.label == second)
        label = (scored.label[both] == first).astype(np.int64)
        pairs.append(metrics.roc(probability[both, first], label, scored.weight[:, both]).auc())
    of_classes = {f"accuracy_{name}": share for name, share in zip(names, right, strict=True)}
    return {"accuracy": np.mean(right, axis=0), "auc": np.mean(pairs, axis=0), **of_classes}


def shift(before: Scored, after: Scored) -> dict[str, NDArray[np.float64]]:
    """Compute how far the probability of an object's own class and the accuracy move, means over classes, (W,) each."""
    distances = []
    for number in range(before.score.shape[1]):
        pair = before.of(number), after.of(number)
        first, second = (softmax(each.score, axis=1)[:, number] for each in pair)
        distances.append(metrics.wasserstein(first, second, pair[0].weight, pair[1].weight))
    change = np.mean(_told_right(after), axis=0) - np.mean(_told_right(before), axis=0)
    return {"wasserstein": np.mean(distances, axis=0), "accuracy_change": change}


def _told_right(scored: Scored) -> list[NDArray[np.float64]]:
    """Give the share of each class that is told right, (W,)."""
    told, shares = scored.score.argmax(axis=1), []
    for number in range(scored.score.shape[1]):
        here = scored.label == number
        weight = scored.weight[:, here]
        shares.append(weight @ (told[here] == number) / weight.sum(axis=1))
    return shares
