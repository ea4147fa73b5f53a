"""The HDF5 layout of the published RS3L data set (arXiv:2403.07066, Zenodo 10633815), out and in. docs/exchange.md.

Rows come in pairs: a nominal jet, then the same parton's jet in another view. What the layout has no place for lies in
a group of our own, `resim`, which readers of the layout do not look at; with it the round trip is exact.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from resim.chain import NOMINAL
from resim.config import SPLITS
from resim.cost import Meter, to_json
from resim.errors import UserError
from resim.interop.exchange import (
    Head,
    Numbering,
    Progress,
    chosen_views,
    require_jets,
    whole_dataset,
    whole_file,
    with_nominal,
)
from resim.jets.features import FEATURES, JET_COLUMNS
from resim.jets.states import I8
from resim.jets.truth import OBJECT_COLUMNS
from resim.ragged import offsets_of, row_of, select_rows
from resim.store import Column, Dataset, ObjectTable, Part, Schema, ViewTable, write_part
from resim.store.tables import SLOTS

Arrays = dict[str, NDArray[Any]]

NAMES = tuple(name for name, _, _ in FEATURES)
MUON, ELECTRON = NAMES.index("is_muon"), NAMES.index("is_electron")
JET_FEATURES = ("pt", "eta", "phi", "e", "softdrop_mass", "n2")
PARTON_FEATURES = ("parton_pt", "parton_eta", "parton_phi", "parton_e")
LAYOUT: Mapping[str, tuple[int, ...]] = {
    "features": (-1, len(NAMES)),
    "jet_features": (len(JET_FEATURES),),
    "parton_features": (len(PARTON_FEATURES),),
    "truth_label": (),
    "jettype": (),
    "vartype": (),
}
"""Data set -> shape of a row; -1 is P, the constituents that there is room for."""
QUARKS, GLUON, SPLITTINGS = (1, 2, 3), 5, (5, 6, 7, 8)
NOMINAL_CODE = -1
VIEWS: Mapping[str, tuple[int, dict[str, Any]]] = {
    "shower_seed": (0, {}),
    "fsr_mur_sqrt2": (1, {"TimeShower:renormMultFac": 2.0}),
    "fsr_mur_sqrt_half": (2, {"TimeShower:renormMultFac": 0.5}),
    "herwig": (3, {"engine": "Herwig 7"}),
}
"""View -> code in `vartype`, what it changes from the shower on. The scale itself varies by the square root."""
_CHUNK_ROWS = {"features": 32}
_FLAT_CHUNK_ROWS = 4096
_STEP = 1024  # pairs in memory as padded arrays
_EXTRA = "resim"


# --- out ----------------------------------------------------------------------------------------------------------


def export_rs3l(
    dataset: Dataset,
    out: Path,
    views: Sequence[str] | None = None,
    *,
    constituents: int = 100,
    codes: Mapping[str, int] | None = None,
    progress: Progress = iter,
) -> dict[str, int]:
    """Write pairs of nominal and each other view, for every object that is present in both.

    Within a part the pairs of a view follow those of another: neighbouring pairs are different jets.

    Parameters
    ----------
    views
        By default all that have a code.
    constituents
        P, how many constituents there is room for; softer ones are left out.
    codes
        View -> `vartype`, where it does not follow from what the view changes.
    progress
        Wraps the parts, as `tqdm` does.

    Returns
    -------
    dict
        View -> number of pairs.

    Raises
    ------
    UserError
        If a view is unknown or has no code, there is no pair, a column is missing, or the file cannot be written.
    """
    require_jets(dataset, "rs3l")
    numbered = _codes(dataset, chosen_views(dataset, views), codes or {}, strict=views is not None)
    counts = dict.fromkeys(numbered, 0)
    with whole_file(out) as temporary, _Disk(temporary, "w+") as disk:
        with h5py.File(disk, "w") as file:
            for part in progress(dataset.parts):
                for name, block in _pairs(part, numbered, constituents):
                    _append(file, block)
                    disk.check()
                    counts[name] += len(block["vartype"]) // 2
            if not any(counts.values()):
                folder = dataset.manifest.path.parent
                raise UserError(f"{folder}: no object is in nominal and in {' or '.join(numbered)}")
            file.attrs[_EXTRA] = True  # that there is such a group, whose name may be damaged
            file[f"{_EXTRA}/head"] = Head.of(dataset, with_nominal(list(numbered))).to_json()
        disk.check()
    return counts


class _Disk(io.FileIO):
    """A file that keeps a failed write for us to raise: the HDF5 library (2.0.0) crashes when a disk is full."""

    _failure: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of the data, or remember why not."""
        rest = memoryview(data)
        try:
            while len(rest):
                rest = rest[super().write(rest) :]
        except OSError as error:
            self._failure = error
        return len(data)

    def check(self) -> None:
        """Raise what a write met."""
        if self._failure:
            raise self._failure


def _codes(dataset: Dataset, views: Sequence[str], given: Mapping[str, int], strict: bool) -> dict[str, int]:
    """Give the code of each view but nominal; views without one are left out unless `strict`."""
    unknown = [name for name in given if name not in dataset.views]
    if unknown:
        raise UserError(f"--vartype {unknown[0]}: no such view in the data set; it has {', '.join(dataset.views)}")
    part = dataset.parts[0]
    found = {v: given.get(v, vartype_of(part.view(v).attributes)) for v in views if v != NOMINAL}
    without = [name for name, code in found.items() if code is None]
    known = {name: code for name, code in found.items() if code is not None}
    if (without and strict) or not known:
        name = (without or ["other than nominal"])[0]
        allowed = "0 new seed, 1 FSR muR up, 2 FSR muR down, 3 Herwig 7"
        raise UserError(f"view {name}: has no code in the layout ({allowed}); give --vartype NAME=CODE, or other views")
    return known


def vartype_of(attributes: Mapping[str, Any]) -> int | None:
    """Tell a view's code from what it changes: 0 the seed alone, 1 and 2 a higher and a lower scale of FSR."""
    changes = dict(attributes.get("set", {}))
    if attributes.get("from") != "shower":
        return None
    if not changes:
        return 0
    factor = changes.pop("TimeShower:renormMultFac", None)
    if changes or not isinstance(factor, int | float) or factor == 1:
        return None
    return 1 if factor > 1 else 2


def _pairs(part: Part, codes: Mapping[str, int], width: int) -> Iterator[tuple[str, Arrays]]:
    """Yield view, rows of the file."""
    objects = part.objects()
    nominal = _Side(part, NOMINAL, NOMINAL_CODE, 0, width)
    for number, (name, code) in enumerate(codes.items(), start=1):
        partner = _Side(part, name, code, number, width)
        both = np.flatnonzero(nominal.table.present & partner.table.present)
        for start in range(0, len(both), _STEP):
            rows = both[start : start + _STEP]
            even, odd = nominal.rows(objects, rows), partner.rows(objects, rows)
            yield name, {key: np.stack([even[key], odd[key]], axis=1).reshape(-1, *even[key].shape[1:]) for key in even}


class _Side:
    """A view of a part, as one half of the pairs."""

    def __init__(self, part: Part, name: str, code: int, number: int, width: int) -> None:
        view = part.view(name)
        self.table = view.read(slice(None))
        self._code, self._number, self._width = code, number, width
        self._columns = view.column_names
        features = [column.name for column in view.constituent_columns]
        missing = [n for n in NAMES if n not in features] + [n for n in JET_FEATURES if n not in self._columns]
        if missing:
            raise UserError(f"{part.path}: view {name!r} lacks {', '.join(missing)}, which the layout has")
        self._features = [features.index(n) for n in NAMES]

    def rows(self, objects: Arrays, rows: I8) -> Arrays:
        """Give some rows of the part as rows of the file."""
        table = self.table
        columns, jettype = table.columns[rows], objects["jettype"][rows].astype(np.float64)
        if "splitting" in self._columns:
            splitting = columns[:, self._columns.index("splitting")]
            jettype = np.where((jettype == GLUON) & np.isin(splitting, SPLITTINGS), splitting, jettype)
        return {
            "features": _padded(table, rows, self._width, self._features),
            "jet_features": columns[:, [self._columns.index(name) for name in JET_FEATURES]],
            "parton_features": np.stack([objects[name][rows] for name in PARTON_FEATURES], axis=1),
            "truth_label": (~np.isin(jettype, (*QUARKS, *SPLITTINGS))).astype(np.int64),
            "jettype": jettype,  # as float64, like vartype: the authors' reader takes an integer scalar for a size
            "vartype": np.full(len(rows), self._code, dtype=np.float64),
            f"{_EXTRA}/view": np.full(len(rows), self._number, dtype=np.int16),
            f"{_EXTRA}/columns": columns,
            **{f"{_EXTRA}/objects/{name}": values[rows] for name, values in objects.items()},
        }


def _padded(table: ViewTable, rows: I8, width: int, columns: list[int]) -> NDArray[np.float32]:
    """Copy the first `width` constituents of each row into (n, width, F), padded with zeros."""
    offsets, elements = select_rows(table.offsets, rows)
    owner = row_of(offsets)
    place = np.arange(len(elements)) - offsets[owner]
    kept = place < width
    padded = np.zeros((len(rows), width, len(columns)), dtype=np.float32)
    padded[owner[kept], place[kept]] = table.constituents[elements[kept]][:, columns]
    return padded


def _append(file: h5py.File, block: Arrays) -> None:
    for name, values in block.items():
        if name not in file:
            rows = _CHUNK_ROWS.get(name, _FLAT_CHUNK_ROWS)
            shape = values.shape[1:]
            packing = {
                "compression": "gzip",
                "compression_opts": 1,
                "shuffle": True,
                "fletcher32": True,
            }  # all HDF5 has
            file.create_dataset(
                name, (0, *shape), values.dtype, maxshape=(None, *shape), chunks=(rows, *shape), **packing
            )
        stored = file[name]
        stored.resize(len(stored) + len(values), axis=0)
        stored[-len(values) :] = values


# --- in -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ImportSettings(Numbering):
    """How files of the layout become a data set; the numbering counts only where the files are not of our export."""

    swap_leptons: bool = False
    """Exchange columns 11 and 12."""
    vartypes: Mapping[int, str] | None = None
    """Code -> view, instead of those of `VIEWS`."""
    truth_label: int | None = None
    """Take the pairs with this label only."""


def import_rs3l(files: Sequence[Path], out: Path, settings: ImportSettings, progress: Progress = iter) -> None:
    """Make a data set of files of the published layout; whole, or nothing is there.

    A pair is an event with one object, numbered in the order of files and rows, which is present in nominal and in
    the view that `vartype` names. Files of our own export give back the events, objects, views and parts that they had.

    Raises
    ------
    UserError
        If a file is not of the layout, rows do not come in pairs that belong together, an object has two pairs of
        one view, or `out` is not empty.
    """
    names = (settings.vartypes or {}).values()
    settings.check(("--sample", settings.sample), *(("--vartypes", name) for name in names))
    with ExitStack() as stack:
        sources = [stack.enter_context(Source(path)) for path in files]
        with _damage_told(*files):
            plan = _plan(sources, settings)
        with whole_dataset(out) as folder:
            for i in progress(range(len(plan.parts))):
                plan.write(folder, i)


def possible_views(path: Path, vartypes: Mapping[int, str]) -> tuple[tuple[str, ...], bool]:
    """Name the views that the data set of a file may have, and tell whether it has them all; no row is read.

    Raises
    ------
    UserError
        If the file is not HDF5.
    """
    with _damage_told(path), _opened(path) as file:
        if (text := file.get(f"{_EXTRA}/head")) is not None:
            return tuple(Head.from_json(text[()], path).views), True
    return (NOMINAL, *({code: name for name, (code, _) in VIEWS.items()} | dict(vartypes)).values()), False


@contextmanager
def _damage_told(*paths: Path) -> Iterator[None]:
    """Say in one line that files are damaged where no checksum told: HDF5 has none of its own structure."""
    try:
        yield
    except (OSError, LookupError, RuntimeError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _damaged(paths, error) from error


def _damaged(paths: Sequence[Path], error: Exception) -> UserError:
    words = _first_line(error) or type(error).__name__
    return UserError(f"{', '.join(map(str, paths))}: damaged ({words}); copy or export it again")


def _opened(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path}: cannot be read as HDF5 ({_first_line(error)})") from error


class Source:
    """A file of the layout, open for reading; what can be checked without the constituents has been."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _opened(path)
        try:
            with _damage_told(path):
                self._check_shapes()
                self._check_pairs()
                self._check_head()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "Source":
        """Keep the file open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()

    def __len__(self) -> int:
        """Give the number of pairs."""
        return len(self._file["vartype"]) // 2

    @cached_property
    def head(self) -> Head | None:
        """What our export wrote beside the layout, if it is ours."""
        text = self._file.get(f"{_EXTRA}/head")
        return None if text is None else Head.from_json(text[()], self.path)

    def read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Read the rows of the pairs [start, stop)."""
        with _damage_told(self.path):
            rows = np.asarray(self._file[name][2 * start : 2 * stop])
            if len(rows) != 2 * (min(stop, len(self)) - start):
                raise ValueError(f"{name} has too few rows")
            return rows

    def object_columns(self, start: int, stop: int) -> Arrays:
        """Read the object table of our own export."""
        return {name: self.read(f"{_EXTRA}/objects/{name}", start, stop) for name in self._file[f"{_EXTRA}/objects"]}

    def _check_head(self) -> None:
        """Refuse our own export without its head: it would be read as a published file, with other event numbers."""
        if self.head is None and (_EXTRA in self._file or _EXTRA in self._file.attrs):
            raise UserError(f"{self.path}: lacks {_EXTRA}/head, which our export has; copy or export it again")

    def _check_shapes(self) -> None:
        missing = [name for name in LAYOUT if name not in self._file]
        if missing:
            raise UserError(f"{self.path}: lacks {', '.join(missing)}; the layout has {', '.join(LAYOUT)}")
        n = len(self._file["features"])
        for name, row in LAYOUT.items():
            shape = self._file[name].shape
            fits = len(shape) == 1 + len(row) and shape[0] == n
            if not fits or any(want not in (-1, got) for want, got in zip(row, shape[1:], strict=True)):
                wanted = ", ".join(str(s) for s in (n, *("P" if w == -1 else w for w in row)))
                raise UserError(f"{self.path}: {name} has shape {shape}, not ({wanted})")
        if n % 2 or not n:
            raise UserError(f"{self.path}: has {n} rows; they come in pairs, nominal and partner")

    def _check_pairs(self) -> None:
        """Check that even rows are nominal, odd ones are not, and both have the same parton and label."""
        for start in range(0, len(self), 256 * _STEP):
            stop = min(start + 256 * _STEP, len(self))
            vartype, label, parton = (self.read(n, start, stop) for n in ("vartype", "truth_label", "parton_features"))
            broken = {
                "is not nominal (vartype -1), as the first of a pair is": vartype[0::2] != NOMINAL_CODE,
                "is nominal (vartype -1), and the second of a pair is not": vartype[1::2] == NOMINAL_CODE,
                "has another truth_label than the row before": label[0::2] != label[1::2],
                "has another parton than the row before": (parton[0::2] != parton[1::2]).any(axis=1),
            }
            for i, (what, wrong) in enumerate(broken.items()):
                if wrong.any():
                    row = 2 * (start + int(np.argmax(wrong))) + (i > 0)
                    raise UserError(f"{self.path}: row {row} {what}; were rows left out or put in another order?")


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


@dataclass(frozen=True)
class _Pairs:
    """The pairs of all files that are wanted: one entry each, ordered by file and place."""

    source: I8
    place: I8
    """Pair within the file."""
    object: I8
    view: I8
    """Place in the list of views; nominal is 0."""

    def take(self, rows: NDArray[Any]) -> "_Pairs":
        """Select by mask."""
        return _Pairs(self.source[rows], self.place[rows], self.object[rows], self.view[rows])


@dataclass(frozen=True)
class _Plan:
    """What goes into which part."""

    sources: Sequence[Source]
    settings: ImportSettings
    pairs: _Pairs
    views: dict[str, dict[str, Any]]
    parts: Sequence[dict[str, Any]]
    """Attributes of each part."""
    head: Head | None

    def write(self, folder: Path, i: int) -> None:
        """Read and write a part."""
        attributes, meter = self.parts[i], Meter()
        events = self.pairs.object // SLOTS
        pairs = self.pairs.take((events >= attributes["first"]) & (events < attributes["stop"]))
        measured = meter.measure("import", NOMINAL, events=len(np.unique(pairs.object // SLOTS)))
        with measured, _damage_told(*(source.path for source in self.sources)):
            jets = _read(self.sources, pairs, self.settings, self.head)
            objects, views = self._tables(pairs, jets)
        attributes = attributes | ({} if self.head else {"cost": to_json(list(meter.records))})
        try:
            write_part(folder, objects, views, self._schema, attributes)
        except ValueError as error:  # what it holds breaks a rule of the store; a full disk tells of itself
            raise _damaged([source.path for source in self.sources], error) from error

    def _tables(self, pairs: _Pairs, jets: "_Jets") -> tuple[ObjectTable, dict[str, ViewTable]]:
        """Lay pairs out by object; a nominal jet that stands in several pairs is taken from the first."""
        ids, first = np.unique(pairs.object, return_index=True)
        row = np.searchsorted(ids, pairs.object)
        same = jets.columns[2 * first[row]], jets.columns[2 * np.arange(len(row))]
        if not np.array_equal(*same, equal_nan=True):
            wrong = int(np.argmax((same[0] != same[1]).any(axis=1)))
            path = self.sources[pairs.source[wrong]].path
            raise UserError(f"{path}: object {pairs.object[wrong]} has two nominal jets that differ; export it again")
        table = {name: values[2 * first] for name, values in jets.objects.items()}
        views = {NOMINAL: _view(jets, 2 * first, np.arange(len(ids)), len(ids), self.views[NOMINAL])}
        for number, name in enumerate(self.views):
            if number:
                mine = np.flatnonzero(pairs.view == number)
                views[name] = _view(jets, 2 * mine + 1, row[mine], len(ids), self.views[name])
        return ObjectTable(self._with_splits(table), self._object_columns), views

    def _with_splits(self, table: Arrays) -> Arrays:
        """Add the split of each event, by its key, where the files have none."""
        if self.head:
            return table
        return table | {"split": self.settings.split_of(table["event"])}

    @property
    def _object_columns(self) -> tuple[Column, ...]:
        return self.head.objects if self.head else _OBJECT_COLUMNS

    @property
    def _schema(self) -> Schema:
        return self.head.schema if self.head else _SCHEMA


_described = {name: Column(name, unit, text) for name, unit, text in (*JET_COLUMNS, *OBJECT_COLUMNS)}
_SCHEMA = Schema(
    tuple(_described[n] for n in (*JET_FEATURES, "mass", "n_constituents", "dr_parton", "splitting")),
    tuple(Column(*feature) for feature in FEATURES),
)
_OBJECT_COLUMNS = (
    *(_described[n] for n in ("object", "event", "jettype", *PARTON_FEATURES)),
    Column("split", "", "0 train, 1 validation, 2 test"),
    Column("weight", "", "1: the layout has no weights"),
    Column("truth_label", "", "as published: 0 quark or gluon, 1 resonance"),
)


def _plan(sources: Sequence[Source], settings: ImportSettings) -> _Plan:
    """Find which pairs are wanted and which parts they make; refuse files that do not go together."""
    ours = [source for source in sources if source.head]
    if ours and len(ours) < len(sources):
        other = next(source for source in sources if not source.head)
        raise UserError(f"{other.path}: has no event numbers, and {ours[0].path} has; import them apart")
    pairs, views = _numbered(sources) if ours else _counted(sources, settings)
    if settings.truth_label is not None:
        labels = np.concatenate([source.read("truth_label", 0, len(source))[0::2] for source in sources])
        pairs = pairs.take(labels == settings.truth_label)
        if not len(pairs.place):
            raise UserError(f"--truth-label {settings.truth_label}: no pair has it; found {_listed(labels)}")
    _, counts = np.unique(np.stack([pairs.object, pairs.view]), axis=1, return_counts=True)
    if (counts > 1).any():
        raise UserError(f"{sources[0].path}: an object stands in two pairs of one view; give each file once")
    recipes = {name: _recipe(sources, settings, name) for name in views}
    common = {"sample": settings.sample, "recipes": recipes, "source": _source_words(sources, settings)}
    head = ours[0].head if ours else None
    parts = [part | common for part in (_parts_of(ours) if ours else _ranges(pairs, settings))]
    return _Plan(sources, settings, pairs, views, parts, head)


def _listed(values: NDArray[Any]) -> str:
    return ", ".join(f"{value:g}" for value in np.unique(values))


def _numbered(sources: Sequence[Source]) -> tuple[_Pairs, dict[str, dict[str, Any]]]:
    """Take objects and views from files of our own export."""
    heads = [source.head for source in sources if source.head]
    views, schema = heads[0].views, heads[0].schema
    for source, head in zip(sources, heads, strict=True):
        if head.views != views or head.schema != schema:
            raise UserError(f"{source.path}: has other views or columns than {sources[0].path}; import them apart")
    ids = [source.read(f"{_EXTRA}/objects/object", 0, len(source))[1::2] for source in sources]
    view = [source.read(f"{_EXTRA}/view", 0, len(source))[1::2] for source in sources]
    return _Pairs(*_places(sources), np.concatenate(ids), np.concatenate(view).astype(np.int64)), views


def _counted(sources: Sequence[Source], settings: ImportSettings) -> tuple[_Pairs, dict[str, dict[str, Any]]]:
    """Give the pairs of published files numbers, and tell the views from `vartype`."""
    codes = np.concatenate([source.read("vartype", 0, len(source))[1::2] for source in sources])
    names = {code: name for name, (code, _) in VIEWS.items()} | dict(settings.vartypes or {})
    unknown = [code for code in np.unique(codes).tolist() if code not in names]
    if unknown:
        known = ", ".join(f"{code} {name}" for code, name in sorted(names.items()))
        raise UserError(f"vartype {unknown[0]:g}: is no view that is known ({known}); give --vartypes CODE=NAME")
    found = list(dict.fromkeys(names[code] for code in np.unique(codes).tolist()))
    changes = {name: VIEWS[name][1] if name in VIEWS else {"vartype": name} for name in found}
    same = {"replica": 0, "splits": list(SPLITS)}
    views: dict[str, dict[str, Any]] = {NOMINAL: {"from": None, "set": {}, **same}}
    views |= {name: {"from": "shower", "set": changes[name], **same} for name in found}
    number = {code: 1 + found.index(name) for code, name in names.items() if name in found}
    view = np.array([number[code] for code in codes.tolist()], dtype=np.int64)
    return _Pairs(*_places(sources), SLOTS * np.arange(len(codes), dtype=np.int64), view), views


def _places(sources: Sequence[Source]) -> tuple[I8, I8]:
    lengths = np.array([len(source) for source in sources], dtype=np.int64)
    offsets = offsets_of(lengths)
    source = row_of(offsets)
    return source, np.arange(offsets[-1]) - offsets[source]


def _parts_of(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """List the parts that our own files had, by their events."""
    parts = sorted((p for s in sources if s.head for p in s.head.parts), key=lambda part: int(part["first"]))
    for before, part in pairwise(parts):
        if part["first"] < before["stop"]:
            raise UserError(f"{sources[-1].path}: event {part['first']} is in two files; import one data set at a time")
    return parts


def _ranges(pairs: _Pairs, settings: ImportSettings) -> list[dict[str, Any]]:
    size, last = settings.events_per_part, int(pairs.object[-1]) // SLOTS
    stop = -(-(last + 1) // settings.block_size) * settings.block_size
    same = {
        "lane": "jets",
        "block_size": settings.block_size,
        "seed": settings.seed,
        "splits": list(SPLITS),
        "failed": {},
        "software": {name: version(name) for name in ("h5py", "numpy")},
    }
    return [{"first": first, "stop": min(first + size, stop), **same} for first in range(0, stop, size)]


def _source_words(sources: Sequence[Source], settings: ImportSettings) -> dict[str, Any]:
    """Say which files the arrays came from, and what was done to them."""
    return {
        "layout": "rs3l",
        "files": {source.path.name: _sha256(source.path) for source in sources},
        "swap_leptons": settings.swap_leptons,
        "truth_label": settings.truth_label,
    }


def _recipe(sources: Sequence[Source], settings: ImportSettings, view: str) -> str:
    words = [list(_source_words(sources, settings).values()), settings.seed, settings.splits.model_dump(), view]
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()[:32]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class _Jets:
    """Jets of pairs, two rows a pair."""

    objects: Arrays
    columns: NDArray[np.float32]
    offsets: I8
    constituents: NDArray[np.float32]


def _read(sources: Sequence[Source], pairs: _Pairs, settings: ImportSettings, head: Head | None) -> _Jets:
    """Read pairs, a stretch of a file at a time; what lies between those wanted is read in vain."""
    edges = np.flatnonzero(np.diff(pairs.source) | np.diff(pairs.place // _STEP)) + 1
    pieces = []
    for entries in np.split(np.arange(len(pairs.place)), edges):
        source = sources[int(pairs.source[entries[0]]) if len(entries) else 0]
        pieces.append(_stretch(source, pairs.place[entries], pairs.object[entries], settings, head))
    return _Jets(
        {name: np.concatenate([piece.objects[name] for piece in pieces]) for name in pieces[0].objects},
        np.concatenate([piece.columns for piece in pieces]),
        offsets_of(np.concatenate([np.diff(piece.offsets) for piece in pieces])),
        np.concatenate([piece.constituents for piece in pieces]),
    )


def _stretch(source: Source, place: I8, ids: I8, settings: ImportSettings, head: Head | None) -> _Jets:
    """Read some pairs of a file, which rise."""
    first, stop = (int(place[0]), int(place[-1]) + 1) if len(place) else (0, 0)
    pairs = place - first
    rows = np.stack([2 * pairs, 2 * pairs + 1], axis=1).reshape(-1)
    offsets, constituents = _unpadded(source, source.read("features", first, stop)[rows], 2 * first + rows)
    if settings.swap_leptons:
        constituents[:, [MUON, ELECTRON]] = constituents[:, [ELECTRON, MUON]]
    if head:
        objects = {name: values[rows] for name, values in source.object_columns(first, stop).items()}
        return _Jets(objects, source.read(f"{_EXTRA}/columns", first, stop)[rows], offsets, constituents)
    found = {name: source.read(name, first, stop)[rows] for name in LAYOUT if name != "features"}
    bad = ~np.isfinite(found["jet_features"][:, : JET_FEATURES.index("n2")]).all(axis=1)
    if bad.any():
        raise UserError(f"{source.path}: row {2 * first + rows[np.argmax(bad)]} of jet_features is not finite")
    return _Jets(
        _published_objects(found, np.repeat(ids, 2)), _published_columns(found, offsets), offsets, constituents
    )


def _unpadded(source: Source, features: NDArray[Any], rows: I8) -> tuple[I8, NDArray[np.float32]]:
    """Take the constituents, which are those with a pT as in the authors' reader, out of zero-padded rows."""
    filled = features[:, :, 0] != 0
    counts = filled.sum(axis=1)
    offsets, values = offsets_of(counts), features[filled].astype(np.float32)
    wrong = (filled != (np.arange(filled.shape[1]) < counts[:, None])).any(axis=1) | (counts == 0)
    wrong[row_of(offsets)[~np.isfinite(values).all(axis=1) | (values[:, 0] < 0)]] = True
    if wrong.any():
        what = "is empty, has a gap before its last constituent, or a value that is not finite"
        raise UserError(f"{source.path}: row {rows[np.argmax(wrong)]} of features {what}; copy the file again")
    order = np.lexsort((-values[:, 0], row_of(offsets)))  # stable: rows that fall in pT stay as they are
    return offsets, values[order]


def _published_objects(found: Arrays, ids: I8) -> Arrays:
    """Make the object table, one row a row of the file, from what the layout has."""
    jettype = found["jettype"].astype(np.int8)
    return {
        "object": ids,
        "event": ids // SLOTS,
        "weight": np.ones(len(ids)),
        "jettype": np.where(np.isin(jettype, SPLITTINGS), GLUON, jettype).astype(np.int8),
        "truth_label": found["truth_label"].astype(np.int8),
        **{name: found["parton_features"][:, i].astype(np.float64) for i, name in enumerate(PARTON_FEATURES)},
    }


def _published_columns(found: Arrays, offsets: I8) -> NDArray[np.float32]:
    """Make the jet-level columns of `_SCHEMA`."""
    pt, eta, phi, e, softdrop, n2 = found["jet_features"].astype(np.float64).T
    _, parton_eta, parton_phi, _ = found["parton_features"].astype(np.float64).T
    mass = np.sqrt(np.maximum(e**2 - (pt * np.cosh(eta)) ** 2, 0))
    dphi = (phi - parton_phi + np.pi) % (2 * np.pi) - np.pi
    splitting = np.where(np.isin(found["jettype"], SPLITTINGS), found["jettype"], 0)
    values = (pt, eta, phi, e, softdrop, n2, mass, np.diff(offsets), np.hypot(eta - parton_eta, dphi), splitting)
    return np.stack(values, axis=1).astype(np.float32)


def _view(jets: _Jets, rows: I8, objects: I8, n: int, attributes: dict[str, Any]) -> ViewTable:
    """Put rows of `jets` into a view of n objects; `objects` are their places."""
    order = np.argsort(objects)
    rows, objects = rows[order], objects[order]
    present, counts = np.zeros(n, dtype=bool), np.zeros(n, dtype=np.int64)
    columns = np.full((n, jets.columns.shape[1]), np.nan, dtype=np.float32)
    _, elements = select_rows(jets.offsets, rows)
    present[objects], columns[objects], counts[objects] = True, jets.columns[rows], np.diff(jets.offsets)[rows]
    return ViewTable(present, columns, offsets_of(counts), jets.constituents[elements], attributes)


# --- what is in a file --------------------------------------------------------------------------------------------

_MUON_MASS = 0.10566
_FEW = 30  # candidates: fewer tell nothing


def examine(files: Sequence[Path], pairs: int = 4096) -> list[str]:
    """Look at the first pairs of each file, and say what columns 11 and 12 hold and which scale radiates less.

    Returns
    -------
    list of str
        Lines to print.

    Raises
    ------
    UserError
        If a file is not of the layout.
    """
    jets, codes = [], []
    for path in files:
        with Source(path) as source:
            stop = min(pairs, len(source))
            jets.append(_unpadded(source, source.read("features", 0, stop), np.arange(2 * stop)))
            codes.append(source.read("vartype", 0, stop))
    constituents = np.concatenate([values for _, values in jets])
    counts = np.concatenate([np.diff(offsets) for offsets, _ in jets])
    vartype = np.concatenate(codes)
    muons, electrons = (_candidates(constituents, column) for column in (MUON, ELECTRON))
    means = ", ".join(f"{code:g}: {counts[vartype == code].mean():.1f}" for code in np.unique(vartype))
    return [
        f"column 11 (is_muon):     {_in_words(muons, len(constituents))}",
        f"column 12 (is_electron): {_in_words(electrons, len(constituents))}",
        f"leptons: {_verdict(muons, electrons)}",
        f"constituents by vartype: {means} (a higher scale, which 1 should be, radiates less)",
    ]


def _candidates(constituents: NDArray[np.float32], column: int) -> Arrays:
    chosen = constituents[constituents[:, column] > 0].astype(np.float64)
    pt, eta, e, charge, d0 = (chosen[:, NAMES.index(name)] for name in ("pt", "eta", "e", "charge", "d0"))
    soft = e < 30  # the mass is lost in the rounding of harder ones
    mass2 = (e**2 - (pt * np.cosh(eta)) ** 2)[soft]
    return {"pt": pt, "charge": charge, "d0": d0, "mass2": mass2}


def _in_words(found: Arrays, of: int) -> str:
    n = len(found["pt"])
    if not n:
        return "no candidate"
    shares = f"charge != 0 in {np.mean(found['charge'] != 0):.1%}, d0 != 0 in {np.mean(found['d0'] != 0):.1%}"
    medians = f"median pT {np.median(found['pt']):.2f} GeV, |d0| {np.median(abs(found['d0'])):.3f} mm"
    return f"{n} of {of} constituents ({n / of:.3%}); {shares}; {medians}; mass {_mass(found):.4f} GeV"


def _mass(found: Arrays) -> float:
    return float(np.sqrt(max(np.median(found["mass2"]), 0))) if len(found["mass2"]) else float("nan")


def _verdict(muons: Arrays, electrons: Arrays) -> str:
    """Tell electrons from muons: by their mass, or else because photons' pairs make electrons many and soft."""
    if min(len(muons["pt"]), len(electrons["pt"])) < _FEW:
        return "too few to tell; look at more files"
    heavy = [abs(_mass(found) - _MUON_MASS) < 0.2 * _MUON_MASS for found in (muons, electrons)]
    many = len(muons["pt"]) > len(electrons["pt"])
    soft = np.median(muons["pt"]) < np.median(electrons["pt"])
    if heavy in ([True, False], [False, True]):
        swapped, why = heavy[1], "by their mass"
    elif many == soft:
        swapped, why = bool(many), "electrons, many of them from pi0 -> e e gamma, are more and softer than muons"
    else:
        return "mass, number and momentum do not tell; ask the makers of the files"
    return f"the columns look {'EXCHANGED; --swap-leptons puts them right' if swapped else 'right as named'} ({why})"
