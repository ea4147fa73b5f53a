"""Two classes: area under the ROC curve, background rejection, and how both classes' scores move."""

import numpy as np
from numpy.typing import NDArray

from training import metrics
from training.figures.scored import Scored

EFFICIENCIES = (0.5, 0.7)  # of the signal, at which background rejection is quoted


def quality(scored: Scored) -> dict[str, NDArray[np.float64]]:
    """Compute AUC and background rejections, (W,) each."""
    curve = metrics.roc(scored.score, scored.label, scored.weight)
    effective = scored.effective_background
    rejections = {
        f"rejection_{efficiency:.0%}".rstrip("%"): metrics.rejection(curve.background_at(efficiency), effective)
        for efficiency in EFFICIENCIES
    }
    return {"auc": curve.auc(), **rejections}


def shift(before: Scored, after: Scored) -> dict[str, NDArray[np.float64]]:
    """Compute how far scores move, (W,) each.

    Efficiencies are taken above the threshold that keeps half of the signal in nominal; distances are between
    probabilities.
    """
    threshold = metrics.roc(before.score, before.label, before.weight).threshold_at(EFFICIENCIES[0])
    figures = {}
    for name, label in (("background", 0), ("signal", 1)):
        pair = before.of(label), after.of(label)
        kept = [metrics.efficiency_above(each.score, threshold, each.weight) for each in pair]
        figures[f"{name}_efficiency_change"] = kept[1] - kept[0]
        scores, weights = [metrics.probability(each.score) for each in pair], [each.weight for each in pair]
        figures[f"wasserstein_{name}"] = metrics.wasserstein(*scores, *weights)
    return figures
