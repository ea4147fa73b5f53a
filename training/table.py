"""The figures that are looked at first, as a table to read: one row a method, label fraction and view, flat weights."""

import csv
import io

from training.results import Benefit, Comparison, Estimate

_FIGURES = {
    "auc": ("AUC", 3),
    "rejection_50": ("rejection at 50 %", 2),
    "wasserstein_background": ("background score shift", 2),
}


def table(comparison: Comparison) -> bytes:
    """Write CSV: figures with their 95 % intervals, and CPU seconds of one training with all that it needs."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "labels", "view", *(title for title, _ in _FIGURES.values()), "price (CPU s)"])
    for row in comparison.benefits:
        if row.weighting == "flat":
            writer.writerow(_cells(row, comparison.methods[row.method].price.total_cpu_s))
    return text.getvalue().encode()


def _cells(row: Benefit, price: float | None) -> list[str]:
    figures = [
        _shown(row.figures[name], digits) if name in row.figures else "" for name, (_, digits) in _FIGURES.items()
    ]
    told = "unknown" if price is None else _rounded(price, 2)
    return [row.method, f"{row.label_fraction:.3g}", row.view, *figures, told]


def _shown(value: Estimate, digits: int) -> str:
    return "{} [{}, {}]".format(*(_rounded(v, digits) for v in (value.mean, value.low, value.high)))


def _rounded(value: float, digits: int) -> str:
    """Round to significant digits, without an exponent where numbers are of usual size."""
    return f"{float(f'{value:.{digits}g}'):g}"
