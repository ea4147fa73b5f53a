"""Moments of the columns of a data set, the same to the bit however it is cut into parts and whoever reads them.

Those of blocks are put together by a binary tree over the blocks' numbers: 2k and 2k + 1 first, whichever part they lie
in and whichever is read first.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from resim.store.digests import blocks
from resim.store.part import Part, StoredView

Moments = NDArray[np.float64]
"""(5, k): count, mean, sum of squared deviations, least and greatest of each column, of what is not NaN."""


class Quantity(NamedTuple):
    """What is counted or measured."""

    view: str
    array: str
    """Where it is from: `present`, `offsets`, `columns`, `drawn` or `weights`."""
    column: str
    unit: str


class Tree:
    """Moments of some blocks; the nodes of two siblings that are both there have become their parent's."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[int, int], Moments] = {}

    def __len__(self) -> int:
        """Give the number of nodes: for n blocks in a row, 2 log2 n at most."""
        return len(self._nodes)

    def add(self, level: int, index: int, moments: Moments) -> None:
        """Add a node by its place; blocks are level 0, with their numbers."""
        while (other := self._nodes.pop((level, index ^ 1), None)) is not None:
            moments = combined(other, moments) if index % 2 else combined(moments, other)
            level, index = level + 1, index // 2
        self._nodes[level, index] = moments

    def join(self, other: "Tree") -> None:
        """Add the nodes of another tree, of other blocks."""
        for place, moments in other._nodes.items():
            self.add(*place, moments)

    def root(self) -> Moments:
        """Give the moments of all blocks; what has no sibling, for blocks that no part has, becomes its parent."""
        while len(self) > 1:
            level, index = min(self._nodes)  # the lowest level: nothing is left that could become its sibling
            self.add(level + 1, index // 2, self._nodes.pop((level, index)))
        return next(iter(self._nodes.values()))


def combined(left: Moments, right: Moments) -> Moments:
    """Give the moments of both (Chan, Golub and LeVeque, 1979)."""
    (n, mean, squares, low, high), (m, mean_right, squares_right, low_right, high_right) = left, right
    share = np.divide(m, n + m, out=np.zeros_like(n), where=n + m > 0)
    with np.errstate(invalid="ignore", over="ignore"):  # infinities have no mean
        apart = mean_right - mean
        squares = squares + squares_right + apart**2 * n * share
        return np.array([n + m, mean + apart * share, squares, np.fmin(low, low_right), np.fmax(high, high_right)])


def moments_of(values: NDArray[Any]) -> Moments:
    """Give the moments of the columns of some values (n, k)."""
    values = values.astype(np.float64)
    there = ~np.isnan(values)
    n = there.sum(axis=0)
    with np.errstate(invalid="ignore", over="ignore"):
        mean = np.where(there, values, 0).sum(axis=0) / np.maximum(n, 1)
        squares = (np.where(there, values - mean, 0) ** 2).sum(axis=0)
    low, high = (function.reduce(values, axis=0, initial=np.nan) for function in (np.fmin, np.fmax))
    return np.array([n, mean, squares, low, high])


def quantities(part: Part) -> list[Quantity]:
    """Name the columns of the moments that `part_moments` gives."""
    found = []
    for name in part.views:
        view = part.view(name)
        found += [Quantity(name, "present", "objects_per_event", "")]
        found += [Quantity(name, "offsets", "constituents_per_object", "")]
        arrays = {"columns": view.view_columns} | {kind: extra.columns for kind, extra in view.extras.items()}
        found += [Quantity(name, array, c.name, c.unit) for array, columns in arrays.items() for c in columns]
    return found


def part_moments(part: Part) -> Tree:
    """Give the moments of a part's blocks, of all views; constituents are counted, and not read."""
    events, tree = part.read_array("objects/event"), Tree()
    # Not `part.view`: the part would keep its arrays.
    of_views = [_of_blocks(StoredView(part, name), events) for name in part.views]
    for (block, _), of_block in zip(blocks(events, part.attributes), zip(*of_views, strict=True), strict=True):
        tree.add(0, block, np.concatenate(of_block, axis=1))
    return tree


def _of_blocks(view: StoredView, events: NDArray[np.int64]) -> list[Moments]:
    """Give the moments of one view, block by block."""
    present, size = view.present, view.part.attributes["block_size"]
    of_objects = [np.diff(view.offsets)[:, None], view.columns, *(extra.values for extra in view.extras.values())]
    values = np.concatenate([array.astype(np.float64) for array in of_objects], axis=1)
    values[~present] = np.nan
    found = []
    for block, rows in blocks(events, view.part.attributes):
        per_event = np.bincount(events[rows][present[rows]] - block * size, minlength=size)
        found.append(np.concatenate([moments_of(per_event[:, None]), moments_of(values[rows])], axis=1))
    return found


def table(named: list[Quantity], moments: Moments) -> list[dict[str, Any]]:
    """Lay moments out, a row a quantity; null where there is no number."""
    rows = []
    for quantity, (n, mean, squares, low, high) in zip(named, moments.T.tolist(), strict=True):
        numbers = {"mean": mean, "std": math.sqrt(squares / max(n, 1)), "min": low, "max": high}
        told = {name: value if n and math.isfinite(value) else None for name, value in numbers.items()}
        rows.append({**quantity._asdict(), "count": int(n), **told})
    return rows


def format_table(rows: list[dict[str, Any]]) -> str:
    """Lay the rows out as text."""
    lines = [f"{'view':16} {'column':26} {'unit':6} {'count':>10} {'mean':>12} {'std':>12} {'min':>12} {'max':>12}"]
    for row in rows:
        cells = ("-" if row[key] is None else f"{row[key]:.6g}" for key in ("mean", "std", "min", "max"))
        numbers = " ".join(f"{cell:>12}" for cell in cells)
        lines.append(f"{row['view']:16} {row['column']:26} {row['unit']:6} {row['count']:10} {numbers}")
    return "\n".join(lines)
