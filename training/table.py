"""The figures that are looked at first, flat weights: one row a task, method, head, label fraction and view."""

import csv
import io

from training.results import Comparison, Estimate, Price

_FIGURES = {
    "auc": ("AUC", 3),
    "accuracy": ("accuracy", 3),
    "accuracy_change": ("change of accuracy", 2),
    "rejection_50": ("rejection at 50 %", 2),
    "resolution": ("resolution", 3),
    "wasserstein_background": ("background score shift", 2),
    "wasserstein": ("score shift", 2),
}
_OF_CLASS = "accuracy_"


def table(comparison: Comparison) -> bytes:
    """Write CSV: figures with their 95 % intervals, and CPU seconds of one training with all that it needs."""
    text, rows = io.StringIO(), [row for row in comparison.benefits if row.weighting == "flat"]
    there = dict.fromkeys(name for row in rows for name in row.figures)
    known = {name: told for name, told in _FIGURES.items() if name in there}
    of_classes = [name for name in there if name.startswith(_OF_CLASS) and name not in _FIGURES]
    known |= {name: (f"accuracy of {name.removeprefix(_OF_CLASS)}", 3) for name in of_classes}
    writer = csv.writer(text, lineterminator="\n")
    titles = [title for title, _ in known.values()]
    about = ["task", "method", "head", "labels", "labels in pretraining", "view"]
    writer.writerow([*about, *titles, *_PRICES, "price (CPU s)"])
    for row in rows:
        figures = [
            _shown(row.figures[name], digits) if name in row.figures else "" for name, (_, digits) in known.items()
        ]
        summary = comparison.methods[row.method]
        labels = [f"{row.label_fraction:.3g}", summary.pretraining_labels]
        writer.writerow([row.task, row.method, row.head, *labels, row.view, *figures, *_prices(summary.price)])
    return text.getvalue().encode()


_PRICES = ["views (CPU s)", "augmentation (CPU s)", "training (CPU s)", "head (CPU s)"]


def _prices(price: Price) -> list[str]:
    """Tell what of the price is whose, and the price."""
    parts = (price.views_cpu_s, price.augment_cpu_s, price.training_cpu_s, price.head_cpu_s, price.total_cpu_s)
    return ["unknown" if part is None else _rounded(part, 2) for part in parts]


def _shown(value: Estimate, digits: int) -> str:
    return "{} [{}, {}]".format(*(_rounded(v, digits) for v in (value.mean, value.low, value.high)))


def _rounded(value: float, digits: int) -> str:
    """Round to significant digits, without an exponent where numbers are of usual size."""
    return f"{float(f'{value:.{digits}g}'):g}"
