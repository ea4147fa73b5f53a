"""Published sparse images, some files an event, as data sets of the LArTPC lane. docs/exchange.md.

Each layout has a reader of its own, which knows the events, their views and the hits of each; here hits are put into
cells and parts are written. A file gives numbers or is refused: nothing in it is ever run.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from resim.chain import NOMINAL
from resim.config import SPLITS
from resim.cost import Meter, to_json
from resim.errors import UserError
from resim.interop.exchange import Numbering, Progress, whole_dataset
from resim.lartpc.states import VOXEL_COLUMNS
from resim.lartpc.voxels import ordered, seen, starts_of_cells
from resim.ragged import Ragged, offsets_of, row_of
from resim.store import Column, ObjectTable, Schema, ViewTable, write_part
from resim.store.tables import SLOTS

Hits = NDArray[np.float64]
"""(n, 5): x, y, z (cm), adc, charge."""

REACH = 1e4
"""Largest coordinate, cm, to either side; far beyond, cells have no number."""
MOST = 1e9
"""Largest charge, count or light of a hit."""
PARTICLES = {"electron": 11, "gamma": 22, "muon": 13, "pion": 211, "proton": 2212}
"""Class, as folders and files are named -> PDG id."""
_COMMON = (
    Column("object", "", "id, 8 x event + slot"),
    Column("event", "", "event id: place among the files, in the order of their names"),
    Column("split", "", "0 train, 1 validation, 2 test"),
    Column("weight", "", "1: the layout has no weights"),
    Column("pdg", "", "PDG id of the class; of muons and pions the files do not tell the charge"),
)


@dataclass(frozen=True)
class Event:
    """What the files of an event say."""

    truth: dict[str, float]
    """Values of the object columns of the layout."""
    particle: str
    key: int
    """Tells the split: events with the same key are in the same."""
    views: dict[str, Hits]
    """Of those views that have the event; without hits it is absent there."""


class Layout(ABC):
    """Files of a published set."""

    name: ClassVar[str]
    cell: ClassVar[float]
    """Edge of a cell, cm, with a corner at 0."""
    pedestal: ClassVar[float]
    """What `adc` is without charge; where hits share a cell it is counted once."""
    columns: ClassVar[tuple[Column, ...]]
    """Of objects, beside those that all layouts have."""
    schema: ClassVar[Schema]

    views: Mapping[str, dict[str, Any]]
    """View -> what it changes."""
    cut: ClassVar[str]
    """Where, in the words of the set, views are cut."""
    paths: Sequence[Path]
    """All files that are read."""
    words: dict[str, Any]
    """Options that the arrays depend on."""

    @abstractmethod
    def __len__(self) -> int:
        """Give the number of events."""

    @abstractmethod
    def read(self, event: int, settings: Numbering) -> Event:
        """Read an event."""


def files_below(paths: Sequence[Path], suffix: str) -> Iterator[tuple[Path, Path]]:
    """Yield the files of a kind among paths and in folders there, each with the path that it was found by, sorted.

    Raises
    ------
    UserError
        If a path is not there, or leads to no such file.
    """
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: there is no such file or folder; give {suffix} files, or folders of them")
        found = sorted(path.rglob(f"*{suffix}")) if path.is_dir() else [path]
        if not found or any(file.suffix != suffix for file in found):
            raise UserError(f"{path}: holds no {suffix} file; give {suffix} files, or folders of them")
        yield from ((path, file) for file in found)


def open_layout(
    name: str,
    paths: Sequence[str | Path],
    particle: str | None = None,
    views: Mapping[str, str] = MappingProxyType({}),
    crosstalk: Mapping[str, float] = MappingProxyType({}),
) -> Layout:
    """Find the files of a layout, `images` or `cubes`; what is in them is read later.

    Raises
    ------
    UserError
        If they are not there, or their names are of another kind.
    """
    from resim.interop.cubes import Cubes
    from resim.interop.images import Images

    found = [Path(path) for path in paths]
    return Images(found, particle, views) if name == "images" else Cubes(found, particle, crosstalk)


def import_sparse(layout: Layout, out: Path, settings: Numbering, progress: Progress = iter) -> None:
    """Make a data set of published images; whole, or nothing is there.

    Raises
    ------
    UserError
        If a file is not of the layout, a name is none, or `out` is not empty.
    """
    settings.check(("--sample", settings.sample), *(("view", name) for name in layout.views))
    attributes = _attributes(layout, settings)
    size = settings.events_per_part
    with whole_dataset(out) as folder:
        for first in progress(range(0, attributes["stop"], size)):
            part = attributes | {"first": first, "stop": min(first + size, attributes["stop"])}
            _write(folder, layout, settings, part)


def _attributes(layout: Layout, settings: Numbering) -> dict[str, Any]:
    digest = hashlib.sha256()
    for path in layout.paths:
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    source = {"layout": layout.name, "files": len(layout.paths), "sha256": digest.hexdigest(), **layout.words}
    words = [source, settings.sample, settings.seed, settings.splits.model_dump()]
    recipes = {
        view: hashlib.sha256(json.dumps([*words, view, changes], sort_keys=True).encode()).hexdigest()[:32]
        for view, changes in layout.views.items()
    }
    return {
        "sample": settings.sample,
        "lane": "lartpc",
        "stop": -(-len(layout) // settings.block_size) * settings.block_size,
        "block_size": settings.block_size,
        "seed": settings.seed,
        "splits": list(SPLITS),
        "failed": {},
        "recipes": recipes,
        "source": source,
        "software": {"numpy": version("numpy")},
    }


def _write(folder: Path, layout: Layout, settings: Numbering, attributes: dict[str, Any]) -> None:
    """Read and write a part."""
    meter, ids = Meter(), np.arange(attributes["first"], min(attributes["stop"], len(layout)), dtype=np.int64)
    with meter.measure("import", NOMINAL, events=len(ids)):
        events = [layout.read(event, settings) for event in ids.tolist()]
        objects = _objects(layout, settings, ids, events)
        views = {view: _view(layout, view, events) for view in layout.views}
    write_part(folder, objects, views, layout.schema, attributes | {"cost": to_json(list(meter.records))})


def _objects(layout: Layout, settings: Numbering, ids: NDArray[np.int64], events: Sequence[Event]) -> ObjectTable:
    keys = np.array([event.key for event in events], dtype=np.int64)
    truth = {column.name: np.array([event.truth[column.name] for event in events]) for column in layout.columns}
    columns: dict[str, NDArray[Any]] = {
        "object": SLOTS * ids,
        "event": ids,
        "split": settings.split_of(keys),
        "weight": np.ones(len(ids)),
        "pdg": np.array([PARTICLES[event.particle] for event in events], dtype=np.int32),
        **truth,
    }
    return ObjectTable(columns, (*_COMMON, *layout.columns))


def _view(layout: Layout, view: str, events: Sequence[Event]) -> ViewTable:
    """Put the hits of a view into cells."""
    none = np.zeros((0, len(VOXEL_COLUMNS)))
    hits = [event.views.get(view, none) for event in events]
    counts = np.array([len(rows) for rows in hits], dtype=np.int64)
    voxels = _in_cells(layout, offsets_of(counts), np.concatenate(hits))
    present = counts > 0
    values = seen(voxels) | {"n_hits": counts}
    columns = np.stack([np.asarray(values[c.name], np.float32) for c in layout.schema.view_columns], axis=1)
    columns[~present] = np.nan
    cut, changes = (None, {}) if view == NOMINAL else (layout.cut, layout.views[view])
    attributes = {"from": cut, "set": changes, "replica": 0, "splits": list(SPLITS)}
    constituents = np.stack([voxels[name] for name in VOXEL_COLUMNS], axis=1)
    return ViewTable(present, columns, voxels.offsets, constituents, attributes)


def _in_cells(layout: Layout, offsets: NDArray[np.int64], hits: Hits) -> Ragged:
    """Sum the charge of the hits of a cell."""
    rows = row_of(offsets)
    cells = [np.floor(hits[:, axis] / layout.cell).astype(np.int64) for axis in range(3)]
    order = ordered(rows, cells)
    starts = starts_of_cells(rows, cells, order)
    found = order[starts]
    columns = {name: (values[found] + 0.5) * layout.cell for name, values in zip("xyz", cells, strict=True)}
    adc, charge = (np.add.reduceat(hits[order, i], starts) if len(starts) else hits[:0, i] for i in (3, 4))
    columns |= {"adc": adc - (np.diff(starts, append=len(order)) - 1) * layout.pedestal, "charge": charge}
    kept = offsets_of(np.bincount(rows[found], minlength=len(offsets) - 1))
    return Ragged(kept, {name: columns[name].astype(dtype) for name, dtype in VOXEL_COLUMNS.items()})
