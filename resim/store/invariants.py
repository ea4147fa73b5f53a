"""What must hold for the arrays of a part; the writer refuses what the validator would report."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resim.store.tables import EXTRAS, OBJECT_COLUMNS, SLOTS, Checkpoint, ObjectTable, ViewTable

Violation = tuple[str, str]  # array, what is wrong with it

_OBJECT_DTYPES = {"object": np.int64, "event": np.int64, "split": np.int8, "weight": np.float64}
_VIEW_DTYPES = {"present": np.bool_, "columns": np.float32, "offsets": np.int64, "constituents": np.float32}


def check_objects(objects: ObjectTable, attributes: dict[str, Any]) -> Iterator[Violation]:
    """Yield what is wrong with the objects of a part that has these attributes."""
    columns = objects.columns
    missing = [name for name in OBJECT_COLUMNS if name not in columns]
    if missing:
        yield "objects", f"lacks the columns {', '.join(missing)}"
        return
    shapes = {name: values.shape for name, values in columns.items() if values.shape != columns["object"].shape}
    shapes |= {"object": columns["object"].shape} if columns["object"].ndim != 1 else {}
    if shapes:
        yield from ((f"objects/{name}", f"has shape {shape}, not a value an object") for name, shape in shapes.items())
        return
    for name, values in columns.items():
        if values.dtype != _OBJECT_DTYPES.get(name, values.dtype) or values.dtype.kind not in "biuf":
            yield f"objects/{name}", f"has dtype {values.dtype}, not {np.dtype(_OBJECT_DTYPES.get(name, np.float32))}"
    if {column.name for column in objects.descriptions} != set(columns):
        yield "objects", "columns and descriptions do not have the same names"
    yield from _check_values(columns, attributes)


def _check_values(columns: dict[str, NDArray[Any]], attributes: dict[str, Any]) -> Iterator[Violation]:
    ids, events, splits = columns["object"], columns["event"], columns["split"]
    first, stop = attributes["first"], attributes["stop"]
    if np.any(np.diff(ids) <= 0):
        yield "objects/object", "ids are not sorted and unique"
    if np.any(ids // SLOTS != events):
        yield "objects/object", f"an id is not {SLOTS} x event + slot"
    if np.any((events < first) | (events >= stop)):
        yield "objects/event", f"an event is outside [{first}, {stop})"
    if np.any((splits < 0) | (splits >= len(attributes["splits"]))):
        yield "objects/split", f"a code is outside 0..{len(attributes['splits']) - 1}"
    if not np.all(np.isfinite(columns["weight"])):
        yield "objects/weight", "a weight is not finite"


def check_view(view: ViewTable, objects: ObjectTable, attributes: dict[str, Any]) -> Iterator[Violation]:
    """Yield what is wrong with a view of these objects; array names are within the view's group."""
    arrays = {name: getattr(view, name) for name in _VIEW_DTYPES}
    wrong = {n: a.dtype for n, a in arrays.items() if a.dtype != _VIEW_DTYPES[n]}
    yield from ((name, f"has dtype {dtype}, not {np.dtype(_VIEW_DTYPES[name])}") for name, dtype in wrong.items())
    n = len(objects)
    expected = {"present": (n,), "offsets": (n + 1,), "columns": (n, *view.columns.shape[1:2])}
    bad = {name: arrays[name].shape for name, shape in expected.items() if arrays[name].shape != shape}
    bad |= {name: arrays[name].shape for name in ("columns", "constituents") if arrays[name].ndim != 2}
    if wrong or bad:
        yield from ((name, f"has shape {shape}, which does not fit {n} objects") for name, shape in bad.items())
        return
    yield from _check_offsets(view)
    if np.any(~np.isnan(view.columns[~view.present])):
        yield "columns", "a row of an absent object is not NaN"
    if not np.all(np.isfinite(view.constituents)):
        yield "constituents", "a value is not finite"
    yield from _check_splits(view, objects, attributes["splits"])
    yield from _check_extras(view)


def _check_extras(view: ViewTable) -> Iterator[Violation]:
    for name, extra in view.extras.items():
        shape, dtype = extra.values.shape, extra.values.dtype
        if name not in EXTRAS:
            yield name, f"is none of {', '.join(EXTRAS)}"
        elif dtype != np.float64 or shape != (len(view), len(extra.columns)):
            yield name, f"has dtype {dtype} and shape {shape}, not float64 and {(len(view), len(extra.columns))}"
        elif not np.all(np.isfinite(extra.values[view.present])):
            yield name, "a value of a present object is not finite"


def _check_offsets(view: ViewTable) -> Iterator[Violation]:
    counts = np.diff(view.offsets)
    if view.offsets[0] != 0 or view.offsets[-1] != len(view.constituents) or np.any(counts < 0):
        yield "offsets", f"do not rise from 0 to {len(view.constituents)}, the number of constituents"
    elif np.any(counts[~view.present]):
        yield "offsets", "an absent object has constituents"


def _check_splits(view: ViewTable, objects: ObjectTable, splits: list[str]) -> Iterator[Violation]:
    """Check that a view made for some splits has nothing of the others."""
    wanted = view.attributes.get("splits") or splits
    codes = [code for code, name in enumerate(splits) if name in wanted]
    if np.any(view.present & ~np.isin(objects.columns["split"], codes)):
        yield "present", f"an object outside the splits {', '.join(wanted)} is present"


def check_checkpoint(checkpoint: Checkpoint, attributes: dict[str, Any]) -> Iterator[Violation]:
    """Yield what is wrong with a checkpoint of a part that has these attributes; array names are within its group."""
    violations = list(_check_checkpoint_columns(checkpoint))
    yield from violations
    if violations:
        return
    ids, first, stop = checkpoint.events["event"], attributes["first"], attributes["stop"]
    if np.any(np.diff(ids) <= 0):
        yield "events", "ids are not sorted and unique"
    if np.any((ids < first) | (ids >= stop)):
        yield "events", f"an event is outside [{first}, {stop})"
    if checkpoint.offsets[0] != 0 or np.any(np.diff(checkpoint.offsets) < 0):
        yield "offsets", "do not rise from 0"


def _check_checkpoint_columns(checkpoint: Checkpoint) -> Iterator[Violation]:
    ids, offsets = checkpoint.events.get("event"), checkpoint.offsets
    if ids is None or ids.dtype != np.int64 or ids.ndim != 1:
        yield "events", "has no column event, an int64 for each"
        return
    if offsets.dtype != np.int64 or offsets.shape != (len(ids) + 1,):
        yield "offsets", f"has dtype {offsets.dtype} and shape {offsets.shape}, not int64 and {(len(ids) + 1,)}"
        return
    for array, columns, n in (
        ("events", checkpoint.events, len(ids)),
        ("particles", checkpoint.particles, int(offsets[-1])),
    ):
        for name, values in columns.items():
            if values.shape != (n,) or values.dtype.kind not in "biuf":
                found = f"dtype {values.dtype} and shape {values.shape}"
                yield array, f"column {name} has {found}, not a number for each of {n} {array}"
    if {column.name for column in checkpoint.descriptions} != {*checkpoint.events, *checkpoint.particles}:
        yield "events", "columns and descriptions do not have the same names"
