"""How trainings went: losses, and what the encoder was watched by, against the epoch."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from training.plots import colour_of
from training.results import Comparison, MethodSummary

_COLUMNS = 3
_LABELS = {
    "auc": "AUC of a linear probe",
    "accuracy": "accuracy of a linear probe",
    "r2": "$R^2$ of a linear probe",
    "spread": "spread of outputs (0: collapse)",
    "effective_rank": "effective rank of outputs",
}
_Curves = Callable[[MethodSummary], Sequence[Sequence[float]]]


def training_curves(comparison: Comparison) -> Figure:
    """Draw a panel for each loss and each figure of the probe: mean over seeds, and the band that they span."""
    methods = comparison.methods.values()
    shown: dict[str, _Curves] = {"loss": lambda m: m.loss, "validation loss": lambda m: m.validation_loss}
    for name in dict.fromkeys(name for method in methods for seed in method.probe for name in seed):
        shown[_LABELS[name]] = lambda m, name=name: [seed[name] for seed in m.probe if name in seed]  # type: ignore[misc]
    rows = -(-len(shown) // _COLUMNS)
    figure = Figure(figsize=(4.6 * _COLUMNS, 3.6 * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for panel, (label, curves) in zip(panels, shown.items(), strict=False):
        _panel(panel, comparison, label, curves)
    for panel in panels[len(shown) :]:
        panel.remove()
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, ncols=len(names), loc="outside upper center")
    return figure


def _panel(panel: Axes, comparison: Comparison, label: str, curves: _Curves) -> None:
    for method, summary in comparison.methods.items():
        of_seeds = np.array([seed for seed in curves(summary) if seed])
        if len(of_seeds):
            epochs, colour = np.arange(1, of_seeds.shape[1] + 1), colour_of(comparison, method)
            panel.fill_between(epochs, of_seeds.min(axis=0), of_seeds.max(axis=0), color=colour, alpha=0.25, lw=0)
            mark = "o" if len(epochs) == 1 else ""
            panel.plot(epochs, of_seeds.mean(axis=0), color=colour, lw=2, marker=mark, label=method)
    panel.set(xlabel="epoch", ylabel=label)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
