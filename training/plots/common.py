"""What pictures share: colours, which rows and figures are looked at first, how views are called."""

from collections.abc import Sequence

from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from training.results import Benefit, Comparison

# Okabe and Ito's, without yellow, then Tol's muted ones: told apart by colour-blind eyes
_COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#555555", "#cc79a7", "#e69f00", "#56b4e9"),
    *("#332288", "#882255", "#999933", "#a6d854", "#7f3c00"),
)
_QUALITY = {"accuracy": "accuracy", "resolution": "resolution, unit of the target", "auc": "AUC"}
_SHIFT = {
    "wasserstein_background": "background score shift\n(Wasserstein)",
    "wasserstein": "prediction shift\n(Wasserstein)",
}


def headline(comparison: Comparison) -> Comparison:
    """Leave the main task alone, and of each method the head that it is compared by."""
    main = next(iter(comparison.tasks))
    first: dict[str, str] = {}
    for row in comparison.benefits:
        first.setdefault(row.method, row.head)
    rows = [row for row in comparison.benefits if (row.task, row.head) == (main, first[row.method])]
    return comparison.model_copy(update={"benefits": rows})


def colours(comparison: Comparison) -> dict[str, str]:
    """Give each method its colour, by the order of the config; what goes beyond the list, a scan, lies on a scale."""
    more = len(comparison.methods) - len(_COLOURS)
    scale = [to_hex(colormaps["plasma"]((place + 0.5) / more)) for place in range(more)]
    return dict(zip(comparison.methods, [*_COLOURS, *scale], strict=False))


def quality_of(benefits: Sequence[Benefit]) -> tuple[str, str]:
    """Choose the figure that says how good a task is solved; with the label of its axis."""
    return next((name, label) for name, label in _QUALITY.items() if name in benefits[0].figures)


def shift_of(benefits: Sequence[Benefit]) -> tuple[str, str]:
    """Choose the figure that says how far scores move; with the label of its axis."""
    moved = next(row for row in benefits if row.view != "nominal")
    return next((name, label) for name, label in _SHIFT.items() if name in moved.figures)


def most_labels(comparison: Comparison) -> float:
    """Give the largest label fraction."""
    return max(row.label_fraction for row in comparison.benefits)


def row_of(benefits: Sequence[Benefit], method: str, view: str, fraction: float) -> Benefit:
    """Look up the figures of a method on a view or test set, flat weights."""
    key = (method, view, fraction, "flat")
    return next(b for b in benefits if (b.method, b.view, b.label_fraction, b.weighting) == key)


def judged_on(comparison: Comparison) -> list[str]:
    """List the views but nominal, those that move by chance first, and the test sets, as far as they are judged."""
    judged = {row.view for row in comparison.benefits}
    views = sorted(comparison.views, key=lambda view: view not in comparison.chance)  # stable
    return [view for view in (*views, *comparison.test_sets) if view in judged and view != "nominal"]


def is_held_out(comparison: Comparison, view: str) -> bool:
    """Tell views that were never trained on, and test sets, from the others."""
    return view in comparison.test_sets or not comparison.views[view].trained_on


def called(comparison: Comparison, view: str) -> str:
    """Name a view or a test set, and say that it is held out."""
    return f"{view} (held out)" if is_held_out(comparison, view) else view


def method_handles(comparison: Comparison) -> list[Line2D]:
    """Give the entries of a legend that names methods by their colours."""
    return [Line2D([], [], color=colour, lw=4, label=method) for method, colour in colours(comparison).items()]


def name_above(figure: Figure, handles: Sequence[Artist], told: str, inches: float = 2.2) -> None:
    """Put a legend above all panels, in as many columns of some width as there is room for, and a line on it."""
    columns = max(1, min(len(handles), int(figure.get_figwidth() / inches)))
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, title=told, title_fontsize=13)
