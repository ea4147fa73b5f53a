"""What exported files have in common: what travels with the arrays, and that they are whole or not there."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resim.chain import NOMINAL
from resim.config import NAME, SPLITS, Splits
from resim.errors import UserError
from resim.keys import uniform_of_event
from resim.store import (
    Column,
    Dataset,
    ObjectTable,
    Part,
    Schema,
    ViewTable,
    refuse_in_part,
    write_manifest,
    write_part,
)
from resim.store.files import locked, remove, replace_folder, storage_errors, sync

HEAD_FORMAT, HEAD_VERSION = "resim-export", 1
Progress = Callable[[Sequence[Any]], Iterable[Any]]  # `tqdm` is one
_LOST = ("checkpoint_recipes",)  # checkpoints are not exported


@dataclass(frozen=True)
class Head:
    """What a data set is, beside its arrays; JSON within an exported file."""

    objects: tuple[Column, ...]
    """Of the object table."""
    schema: Schema
    """Of all views."""
    views: dict[str, dict[str, Any]]
    """View -> its attributes, in the order of the data set."""
    parts: tuple[dict[str, Any], ...]
    """Attributes of the parts, in the order of their events."""
    extras: dict[str, dict[str, tuple[Column, ...]]] = field(default_factory=dict)
    """View -> kind -> columns, of views that have some; files of before tell of none."""

    @classmethod
    def of(cls, dataset: Dataset, views: Sequence[str]) -> "Head":
        """Describe some views of a data set."""
        first = dataset.parts[0]
        view = first.view(views[0])
        return cls(
            first.object_descriptions(),
            Schema(view.view_columns, view.constituent_columns),
            {name: first.view(name).attributes for name in views},
            tuple(_attributes(part, views) for part in dataset.parts),
            {name: {k: extra.columns for k, extra in first.view(name).extras.items()} for name in views},
        )

    def to_json(self) -> str:
        """Write it; what all parts have in common stands once."""
        first = self.parts[0]
        common = {k: v for k, v in first.items() if all(k in p and p[k] == v for p in self.parts)}
        content = {
            "format": HEAD_FORMAT,
            "version": HEAD_VERSION,
            **asdict(self),
            "common": common,
            "parts": [{k: v for k, v in part.items() if k not in common} for part in self.parts],
        }
        return json.dumps(content, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes, where: Path) -> "Head":
        """Read what `to_json` wrote.

        Raises
        ------
        UserError
            If it is something else, or of another version.
        """
        try:
            content = json.loads(text)
            found = (content["format"], content["version"])
            if found != (HEAD_FORMAT, HEAD_VERSION):
                expected = f"{HEAD_FORMAT} version {HEAD_VERSION}"
                raise UserError(f"{where}: is {found[0]} version {found[1]}, and this program reads {expected}")
            schema = Schema(*(_columns(content["schema"][key]) for key in ("view_columns", "constituent_columns")))
            parts = tuple(content["common"] | part for part in content["parts"])
            extras = {
                view: {kind: _columns(columns) for kind, columns in kinds.items()}
                for view, kinds in content.get("extras", {}).items()
            }
            return cls(_columns(content["objects"]), schema, content["views"], parts, extras)
        except (LookupError, TypeError, ValueError) as error:
            raise UserError(f"{where}: what describes the data set is damaged ({error!r}); export it again") from error


@dataclass(frozen=True)
class Numbering:
    """How published events, which have no numbers, become those of a sample."""

    sample: str
    block_size: int = 100
    events_per_part: int = 5000
    """Whole blocks."""
    seed: int = 20260101
    """Root of the numbers that tell the split of an event."""
    splits: Splits = field(default_factory=Splits)

    def check(self, *names: tuple[str, str]) -> None:
        """Check numbers, and names, each with the option that it comes from.

        Raises
        ------
        UserError
            If a name is none, or a part is not whole blocks.
        """
        for option, name in names:
            if not NAME.fullmatch(name):
                raise UserError(f"{option}: {name!r} is no name; names match {NAME.pattern}")
        if self.events_per_part % self.block_size:
            raise UserError(f"--events-per-part {self.events_per_part}: not whole blocks of {self.block_size}")

    def split_of(self, keys: NDArray[np.int64]) -> NDArray[np.int8]:
        """Tell the split of events by their keys: 0 train, 1 validation, 2 test."""
        shares = [getattr(self.splits, name) for name in SPLITS]
        u = uniform_of_event(self.seed, self.sample, "split", keys)
        return np.searchsorted(np.cumsum(shares)[:-1], u, side="right").astype(np.int8)


def _columns(rows: list[dict[str, str]]) -> tuple[Column, ...]:
    return tuple(Column(**row) for row in rows)


def _attributes(part: Part, views: Sequence[str]) -> dict[str, Any]:
    """Give a part's attributes as far as they concern some views."""
    kept = {key: value for key, value in part.attributes.items() if key not in _LOST}
    dropped = set(part.views) - set(views)
    for key in ("recipes", "failed"):
        kept[key] = {name: value for name, value in kept.get(key, {}).items() if name not in dropped}
    return kept | {"cost": [record for record in kept.get("cost", []) if record["view"] not in dropped]}


def chosen_views(dataset: Dataset, names: Sequence[str] | None) -> list[str]:
    """Give the views asked for in the data set's order (default all).

    Raises
    ------
    UserError
        For a name that it does not have.
    """
    unknown = [name for name in names or () if name not in dataset.views]
    if unknown:
        raise UserError(f"--views: no view {unknown[0]!r} in the data set; it has {', '.join(dataset.views)}")
    return [name for name in dataset.views if names is None or name in names]


def require_jets(dataset: Dataset, layout: str) -> None:
    """Refuse a data set of another lane.

    Raises
    ------
    UserError
        If its objects are no jets.
    """
    lane = dataset.parts[0].attributes.get("lane", "jets")  # the only one there was, before parts had it
    if lane != "jets":
        raise UserError(f"--to {layout}: is for the lane jets, and this is {lane}; export parquet")


def with_nominal(names: Sequence[str]) -> list[str]:
    """Put nominal before the other views."""
    return [NOMINAL, *(name for name in names if name != NOMINAL)]


def write_back(folder: Path, head: Head, i: int, objects: ObjectTable, views: Mapping[str, ViewTable]) -> None:
    """Write the i-th part of a data set that was exported."""
    ordered = {name: views[name] for name in head.views}
    write_part(folder, objects, ordered, head.schema, head.parts[i])


@contextmanager
def _place_told(out: Path) -> Iterator[None]:
    """Tell of places where nothing can be made though they seem to be there, such as /proc, or will not stay."""
    refuse_in_part(out)
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"--out {out}: cannot be made there ({error.strerror}); choose another folder") from error


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; the file written there gets its name when all went well, or goes.

    Raises
    ------
    UserError
        If the disk is full, or nothing can be written there.
    """
    path = path.absolute()
    if path.is_dir():
        raise UserError(f"--out {path}: is a folder; give the name of a file")
    temporary = path.with_name(f".{os.getpid()}-{path.name}")  # some formats look at the suffix
    with storage_errors(path.parent):
        with _place_told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.touch()
        try:
            yield temporary
            sync([temporary])
            temporary.replace(path)
            sync([path.parent])
        finally:
            remove(temporary)


def _refuse_filled(out: Path) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out}: is there already and not empty; give a new folder, or remove it first")


@contextmanager
def whole_dataset(out: Path) -> Iterator[Path]:
    """Give a folder beside `out` for the parts; it gets that name, with a manifest, when all went well, or goes.

    Raises
    ------
    UserError
        If `out` is there and not empty, or is being written; the disk is full, or nothing can be written there.
    """
    out = Path(os.path.realpath(out))  # of a symbolic link, the place that it points to gets the data
    _refuse_filled(out)
    temporary = out.with_name(f".{out.name}-{os.getpid()}")
    busy = f"{out}: another process is writing it; wait for it or stop it, then run the command again"
    with storage_errors(out.parent), ExitStack() as stack:
        with _place_told(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(out.with_name(f".{out.name}.lock"), busy))
            _refuse_filled(out)  # by the one that held the lock
            for leftover in out.parent.iterdir():  # of killed writers
                if re.fullmatch(rf"\.{re.escape(out.name)}-\d+(-old)?", leftover.name):
                    remove(leftover)
            temporary.mkdir()
        try:
            yield temporary
            write_manifest(temporary, sorted(temporary.glob("part-*")))
            replace_folder(temporary, out)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
