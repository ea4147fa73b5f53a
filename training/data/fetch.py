"""Read objects: an index of all of them, and the constituents of some, from the parts or from memory."""

import queue
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from resim.errors import UserError
from resim.store import Dataset, Part, Place, StoredView, open_dataset
from training.data.plan import Rows
from training.keys import generator
from training.lanes import FloatArray, common_lane

T = TypeVar("T")


@dataclass(frozen=True)
class Index:
    """All objects of all samples, one row each: samples in the order of their names, objects by id."""

    samples: tuple[str, ...]
    splits: tuple[str, ...]
    """Names of the codes in `split`."""
    sample: NDArray[np.int64]
    """(N,) place in `samples`."""
    object: NDArray[np.int64]
    event: NDArray[np.int64]
    split: NDArray[np.int64]
    weight: NDArray[np.float64]
    """(N,) undoes the flattening of the spectrum; its scale differs from sample to sample."""
    present: dict[str, NDArray[np.bool_]]
    """View -> (N,)."""
    pt: NDArray[np.float32] | None
    """(N,) what should not tell classes apart, in the nominal view: jet pT, GeV; None in lanes without."""

    def rows(self, split: str, views: Sequence[str]) -> Rows:
        """Give the rows of a split that are present in at least one of the views, ascending."""
        present = np.any([self.present[view] for view in views], axis=0)
        return np.flatnonzero(present & (self.split == self.split_code(split)))

    def split_code(self, split: str) -> int:
        """Give the code of a split.

        Raises
        ------
        UserError
            If the data have no such split.
        """
        if split not in self.splits:
            raise UserError(f"the data have no split {split!r}, only {', '.join(self.splits)}; simulate with one")
        return self.splits.index(split)

    @property
    def starts(self) -> Rows:
        """The first row of each sample, (S,)."""
        return np.searchsorted(self.sample, np.arange(len(self.samples)))

    def ids(self, rows: Rows) -> NDArray[np.int64]:
        """Give numbers for draws, (n,), by the names of samples and the objects alone: others may come beside them."""
        first = np.array([generator("sample", name).integers(2**62) for name in self.samples])
        return first[self.sample[rows]] + self.object[rows]

    def told(self, rows: Rows) -> str:
        """Name objects in a message: `qcd 16, qcd 24`."""
        return ", ".join(f"{self.samples[self.sample[row]]} {self.object[row]}" for row in rows)

    def by_sample(self, rows: Rows) -> Iterator[tuple[str, Rows, NDArray[np.int64]]]:
        """Yield sample name, places in `rows` of its objects, and those rows, for each sample."""
        for code, name in enumerate(self.samples):
            places = np.flatnonzero(self.sample[rows] == code)
            yield name, places, rows[places]


class Source(Protocol):
    """Where constituents come from."""

    def read(self, view: str, rows: Rows) -> FloatArray:
        """Give the leading constituents (len(rows), P, F) of ascending rows; zeros where absent."""
        ...


class Store:
    """The parts of several samples as one table, read when asked. Another process that it is handed to opens them anew.

    Parameters
    ----------
    folders
        Sample name -> folder or URL of its data set.
    constituents
        P, how many constituents to keep: the hardest, or what the lane goes by.
    group
        Rows closer than this are read in one piece.

    Raises
    ------
    UserError
        If a folder holds another sample than its name says, samples are of several lanes or an unknown one, a view is
        missing in a sample, a constituent feature is missing, or samples number their splits differently.
    """

    def __init__(self, folders: Mapping[str, Place], constituents: int, group: int) -> None:
        self.datasets: dict[str, Dataset] = {name: open_dataset(folders[name]) for name in sorted(folders)}
        for name, dataset in self.datasets.items():
            if dataset.sample != name:  # labels go by the name
                raise UserError(f"--data {name}={folders[name]}: holds the sample {dataset.sample!r}; name it so")
        self.parts: list[Part] = [part for dataset in self.datasets.values() for part in dataset.parts]
        self.lane = common_lane({name: d.parts[0].attributes.get("lane") for name, d in self.datasets.items()})
        self.views = _common_views(self.datasets)
        self._constituents, self._group = constituents, group
        self._views: dict[tuple[int, str], StoredView] = {}
        self.index = self._index()

    def __getstate__(self) -> dict[str, Any]:
        """Leave behind what was opened."""
        return {**self.__dict__, "_views": {}}

    def splits_of(self, view: str) -> tuple[str, ...]:
        """Name the splits that a view was made for."""
        part = self.parts[0]
        return tuple(part.view(view).attributes.get("splits") or part.attributes["splits"])

    def digests(self) -> dict[str, str]:
        """Give the content digest of each sample; it does not depend on how the sample is cut into parts."""
        return {name: dataset.manifest.digest["digest"] for name, dataset in self.datasets.items()}

    def column(self, name: str, view: str) -> NDArray[np.float64]:
        """Give a column of `objects`, or else of a view, (N,); NaN where an object has none.

        Raises
        ------
        UserError
            If a sample has no such column.
        """
        return np.concatenate([self._column(part, name, view) for part in range(len(self.parts))])

    def _column(self, part: int, name: str, view: str) -> NDArray[np.float64]:
        objects, stored = self.parts[part].objects(), self.parts[part].view(view)
        if name in objects:
            return objects[name].astype(np.float64)
        columns = [column.name for column in stored.view_columns]
        if name not in columns:
            allowed = ", ".join([*objects, *columns])
            raise UserError(f"{self.parts[part].place}: has no column {name!r}; allowed: {allowed}")
        return stored.column(name).astype(np.float64)

    def read(self, view: str, rows: Rows) -> FloatArray:
        """Give the leading constituents (len(rows), P, F) of ascending rows; zeros where absent."""
        objects = np.zeros((len(rows), self._constituents, len(self.lane.features)), dtype=np.float32)
        part_of = np.searchsorted(self._starts, rows, side="right") - 1
        pieces = np.flatnonzero((np.diff(part_of, prepend=-1) != 0) | (np.diff(rows, prepend=-1) >= self._group))
        for start, stop in pairwise([*pieces, len(rows)]):
            part = int(part_of[start])
            objects[start:stop] = self._read_piece(part, view, rows[start:stop] - self._starts[part])
        return objects

    def _read_piece(self, part: int, view: str, rows: Rows) -> FloatArray:
        """Read rows of one part from the first to the last in one go; of other columns nothing is read or kept."""
        stored = self._view(part, view)
        offsets = stored.offsets[rows[0] : rows[-1] + 2]
        wanted = slice(int(offsets[0]), int(offsets[-1]))
        constituents = stored.part.read_array(f"views/{view}/constituents", wanted, stored.constituents)
        names, features, offsets = _constituent_names(stored), self.lane.features, offsets - offsets[0]
        if self.lane.strongest is not None:
            by = names.index(features[self.lane.strongest])
            constituents, offsets = strongest(constituents, offsets, self._constituents, by)
        columns = None if names == features else [names.index(name) for name in features]
        return pad(constituents, offsets, rows - rows[0], self._constituents, columns)

    def _view(self, part: int, name: str) -> StoredView:
        """Open a view of a part, once: opening costs as much as reading a group."""
        if (part, name) not in self._views:
            stored = self._views[part, name] = self.parts[part].view(name)
            _check_view(stored, self.lane.features)
        return self._views[part, name]

    def _matched(self) -> NDArray[np.float32] | None:
        """Read what should not tell classes apart."""
        if self.lane.matched is None:
            return None
        views = (self._view(part, "nominal") for part in range(len(self.parts)))
        return np.concatenate([_column_alone(view, self.lane.matched) for view in views])

    def _index(self) -> Index:
        tables = [part.objects() for part in self.parts]
        lengths = [len(table["object"]) for table in tables]
        self._starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
        parts_of = [len(dataset.parts) for dataset in self.datasets.values()]
        sample = np.repeat(np.repeat(np.arange(len(parts_of)), parts_of), lengths)
        return Index(
            samples=tuple(self.datasets),
            splits=_common_splits(self.datasets),
            sample=sample,
            split=np.concatenate([table["split"] for table in tables]).astype(np.int64),
            present={v: np.concatenate([self._view(i, v).present for i in range(len(self.parts))]) for v in self.views},
            pt=self._matched(),
            **{name: np.concatenate([table[name] for table in tables]) for name in ("object", "event", "weight")},
        )


class Memory:
    """Objects held in memory, as `Store.read` gives them; other processes that it is handed to share the memory."""

    def __init__(self, source: Source, views: Sequence[str], rows: Rows) -> None:
        self._rows = rows
        shown = tqdm(views, desc="read", unit="view", disable=None)
        self._held = {view: torch.from_numpy(source.read(view, rows)) for view in shown}

    def read(self, view: str, rows: Rows) -> FloatArray:
        """Give the leading constituents (len(rows), P, F) of ascending rows that are held."""
        held: FloatArray = self._held[view].numpy()
        return held[np.searchsorted(self._rows, rows)]


def held_if_small(store: Store, views: Sequence[str], rows: Rows, constituents: int, megabytes: int) -> Source:
    """Hold rows in memory if they need no more than `megabytes`, else leave them to be read from the parts."""
    needed = len(views) * len(rows) * constituents * len(store.lane.features) * 4
    return Memory(store, views, rows) if needed <= megabytes * 2**20 else store


def strongest(
    constituents: FloatArray, offsets: NDArray[np.int64], most: int, column: int
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Keep of each row at most so many constituents, the largest in a column, in the order in which they are."""
    counts = np.diff(offsets)
    if counts.max(initial=0) <= most:
        return constituents, offsets
    row = np.repeat(np.arange(len(counts)), counts)
    falling = np.lexsort((-constituents[:, column], row))  # stable: of equal ones the first
    kept = np.sort(falling[np.arange(len(row)) - offsets[row] < most])
    return constituents[kept], np.concatenate([[0], np.cumsum(np.minimum(counts, most))])


def pad(
    constituents: FloatArray, offsets: NDArray[np.int64], rows: Rows, width: int, columns: list[int] | None = None
) -> FloatArray:
    """Copy the first `width` constituents of each row into a (len(rows), width, F) array padded with zeros.

    Jets have theirs by falling pT: the first are the hardest.
    """
    starts = offsets[rows]
    counts = np.minimum(offsets[rows + 1] - starts, width)
    filled = np.arange(width) < counts[:, None]
    values = constituents[(starts[:, None] + np.arange(width))[filled]]
    jets = np.zeros((len(rows), width, values.shape[1] if columns is None else len(columns)), dtype=np.float32)
    jets[filled] = values if columns is None else values[:, columns]
    return jets


def prefetched(items: Generator[T, None, None], depth: int = 2) -> Generator[T, None, None]:
    """Make the next items in a background thread while the last is used; an error there is raised here."""
    slots: queue.Queue[Any] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def put(kind: str, value: Any) -> bool:
        while not stop.is_set():
            try:
                slots.put((kind, value), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            if all(put("item", item) for item in items):
                put("end", None)
        except BaseException as error:  # noqa: BLE001 handed to the reader, who raises it
            put("error", error)
        finally:
            items.close()  # here, where it ran: it may have a thread of its own to end

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (slot := slots.get())[0] == "item":
            yield slot[1]
        if slot[0] == "error":
            raise slot[1]
    finally:
        stop.set()
        thread.join()


def _column_alone(view: StoredView, name: str) -> NDArray[np.float32]:
    """Read a column and let go of the others: they need more than all that is kept of an object."""
    column = view.column(name).copy()
    del view.columns
    return column


def _constituent_names(view: StoredView) -> tuple[str, ...]:
    return tuple(column.name for column in view.constituent_columns)


def _check_view(view: StoredView, features: tuple[str, ...]) -> None:
    """Refuse a view that lacks features, or whose rows are not the part's objects; the digests do not tell of that."""
    where, objects = f"{view.part.place}: view {view.name!r}", len(view)
    missing = [feature for feature in features if feature not in _constituent_names(view)]
    if missing:
        need = f"training needs all of {', '.join(features)}"
        raise UserError(f"{where} lacks the constituent features {', '.join(missing)}; {need}")
    rows = {"present": len(view.present), "offsets": len(view.offsets) - 1}
    for array, found in rows.items():
        if found != objects:
            raise UserError(f"{where}: {array} has {found} rows for {objects} objects; make the view again")
    if view.present.sum() != view.part.digest["n_present"].get(view.name):
        raise UserError(f"{where} is of other objects than the part says; make the view again")


def _common_splits(datasets: Mapping[str, Dataset]) -> tuple[str, ...]:
    """List the splits, whose places are the codes of objects and so must be the same in all samples."""
    found = [(name, tuple(part.attributes["splits"])) for name, dataset in datasets.items() for part in dataset.parts]
    first, expected = found[0]
    for name, splits in found[1:]:
        if splits != expected:
            one, other = (", ".join(each) for each in (expected, splits))
            raise UserError(
                f"samples {first!r} and {name!r} have other splits, or in another order: [{one}] and [{other}]; "
                "make both with the same `splits`"
            )
    return expected


def _common_views(datasets: Mapping[str, Dataset]) -> tuple[str, ...]:
    """List the views, which must be the same in all samples."""
    (first, expected), *others = ((name, dataset.views) for name, dataset in datasets.items())
    for name, views in others:
        if different := sorted(set(expected) ^ set(views)):
            raise UserError(
                f"samples {first!r} and {name!r} hold different views: only one has {', '.join(different)}; "
                "make the missing ones with `resim simulate --views`"
            )
    return expected
