"""Accuracy over the size of a throw of the settings that views draw event by event, and on every other view."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.plots.common import (
    called,
    colours,
    judged_on,
    method_handles,
    most_labels,
    name_above,
    row_of,
)
from training.results import Comparison

_WIDEST = 14.0  # inches of named views, however many there are
_SLOT = 0.8  # of the distance between two named views that the methods share
_BEYOND = 0.25  # what a step beyond the range takes on the axis, of one within it
_TICKS = (-1.0, -0.5, 0.0, 0.5, 1.0)


class _Value(NamedTuple):
    """A figure with its interval."""

    mean: float
    low: float
    high: float


class _Row(NamedTuple):
    """A figure that is drawn over all views."""

    label: str
    methods: Sequence[str]
    value: Callable[[str, str], _Value]
    """Method and view -> the figure."""
    level: float | None
    """Where a dotted line is drawn."""


def accuracy(comparison: Comparison) -> Figure:
    """Draw the mean accuracy of classes, and how much better each method is than the first, at most labels."""
    classes = next(iter(comparison.tasks.values()))
    methods = list(comparison.methods)
    rows = [_Row("accuracy, mean of classes", methods, _looked_up(comparison, "accuracy"), 1 / len(classes))]
    if comparison.separations:
        rows.append(_Row(f"accuracy minus\nthat of {methods[0]}", methods[1:], _differences(comparison), 0.0))
    return _drawn(comparison, rows, 3.6, "dotted: chance, no difference")


def accuracy_by_class(comparison: Comparison) -> Figure:
    """Draw the share of each class that is told right, at most labels."""
    classes = next(iter(comparison.tasks.values()))
    methods = list(comparison.methods)
    rows = [_Row(f"share of {name}\ntold right", methods, _looked_up(comparison, f"accuracy_{name}"), None)
            for name in classes]  # fmt: skip
    return _drawn(comparison, rows, 2.6, "what is not told right is taken for another class")


def _looked_up(comparison: Comparison, name: str) -> Callable[[str, str], _Value]:
    def value(method: str, view: str) -> _Value:
        found = row_of(comparison.benefits, method, view, most_labels(comparison)).figures[name]
        return _Value(found.mean, found.low, found.high)

    return value


def _differences(comparison: Comparison) -> Callable[[str, str], _Value]:
    """Look up paired differences from the first method, which are known better than two figures side by side."""
    main, first = next(iter(comparison.tasks)), next(iter(comparison.methods))
    told = {
        (one.second, one.view): _Value(-one.difference, -one.high, -one.low)
        for one in comparison.separations
        if (one.task, one.figure, one.first, one.label_fraction) == (main, "accuracy", first, most_labels(comparison))
    }
    return lambda method, view: told.get((method, view), _Value(np.nan, np.nan, np.nan))


def together(comparison: Comparison) -> dict[str, float]:
    """Give the views that move all thrown settings the same way, nominal among them, and how far, rising.

    Where a setting cannot follow, for a lifetime is positive, the one that goes farthest tells how far.
    """
    settings, found = comparison.throws.get("nominal", {}), {}
    for view, moved in comparison.throws.items():
        if moved.keys() == settings.keys() and len({np.sign(each) for each in moved.values()}) == 1:
            found[view] = max(moved.values(), key=abs)
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _drawn(comparison: Comparison, rows: Sequence[_Row], height: float, told: str) -> Figure:
    """Draw rows of two columns: settings moved together, as lines over how far; the other views, by name."""
    points = together(comparison)
    named = ["nominal", *_by_setting(comparison, [v for v in judged_on(comparison) if v not in points])]
    wide = 1.2 + min(max(0.5, 0.13 * len(comparison.methods)) * len(named), _WIDEST)
    widths = [8.0, wide] if len(points) > 1 else [wide]
    figure = Figure(figsize=(sum(widths), 2.4 + height * len(rows)))
    panels = figure.subplots(len(rows), len(widths), squeeze=False, width_ratios=widths, sharex="col", sharey="row")
    for row, across in zip(rows, panels, strict=True):
        across[0].set_ylabel(row.label)
        if len(points) > 1:
            _lines(across[0], comparison, row, points)
        _names(across[-1], comparison, row, named)
    if len(points) > 1:
        settings = ", ".join(comparison.throws["nominal"])
        panels[-1, 0].set_xlabel(f"{settings}: all moved together\n(±1: ends of the range that is thrown)")
    labels = [called(comparison, view).replace(" (", "\n(") for view in named]
    panels[-1, -1].set_xticks(range(len(named)), labels, rotation=35, ha="right", rotation_mode="anchor")
    where = f"Test split, {most_labels(comparison):.0%} of the labels; "
    name_above(figure, method_handles(comparison), f"{where}bands and bars: 95 % over seeds and test events; {told}")
    return figure


def _by_setting(comparison: Comparison, views: Sequence[str]) -> list[str]:
    """Order views: those that move a setting alone first, setting by setting and rising."""
    settings = list(comparison.throws.get("nominal", ()))

    def place(view: str) -> tuple[int, float]:
        moved = comparison.throws.get(view, {})
        if len(moved) != 1:
            return len(settings), 0.0
        ((setting, far),) = moved.items()
        return settings.index(setting), far

    return sorted(views, key=place)  # stable


def _lines(panel: Axes, comparison: Comparison, row: _Row, points: dict[str, float]) -> None:
    """Draw a line with a band for each method; beyond the range the axis is compressed, and shaded."""
    far = np.array(list(points.values()))
    for method in row.methods:
        values = np.array([row.value(method, view) for view in points])
        colour = colours(comparison)[method]
        panel.fill_between(far, values[:, 1], values[:, 2], color=colour, alpha=0.13, lw=0)
        panel.plot(far, values[:, 0], color=colour, lw=1.8, marker="o", markersize=4)
    panel.set_xscale("function", functions=(_compressed, _stretched))
    edge = max(1.1, float(np.abs(far).max()) + 0.4)
    for side in (-1, 1):
        panel.axvspan(side * 1.0, side * edge, color="0.94", lw=0, zorder=0)
    panel.set_xlim(-edge, edge)
    panel.set_xticks([*(x for x in far if abs(x) > 1.001), *_TICKS])
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:+.3g}" if value else "nominal")
    panel.minorticks_off()
    _level(panel, row)


def _compressed(far: np.ndarray) -> np.ndarray:
    inside = np.clip(far, -1, 1)
    return np.asarray(inside + _BEYOND * (far - inside))


def _stretched(at: np.ndarray) -> np.ndarray:
    inside = np.clip(at, -1, 1)
    return np.asarray(inside + (at - inside) / _BEYOND)


def _names(panel: Axes, comparison: Comparison, row: _Row, named: Sequence[str]) -> None:
    """Draw a point with a bar for each method at each of the views."""
    for number, method in enumerate(row.methods):
        aside = _SLOT * ((number + 0.5) / len(row.methods) - 0.5)
        values = np.array([row.value(method, view) for view in named])
        panel.errorbar(
            np.arange(len(named)) + aside,
            values[:, 0],
            yerr=np.abs(values[:, 1:] - values[:, :1]).T,
            color=colours(comparison)[method],
            marker="o",
            markersize=4,
            elinewidth=1.2,
            ls="none",
        )
    for place in range(1, len(named), 2):
        panel.axvspan(place - 0.5, place + 0.5, color="0.97", lw=0, zorder=0)
    panel.set_xlim(-0.5, len(named) - 0.5)
    panel.tick_params(axis="x", which="minor", bottom=False, top=False)
    _level(panel, row)


def _level(panel: Axes, row: _Row) -> None:
    if row.level is not None:
        panel.axhline(row.level, color="black", lw=1, ls=":")
