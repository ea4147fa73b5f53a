"""Data sets as Parquet (one row an object, all views) and ROOT (one entry a jet of one view, JetClass's names)."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow
import pyarrow.parquet
import uproot
from numpy.typing import NDArray

from resim.chain import NOMINAL
from resim.errors import UserError
from resim.interop.exchange import Head, Progress, chosen_views, require_jets, whole_dataset, whole_file, write_back
from resim.ragged import offsets_of, select_rows
from resim.store import Dataset, Extra, ObjectTable, Part, ViewTable

Arrays = dict[str, NDArray[Any]]

_HEAD = "resim"

# --- Parquet ------------------------------------------------------------------------------------------------------


def export_parquet(dataset: Dataset, out: Path, views: Sequence[str] | None = None, progress: Progress = iter) -> None:
    """Write one row an object: its columns, and a record for each view (null where absent) with `constituents`.

    What events drew for a view stands beside it, a column a setting, `VIEW.drawn.SETTING`; so do `VIEW.weights.NAME`.
    A part becomes a row group. The round trip is exact but for the checkpoints, which are not written.

    Raises
    ------
    UserError
        If a view is unknown, or the file cannot be written.
    """
    head = Head.of(dataset, chosen_views(dataset, views))
    with whole_file(out) as temporary, ExitStack() as stack:
        writer = None
        for part in progress(dataset.parts):
            table = ak.to_arrow_table(_rows(part, list(head.views)), extensionarray=False)
            if writer is None:
                schema = table.schema.with_metadata({_HEAD: head.to_json()})
                # hardly two values of a jet are the same: no dictionary
                options = {"compression": "zstd", "use_dictionary": False, "write_page_checksum": True}
                writer = stack.enter_context(pyarrow.parquet.ParquetWriter(temporary, schema, **options))
            writer.write_table(table.replace_schema_metadata(schema.metadata), row_group_size=max(1, table.num_rows))


def _rows(part: Part, views: Sequence[str]) -> ak.Array:
    """Lay a part out as records, one an object."""
    fields: dict[str, Any] = dict(part.objects())
    for name in views:
        view = part.view(name)
        table = view.read(slice(None))
        record: dict[str, Any] = dict(zip(view.column_names, np.ascontiguousarray(table.columns.T), strict=True))
        features = {c.name: table.constituents[:, j] for j, c in enumerate(view.constituent_columns)}
        record["constituents"] = _jagged(table.offsets, features)
        fields[name] = ak.mask(ak.zip(record, depth_limit=1), table.present)
        for kind, extra in table.extras.items():
            fields |= {
                f"{name}.{kind}.{c.name}": np.ascontiguousarray(extra.values[:, j]) for j, c in enumerate(extra.columns)
            }
    return ak.zip(fields, depth_limit=1)


def _jagged(offsets: NDArray[np.int64], columns: Arrays) -> ak.Array:
    """Make lists of records."""
    contents = [ak.contents.NumpyArray(np.ascontiguousarray(values)) for values in columns.values()]
    record = ak.contents.RecordArray(contents, list(columns), length=int(offsets[-1]))
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), record))


def import_parquet(path: Path, out: Path, progress: Progress = iter) -> None:
    """Make the data set again of which `export_parquet` wrote some or all views.

    Raises
    ------
    UserError
        If the file is no Parquet file of ours, is damaged, or `out` is not empty.
    """
    try:
        with pyarrow.parquet.ParquetFile(path, page_checksum_verification=True) as file:
            head = _head_of((file.schema_arrow.metadata or {}).get(_HEAD.encode()), path)
            if file.num_row_groups != len(head.parts):
                raise UserError(f"{path}: has {file.num_row_groups} row groups, not one a part ({len(head.parts)})")
            with whole_dataset(out) as folder:
                for i in progress(range(len(head.parts))):
                    rows = ak.from_arrow(file.read_row_group(i))
                    write_back(folder, head, i, *_tables(rows, head))
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{path}: cannot be read as Parquet ({_first_line(error)}); export it again") from error


def _tables(rows: ak.Array, head: Head) -> tuple[ObjectTable, dict[str, ViewTable]]:
    """Undo `_rows`."""
    columns = {column.name: ak.to_numpy(rows[column.name], allow_missing=False) for column in head.objects}
    return ObjectTable(columns, head.objects), {name: _view(rows, name, head) for name in head.views}


def _view(rows: ak.Array, name: str, head: Head) -> ViewTable:
    records = rows[name]
    present = ~ak.to_numpy(ak.is_none(records))
    there = ak.drop_none(records)
    columns = np.full((len(present), len(head.schema.view_columns)), np.nan, dtype=np.float32)
    for i, column in enumerate(head.schema.view_columns):
        columns[present, i] = ak.to_numpy(there[column.name])
    counts = np.zeros(len(present), dtype=np.int64)
    counts[present] = ak.to_numpy(ak.num(there["constituents"]))
    flat = ak.flatten(there["constituents"])
    constituents = np.stack([ak.to_numpy(flat[column.name]) for column in head.schema.constituent_columns], axis=1)
    extras = {
        kind: Extra(np.stack([ak.to_numpy(rows[f"{name}.{kind}.{c.name}"]) for c in described], axis=1), described)
        for kind, described in head.extras.get(name, {}).items()
    }
    return ViewTable(present, columns, offsets_of(counts), constituents, head.views[name], extras)


def _head_of(text: str | bytes | None, path: Path) -> Head:
    if text is None:
        raise UserError(f"{path}: was not written by `resim export`: nothing says what its columns are")
    return Head.from_json(text, path)


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]


# --- ROOT ---------------------------------------------------------------------------------------------------------

TREE = "tree"
_CHECKSUMS = "resim_checksums"
CONSTITUENTS: Mapping[str, str] = {
    "e": "energy",
    "d0": "d0val",
    "dz": "dzval",
    "is_photon": "isPhoton",
    "is_muon": "isMuon",
    "is_electron": "isElectron",
    "is_charged_hadron": "isChargedHadron",
    "is_neutral_hadron": "isNeutralHadron",
}
"""Our name -> JetClass's (arXiv:2202.03772), after `part_`, where they differ."""
JETS: Mapping[str, str] = {"e": "energy", "softdrop_mass": "sdmass", "n_constituents": "nparticles"}
"""Likewise, after `jet_`."""
LABELS = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")
_LABEL_OF = {1: "QCD", 2: "QCD", 3: "QCD", 5: "QCD", 9: "Tbqq", 10: "Zqq", 11: "Wqq"}
_HIGGS = 4
_HIGGS_DECAYS = {5: "Hbb", 4: "Hcc", 21: "Hgg"}  # by the object column `decay`


def export_root(
    dataset: Dataset,
    out: Path,
    views: Sequence[str] | None = None,
    higgs: str | None = None,
    progress: Progress = iter,
) -> None:
    """Write a tree with one entry a jet of a view, in branches with JetClass's names, which weaver reads.

    Beside the branches of JetClass (`part_px` ... `jet_pt` ... `label_QCD` ...) stand ours: all object columns, columns
    of the view as `jet_NAME`, all features as `part_NAME`, so that nothing of the view is lost. What JetClass has and
    we have not: `part_d0err`, `part_dzerr`, `jet_tau1` to `jet_tau4`. What events drew (`drawn`) is not written.

    Parameters
    ----------
    views
        One view; by default nominal.
    higgs
        Which of `LABELS` a Higgs boson has whose decay is not known, or has no label of its own.

    Raises
    ------
    UserError
        If there is more than one view, or it is unknown, no label fits a Higgs boson, or the file
        cannot be written.
    """
    require_jets(dataset, "root")
    view, *others = views or [NOMINAL]
    if others:
        raise UserError(f"--views {','.join(views or [])}: a tree holds one view; write a file for each")
    head = Head.of(dataset, chosen_views(dataset, [view]))
    if higgs is not None and higgs not in LABELS:
        raise UserError(f"--higgs {higgs}: is no label of JetClass; it has {', '.join(LABELS)}")
    with whole_file(out) as temporary, uproot.recreate(temporary) as file:
        checksums = []
        for part in progress(dataset.parts):
            branches = _branches(part, view, higgs)
            checksums.append(_checksum(branches))
            if TREE not in file:
                file.mktree(TREE, {name: values.type for name, values in branches.items()})
            file[TREE].extend(branches)
        file[_HEAD] = head.to_json()
        file[_CHECKSUMS] = json.dumps(checksums)


def _checksum(branches: Mapping[str, ak.Array]) -> str:
    """Digest the values of a part: ROOT's files have no checksums where they are not compressed."""
    jagged = branches["part"]
    flat = {name: values for name, values in branches.items() if name != "part"}
    flat |= {f"part_{name}": ak.flatten(jagged[name]) for name in jagged.fields} | {"npart": ak.num(jagged)}
    digest = hashlib.sha256()
    for name in sorted(flat):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(ak.to_numpy(flat[name])).tobytes())
    return digest.hexdigest()


def _branches(part: Part, name: str, higgs: str | None) -> dict[str, ak.Array]:
    """Give the branches of the jets that a part has in a view."""
    view = part.view(name)
    table = view.read(slice(None))
    rows = np.flatnonzero(table.present)
    offsets, elements = select_rows(table.offsets, rows)
    jets = {column: table.columns[rows, i] for i, column in enumerate(view.column_names)}
    features = {c.name: table.constituents[elements, i] for i, c in enumerate(view.constituent_columns)}
    particles = features | _cartesian(features, jets, offsets)
    objects = {column: values[rows] for column, values in part.objects().items()}
    labels = _labels(objects, higgs, part)
    flat = objects | {f"jet_{JETS.get(n, n)}": values for n, values in jets.items()}
    flat |= {f"label_{label}": labels == label for label in LABELS}
    renamed = {CONSTITUENTS.get(n, n): values for n, values in particles.items()}
    arrays = {n: ak.Array(np.ascontiguousarray(values)) for n, values in flat.items()}
    return arrays | {"part": _jagged(offsets, renamed)}


def _cartesian(features: Arrays, jets: Arrays, offsets: NDArray[np.int64]) -> Arrays:
    """Give momenta in Cartesian coordinates, and angles to the jet axis, of which deta is turned as JetClass does."""
    pt, eta, phi = (features[name].astype(np.float64) for name in ("pt", "eta", "phi"))
    jet_eta, jet_phi = (np.repeat(jets[name].astype(np.float64), np.diff(offsets)) for name in ("eta", "phi"))
    values = {
        "px": pt * np.cos(phi),
        "py": pt * np.sin(phi),
        "pz": pt * np.sinh(eta),
        "deta": (eta - jet_eta) * np.where(jet_eta > 0, 1, -1),
        "dphi": (phi - jet_phi + np.pi) % (2 * np.pi) - np.pi,
    }
    return {name: array.astype(np.float32) for name, array in values.items()}


def _labels(objects: Arrays, higgs: str | None, part: Part) -> NDArray[np.str_]:
    """Name the label of each object."""
    jettype, labels = objects["jettype"], np.full(len(objects["jettype"]), higgs or "", dtype="<U8")
    for code, label in _LABEL_OF.items():
        labels[jettype == code] = label
    for decay, label in _HIGGS_DECAYS.items() if "decay" in objects else ():
        labels[(jettype == _HIGGS) & (objects["decay"] == decay)] = label
    if (labels == "").any():
        raise UserError(f"{part.path}: has H bosons with a decay that no label of JetClass names; give --higgs LABEL")
    return labels


def import_root(files: Sequence[Path], out: Path, progress: Progress = iter) -> None:
    """Make a data set again of which `export_root` wrote views, a file each; nominal is among them.

    Its objects are those that are present in one of the views.

    Raises
    ------
    UserError
        If a file is not ROOT or not of ours, is damaged, they are not of one data set, or `out` is not empty.
    """
    with ExitStack() as stack:
        trees = [_Tree(path, stack) for path in files]
        head = _joined([tree.head for tree in trees], files)
        with whole_dataset(out) as folder:
            for i in progress(range(len(head.parts))):
                pieces = [tree.read(i) for tree in trees]
                write_back(folder, head, i, *_matched(pieces, head))


class _Tree:
    """A file of `export_root`, read part by part."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self._path = path
        try:
            file = stack.enter_context(uproot.open(path))
            self.head = _head_of(str(file[_HEAD]) if _HEAD in file else None, path)
            self._tree, self._checksums = file[TREE], json.loads(str(file[_CHECKSUMS]))
            self._event = self._tree["event"].array(library="np")
        except UserError:
            raise
        except Exception as error:  # uproot raises what it likes for bytes that it cannot decode
            raise UserError(f"{path}: cannot be read as ROOT ({_first_line(error)}); export it again") from error

    def read(self, i: int) -> ak.Array:
        """Read the jets of the i-th part."""
        part = self.head.parts[i]
        start, stop = np.searchsorted(self._event, [part["first"], part["stop"]])
        try:
            jets = self._tree.arrays(entry_start=start, entry_stop=stop)
            particles = {name.removeprefix("part_"): jets[name] for name in jets.fields if name.startswith("part_")}
            flat = {n: jets[n] for n in jets.fields if n != "npart" and not n.startswith("part_")}
            intact = _checksum(flat | {"part": ak.zip(particles)}) == self._checksums[i]
        except Exception as error:  # as above
            raise UserError(f"{self._path}: cannot be read as ROOT ({_first_line(error)}); export it again") from error
        if not intact:
            raise UserError(f"{self._path}: events {part['first']}:{part['stop']} are damaged; export it again")
        return jets


def _joined(heads: Sequence[Head], files: Sequence[Path]) -> Head:
    """Join the descriptions of files that hold a view each."""
    first = heads[0]
    for head, path in zip(heads, files, strict=True):
        ranges = [(part["first"], part["stop"]) for part in head.parts]
        if head.schema != first.schema or ranges != [(part["first"], part["stop"]) for part in first.parts]:
            raise UserError(f"{path}: is not of the data set that {files[0]} is of; import them apart")
    views = {name: attributes for head in heads for name, attributes in head.views.items()}
    if NOMINAL not in views or len(views) < len(heads):
        raise UserError(f"{files[0]}: the files hold {', '.join(views)}; give one of each view, and nominal among them")
    recipes = {name: _recipe(path) for head, path in zip(heads, files, strict=True) for name in head.views}
    return Head(first.objects, first.schema, views, tuple(part | {"recipes": recipes} for part in first.parts))


def _recipe(path: Path) -> str:
    """Digest the file: objects that are in none of the views are missing, so the simulation's recipe would be wrong."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def _matched(pieces: Sequence[ak.Array], head: Head) -> tuple[ObjectTable, dict[str, ViewTable]]:
    """Bring the jets of several views together by object."""
    ids = [ak.to_numpy(piece["object"]) for piece in pieces]
    every, where = np.unique(np.concatenate(ids), return_index=True)
    columns = {c.name: np.concatenate([ak.to_numpy(p[c.name]) for p in pieces])[where] for c in head.objects}
    views = {}
    for name, piece, mine in zip(head.views, pieces, ids, strict=True):
        views[name] = _placed(piece, np.searchsorted(every, mine), len(every), name, head)
    return ObjectTable(columns, head.objects), views


def _placed(piece: ak.Array, rows: NDArray[np.int64], n: int, name: str, head: Head) -> ViewTable:
    """Put the jets of a view, which rise by object, into the rows of the part."""
    present, counts = np.zeros(n, dtype=bool), np.zeros(n, dtype=np.int64)
    columns = np.full((n, len(head.schema.view_columns)), np.nan, dtype=np.float32)
    present[rows], counts[rows] = True, ak.to_numpy(piece["npart"])
    for i, column in enumerate(head.schema.view_columns):
        columns[rows, i] = ak.to_numpy(piece[f"jet_{JETS.get(column.name, column.name)}"])
    names = [f"part_{CONSTITUENTS.get(c.name, c.name)}" for c in head.schema.constituent_columns]
    constituents = np.stack([ak.to_numpy(ak.flatten(piece[branch])) for branch in names], axis=1)
    return ViewTable(present, columns, offsets_of(counts), constituents, head.views[name])
