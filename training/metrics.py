"""Figures of merit of a classifier, for many weightings of the same objects at once.

Axes: n objects, W weightings. The first weighting is the sample's own, the others are bootstrap resamplings, so that
every figure comes with its replicates from the same few lines. Signal has label 1. Scores rise with signal.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Roc:
    """Efficiencies above every distinct score, from the highest score down; the first is 0, the last 1."""

    threshold: Float
    """(K,) distinct scores, falling."""
    signal: Float
    """(W, K + 1)."""
    background: Float
    """(W, K + 1)."""

    def auc(self) -> Float:
        """Give the area under signal against background efficiency, (W,); ties count half."""
        heights = (self.signal[:, 1:] + self.signal[:, :-1]) / 2
        return np.sum(np.diff(self.background, axis=1) * heights, axis=1)

    def background_at(self, signal_efficiency: float) -> Float:
        """Give the background efficiency at a signal efficiency, (W,): linear in between, the lowest on a plateau."""
        rows = zip(-self.signal[:, ::-1], self.background[:, ::-1], strict=True)  # np.interp takes the last of equals
        return np.array([np.interp(-signal_efficiency, signal, background) for signal, background in rows])

    def threshold_at(self, signal_efficiency: float) -> Float:
        """Give the highest score above which (and at which) at least this share of the signal lies, (W,)."""
        reached = np.argmax(self.signal[:, 1:] >= signal_efficiency - 1e-12, axis=1)
        return self.threshold[reached]


def roc(score_n: Float, label_n: NDArray[Any], weight_Wn: Float) -> Roc:
    """Compute efficiencies; both classes need some weight."""
    order = np.argsort(-score_n, kind="stable")
    score, signal = score_n[order], label_n[order] == 1
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True))  # the last of equal scores
    curves = []
    for chosen in (signal, ~signal):
        above = np.cumsum(weight_Wn[:, order] * chosen, axis=1)[:, last]
        curves.append(np.pad(above / above[:, -1:], ((0, 0), (1, 0))))
    return Roc(score[last], *curves)


def rejection(background_efficiency: Float, effective: float) -> Float:
    """Give 1 / efficiency, but no more than the effective number of background objects: it cannot show more."""
    return 1 / np.maximum(background_efficiency, 1 / effective)


def effective_number(weight_n: Float) -> float:
    """Give how many objects of equal weight would settle a mean as well as these: (sum w)^2 / sum w^2."""
    return float(weight_n.sum() ** 2 / np.sum(weight_n**2))


def efficiency_above(score_n: Float, threshold_W: Float, weight_Wn: Float) -> Float:
    """Give the weighted share of objects at or above a threshold for each weighting, (W,)."""
    return np.sum(weight_Wn * (score_n >= threshold_W[:, None]), axis=1) / weight_Wn.sum(axis=1)


def wasserstein(first_n: Float, second_m: Float, weight_Wn: Float, weight_Wm: Float) -> Float:
    """Give the earth mover's distance of two sets of scores, (W,): area between their distributions."""
    values = np.concatenate([first_n, second_m])
    order = np.argsort(values, kind="stable")
    first, second = (weight / weight.sum(axis=1, keepdims=True) for weight in (weight_Wn, weight_Wm))
    difference = np.cumsum(np.concatenate([first, -second], axis=1)[:, order], axis=1)[:, :-1]
    return np.abs(difference) @ np.diff(values[order])


def quantiles(value_n: Float, weight_Wn: Float, shares: tuple[float, ...]) -> Float:
    """Give the smallest values at or below which at least these shares of the weight lie, (len(shares), W)."""
    order = np.argsort(value_n, kind="stable")
    below = np.cumsum(weight_Wn[:, order], axis=1)
    reached = [np.argmax(below >= (share - 1e-12) * below[:, -1:], axis=1) for share in shares]
    return value_n[order][np.array(reached)]


def probability(logit: Float) -> Float:
    """Turn logits into probabilities: a bounded scale on which distances of scores of all methods can be compared."""
    return 1 / (1 + np.exp(-np.clip(logit, -60, 60)))


def cosine_pairs(first_nD: NDArray[np.float32], second_nD: NDArray[np.float32]) -> tuple[float, float]:
    """Give the mean cosine similarity of partners, and of all pairs of different objects."""
    first, second = (_unit(v.astype(np.float64)) for v in (first_nD, second_nD))
    partners = float(np.sum(first * second))
    everything = float(first.sum(axis=0) @ second.sum(axis=0))
    n = len(first)
    return partners / n, (everything - partners) / (n * (n - 1))


def _unit(vectors_nD: Float) -> Float:
    return vectors_nD / np.maximum(np.linalg.norm(vectors_nD, axis=1, keepdims=True), 1e-12)
