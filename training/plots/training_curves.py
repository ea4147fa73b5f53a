"""How trainings went: losses, and what the encoder was watched by, against the epoch."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from training.plots.common import colours, method_handles, name_above
from training.results import OWN_HEAD, Comparison, MethodSummary

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
    labelled = {row.method for row in comparison.benefits if row.head == OWN_HEAD}
    shown: list[tuple[str, list[str], _Curves]] = []
    for of, methods in (
        ("of pairs", [m for m in comparison.methods if m not in labelled]),
        ("of labels", [m for m in comparison.methods if m in labelled]),
    ):
        shown += [(f"loss {of}", methods, lambda m: m.loss), (f"validation loss {of}", methods, _validation_loss)]
    for name in dict.fromkeys(name for method in comparison.methods.values() for seed in method.probe for name in seed):
        shown.append((_LABELS[name], list(comparison.methods), partial(_watched, name)))
    shown = [each for each in shown if any(any(each[2](comparison.methods[m])) for m in each[1])]
    rows = max(1, -(-len(shown) // _COLUMNS))
    figure = Figure(figsize=(4.6 * _COLUMNS, 3.6 * rows + 0.5))
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for panel, (label, methods, curves) in zip(panels, shown, strict=False):
        _panel(panel, comparison, label, methods, curves)
    for panel in panels[len(shown) :]:
        panel.remove()
    name_above(figure, method_handles(comparison), "mean over seeds, and the band that they span")
    return figure


def _validation_loss(summary: MethodSummary) -> Sequence[Sequence[float]]:
    return summary.validation_loss


def _watched(name: str, summary: MethodSummary) -> Sequence[Sequence[float]]:
    return [seed[name] for seed in summary.probe if name in seed]


def _panel(panel: Axes, comparison: Comparison, label: str, methods: Sequence[str], curves: _Curves) -> None:
    for method in methods:
        of_seeds = np.array([seed for seed in curves(comparison.methods[method]) if seed])
        if len(of_seeds):
            epochs, colour = np.arange(1, of_seeds.shape[1] + 1), colours(comparison)[method]
            panel.fill_between(epochs, of_seeds.min(axis=0), of_seeds.max(axis=0), color=colour, alpha=0.25, lw=0)
            mark = "o" if len(epochs) == 1 else ""
            panel.plot(epochs, of_seeds.mean(axis=0), color=colour, lw=2, marker=mark, label=method)
    panel.set(xlabel="epoch", ylabel=label)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.margins(x=0.08)
    if panel.lines and max(len(line.get_xdata()) for line in panel.lines) == 1:  # type: ignore[arg-type]
        panel.set(xlim=(0, 2), xticks=[1])
