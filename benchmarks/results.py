"""A comparison as tables in Markdown: a figure of every method, by task and label fraction, on every view and test set.

python -m benchmarks.results results/comparison.json --figure auc
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from training.files import read_model
from training.results import OWN_HEAD, Benefit, Comparison, Estimate


def main() -> None:
    """Print a table for each task and head that has the figure, and each label fraction."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results", description=__doc__)
    parser.add_argument("comparison", type=Path)
    parser.add_argument("--figure", default="auc")
    parser.add_argument("--task", help="[default: all]")
    parser.add_argument("--head", help="fitted on encoders, beside the networks' own [default: all]")
    parser.add_argument("--digits", type=int, default=3, help="behind the point")
    parser.add_argument("--transpose", action="store_true", help="a row a view: for more views than methods")
    arguments = parser.parse_args()
    comparison = read_model(arguments.comparison, Comparison)
    rows = [row for row in comparison.benefits if arguments.head in (None, row.head) or row.head == OWN_HEAD]
    tasks = [arguments.task] if arguments.task else list(comparison.tasks)
    print("\n\n".join(tables(rows, tasks, arguments.figure, arguments.digits, arguments.transpose)))


def tables(
    benefits: Sequence[Benefit], tasks: Sequence[str], figure: str, digits: int, transpose: bool = False
) -> list[str]:
    """Make the tables: a row a method and head, a column a view; mean and half of the 95 % interval, flat weights."""
    flat = [row for row in benefits if row.weighting == "flat"]
    found = []
    for task in tasks:
        rows = [row for row in flat if row.task == task and figure in row.figures]
        for fraction in sorted({row.label_fraction for row in rows}):
            here = [row for row in rows if row.label_fraction == fraction]
            labels = ", ".join(sorted({str(row.n_labels) for row in here}))
            table = _table(here, figure, digits, transpose)
            found.append(f"{task}, {figure}, {fraction:.3g} of the labels ({labels}):\n\n{table}")
    return found


def _table(rows: Sequence[Benefit], figure: str, digits: int, transpose: bool) -> str:
    cells = {
        (row.method if row.head == OWN_HEAD else f"{row.method}, {row.head}", row.view): _cell(
            row.figures[figure], digits
        )
        for row in rows
    }
    methods, views = (list(dict.fromkeys(names)) for names in zip(*cells, strict=True))
    grid = [["method", *views], *([method, *(cells.get((method, view), "") for view in views)] for method in methods)]
    if transpose:
        grid = [list(column) for column in zip(*grid, strict=True)]
        grid[0][0] = "view"
    grid.insert(1, ["---"] * len(grid[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in grid)


def _cell(value: Estimate, digits: int) -> str:
    """Write mean ± the larger half of the interval; a rejection's is not symmetric."""
    return f"{value.mean:.{digits}f} ± {max(value.high - value.mean, value.mean - value.low):.{digits}f}"


if __name__ == "__main__":
    main()
