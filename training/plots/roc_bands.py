"""Background rejection over signal efficiency: nominal, the band of the variations, and what was held out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training.plots.common import called, colours, is_held_out, judged_on, most_labels, name_above, row_of
from training.results import Comparison, EvaluationResult

_ACROSS = 4  # panels in a row
_FEW = 10  # background objects: where nominal keeps fewer, a ratio to it says little
_FROM = 0.1  # signal efficiency where the axis starts
_STYLES = ("--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))  # of held-out views and test sets; more look alike
_MOVED = "background_efficiency_relative_change_50"
_RULE = (
    r"Lines: test sets, then held-out views by their largest change"
    r" of $\varepsilon_B$ at $\varepsilon_S$ = 50 % in any method"
)

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Curves:
    """The ROC curves of one method."""

    efficiency: Float
    """(E,) of the signal."""
    rejection: dict[str, Float]
    """View or test set -> (S, E), a row a training seed; no more than the sample can show."""
    ceiling: float
    """The most that nominal can show: its effective number of background objects."""

    def mean(self, view: str) -> Float:
        """Give the geometric mean over seeds, (E,)."""
        logarithm: Float = np.log(self.rejection[view]).mean(axis=0)
        return np.exp(logarithm)

    def spread(self, view: str) -> tuple[Float, Float]:
        """Give the mean divided and multiplied by the standard deviation over seeds, of the logarithm, (E,) each."""
        mean, width = self.mean(view), np.exp(np.log(self.rejection[view]).std(axis=0, ddof=1))
        return mean / width, mean * width

    def envelope(self, views: Sequence[str]) -> tuple[Float, Float]:
        """Give the lowest and highest mean of some views, (E,) each."""
        means = np.array([self.mean(view) for view in views])
        return means.min(axis=0), means.max(axis=0)


def roc(comparison: Comparison, evaluations: Sequence[EvaluationResult]) -> Figure:
    """Draw a panel for each method, and below it the ratio of everything to nominal."""
    methods = list(comparison.methods)
    across = min(_ACROSS, len(methods))
    down = -(-len(methods) // across)
    figure = Figure(figsize=(4.4 * across + 0.6, 6.2 * down + 1.2))
    panels = figure.subplots(2 * down, across, sharex=True, height_ratios=[2.6, 1] * down, squeeze=False)
    for place in range(down * across):
        row, column = divmod(place, across)
        upper, lower = panels[2 * row, column], panels[2 * row + 1, column]
        if place >= len(methods):
            upper.remove(), lower.remove()
            continue
        found = curves(comparison, evaluations, methods[place])
        _panel(upper, lower, comparison, methods[place], found)
        lower.tick_params(labelbottom=True)
        lower.set_xlabel(r"signal efficiency $\varepsilon_S$")
        if column == 0:
            upper.set_ylabel(r"background rejection $1/\varepsilon_B$")
            lower.set_ylabel("ratio to\nnominal")
    entries = {str(handle.get_label()): handle for handle in panels[0, 0].get_legend_handles_labels()[0]}
    told = f"Test split, flat weights, {most_labels(comparison):.0%} of the labels, geometric mean over training seeds"
    if len(_held_out(comparison)) > len(_STYLES):
        told += f"\n{_RULE}"
    name_above(figure, list(entries.values()), told, inches=3.3)
    return figure


def _held_out(comparison: Comparison) -> list[str]:
    """List test sets and held-out views, each by how far they move the background efficiency of any method."""

    def moved(view: str) -> float:
        return max(abs(b.figures[_MOVED].mean) for b in comparison.benefits if b.view == view and _MOVED in b.figures)

    views = [view for view in judged_on(comparison) if is_held_out(comparison, view)]
    return sorted(views, key=lambda view: (view not in comparison.test_sets, -moved(view)))


def curves(comparison: Comparison, evaluations: Sequence[EvaluationResult], method: str) -> Curves:
    """Collect the curves of a method: those of all its seeds on each view and test set."""
    ceilings, rejection = {}, {}
    mine = [each for each in evaluations if each.method == method]
    for curve in mine[0].roc:
        background = [c.background_efficiency for each in mine for c in each.roc if c.view == curve.view]
        row = row_of(comparison.benefits, method, curve.view, most_labels(comparison))
        ceilings[curve.view] = row.effective_background or 1.0
        rejection[curve.view] = 1 / np.maximum(background, 1 / ceilings[curve.view])
    return Curves(np.array(mine[0].roc[0].signal_efficiency), rejection, ceilings["nominal"])


def _panel(upper: Axes, lower: Axes, comparison: Comparison, method: str, found: Curves) -> None:
    colour, efficiency, nominal = colours(comparison)[method], found.efficiency, found.mean("nominal")
    telling = np.where(nominal * _FEW <= found.ceiling, 1.0, np.nan) / nominal
    trained_on = [view for view in found.rejection if not is_held_out(comparison, view)]
    held_out = [view for view in _held_out(comparison) if view in found.rejection]
    lines, others = held_out[: len(_STYLES)], held_out[len(_STYLES) :]
    for panel, scale in ((upper, np.ones_like(nominal)), (lower, telling)):
        low, high = found.envelope(trained_on)
        about: dict[str, Any] = {"color": "0.75", "lw": 0, "label": "envelope of the variations trained on"}
        panel.fill_between(efficiency, low * scale, high * scale, **about)
        if len(found.rejection["nominal"]) > 1:
            low, high = found.spread("nominal")
            about = {"color": colour, "lw": 0, "alpha": 0.4, "label": "spread over seeds, nominal"}
            panel.fill_between(efficiency, low * scale, high * scale, **about)
        panel.plot(efficiency, nominal * scale, color=colour, lw=1.8, label="nominal")
        if others:
            low, high = found.envelope(others)
            about = {
                "fc": "none",
                "ec": "0.45",
                "lw": 0.6,
                "hatch": "////",
                "label": f"other held-out views ({len(others)})",
            }
            panel.fill_between(efficiency, low * scale, high * scale, **about)
        for view, ls in zip(lines, _STYLES, strict=False):
            style: dict[str, Any] = {"color": "black", "ls": ls, "lw": 1.3, "label": called(comparison, view)}
            panel.plot(efficiency, found.mean(view) * scale, **style)
    upper.plot(efficiency, 1 / efficiency, color="grey", ls=":", lw=1, label="no discrimination")
    upper.set(yscale="log", xlim=(_FROM, 1), ylim=(1, found.ceiling))
    upper.set_title(method, fontsize=14, color=colour)
