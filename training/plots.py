"""Pictures of a comparison, PNG, as bytes."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mplhep
import numpy as np
from matplotlib import colormaps, style
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation, Transform

from training.results import Benefit, Comparison, EvaluationResult, RocCurve

_COLOURS = {
    "resim": "#0072b2",
    "generic": "#d55e00",
    "both": "#009e73",
    "supervised": "#555555",
    "supervised_generic": "#e69f00",
    "supervised_resim": "#56b4e9",
    "supervised_both": "#cc79a7",
    "dann": "#000000",
}  # Okabe-Ito
_SIZES = {"font.size": 13, "legend.fontsize": 11, "axes.labelsize": 14, "figure.constrained_layout.use": True}
_VIEW_ASIDE, _METHOD_ASIDE = 12, 3  # points between the two views of a method, and between methods of one price
_UNKNOWN = 4  # times the highest price: where methods stand whose price is not known
_PLACES = {"xaxis.labellocation": "center", "yaxis.labellocation": "center"}


def draw_all(comparison: Comparison, evaluations: Sequence[EvaluationResult]) -> dict[str, bytes]:
    """Draw every picture: file name -> PNG."""
    pictures: dict[str, Callable[[], Figure]] = {
        "roc.png": lambda: roc(comparison, evaluations),
        "robustness_cost.png": lambda: robustness_against_cost(comparison),
        "cost_by_stage.png": lambda: cost_by_stage(comparison),
    }
    comparison = headline(comparison)
    with style.context([mplhep.style.ROOT, _SIZES | _PLACES]):
        return {name: _png(draw()) for name, draw in pictures.items()}


def headline(comparison: Comparison) -> Comparison:
    """Leave the main task alone, and of each method the head that it is compared by."""
    main = next(iter(comparison.tasks))
    first: dict[str, str] = {}
    for row in comparison.benefits:
        first.setdefault(row.method, row.head)
    rows = [row for row in comparison.benefits if (row.task, row.head) == (main, first[row.method])]
    return comparison.model_copy(update={"benefits": rows})


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


def colour_of(comparison: Comparison, method: str) -> str:
    """Give the colour of a method: a kind's own, or that of its place on a scale, on which a scan is in order."""
    others = [name for name in comparison.methods if name not in _COLOURS]
    return _COLOURS.get(method) or to_hex(colormaps["plasma"]((others.index(method) + 0.5) / len(others)))


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
    colour = colour_of(comparison, method)
    trained = [rejection for view, (_, rejection) in curves.items() if not _is_held_out(comparison, view)]
    efficiency = curves["nominal"][0]
    ceiling = next(b.effective_background or 1.0 for b in comparison.benefits if b.method == method)
    if trained:
        band = np.minimum(trained, ceiling)
        panel.fill_between(efficiency, band.min(axis=0), band.max(axis=0), color=colour, alpha=0.3, lw=0, label="views")
    panel.plot(efficiency, np.minimum(curves["nominal"][1], ceiling), color=colour, lw=2, label="nominal")
    for view, (_, rejection) in curves.items():
        if _is_held_out(comparison, view):
            panel.plot(
                efficiency,
                np.minimum(rejection, ceiling),
                color="black",
                ls="-." if view in comparison.test_sets else "--",
                lw=1.3,
                label=_called(comparison, view),
            )
    panel.plot(efficiency, 1 / efficiency, color="grey", ls=":", lw=1, label="no discrimination")
    panel.set(yscale="log", xlim=(0.1, 1), ylim=(1, ceiling), xlabel=r"signal efficiency $\varepsilon_S$")
    panel.set_title(method, fontsize=14, color=colour)
    panel.legend(loc="upper right")


def robustness_against_cost(comparison: Comparison) -> Figure:
    """Draw how far scores move, and how good they are, over what one training cost, at the largest label fraction."""
    figure = Figure(figsize=(13, 5))
    left, right = figure.subplots(1, 2, sharex=True)
    fraction = max(b.label_fraction for b in comparison.benefits)
    held_out, others = _shown_views(comparison)
    panels = (
        (left, "wasserstein_background", held_out + others),
        (right, "auc", ["nominal", *(held_out or others[:1])]),
    )
    for panel, name, shown in panels:
        panel.set(xscale="log", xlabel="CPU seconds of one training, views included")
        for place, (method, summary) in enumerate(comparison.methods.items()):
            for number, view in enumerate(shown):
                aside = _VIEW_ASIDE * (number - (len(shown) - 1) / 2) + _METHOD_ASIDE * (
                    place - (len(comparison.methods) - 1) / 2
                )
                shift = ScaledTranslation(aside / 72, 0, figure.dpi_scale_trans)
                _point(panel, comparison, _row(comparison.benefits, method, view, fraction), name, shift)
            if summary.price.total_cpu_s is not None:
                panel.axvline(summary.price.total_cpu_s, ymax=0.04, color=colour_of(comparison, method), lw=3)
        _mark_unknown(panel, comparison)
        _legend(panel, comparison, shown)
        panel.margins(x=0.1)
        panel.autoscale_view()
    left.set_ylabel("score shift of background (Wasserstein)")
    left.set_ylim(bottom=0)
    right.set_ylabel("AUC")
    figure.suptitle(f"Test split, {fraction:.0%} of the labels; bars: 95 % over seeds and test events", fontsize=13)
    return figure


def _shown_views(comparison: Comparison) -> tuple[list[str], list[str]]:
    """Choose what a robustness plot shows: a view never trained on and a test set, then what moves scores most."""
    others = [view for view in comparison.views if view != "nominal"]
    held_out = [view for view in others if _is_held_out(comparison, view)]

    def moved(view: str) -> float:
        return max(b.figures["wasserstein_background"].mean for b in comparison.benefits if b.view == view)

    by_shift = sorted((view for view in others if view not in held_out), key=moved, reverse=True)
    return held_out[:1] + list(comparison.test_sets)[:1], by_shift[: 1 if held_out else 2]


def _point(panel: Axes, comparison: Comparison, row: Benefit, name: str, shift: Transform) -> None:
    """Draw one figure with its interval, colour by method and shape by view, shifted on the page."""
    value, colour = row.figures[name], colour_of(comparison, row.method)
    cost = comparison.methods[row.method].price.total_cpu_s or _place_of_unknown(comparison)
    panel.errorbar(
        cost,
        value.mean,
        yerr=[[value.mean - value.low], [value.high - value.mean]],
        marker=_marker(comparison, row.view),
        color=colour,
        markersize=8,
        capsize=3,
        ls="none",
        transform=panel.transData + shift,
    )
    panel.update_datalim([(cost, value.low), (cost, value.high)])  # what is drawn aside does not scale the axes


def _place_of_unknown(comparison: Comparison) -> float:
    """Give the place on the axis of prices for methods whose price is not known: apart, at the right."""
    return _UNKNOWN * max((summary.price.total_cpu_s or 0.0 for summary in comparison.methods.values()), default=0) or 1


def _mark_unknown(panel: Axes, comparison: Comparison) -> None:
    """Say that what stands at the right has no price."""
    if any(summary.price.total_cpu_s is None for summary in comparison.methods.values()):
        place = _place_of_unknown(comparison)
        panel.axvspan(place / _UNKNOWN**0.5, place * _UNKNOWN**0.5, color="0.92", zorder=0)
        panel.text(place, 0.05, "price unknown", transform=panel.get_xaxis_transform(), ha="center", fontsize=11)


def _marker(comparison: Comparison, view: str) -> str:
    """Tell views apart by shape: nominal, trained on, held out; and test sets of other events."""
    if view in comparison.test_sets:
        return "D"
    return "o" if view == "nominal" else "s" if comparison.views[view].trained_on else "^"


def _legend(panel: Axes, comparison: Comparison, views: Sequence[str]) -> None:
    """Name colours (methods) and shapes (views), above the panel."""
    methods = [Line2D([], [], color=colour_of(comparison, m), lw=4, label=m) for m in comparison.methods]
    shapes = [
        Line2D([], [], color="black", marker=_marker(comparison, view), ls="none", label=_called(comparison, view))
        for view in views
    ]
    panel.legend(handles=methods + shapes, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def _called(comparison: Comparison, view: str) -> str:
    return f"{view} (held out)" if _is_held_out(comparison, view) else view


def _is_held_out(comparison: Comparison, view: str) -> bool:
    """Tell views that were never trained on, and test sets, from the others."""
    return view in comparison.test_sets or not comparison.views[view].trained_on


def _row(benefits: Sequence[Benefit], method: str, view: str, fraction: float) -> Benefit:
    return next(
        b for b in benefits if (b.method, b.view, b.label_fraction, b.weighting) == (method, view, fraction, "flat")
    )


def cost_by_stage(comparison: Comparison) -> Figure:
    """Draw what each view adds, by stage, and what one training of each method costs."""
    figure = Figure(figsize=(14, 5))
    left, right = figure.subplots(1, 2, width_ratios=[1.3, 1])
    stages = dict.fromkeys(stage for price in comparison.views.values() for stage in price.stages)
    by_stage = {stage: [price.stages.get(stage, 0.0) for price in comparison.views.values()] for stage in stages}
    usual = max(price.cpu_ms_per_event or 0.0 for price in comparison.views.values() if price.trained_on)
    unpriced = [place for place, price in enumerate(comparison.views.values()) if price.cpu_s is None]
    names = [_called(comparison, view) for view in comparison.views]
    _stacked(left, names, by_stage, "CPU ms an event that the view adds", 1.4 * usual or 1.0, unpriced)
    prices = [summary.price for summary in comparison.methods.values()]
    unpriced = [place for place, price in enumerate(prices) if price.total_cpu_s is None]
    by_kind = {
        "views": [price.views_cpu_s or 0.0 for price in prices],
        "augmentation": [price.augment_cpu_s for price in prices],
        "training": [price.training_cpu_s for price in prices],
        "head": [price.head_cpu_s for price in prices],
    }
    label = "CPU seconds of one training"
    longest = max(sum(widths) for widths in zip(*by_kind.values(), strict=True))
    _stacked(right, list(comparison.methods), by_kind, label, (1.6 if unpriced else 1.2) * longest, unpriced)
    return figure


def _stacked(
    panel: Axes,
    names: Sequence[str],
    parts: Mapping[str, Sequence[float]],
    label: str,
    end: float,
    unpriced: Sequence[int],
) -> None:
    """Draw horizontal stacked bars, the first on top, totals beside; a bar beyond the axis' end is cut and says so.

    Beside the bars whose places are in `unpriced` stands that more, or all, is unknown.
    """
    start = np.zeros(len(names))
    colours = colormaps["tab10"].colors  # type: ignore[attr-defined]
    panel.barh(names, start, height=0.7)  # names have their places, even where nothing is known
    for number, (part, widths) in enumerate(parts.items()):
        panel.barh(names, widths, left=start, label=part, color=colours[number % 10], height=0.7)
        start = start + np.asarray(widths)
    for place, total in enumerate(start):
        cut = bool(total > 0.9 * end)
        told = f"{total:.3g}" if place not in unpriced else f"{total:.3g} + unknown" if total else "unknown"
        panel.text(
            0.99 * end if cut else total,
            place,
            f"{told} →" if cut else f" {told}",
            ha="right" if cut else "left",
            va="center",
            color="white" if cut else "black",
            fontsize=11,
        )
    panel.set(xlabel=label, xlim=(0, end))
    panel.invert_yaxis()
    panel.tick_params(axis="y", which="both", left=False, right=False)
    if parts:
        panel.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})  # no version: same numbers, same bytes
    return buffer.getvalue()
