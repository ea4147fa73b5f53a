"""Images that the converter of contrastive-neutrino (arXiv:2502.07724) wrote: a NumPy archive an event and throw.

An archive has `coordinates` (n, 3) and `vertex` (3,) or (3, 1), cm, `adc` and `charge` (n,), counts and ke, a row a
hit. The file's name is that of larnd-sim's file with the event behind it, CLASS_A_B_INDEX_..._eventID_EVENT.npz.
Which throw of the detector it is, `throw7` or `electronics_throw7` in the name says, or else in that of a folder.
"""

import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from resim.chain import NOMINAL
from resim.errors import UserError
from resim.interop.exchange import Numbering
from resim.interop.sparse import MOST, PARTICLES, REACH, Event, Hits, Layout, files_below
from resim.interop.torchfile import LARGEST
from resim.lartpc.readout import Digitisation
from resim.lartpc.voxels import IMAGE_COLUMNS, VOXEL_FEATURES
from resim.store import Column, Schema

_NAME = re.compile(rf"({'|'.join(PARTICLES)})_[^_]*_[^_]*_(\d+)(?:_.*)?_eventID_(\d+)")
_THROW = re.compile(r"(electronics_)?throw_?(\d+)")
_ARRAYS = ("coordinates", "adc", "charge", "vertex")
_TOLD = ("n_voxels", "n_hits", "charge", "charge_max", *(f"{a}_{w}" for w in ("mean", "extent") for a in "xyz"))
VIEW_COLUMNS = tuple(Column(*column) for column in IMAGE_COLUMNS if column[0] in _TOLD)
"""Those of the lane that hits alone tell."""
_Key = tuple[str, int, int]  # class, file, event


class Images(Layout):
    """The files of a class, or of all; names of views as found -> other names.

    Raises
    ------
    UserError
        If a path leads to none, a file's name is of another kind, an event has two files of a view, or none is nominal.
    """

    name = "contrastive-neutrino"
    cell = 0.38
    pedestal = Digitisation().pedestal
    cut = "charge"
    columns: ClassVar[tuple[Column, ...]] = (
        *(Column(f"vertex_{axis}", "cm", "where it starts; x drift, y up, z beam") for axis in "xyz"),
        Column("file", "", "number in the name of larnd-sim's file"),
        Column("file_event", "", "number of the event in it"),
    )
    schema = Schema(VIEW_COLUMNS, tuple(Column(*feature) for feature in VOXEL_FEATURES))

    def __init__(self, paths: Sequence[Path], particle: str | None, names: Mapping[str, str]) -> None:
        found: dict[str, dict[_Key, Path]] = {}
        views: set[str] = set()
        for root, path in files_below(paths, ".npz"):
            key, view = _key_of(path), _view_of(path, root)
            views.add(view)
            if particle in (None, key[0]):
                other = found.setdefault(names.get(view, view), {}).setdefault(key, path)
                if other != path:
                    raise UserError(f"{path}: is of the same event and view as {other}; give each once")
        where = ", ".join(map(str, paths))
        unknown = [view for view in names if view not in views]
        if unknown:
            raise UserError(f"{where}: has no view {unknown[0]!r} to be named anew; it has {', '.join(sorted(views))}")
        if not found:
            raise UserError(f"{where}: has no image of the class {particle!r}")
        if NOMINAL not in found:
            remedy = f"say which view is, as in {min(found)}={NOMINAL}"
            raise UserError(f"{where}: has no image without a throw in its name or folders; {remedy}")
        order = dict.fromkeys(names.get(view, view) for view in sorted(views, key=_by_number))
        self._found = {view: found[view] for view in sorted(order, key=NOMINAL.__ne__) if view in found}
        self.views = {view: {} if view == NOMINAL else {"throw": view} for view in self._found}
        self.paths = sorted(path for files in found.values() for path in files.values())
        self.words = {"particle": particle, "names": dict(names)}

    @cached_property
    def _keys(self) -> list[_Key]:
        return sorted({key for files in self._found.values() for key in files})

    def __len__(self) -> int:
        """Give the number of events."""
        return len(self._keys)

    def read(self, event: int, settings: Numbering) -> Event:
        """Read an event in all views; images of three hits and fewer were not written, so some may be missing."""
        key = self._keys[event]
        arrays = {view: read_image(files[key]) for view, files in self._found.items() if key in files}
        vertex = next(iter(arrays.values()))["vertex"].reshape(3, -1)[:, 0]
        truth = {f"vertex_{axis}": float(value) for axis, value in zip("xyz", vertex, strict=True)}
        truth |= {"file": key[1], "file_event": key[2]}
        return Event(truth, key[0], event, {view: _hits(found) for view, found in arrays.items()})


def _key_of(path: Path) -> _Key:
    found = _NAME.fullmatch(path.stem)
    if found is None:
        wanted = "CLASS_A_B_INDEX_..._eventID_EVENT.npz with a class of " + ", ".join(PARTICLES)
        raise UserError(f"{path}: has no name as the converter gives, {wanted}")
    return found[1], int(found[2]), int(found[3])


def _view_of(path: Path, root: Path) -> str:
    """Tell the view by the file's name, or the nearest folder's, up to the one that was given."""
    depth = len(path.relative_to(root).parts)
    for word in (path.stem, *(folder.name for folder in list(path.parents)[:depth])):
        if found := _THROW.search(word):
            return f"{found[1] or ''}throw_{int(found[2])}"
    return NOMINAL


def _by_number(view: str) -> tuple[bool, str, int]:
    """Order views: nominal, then throws by kind and number."""
    kind, _, number = view.rpartition("_")
    return view != NOMINAL, kind, int(number) if number.isdigit() else 0


def read_image(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of an image; no pickle is ever opened.

    Raises
    ------
    UserError
        If the file is no archive of these arrays, or they are not numbers of one shape.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > LARGEST:
            raise ValueError(f"would be {size} bytes, and {LARGEST} are allowed")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in _ARRAYS}
        raw = [name for name, values in arrays.items() if not isinstance(values, np.ndarray)]
        if raw:
            raise ValueError(f"{raw[0]} is no array")
    except (
        OSError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error, LookupError, NotImplementedError, RuntimeError,
        SyntaxError, TypeError, ValueError,
    ) as error:  # fmt: skip  # what damaged archives raise
        words = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: cannot be read as an image ({words[:200]}); convert it again") from error
    _check(path, arrays)
    return arrays


def _check(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    n = len(arrays["coordinates"]) if arrays["coordinates"].ndim else 0
    shapes = {"coordinates": (n, 3), "adc": (n,), "charge": (n,), "vertex": (3, *arrays["vertex"].shape[1:2])}
    for name, values in arrays.items():
        if values.dtype.kind not in "iuf" or values.shape != shapes[name] or not values.size:
            raise UserError(
                f"{path}: {name} has type {values.dtype} and shape {values.shape}, not numbers, a row a hit"
            )
        if not np.isfinite(values).all():
            raise UserError(f"{path}: {name} has a value that is not finite; convert it again")
        most = REACH if name in ("coordinates", "vertex") else MOST
        if (np.abs(values.astype(np.float64)) > most).any():
            raise UserError(f"{path}: {name} has a value beyond {most:g}, which no detector gives; convert it again")
    if not (arrays["adc"] > 0).all() or (arrays["adc"] % 1).any():
        raise UserError(f"{path}: adc holds no counts; images of deposits, with energies there, are none of a detector")


def _hits(arrays: Mapping[str, NDArray[Any]]) -> Hits:
    columns = (arrays["coordinates"], arrays["adc"][:, None], arrays["charge"][:, None])
    return np.concatenate(columns, axis=1).astype(np.float64)
