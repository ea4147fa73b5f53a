"""Data sets as Awkward arrays: events -> jets -> constituents as four-vectors, or events -> images -> voxels."""

from collections.abc import Iterator
from pathlib import Path

import awkward as ak
import numpy as np
import vector
from numpy.typing import NDArray

from resim.chain import NOMINAL
from resim.errors import UserError
from resim.jets.names import NAMES as OF_JETS
from resim.lane import Names
from resim.lartpc.names import NAMES as OF_IMAGES
from resim.ragged import offsets_of, select_rows
from resim.store import Dataset, Part, open_dataset

_OF_EVENT = ("event", "split", "weight")
_NAMES = {"jets": OF_JETS, "lartpc": OF_IMAGES}


def read(where: Path | str, view: str = NOMINAL) -> ak.Array:
    """Read a view of a data set into memory, from a folder or a URL that fsspec reads (`s3://...`, `https://...`).

    There is an entry for each event with objects, in every view the same, so that two views compare entry by entry:
    `read(where, "nominal")[i]` and `read(where, "shower_seed")[i]` are one event. Its fields are `event`, `split`,
    `weight`, and by the lane:

    - `jets`, the jets that the view has: their `object`, what is known of the hard parton, the view's columns (`pt`,
      `eta`, `phi`, `e` ...) and `constituents` with the fifteen features. Jets and constituents are four-vectors of the
      vector package, GeV: `.mass`, `.px`, `.deltaR(...)`, sums.
    - `images`, one or none: `object`, what was shot, the view's columns, and `voxels` with `x`, `y`, `z` (cm), `adc`
      and `charge` (ke). These are plain records.

    Raises
    ------
    UserError
        If there is no such data set or view, or it is damaged.
    """
    return ak.concatenate(list(iterate(where, view)))


def iterate(where: Path | str, view: str = NOMINAL) -> Iterator[ak.Array]:
    """Yield what `read` gives, part by part, so that a part is all that memory must hold.

    Raises
    ------
    UserError
        As `read`; for a missing data set or view, at once.
    """
    dataset = open_dataset(where)
    if view not in dataset.views:
        raise UserError(f"{where}: has no view {view!r}; it has {', '.join(dataset.views)}")
    return _parts(dataset, view)


def _parts(dataset: Dataset, view: str) -> Iterator[ak.Array]:
    return (_events(part, view) for part in dataset.parts)


def _events(part: Part, name: str) -> ak.Array:
    """Lay a view of a part out."""
    view, objects, names = part.view(name), part.objects(), names_of(part)
    table = view.read(slice(None))
    rows = np.flatnonzero(table.present)
    offsets, elements = select_rows(table.offsets, rows)
    features = table.constituents[elements]
    constituents = _records({c.name: features[:, i] for i, c in enumerate(view.constituent_columns)}, names.vector)
    columns = {column: table.columns[rows, i] for i, column in enumerate(view.column_names)}
    if names.vector and "mass" in columns:
        del columns["e"]  # a four-vector has one of the two; the mass keeps its precision, and `.e` is computed
    truth = {column: values[rows] for column, values in objects.items() if column not in _OF_EVENT}
    rows_of_view = _records(truth | columns | {names.constituents: _lists(offsets, constituents)}, names.vector)
    ids, first, place = np.unique(objects["event"], return_index=True, return_inverse=True)
    of_event = {column: objects[column][first] for column in _OF_EVENT}
    per_event = offsets_of(np.bincount(place[rows], minlength=len(ids)))
    events = _records(of_event | {names.objects: _lists(per_event, rows_of_view)})
    return ak.Array(events, behavior=vector.backends.awkward.behavior)


def names_of(part: Part) -> Names:
    """Give the names of a part's lane.

    Raises
    ------
    UserError
        If it is none that this program knows.
    """
    lane = part.attributes.get("lane", "jets")
    if lane not in _NAMES:
        raise UserError(f"{part.place}: is of the lane {lane!r}, and this program reads {', '.join(_NAMES)}")
    return _NAMES[lane]


def _records(
    columns: dict[str, NDArray[np.generic] | ak.contents.Content], name: str | None = None
) -> ak.contents.Content:
    contents = [
        ak.contents.NumpyArray(np.ascontiguousarray(values)) if isinstance(values, np.ndarray) else values
        for values in columns.values()
    ]
    return ak.contents.RecordArray(contents, list(columns), parameters={"__record__": name} if name else None)


def _lists(offsets: NDArray[np.int64], content: ak.contents.Content) -> ak.contents.Content:
    return ak.contents.ListOffsetArray(ak.index.Index64(offsets), content)
