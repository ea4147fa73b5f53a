"""The figures that are looked at first, flat weights: one row a task, method, head, label fraction and view."""

import csv
import io

from training.results import Comparison, Estimate

_FIGURES = {
    "auc": ("AUC", 3),
    "accuracy": ("accuracy", 3),
    "rejection_50": ("rejection at 50 %", 2),
    "resolution": ("resolution", 3),
    "wasserstein_background": ("background score shift", 2),
    "wasserstein": ("score shift", 2),
}


def table(comparison: Comparison) -> bytes:
    """Write CSV: figures with their 95 % intervals, and CPU seconds of one training with all that it needs."""
    text, rows = io.StringIO(), [row for row in comparison.benefits if row.weighting == "flat"]
    known = {name: told for name, told in _FIGURES.items() if any(name in row.figures for row in rows)}
    writer = csv.writer(text, lineterminator="\n")
    titles = [title for title, _ in known.values()]
    about = ["task", "method", "head", "labels", "labels in pretraining", "view"]
    writer.writerow([*about, *titles, "price (CPU s)"])
    for row in rows:
        figures = [
            _shown(row.figures[name], digits) if name in row.figures else "" for name, (_, digits) in known.items()
        ]
        summary = comparison.methods[row.method]
        price, seen = summary.price.total_cpu_s, summary.pretraining_labels
        told = "unknown" if price is None else _rounded(price, 2)
        writer.writerow([row.task, row.method, row.head, f"{row.label_fraction:.3g}", seen, row.view, *figures, told])
    return text.getvalue().encode()


def _shown(value: Estimate, digits: int) -> str:
    return "{} [{}, {}]".format(*(_rounded(v, digits) for v in (value.mean, value.low, value.high)))


def _rounded(value: float, digits: int) -> str:
    """Round to significant digits, without an exponent where numbers are of usual size."""
    return f"{float(f'{value:.{digits}g}'):g}"
