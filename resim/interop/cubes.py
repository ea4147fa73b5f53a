"""The segmented-cube set (Zenodo 10998285, arXiv:2211.04890): a file of `torch.save` an event, in a folder a class.

A file is a dict. `reco_hits` (n, 4 or more): middle of a cube of 1 cm (mm) and its light (photoelectrons); `Tag_Trk`
(n,): whether a charged particle went through the cube, or only light from its neighbours came; `TrueIniPos` (mm),
`TrueIniDir`, `TrueIniP`: where and how the particle starts. The files are of the authors of arXiv:2502.07724, who vary
the share of the cubes with light from neighbours alone that are kept, at random: the crosstalk fraction.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from resim.chain import NOMINAL
from resim.errors import UserError
from resim.interop.exchange import Numbering
from resim.interop.images import VIEW_COLUMNS
from resim.interop.sparse import MOST, PARTICLES, REACH, Event, Hits, Layout, files_below
from resim.interop.torchfile import read_torch
from resim.keys import Stream
from resim.store import Column, Schema

_MM = 0.1  # cm
_START = {"TrueIniPos": 3, "TrueIniDir": 3, "TrueIniP": 1}
_LIGHT = "photoelectrons"


class Cubes(Layout):
    """The files of a class, or of all; view -> share of the crosstalk that is kept; nominal has all, if not named.

    Raises
    ------
    UserError
        If a path leads to none, or a file lies in no folder named after a class.
    """

    name = "segmented-cube"
    cell = 1.0
    pedestal = 0.0
    cut = "crosstalk"
    columns: ClassVar[tuple[Column, ...]] = (
        *(Column(f"vertex_{axis}", "cm", "where it starts (TrueIniPos)") for axis in "xyz"),
        *(Column(f"direction_{axis}", "", "of its momentum (TrueIniDir)") for axis in "xyz"),
        Column("momentum", "", "as the set has it (TrueIniP)"),
        Column("n_crosstalk", "", "hits of the file with light from neighbours alone"),
    )
    schema = Schema(
        tuple(Column(c.name, _LIGHT if c.unit == "ke" else c.unit, c.description) for c in VIEW_COLUMNS),
        (
            *(Column(axis, "cm", "middle of the cube") for axis in "xyz"),
            Column("adc", _LIGHT, "light, as `charge`: the set has no counts, and readers look here for what is there"),
            Column("charge", _LIGHT, "light"),
        ),
    )

    def __init__(self, paths: Sequence[Path], particle: str | None, crosstalk: Mapping[str, float]) -> None:
        found = [(_class_of(path), path) for _, path in files_below(paths, ".pt")]
        self._events = [(kind, path) for kind, path in found if particle in (None, kind)]
        if not self._events:
            raise UserError(f"{', '.join(map(str, paths))}: has no file in a folder {particle!r}")
        self._shares = {NOMINAL: 1.0, **crosstalk}
        self.views = {view: {"crosstalk": share} for view, share in self._shares.items()}
        self.paths = [path for _, path in self._events]
        self.words = {"particle": particle}

    def __len__(self) -> int:
        """Give the number of events."""
        return len(self._events)

    def read(self, event: int, settings: Numbering) -> Event:
        """Read an event; views draw the same numbers, so what a smaller share keeps a larger one keeps, too.

        Many events of a class start alike: they are in one split.
        """
        particle, path = self._events[event]
        hits, tracks, start = read_cubes(path)
        keep = _last_kept(tracks, Stream((settings.seed, settings.sample, "crosstalk")), event)
        dark, n = ~tracks, int((~tracks).sum())
        views = {view: hits[tracks | (dark & (keep < round(share * n)))] for view, share in self._shares.items()}
        names = [column.name for column in self.columns]
        truth = dict(zip(names, (*(start[:3] * _MM), *start[3:], n), strict=True))
        return Event(truth, particle, _key(start), views)


def _class_of(path: Path) -> str:
    found = [folder.name for folder in path.parents if folder.name in PARTICLES]
    if not found:
        raise UserError(f"{path}: lies in no folder named after a class, {', '.join(PARTICLES)}")
    return found[0]


def _last_kept(tracks: NDArray[np.bool_], draws: Stream, event: int) -> NDArray[np.int64]:
    """Put the crosstalk hits of an event in a random order: place of each; of other hits it means nothing."""
    n = len(tracks)
    u = draws.uniform(np.array([event], dtype=np.int64), np.array([n], dtype=np.int64), 1)[:, 0]
    place = np.empty(n, dtype=np.int64)
    place[np.argsort(np.where(tracks, 2.0, u), kind="stable")] = np.arange(n)
    return place


def _key(start: NDArray[np.float64]) -> int:
    return int.from_bytes(hashlib.sha256(start.tobytes()).digest()[:8], "little") >> 1


def read_cubes(path: Path) -> tuple[Hits, NDArray[np.bool_], NDArray[np.float64]]:
    """Read the hits of a file, which of them are of tracks, and how the particle starts (mm, unit vector, momentum).

    Raises
    ------
    UserError
        If the file is of another kind, needs more than NumPy's numbers, or has others than these.
    """
    content = read_torch(path)
    missing = [name for name in ("reco_hits", "Tag_Trk", *_START) if name not in content]
    if missing:
        raise UserError(f"{path}: lacks {', '.join(missing)}; give files of the segmented-cube set")
    hits, tags = (_numbers(path, content, name) for name in ("reco_hits", "Tag_Trk"))
    if hits.ndim != 2 or hits.shape[1] < 4 or tags.shape != hits.shape[:1] or not np.isin(tags, (0, 1)).all():
        shapes = f"reco_hits has shape {hits.shape} and Tag_Trk {tags.shape}"
        raise UserError(f"{path}: {shapes}, not (n, 4 or more) and (n,), the latter of 0 and 1")
    start = [_numbers(path, content, name).reshape(-1) for name in _START]
    if [len(values) for values in start] != list(_START.values()):
        raise UserError(f"{path}: TrueIniPos, TrueIniDir and TrueIniP are not 3, 3 and 1 numbers")
    far = max(np.abs(values).max(initial=0.0) * _MM for values in (hits[:, :3], start[0]))
    if far > REACH or hits[:, 3].max(initial=0.0) > MOST:
        raise UserError(f"{path}: has a place beyond {REACH:g} cm or light beyond {MOST:g}; get the file again")
    lit = hits[:, 3] > 0
    light = hits[lit, 3:4]
    return np.concatenate([hits[lit, :3] * _MM, light, light], axis=1), tags[lit] > 0, np.concatenate(start)


def _numbers(path: Path, content: Mapping[str, Any], name: str) -> NDArray[np.float64]:
    values = np.asarray(content[name]) if isinstance(content[name], np.ndarray | np.generic | float | int) else None
    if values is None or values.dtype.kind not in "biuf" or not np.isfinite(values).all():
        raise UserError(f"{path}: {name} is not an array of finite numbers; get the file again")
    return values.astype(np.float64)
