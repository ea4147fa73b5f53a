"""The typed contract of config.yaml, simulation side. `resim schema` prints it as a JSON schema."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from resim.typed import parse, read_yaml

NAME = re.compile(r"^[a-z][a-z0-9_]{0,39}$")
Name = Annotated[str, Field(pattern=NAME.pattern)]
SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
Scalar = bool | int | float | str
Value = Scalar | list[Scalar | list[Scalar]]
"""What a setting may be: a word or number, a list of them, or a list of lists."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Splits(_Model):
    """Shares of events. Which split an event falls in depends on its key alone."""

    train: float = Field(0.5, ge=0, le=1, description="share of events that networks are trained on")
    validation: float = Field(0.1, ge=0, le=1, description="share of events for choices made while training")
    test: float = Field(0.4, ge=0, le=1, description="share of events that figures are quoted on")

    @model_validator(mode="after")
    def _add_up(self) -> "Splits":
        if abs(self.train + self.validation + self.test - 1) > 1e-9:
            raise ValueError("train + validation + test must be 1")
        return self


class Sample(_Model):
    """A hard process and how many events of it."""

    events: int = Field(
        ge=1, le=10**9, description="number of events; rounded up to whole blocks is not done: give whole blocks"
    )
    process: str | None = Field(None, description="a hard process of the lane's library; `resim processes` lists them")
    hard: dict[str, Value] = Field(
        default_factory=dict, description="settings of the hard process (jets: Pythia's words); laid over `process`"
    )


class ViewConfig(_Model):
    """An intervention: where to cut, what to change from there on, how often."""

    cut: str | None = Field(None, alias="from", description="stage to cut before; it and all later stages run again")
    set: dict[str, Value] = Field(default_factory=dict, description="settings of the re-run stages that change")
    replicas: int = Field(
        1, ge=1, le=1000, description="independent repetitions; more than one are named NAME_1, NAME_2 ..."
    )
    splits: tuple[SplitName, ...] = Field(
        SPLITS, min_length=1, description="make the view for events of these splits only"
    )


class Config(_Model):
    """What is simulated. The sections `training` and `evaluation` are checked by `resim-train`."""

    lane: Literal["jets"] = Field("jets", description="which chain: a folder of resim/")
    seed: int = Field(20260101, ge=0, lt=2**63, description="root of every random number")
    block_size: int = Field(100, ge=1, le=10_000, description="events a block: unit of seeding, memory and digests")
    events_per_part: int = Field(500, ge=1, description="events a part (a job); whole blocks; no effect on the numbers")
    splits: Splits = Splits()
    samples: dict[Name, Sample] = Field(min_length=1)
    chain: dict[str, dict[str, Value]] = Field(default_factory=dict, description="nominal settings by stage")
    views: dict[Name, ViewConfig] = Field(description="interventions by name; `nominal` has none")
    training: Any = Field(None, description="read by resim-train")
    evaluation: Any = Field(None, description="read by resim-train")

    @field_validator("views")
    @classmethod
    def _has_plain_nominal(cls, views: dict[str, ViewConfig]) -> dict[str, ViewConfig]:
        if views.get("nominal") != ViewConfig():
            raise ValueError("there must be a view `nominal: {}`, with nothing in it: it is the chain as it stands")
        without = [name for name, view in views.items() if name != "nominal" and view.cut is None]
        if without:
            raise ValueError(f"view {without[0]!r} has no `from`: name the stage to cut before")
        for name, view in views.items():
            taken = views.keys() & set(replica_names(name, view.replicas)) - {name}
            if taken:
                raise ValueError(f"replicas of {name!r} would be named {min(taken)}, as another view is; rename one")
        return views

    @model_validator(mode="after")
    def _whole_blocks(self) -> "Config":
        check_whole_blocks("events_per_part", self.events_per_part, self.block_size)
        for name, sample in self.samples.items():
            check_whole_blocks(f"samples.{name}.events", sample.events, self.block_size)
        return self


def replica_names(name: str, replicas: int) -> list[str]:
    """Name the views that replicas make: one keeps the name, more are numbered from 1."""
    return [name] if replicas == 1 else [f"{name}_{i + 1}" for i in range(replicas)]


def check_whole_blocks(what: str, events: int, block_size: int) -> None:
    """Refuse a number of events that cuts a block in two.

    Raises
    ------
    ValueError
        Naming the two nearest numbers that are allowed.
    """
    if events % block_size:
        below = events - events % block_size
        near = f"{below} or {below + block_size}" if below else f"{block_size}"
        raise ValueError(
            f"{what} = {events} is not whole blocks of {block_size} events; use {near}, or change block_size"
        )


def load_config(path: Path) -> Config:
    """Read and check a config file; mistakes are `UserError`s that name file, key and what is allowed."""
    return parse(Config, read_yaml(path), str(path))
