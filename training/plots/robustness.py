"""How far scores move under each variation, and on each test set."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from training.plots.common import (
    called,
    colours,
    is_held_out,
    judged_on,
    method_handles,
    most_labels,
    name_above,
    row_of,
    shift_of,
)
from training.results import Comparison

# Relative: a method that keeps less background has less to change, and would look robust for being good.
_CHANGE = "background_efficiency_relative_change_50"
_CHANGES = {
    _CHANGE: "relative change of\n" r"$\varepsilon_B$ at $\varepsilon_S$ = 50 %",
    "accuracy_change": "change of\naccuracy",
    "mean_change": "mean change of the prediction,\nunit of the target",
}
_WIDEST = 15.0  # inches of panel, however many views there are
_SLOT = 0.8  # of the distance between two views that the methods share


def robustness(comparison: Comparison) -> Figure:
    """Draw changes and distances over the views, methods beside each other, at the largest label fraction."""
    views, methods = judged_on(comparison), list(comparison.methods)
    known = row_of(comparison.benefits, methods[0], views[0], most_labels(comparison)).figures
    distance, label = shift_of(comparison.benefits)
    shown = [(name, text) for name, text in _CHANGES.items() if name in known] + [(distance, label)]
    width = 3 + min(max(1.0, 0.2 * len(methods)) * len(views), _WIDEST)
    figure = Figure(figsize=(width, 2.2 + 3.2 * len(shown)))
    panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for panel, (name, text) in zip(panels, shown, strict=True):
        _panel(panel, comparison, name, views)
        panel.set_ylabel(text)
        if name == _CHANGE:
            panel.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    panels[-1].set_ylim(bottom=0)
    _mark_chance(panels[-1], comparison, distance, views)
    names = [called(comparison, view).replace(" (", "\n(") for view in views]
    panels[-1].set_xticks(range(len(views)), names, rotation=30, ha="right", rotation_mode="anchor")
    handles = method_handles(comparison)
    chance = [view for view in views if view in comparison.chance]
    if chance:
        told = "chance"
        handles.append(Line2D([], [], color="black", lw=1.2, ls=":", label=told))
    told = (
        f"Test split, flat weights, {most_labels(comparison):.0%} of the labels; bars: 95 % over seeds and test events"
    )
    name_above(figure, handles, told)
    return figure


def _aside(comparison: Comparison) -> dict[str, float]:
    """Give each method its place beside a view's tick."""
    methods = list(comparison.methods)
    return {m: _SLOT * ((place + 0.5) / len(methods) - 0.5) for place, m in enumerate(methods)}


def _panel(panel: Axes, comparison: Comparison, name: str, views: list[str]) -> None:
    for method, aside in _aside(comparison).items():
        rows = [row_of(comparison.benefits, method, view, most_labels(comparison)) for view in views]
        found = [row.figures[name] for row in rows]
        panel.errorbar(
            [place + aside for place in range(len(views))],
            [value.mean for value in found],
            yerr=[[value.mean - value.low for value in found], [value.high - value.mean for value in found]],
            color=colours(comparison)[method],
            marker="o",
            markersize=5,
            capsize=2,
            ls="none",
        )
    panel.axhline(0, color="black", lw=0.8)
    for place, view in enumerate(views):
        if is_held_out(comparison, view):
            panel.axvspan(place - 0.5, place + 0.5, color="0.94", lw=0, zorder=0)
    panel.set_xlim(-0.5, len(views) - 0.5)
    panel.tick_params(axis="x", which="minor", bottom=False, top=False)


def _mark_chance(panel: Axes, comparison: Comparison, name: str, views: list[str]) -> None:
    """Mark in every view's place how far each method's scores move at most where nothing is changed."""
    chance = [view for view in views if view in comparison.chance]
    if chance:
        half = _SLOT / 2 / len(comparison.methods)
        for method, aside in _aside(comparison).items():
            rows = [row_of(comparison.benefits, method, view, most_labels(comparison)) for view in chance]
            level = max(row.figures[name].mean for row in rows)
            for place in range(len(views)):
                at = place + aside
                panel.hlines(level, at - half, at + half, color=colours(comparison)[method], lw=1.8, ls=(0, (1, 0.6)))
