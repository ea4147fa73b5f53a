"""Pictures of a comparison, PNG, as bytes; one file a picture."""

import io
from collections.abc import Callable, Sequence

import mplhep
from matplotlib import style
from matplotlib.figure import Figure

from training.plots.accuracy import accuracy, accuracy_by_class
from training.plots.common import headline
from training.plots.cost import cost_by_stage, robustness_against_cost
from training.plots.label_efficiency import label_efficiency
from training.plots.robustness import robustness
from training.plots.roc_bands import roc
from training.plots.shift_size import similarity_against_shift
from training.plots.training_curves import training_curves
from training.results import Comparison, EvaluationResult

__all__ = [
    "accuracy",
    "accuracy_by_class",
    "cost_by_stage",
    "draw_all",
    "headline",
    "label_efficiency",
    "png",
    "robustness",
    "robustness_against_cost",
    "roc",
    "similarity_against_shift",
    "training_curves",
]
_SIZES = {"font.size": 13, "legend.fontsize": 11, "axes.labelsize": 14, "figure.constrained_layout.use": True}
_PLACES = {"xaxis.labellocation": "center", "yaxis.labellocation": "center"}


def draw_all(comparison: Comparison, evaluations: Sequence[EvaluationResult]) -> dict[str, bytes]:
    """Draw every picture: file name -> PNG; ROC curves where the main task has two classes, accuracies where more."""
    main = headline(comparison)
    pictures: dict[str, Callable[[], Figure]] = {
        "robustness.png": lambda: robustness(main),
        "label_efficiency.png": lambda: label_efficiency(comparison),
        "shift.png": lambda: similarity_against_shift(main),
        "robustness_cost.png": lambda: robustness_against_cost(main),
        "cost_by_stage.png": lambda: cost_by_stage(main),
        "training_curves.png": lambda: training_curves(comparison),
    }
    classes = len(next(iter(comparison.tasks.values())))
    if classes == 2:
        pictures["roc.png"] = lambda: roc(main, evaluations)
    if classes > 2:
        pictures["accuracy.png"] = lambda: accuracy(main)
        pictures["accuracy_by_class.png"] = lambda: accuracy_by_class(main)
    return {name: png(draw) for name, draw in pictures.items()}


def png(draw: Callable[[], Figure]) -> bytes:
    """Draw in the style of all pictures, and give the file."""
    buffer = io.BytesIO()
    with style.context([mplhep.style.ROOT, _SIZES | _PLACES]):
        draw().savefig(buffer, format="png", dpi=130, metadata={"Software": None})  # no version: same numbers and bytes
    return buffer.getvalue()
