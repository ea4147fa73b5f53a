"""What the core asks of a lane: its stages, what their settings mean, and what the last state says of an object."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from resim.chain import FusedStage, Settings, Stage, Step, View, settings_of
from resim.config import Config, Engine
from resim.keys import Stream
from resim.ragged import Ragged
from resim.store import Checkpoint, Column, Schema
from resim.typed import card_of


@dataclass(frozen=True)
class Objects:
    """The objects that a view has: one row each, sorted by `object`."""

    object: NDArray[np.int64]
    """8 * event + slot."""
    columns: NDArray[np.float32]
    """(n, K) object-level quantities, the schema's `view_columns`."""
    constituents: Ragged = field(repr=False)
    """One column, `features`: (offsets[-1], F) float32, the schema's `constituent_columns`."""

    def take(self, rows: NDArray[Any]) -> "Objects":
        """Select objects by index or mask."""
        return Objects(self.object[rows], self.columns[rows], self.constituents.take(rows))

    @classmethod
    def join(cls, pieces: "Sequence[Objects]") -> "Objects":
        """Put the objects of different events together, sorted."""
        objects = np.concatenate([piece.object for piece in pieces])
        columns = np.concatenate([piece.columns for piece in pieces])
        constituents = Ragged.join([piece.constituents for piece in pieces])
        return cls(objects, columns, constituents).take(np.argsort(objects, kind="stable"))


@dataclass(frozen=True)
class Names:
    """What readers call the records of a lane; `names.py` of its folder has them, so that no engine is loaded."""

    objects: str
    constituents: str
    vector: str | None = None
    """The class of the vector package that both are, if they are four-vectors."""


class Lane(ABC):
    """A chain of stages, for one sample of a config. What most lanes do without has a default."""

    name: ClassVar[str]
    stages: ClassVar[tuple[str, ...]]
    """In their order; all views share the first, whose state is kept in the part."""
    cards: ClassVar[Mapping[str, type[BaseModel]]]
    """The settings of stages; a lane whose settings are an engine's says itself what they mean."""
    kept: ClassVar[str]
    """The stage whose states of nominal can be kept in a part, too, with `checkpoint`."""
    schema: ClassVar[Schema]
    revisions: ClassVar[Mapping[str, int]]
    """Raised when a change of a stage's code changes its numbers: what was made before is then made again."""
    packages: ClassVar[tuple[str, ...]]
    """That the numbers depend on."""
    common: ClassVar[tuple[str, ...]] = ()
    """Settings that say which objects there are: the same for all views, so no view may change them."""
    fused: ClassVar[tuple[str, ...]] = ()
    """Stages that an engine runs in one call where no view cuts between them."""
    by_event: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Stages that take an array, a number for each event, for some settings that are drawn; others take a number."""
    replaced: ClassVar[Mapping[tuple[str, str], tuple[str, ...]]] = {}
    """Kinds of engines (what one takes, what it gives) -> the stages that they stand in for."""

    root_settings: Mapping[str, Any]
    """Of the first stage, for this sample."""
    runs: Mapping[str, Stage]
    fused_runs: Mapping[str, FusedStage]

    @abstractmethod
    def __init__(self, config: Config, sample: str, pool: Path | None = None) -> None:
        """Bind the stages to a sample; where views draw from a pool, it lies there."""

    @property
    def source_digest(self) -> str | None:
        """Digest of the file that the events come from, if they do."""
        return None

    @abstractmethod
    def pool_recipe(self, view: View) -> str | None:
        """Digest the pool that is made beforehand, for a view that draws from one."""

    def send(self, state: Any, path: Path) -> None:
        """Write a state for an engine; a lane without engines is never asked."""
        raise NotImplementedError

    def receive(self, draws: Stream, path: Path, engine: Engine, events: NDArray[np.int64]) -> None:
        """Read what an engine gave for these events; a lane without engines is never asked."""
        raise NotImplementedError

    @abstractmethod
    def source(self, block: int) -> Any:
        """Make the first state of a block, or read it."""

    @staticmethod
    @abstractmethod
    def checkpoint(state: Any) -> Checkpoint:
        """Lay the first state out for the store."""

    @staticmethod
    @abstractmethod
    def restore(checkpoint: Checkpoint) -> Any:
        """Give the first state back, to the bit."""

    @abstractmethod
    def keep(self, state: Any) -> Checkpoint:
        """Lay the states after the stage `kept` out for the store."""

    @abstractmethod
    def bring_back(self, checkpoint: Checkpoint, before: Any, settings: Settings) -> Any:
        """Give the states after the stage `kept` back, for those of its events that are in the state before it."""

    @abstractmethod
    def objects(self, state: Any) -> dict[str, NDArray[Any]]:
        """Give the rows of the data set that the events of a first state make, whatever a view does with them."""

    @staticmethod
    @abstractmethod
    def object_column(name: str) -> Column:
        """Describe a column of the rows."""

    @staticmethod
    @abstractmethod
    def rows(state: Any) -> Objects:
        """Give the objects of a view's last state."""

    @classmethod
    def route(cls, cut: str, name: str) -> str:
        """Tell which stage a setting in `set:` belongs to, for a view cut before `cut`.

        One that no stage has is sent where a name is most like it, and refused there.
        """
        first = name.split(".")[0]
        stages = [stage for stage, card in cls.cards.items() if first in card.model_fields]
        later = cls.stages[cls.stages.index(cut) :]
        if not stages:
            names = {name: stage for stage in later if stage in cls.cards for name in cls.cards[stage].model_fields}
            return next((names[name] for name in get_close_matches(first, names, 1)), cut)
        return next((stage for stage in stages if stage in later), stages[-1])

    @classmethod
    def completed(
        cls,
        chain: Mapping[str, Mapping[str, Any]],
        where: str = "config",  # noqa: ARG003 - for lanes that look into it
    ) -> Mapping[str, Mapping[str, Any]]:
        """Add, to the nominal settings by stage, those of a stage that follow from another's; most lanes have none.

        Raises
        ------
        UserError
            If what they follow from is wrong.
        """
        return chain

    @classmethod
    def resolved(cls, stage: str, settings: Settings) -> Any:
        """Give all that a stage's numbers depend on: its settings with their defaults, and the revision of its code."""
        return [cls.revisions[stage], card_of(cls.cards[stage], settings).model_dump(mode="json")]

    @classmethod
    def software(cls) -> dict[str, str]:
        """Versions of the packages that the numbers depend on."""
        return {package: version(package) for package in cls.packages}

    @classmethod
    def check(cls, stage: str, settings: Mapping[str, Any], where: str) -> None:
        """Check the settings of a stage.

        Raises
        ------
        UserError
            Naming the place, the setting and what is allowed.
        """
        card_of(cls.cards[stage], settings_of(settings), where)

    @staticmethod
    @abstractmethod
    def library() -> Mapping[str, Mapping[str, Any]]:
        """Give the settings of the first stage that a sample can name with `process`."""

    @staticmethod
    @abstractmethod
    def check_path(path: Sequence[Step], changes: Collection[str], where: str) -> None:
        """Check what the settings of a view's stages need of each other.

        Parameters
        ----------
        changes
            The settings that the view sets; for nominal, those of `chain`.

        Raises
        ------
        UserError
            If some would do nothing.
        """

    @staticmethod
    @abstractmethod
    def check_sample(config: Config, sample: str, where: str) -> None:
        """Check what a sample needs beside valid settings.

        Raises
        ------
        UserError
            If its events cannot be made.
        """
