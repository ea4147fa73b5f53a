"""What robustness and quality cost, and what of it is whose."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation, Transform

from training.plots.common import (
    called,
    colours,
    is_held_out,
    judged_on,
    method_handles,
    most_labels,
    quality_of,
    row_of,
    shift_of,
)
from training.results import Benefit, Comparison

_VIEW_ASIDE, _METHOD_ASIDE = 12, 3  # points between the two views of a method, and between methods of one price
_UNKNOWN = 4  # times the highest price: where methods stand whose price is not known


def robustness_against_cost(comparison: Comparison) -> Figure:
    """Draw how far scores move, and how good they are, over what one training cost, at the largest label fraction."""
    figure = Figure(figsize=(13, 5))
    left, right = figure.subplots(1, 2, sharex=True)
    fraction = most_labels(comparison)
    held_out, others = _shown_views(comparison)
    panels = (
        (left, shift_of(comparison.benefits), held_out + others),
        (right, quality_of(comparison.benefits), ["nominal", *(held_out or others[:1])]),
    )
    for panel, (name, label), shown in panels:
        panel.set(xscale="log", xlabel="CPU seconds of one training, views included", ylabel=label)
        for place, (method, summary) in enumerate(comparison.methods.items()):
            for number, view in enumerate(shown):
                aside = _VIEW_ASIDE * (number - (len(shown) - 1) / 2) + _METHOD_ASIDE * (
                    place - (len(comparison.methods) - 1) / 2
                )
                shift = ScaledTranslation(aside / 72, 0, figure.dpi_scale_trans)
                _point(panel, comparison, row_of(comparison.benefits, method, view, fraction), name, shift)
            if summary.price.total_cpu_s is not None:
                panel.axvline(summary.price.total_cpu_s, ymax=0.04, color=colours(comparison)[method], lw=3)
        _mark_unknown(panel, comparison)
        _legend(panel, comparison, shown)
        panel.margins(x=0.1)
        panel.autoscale_view()
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panel.xaxis.set_minor_formatter(NullFormatter())
    left.set_ylim(bottom=0)
    figure.suptitle(f"Test split, {fraction:.0%} of the labels; bars: 95 % over seeds and test events", fontsize=13)
    return figure


def _shown_views(comparison: Comparison) -> tuple[list[str], list[str]]:
    """Choose a view never trained on, a test set, and views trained on, of each those that move scores most."""
    sets = [view for view in judged_on(comparison) if view in comparison.test_sets]
    others = [view for view in judged_on(comparison) if view not in sets]
    name, _ = shift_of(comparison.benefits)

    def moved(view: str) -> float:
        return max(b.figures[name].mean for b in comparison.benefits if b.view == view)

    by_shift = sorted((view for view in others if not _beyond(comparison, view)), key=moved, reverse=True)
    held_out = [view for view in by_shift if is_held_out(comparison, view)]
    trained_on = [view for view in by_shift if view not in held_out]
    return held_out[:1] + sets[:1], trained_on[: 1 if held_out else 2]


def _beyond(comparison: Comparison, view: str) -> bool:
    """Tell whether a view moves a setting further than where it is drawn from."""
    return any(abs(moved) > 1.001 for moved in comparison.throws.get(view, {}).values())


def _point(panel: Axes, comparison: Comparison, row: Benefit, name: str, shift: Transform) -> None:
    """Draw one figure with its interval, colour by method and shape by view, shifted on the page."""
    value, colour = row.figures[name], colours(comparison)[row.method]
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
    shapes = [
        Line2D([], [], color="black", marker=_marker(comparison, view), ls="none", label=called(comparison, view))
        for view in views
    ]
    panel.legend(handles=method_handles(comparison) + shapes, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def cost_by_stage(comparison: Comparison) -> Figure:
    """Draw what each view adds, by stage, and what one training of each method costs."""
    figure = Figure(figsize=(14, 5))
    left, right = figure.subplots(1, 2, width_ratios=[1.3, 1])
    stages = dict.fromkeys(stage for price in comparison.views.values() for stage in price.stages)
    by_stage = {stage: [price.stages.get(stage, 0.0) for price in comparison.views.values()] for stage in stages}
    usual = max(price.cpu_ms_per_event or 0.0 for price in comparison.views.values() if price.trained_on)
    unpriced = [place for place, price in enumerate(comparison.views.values()) if price.cpu_s is None]
    names = [called(comparison, view) for view in comparison.views]
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
