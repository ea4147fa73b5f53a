"""What a part holds, in memory: objects, views, checkpoints, and the names and units of their columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resim.ragged import offsets_of, select_rows

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
class Extra:
    """Numbers of each object that only some views have."""

    values: NDArray[np.float64]
    """(N, k), finite where the object is present."""
    columns: tuple[Column, ...]


EXTRAS = ("drawn", "weights")
"""What a view may have beside its columns: the settings that its events drew, and the weights that turn them into
another."""


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
    extras: Mapping[str, Extra] = field(default_factory=dict)
    """Some of `EXTRAS`; none for most views."""

    def __len__(self) -> int:
        """Give the number of rows."""
        return len(self.present)


@dataclass(frozen=True)
class Checkpoint:
    """The state after a stage, to run the chain again from there: events, whether they give objects or not."""

    events: dict[str, NDArray[Any]]
    """Name -> (E,); `event` (int64) among them, sorted and unique."""
    offsets: NDArray[np.int64]
    """(E + 1,) particles of row i are `offsets[i]:offsets[i + 1]`."""
    particles: dict[str, NDArray[Any]]
    """Name -> (offsets[-1],)."""
    descriptions: tuple[Column, ...]
    """One for each name in `events` and `particles`, in any order."""

    def __len__(self) -> int:
        """Give the number of events."""
        return len(self.events["event"])

    def take(self, rows: NDArray[Any]) -> "Checkpoint":
        """Select events by index or mask."""
        offsets, elements = select_rows(self.offsets, rows)
        events = {name: values[rows] for name, values in self.events.items()}
        return Checkpoint(events, offsets, {n: v[elements] for n, v in self.particles.items()}, self.descriptions)


def join(checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    """Put checkpoints with the same columns one after the other."""
    first = checkpoints[0]
    return Checkpoint(
        {name: np.concatenate([c.events[name] for c in checkpoints]) for name in first.events},
        offsets_of(np.concatenate([np.diff(c.offsets) for c in checkpoints])),
        {name: np.concatenate([c.particles[name] for c in checkpoints]) for name in first.particles},
        first.descriptions,
    )


def packed(columns: dict[str, NDArray[Any]]) -> dict[str, tuple[list[str], NDArray[Any]]]:
    """Put columns (n,) of one type side by side: name of the type -> names, array (n, k). Fewer files, same values."""
    types = dict.fromkeys(values.dtype.name for values in columns.values())
    names = {dtype: [name for name, values in columns.items() if values.dtype.name == dtype] for dtype in types}
    return {dtype: (found, np.stack([columns[name] for name in found], axis=1)) for dtype, found in names.items()}
