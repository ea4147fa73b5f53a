"""Two classes: area under the ROC curve, background rejection, and how both classes' scores move."""

import numpy as np
from numpy.typing import NDArray

from training import metrics
from training.figures.scored import Scored

EFFICIENCIES = {"30": 0.3, "50": 0.5, "70": 0.7}  # of the signal in nominal, at which all is quoted, by their names


def quality(scored: Scored) -> dict[str, NDArray[np.float64]]:
    """Compute AUC and background rejections, (W,) each."""
    curve = metrics.roc(scored.score, scored.label, scored.weight)
    effective = scored.effective_background
    rejections = {
        f"rejection_{name}": metrics.rejection(curve.background_at(efficiency), effective)
        for name, efficiency in EFFICIENCIES.items()
    }
    return {"auc": curve.auc(), **rejections}


def shift(before: Scored, after: Scored) -> dict[str, NDArray[np.float64]]:
    """Compute how far scores move, (W,) each.

    Efficiencies are taken above the thresholds that keep given shares of the signal in nominal; distances are between
    probabilities.
    """
    curve = metrics.roc(before.score, before.label, before.weight)
    figures = {}
    for name, efficiency in EFFICIENCIES.items():
        threshold = curve.threshold_at(efficiency)
        first, second = (_kept(each.of(0), threshold) for each in (before, after))
        figures[f"background_efficiency_change_{name}"] = second - first
        least = 1 / before.effective_background  # where nominal keeps no background: one object more would be this
        figures[f"background_efficiency_relative_change_{name}"] = (second - first) / np.maximum(first, least)
        first, second = (_kept(each.of(1), threshold) for each in (before, after))
        figures[f"signal_efficiency_change_{name}"] = second - first
    for name, label in (("background", 0), ("signal", 1)):
        pair = before.of(label), after.of(label)
        scores, weights = [metrics.probability(each.score) for each in pair], [each.weight for each in pair]
        figures[f"wasserstein_{name}"] = metrics.wasserstein(*scores, *weights)
    return figures


def _kept(scored: Scored, threshold_W: NDArray[np.float64]) -> NDArray[np.float64]:
    return metrics.efficiency_above(scored.score, threshold_W, scored.weight)
