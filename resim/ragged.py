"""Flat columns with offsets: the arrays of a block of events, without an object for each event."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray


def offsets_of(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Turn row lengths (n,) into offsets (n + 1,)."""
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def row_of(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the row index of every element, (offsets[-1],)."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def select_rows(offsets: NDArray[np.int64], rows: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the offsets and the element indices of some rows (indices or a mask), in the order asked for."""
    rows = np.flatnonzero(rows) if rows.dtype == bool else rows
    counts = np.diff(offsets)[rows]
    new = offsets_of(counts)
    elements = np.repeat(offsets[rows] - new[:-1], counts) + np.arange(new[-1])
    return new, elements


def select_elements(offsets: NDArray[np.int64], keep: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Give the offsets that remain when only the elements marked in `keep` stay."""
    kept = np.concatenate([[0], np.cumsum(keep)])
    return kept[offsets].astype(np.int64)


@njit(cache=True)
def interleave(
    first: NDArray[Any], first_offsets: NDArray[np.int64], second: NDArray[Any], second_offsets: NDArray[np.int64]
) -> NDArray[Any]:
    """Put the elements of each row of a second column behind the ones of the same row of the first."""
    joined, end = np.empty(len(first) + len(second), dtype=first.dtype), 0
    for row in range(len(first_offsets) - 1):
        for i in range(first_offsets[row], first_offsets[row + 1]):
            joined[end] = first[i]
            end += 1
        for i in range(second_offsets[row], second_offsets[row + 1]):
            joined[end] = second[i]
            end += 1
    return joined


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths: `offsets` (n + 1,) and one flat array a column, each (offsets[-1],)."""

    offsets: NDArray[np.int64]
    columns: dict[str, NDArray[Any]]

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def empty(cls, n: int, columns: Mapping[str, type]) -> Self:
        """Give n rows without any element, with these columns and types."""
        none: dict[str, NDArray[Any]] = {name: np.empty(0, dtype=dtype) for name, dtype in columns.items()}
        return cls(np.zeros(n + 1, dtype=np.int64), none)

    @classmethod
    def join(cls, pieces: Sequence[Self]) -> Self:
        """Put rows behind each other; all pieces (at least one) have the columns of the first."""
        counts = np.concatenate([np.diff(piece.offsets) for piece in pieces])
        names = pieces[0].columns
        return cls(offsets_of(counts), {name: np.concatenate([piece[name] for piece in pieces]) for name in names})

    def beside(self, other: "Ragged") -> "Ragged":
        """Put the elements of each row of another table behind the ones of the same row; columns as here."""
        columns = {n: interleave(c, self.offsets, other[n], other.offsets) for n, c in self.columns.items()}
        return Ragged(self.offsets + other.offsets, columns)

    def between(self, first: int, stop: int) -> "Ragged":
        """Give a stretch of rows, without a copy of the elements."""
        start, end = self.offsets[first], self.offsets[stop]
        return Ragged(self.offsets[first : stop + 1] - start, {n: c[start:end] for n, c in self.columns.items()})

    def take(self, rows: NDArray[Any]) -> Self:
        """Select rows by index or mask."""
        offsets, elements = select_rows(self.offsets, rows)
        return type(self)(offsets, {name: column[elements] for name, column in self.columns.items()})
