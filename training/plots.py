"""Pictures of a comparison, PNG, as bytes."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mplhep
import numpy as np
from matplotlib import colormaps, style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.results import Benefit, Comparison, EvaluationResult, RocCurve

_COLOURS = {"resim": "#0072b2", "generic": "#d55e00", "both": "#009e73", "supervised": "#555555"}  # Okabe-Ito
_MARKERS = {"resim": "o", "generic": "s", "both": "D", "supervised": "^"}
_SIZES = {"font.size": 13, "legend.fontsize": 11, "axes.labelsize": 14, "figure.constrained_layout.use": True}
_PLACES = {"xaxis.labellocation": "center", "yaxis.labellocation": "center"}


def draw_all(comparison: Comparison, evaluations: Sequence[EvaluationResult]) -> dict[str, bytes]:
    """Draw every picture: file name -> PNG."""
    pictures: dict[str, Callable[[], Figure]] = {
        "roc.png": lambda: roc(comparison, evaluations),
        "robustness_cost.png": lambda: robustness_against_cost(comparison),
        "cost_by_stage.png": lambda: cost_by_stage(comparison),
    }
    with style.context([mplhep.style.ROOT, _SIZES | _PLACES]):
        return {name: _png(draw()) for name, draw in pictures.items()}


def roc(comparison: Comparison, evaluations: Sequence[EvaluationResult]) -> Figure:
    """Draw background rejection over signal efficiency: nominal, the band of the views, and those never trained on."""
    methods = list(comparison.methods)
    figure = Figure(figsize=(4.2 * len(methods), 4.6))
    panels = figure.subplots(1, len(methods), sharex=True, sharey=True, squeeze=False)[0]
    for panel, method in zip(panels, methods, strict=True):
        curves = _mean_curves([e for e in evaluations if e.method == method])
        _roc_panel(panel, method, curves, comparison)
    panels[0].set_ylabel(r"background rejection $1/\varepsilon_B$")
    fraction = max(b.label_fraction for b in comparison.benefits)
    figure.suptitle(f"Test split, flat weights, {fraction:.0%} of the labels, mean over training seeds", fontsize=13)
    return figure


def _mean_curves(evaluations: Sequence[EvaluationResult]) -> dict[str, tuple[Any, Any]]:
    """Average background efficiency over seeds: view -> (signal efficiency, rejection)."""
    by_view: dict[str, list[RocCurve]] = {}
    for result in evaluations:
        for curve in result.roc:
            by_view.setdefault(curve.view, []).append(curve)
    return {
        view: (
            np.array(curves[0].signal_efficiency),
            1 / np.maximum(np.mean([c.background_efficiency for c in curves], axis=0), 1e-9),
        )
        for view, curves in by_view.items()
    }


def _roc_panel(panel: Axes, method: str, curves: Mapping[str, tuple[Any, Any]], comparison: Comparison) -> None:
    colour = _COLOURS.get(method, "black")
    trained = [rejection for view, (_, rejection) in curves.items() if comparison.views[view].trained_on]
    efficiency = curves["nominal"][0]
    ceiling = next(b.n_background for b in comparison.benefits if b.method == method)
    if trained:
        band = np.minimum(trained, ceiling)
        panel.fill_between(efficiency, band.min(axis=0), band.max(axis=0), color=colour, alpha=0.3, lw=0, label="views")
    panel.plot(efficiency, np.minimum(curves["nominal"][1], ceiling), color=colour, lw=2, label="nominal")
    for view, (_, rejection) in curves.items():
        if not comparison.views[view].trained_on:
            panel.plot(
                efficiency, np.minimum(rejection, ceiling), color="black", ls="--", lw=1.3, label=f"{view} (held out)"
            )
    panel.plot(efficiency, 1 / efficiency, color="grey", ls=":", lw=1, label="no discrimination")
    panel.set(yscale="log", xlim=(0.1, 1), ylim=(1, ceiling), xlabel=r"signal efficiency $\varepsilon_S$")
    panel.set_title(method, fontsize=14, color=colour)
    panel.legend(loc="upper right")


def robustness_against_cost(comparison: Comparison) -> Figure:
    """Draw how much a score moves and how good it is over what the training cost, for each label fraction."""
    figure = Figure(figsize=(12.6, 4.8))
    left, right = figure.subplots(1, 2, sharex=True)
    fraction = max(b.label_fraction for b in comparison.benefits)
    views = _shown_views(comparison)
    for method in comparison.methods:
        for place, view in enumerate(views):
            _point(left, comparison, method, view, fraction, "wasserstein_background", filled=place == 0)
        _point(right, comparison, method, "nominal", fraction, "auc", filled=True)
        _point(right, comparison, method, views[0], fraction, "auc", filled=False)
    named = f"filled: {views[0]}" + (f", open: {views[1]}" if len(views) > 1 else "")
    left.set_ylabel(f"score shift of background\n(Wasserstein; {named})")
    right.set_ylabel(f"AUC (filled: nominal, open: {views[0]})")
    left.set_ylim(bottom=0)
    for panel in (left, right):
        panel.set(xscale="log", xlabel="CPU seconds of one training, its views included")
        panel.legend(loc="best")
    figure.suptitle(f"{fraction:.0%} of the labels; bars: 95 % over seeds and test events", fontsize=13)
    return figure


def _shown_views(comparison: Comparison) -> list[str]:
    """Choose the views that a robustness plot shows: one never trained on, then the one that moves scores most."""
    others = [view for view in comparison.views if view != "nominal"]
    held_out = [view for view in others if not comparison.views[view].trained_on]

    def moved(view: str) -> float:
        return max(b.figures["wasserstein_background"].mean for b in comparison.benefits if b.view == view)

    by_shift = sorted((view for view in others if view not in held_out), key=moved, reverse=True)
    return (held_out[:1] + by_shift)[:2]


def _point(
    panel: Axes, comparison: Comparison, method: str, view: str, fraction: float, figure: str, *, filled: bool
) -> None:
    row = _row(comparison.benefits, method, view, fraction)
    value, colour = row.figures[figure], _COLOURS.get(method, "black")
    shift = 1.0 if filled else 1.04  # side by side rather than one upon the other
    panel.errorbar(
        comparison.methods[method].price.total_cpu_s * shift,
        value.mean,
        yerr=[[value.mean - value.low], [value.high - value.mean]],
        marker=_MARKERS.get(method, "v"),
        color=colour,
        markerfacecolor=colour if filled else "white",
        markersize=9,
        capsize=3,
        ls="none",
        label=method if filled else None,
    )


def _row(benefits: Sequence[Benefit], method: str, view: str, fraction: float) -> Benefit:
    return next(
        b for b in benefits if (b.method, b.view, b.label_fraction, b.weighting) == (method, view, fraction, "flat")
    )


def cost_by_stage(comparison: Comparison) -> Figure:
    """Draw what each view adds, by stage, and what one training of each method adds."""
    figure = Figure(figsize=(13.5, 4.8))
    left, right = figure.subplots(1, 2, width_ratios=[1.3, 1])
    views = list(comparison.views)
    stages = list(dict.fromkeys(stage for price in comparison.views.values() for stage in price.stages))
    table = {stage: [_per_event(comparison, view, stage) for view in views] for stage in stages}
    _stacked(left, views, table, "CPU ms an event that the view adds")
    prices = {method: summary.price for method, summary in comparison.methods.items()}
    parts = {
        "views": [price.views_cpu_s for price in prices.values()],
        "augmentation": [price.augment_cpu_s for price in prices.values()],
        "training": [price.training_cpu_s for price in prices.values()],
    }
    _stacked(right, list(prices), parts, "CPU seconds of one training")
    return figure


def _per_event(comparison: Comparison, view: str, stage: str) -> float:
    price = comparison.views[view]
    return price.cpu_ms_per_event * price.stages.get(stage, 0.0) / price.cpu_s if price.cpu_s else 0.0


def _stacked(panel: Axes, names: Sequence[str], parts: Mapping[str, Sequence[float]], label: str) -> None:
    """Draw horizontal stacked bars, first name on top, totals written beside."""
    start = np.zeros(len(names))
    colours = colormaps["tab10"].colors  # type: ignore[attr-defined]
    for number, (part, widths) in enumerate(parts.items()):
        panel.barh(names, widths, left=start, label=part, color=colours[number % 10], height=0.7)
        start = start + np.asarray(widths)
    for place, total in enumerate(start):
        panel.text(total, place, f" {total:.3g}", va="center", fontsize=11)
    panel.set(xlabel=label, xlim=(0, 1.12 * max(start.max(), 1e-9)))
    panel.invert_yaxis()
    panel.tick_params(axis="y", which="minor", left=False, right=False)
    panel.legend(loc="best")


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})  # no version: same numbers, same bytes
    return buffer.getvalue()
