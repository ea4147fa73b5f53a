"""Small tables of any shape for the tests of the store; made from explicit seeds."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resim.ragged import offsets_of
from resim.store import Checkpoint, Column, ObjectTable, Schema, ViewTable

SCHEMA = Schema(
    view_columns=(Column("pt", "GeV", "transverse momentum"), Column("mass", "GeV", "mass"), Column("n", "", "count")),
    constituent_columns=(Column("pt", "GeV", "transverse momentum"), Column("eta", "", "pseudorapidity")),
)
SPLITS = ["train", "validation", "test"]


def attributes(first: int, stop: int, views: list[str], block_size: int = 10, **more: Any) -> dict[str, Any]:
    """Give the attributes that every part has."""
    recipes = {name: f"recipe of {name}" for name in views}
    required = {"sample": "qcd", "first": first, "stop": stop, "block_size": block_size, "splits": SPLITS}
    return {**required, "recipes": recipes, **more}


def objects_of(ids: NDArray[np.int64]) -> ObjectTable:
    """Make the objects with these ids; every value depends on the id alone."""
    columns: dict[str, NDArray[Any]] = {
        "object": ids,
        "event": ids // 8,
        "split": (ids // 8 % 3).astype(np.int8),
        "weight": 1.0 / (1.0 + ids),
        "parton_pt": (400 + ids % 97).astype(np.float32),
    }
    units = {"parton_pt": "GeV"}
    return ObjectTable(columns, tuple(Column(name, units.get(name, ""), f"the {name}") for name in columns))


def view_of(present: NDArray[np.bool_], counts: NDArray[np.int64], seed: int = 0, **more: Any) -> ViewTable:
    """Make a view; `counts` of absent objects are not used."""
    counts = np.where(present, counts, 0)
    generator = np.random.Generator(np.random.Philox(seed))
    columns = generator.normal(size=(len(present), len(SCHEMA.view_columns))).astype(np.float32)
    columns[~present] = np.nan
    constituents = generator.normal(size=(int(counts.sum()), len(SCHEMA.constituent_columns))).astype(np.float32)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return ViewTable(present, columns, offsets, constituents, {"from": None, "set": {}, "replica": 0, **more})


def some_part(first: int = 0, stop: int = 30, seed: int = 0) -> tuple[ObjectTable, ViewTable]:
    """Make a few objects for events [first, stop), the last block of ten being empty, and a view of them."""
    generator = np.random.Generator(np.random.Philox(seed + 1000 * first))
    events = np.arange(first, stop - 10)
    ids = np.sort(np.concatenate([8 * events, 8 * events[::3] + 1]))
    return objects_of(ids), view_of(generator.random(len(ids)) < 0.8, generator.integers(0, 30, len(ids)), seed)


def checkpoint_of(ids: NDArray[np.int64], counts: NDArray[np.int64], seed: int = 0) -> Checkpoint:
    """Make a checkpoint of these events, with so many particles each, in columns of four types."""
    generator = np.random.Generator(np.random.Philox(seed))
    n = int(counts.sum())
    energy = generator.normal(size=n)
    energy[::5] = -0.0
    events: dict[str, NDArray[Any]] = {
        "event": ids,
        "process": (111 + ids % 7).astype(np.int32),
        "weight": 1 / (3.0 + ids),
        "scale": 400 + ids / 7,
    }
    particles: dict[str, NDArray[Any]] = {
        "id": generator.integers(-5, 6, n).astype(np.int32),
        "charge": generator.integers(-1, 2, n).astype(np.int8),
        "e": energy,
        "tau": np.where(generator.random(n) < 0.2, np.nan, generator.random(n)),
    }
    units = {"scale": "GeV", "e": "GeV", "tau": "mm/c"}
    described = tuple(Column(name, units.get(name, ""), f"the {name}") for name in (*events, *particles))
    return Checkpoint(events, offsets_of(counts), particles, described)


def some_checkpoint(first: int = 0, stop: int = 30) -> Checkpoint:
    """Make a checkpoint of all events [first, stop), some without particles; every value depends on the range alone."""
    ids = np.arange(first, stop)
    return checkpoint_of(ids, ids % 4, seed=first)


def assert_same_checkpoint(actual: Checkpoint, expected: Checkpoint) -> None:
    """Compare two checkpoints to the bit, negative zeros and NaN included."""
    assert actual.offsets.tobytes() == expected.offsets.tobytes()
    for left, right in ((actual.events, expected.events), (actual.particles, expected.particles)):
        assert set(left) == set(right)
        for name, values in left.items():
            assert values.dtype == right[name].dtype, name
            assert values.tobytes() == right[name].tobytes(), name
    assert set(actual.descriptions) == set(expected.descriptions)


def rows_of(objects: ObjectTable, view: ViewTable, first: int, stop: int) -> tuple[ObjectTable, ViewTable]:
    """Cut the events [first, stop) out of a part's tables."""
    events = objects.columns["event"]
    rows = slice(*np.searchsorted(events, [first, stop]))
    offsets = view.offsets[rows.start : rows.stop + 1]
    columns = {name: values[rows] for name, values in objects.columns.items()}
    cut = ViewTable(
        view.present[rows],
        view.columns[rows],
        offsets - offsets[0],
        view.constituents[offsets[0] : offsets[-1]],
        view.attributes,
    )
    return dataclasses.replace(objects, columns=columns), cut


def assert_same_view(actual: ViewTable, expected: ViewTable) -> None:
    """Compare two views to the bit (NaN equals NaN)."""
    for array in ("present", "columns", "offsets", "constituents"):
        left, right = getattr(actual, array), getattr(expected, array)
        assert left.dtype == right.dtype, array
        np.testing.assert_array_equal(left, right, err_msg=array)
    assert actual.attributes == expected.attributes
