"""What a part holds, in memory: objects, views, and the names and units of their columns."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMAT = "resim-part"
VERSION = 1
SLOTS = 8  # object id = SLOTS * event + slot
OBJECT_COLUMNS = ("object", "event", "split", "weight")  # what every lane has


@dataclass(frozen=True)
class Column:
    """A column's name, unit ("" where it has none) and meaning."""

    name: str
    unit: str
    description: str


@dataclass(frozen=True)
class Schema:
    """The columns that all views of a part share, in the order of the arrays' second axis."""

    view_columns: tuple[Column, ...]
    """Of `columns` (N, K)."""
    constituent_columns: tuple[Column, ...]
    """Of `constituents` (M, F)."""


@dataclass(frozen=True)
class ObjectTable:
    """The rows of a part: what is the same in every view."""

    columns: dict[str, NDArray[Any]]
    """Name -> (N,); `OBJECT_COLUMNS` among them; rows sorted by `object`."""
    descriptions: tuple[Column, ...]
    """One for each of `columns`, in any order."""

    def __len__(self) -> int:
        """Give the number of rows."""
        return len(self.columns["object"])


@dataclass(frozen=True)
class ViewTable:
    """The objects as one view has them; row i is row i of the `ObjectTable`."""

    present: NDArray[np.bool_]
    """(N,) the object exists in this view."""
    columns: NDArray[np.float32]
    """(N, K) object-level quantities; NaN where absent."""
    offsets: NDArray[np.int64]
    """(N + 1,) constituents of row i are `offsets[i]:offsets[i + 1]`."""
    constituents: NDArray[np.float32]
    """(M, F), finite."""
    attributes: dict[str, Any]
    """JSON: `from`, `set`, `replica`, `splits`."""

    def __len__(self) -> int:
        """Give the number of rows."""
        return len(self.present)
