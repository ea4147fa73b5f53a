"""The typed contract of config.yaml, simulation side. `resim schema` prints it as a JSON schema."""

import re
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from resim.chain import Draw
from resim.typed import parse, read_yaml

NAME = re.compile(r"^[a-z][a-z0-9_]{0,39}$")
Name = Annotated[str, Field(pattern=NAME.pattern)]
SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
Scalar = bool | int | float | str | None
MAX_EVENTS = 10**9  # of a sample; Pythia has seeds for 900 million blocks of them, see `keys.block_seed`


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Drawn(_Model):
    """A setting that is drawn for each event, by its key, from one of these; what was drawn is stored with the view."""

    uniform: tuple[float, float] | None = Field(None, description="[low, high], evenly")
    log_uniform: tuple[float, float] | None = Field(None, description="[low, high] > 0, evenly in the logarithm")
    choose: tuple[float, ...] | None = Field(None, min_length=2, description="these numbers, each as often")
    values: int | None = Field(
        None,
        ge=2,
        le=64,
        description="a range is cut into so many equal steps, whose middles are drawn; null: 8 where an engine "
        "starts anew for each, else any number in the range",
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> "Drawn":
        given = [name for name in ("uniform", "log_uniform", "choose") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of uniform, log_uniform and choose, not {' and '.join(given) or 'none'}")
        for name in ("uniform", "log_uniform"):
            low, high = getattr(self, name) or (1.0, 2.0)
            if not (low < high and (name == "uniform" or low > 0)):
                raise ValueError(f"{name} must rise{'' if name == 'uniform' else ' and be positive'}: [{low}, {high}]")
        return self

    def draw(self) -> Draw:
        """Give the values to draw from."""
        kind = next(name for name in ("choose", "uniform", "log_uniform") if getattr(self, name) is not None)
        return Draw(kind, getattr(self, kind), None if kind == "choose" else self.values)


def _kind_of_value(value: Any) -> str:
    if isinstance(value, dict | Drawn):
        return "drawn"
    return "list" if isinstance(value, list | tuple) else "scalar"


Value = Annotated[
    Annotated[Scalar, Tag("scalar")]
    | Annotated[list[Scalar | list[Scalar]], Tag("list")]
    | Annotated[Drawn, Tag("drawn")],
    Discriminator(_kind_of_value),
]
"""What a setting may be: a word or number, a list, a list of lists, or a range to draw from."""


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


Role = Literal["any", "evaluation"]
_ROLE = "evaluation: held out, made for the test split alone, and refused wherever something is trained"


PLACEHOLDERS = ("input", "output", "seed", "part_seed", "first", "stop", "events", "scratch", "work")
_PLACEHOLDER = re.compile(r"(?<!\$)\{(\w+)\}")  # ${...} is the shell's, {} is find's and xargs's
_IN_AND_OUT = (("lhe", "hepmc3"), ("hepmc3", "delphes_root"), ("none", "hepmc3"))


class Engine(_Model):
    """A program that runs by itself: how it is called, what it takes and what it gives (docs/engines.md)."""

    command: str = Field(description=f"shell command, with {', '.join(f'{{{word}}}' for word in PLACEHOLDERS)}")
    input: Literal["lhe", "hepmc3", "none"] = Field(description="what it takes; none: it makes whole events by itself")
    output: Literal["hepmc3", "delphes_root"] = Field(description="what it gives")
    prepare: str | None = Field(None, description="shell command that fills the folder {scratch} once, for all parts")
    env: str | None = Field(None, description="conda environment (envs/x.yaml), in place of the project's own")
    minutes: float = Field(60, gt=0, le=10_000, description="longest run for a part; then it is ended")
    numbers: Literal["event", "order"] = Field(
        "event", description="event: what comes back has the event numbers that went out; order: it has their order"
    )
    may_lose: float = Field(
        0.0, ge=0, lt=1, description="share of a part's events that may be missing from what comes back"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "Engine":
        if (self.input, self.output) not in _IN_AND_OUT:
            pairs = ", ".join(" to ".join(pair) for pair in _IN_AND_OUT)
            raise ValueError(f"no engine makes {self.output} of {self.input}; allowed: {pairs}")
        if self.prepare is not None:
            _check_template("prepare", self.prepare, ("scratch", "seed"), ("scratch",))
        allowed = [word for word in PLACEHOLDERS if word != "input" or self.input != "none"]
        allowed = [word for word in allowed if word != "scratch" or self.prepare is not None]
        _check_template("command", self.command, allowed, ["output", *(["input"] if self.input != "none" else [])])
        return self


def _check_template(what: str, template: str, allowed: Collection[str], needed: Collection[str]) -> None:
    """Refuse a command that has other placeholders than those allowed, or lacks one that is needed."""
    found = _PLACEHOLDER.findall(template)
    unknown = [word for word in found if word not in allowed]
    lacking = [word for word in needed if word not in found]
    if unknown:
        known = ", ".join(f"{{{word}}}" for word in allowed)
        raise ValueError(
            f"{what}: there is no {{{unknown[0]}}} here; allowed: {known} (${{NAME}} and {{ WORD }} are the shell's)"
        )
    if lacking:
        raise ValueError(f"{what}: lacks {{{lacking[0]}}}, which says where it is; put it into the command")


def filled(template: str, values: Mapping[str, str]) -> str:
    """Put values, quoted for the shell, in place of the placeholders of a command."""
    return _PLACEHOLDER.sub(lambda found: shlex.quote(values[found[1]]), template)


class Source(_Model):
    """A data set that exists, in place of a simulation: one of ours, or published files, which are imported."""

    store: str | None = Field(None, description="folder of a data set of ours; its parts are read where they lie")
    rs3l: tuple[str, ...] | None = Field(None, min_length=1, description="HDF5 files of the RS3L layout, imported")
    images: tuple[str, ...] | None = Field(
        None, min_length=1, description="images (.npz) as of contrastive-neutrino, or folders of them, imported"
    )
    cubes: tuple[str, ...] | None = Field(
        None, min_length=1, description="events (.pt) of the segmented-cube set, or folders of them, imported"
    )
    truth_label: Literal[0, 1] | None = Field(None, description="rs3l: take the pairs with this label only")
    swap_leptons: bool = Field(False, description="rs3l: exchange columns 11 and 12")
    vartypes: dict[int, Name] = Field(default_factory=dict, description="rs3l: views of the codes, if others are meant")
    particle: Name | None = Field(None, description="images, cubes: take this class only, as electron")
    views: dict[Name, Name] = Field(default_factory=dict, description="images: views by other names: throw_15: nominal")
    crosstalk: dict[Name, Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=dict, description="cubes: view -> share of crosstalk hits that it has; nominal has all"
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> "Source":
        given = [kind for kind in SOURCES if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(SOURCES)}, not {' and '.join(given) or 'none'}")
        idle = sorted(self.model_fields_set - {given[0], *SOURCES[given[0]]} - SOURCES.keys())
        if idle:
            acts = " and ".join(kind for kind, options in SOURCES.items() if idle[0] in options)
            raise ValueError(f"{idle[0]} acts on {acts}, and {given[0]} is given; remove the line")
        return self

    @property
    def kind(self) -> str:
        """What it is: one of `SOURCES`."""
        return next(kind for kind in SOURCES if getattr(self, kind) is not None)

    @property
    def files(self) -> tuple[str, ...]:
        """Published files and folders; of a store none."""
        return () if self.kind == "store" else getattr(self, self.kind)


SOURCES: Mapping[str, tuple[str, ...]] = {
    "store": (),
    "rs3l": ("truth_label", "swap_leptons", "vartypes"),
    "images": ("particle", "views"),
    "cubes": ("particle", "crosstalk"),
}
"""Kind of a source -> the options that act on it."""


class Sample(_Model):
    """What the first stage makes and how many events of it, or a data set that exists."""

    events: int | None = Field(
        None,
        ge=1,
        le=MAX_EVENTS,
        description="number of events; rounded up to whole blocks is not done: give whole blocks",
    )
    process: str | None = Field(None, description="an entry of the lane's library; `resim processes` lists them")
    lhe: str | None = Field(
        None, description="a Les Houches file (.lhe, .lhe.gz) that the hard processes are read from"
    )
    edep: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="files of edep-sim (.root, or HDF5 of its dumpTree) that primaries and energy deposits are read "
        "from, in their order (lartpc)",
    )
    engine: Name | None = Field(None, description="the engine that makes its events, hard process and all that follows")
    role: Role = Field("any", description=_ROLE)
    source: Source | None = Field(None, description="a data set that takes the place of the simulation")
    set: dict[str, Value] = Field(
        default_factory=dict, description="settings of the first stage (jets: Pythia's words), laid over `process`"
    )

    @model_validator(mode="after")
    def _made_or_there(self) -> "Sample":
        if self.source is None and self.events is None:
            raise ValueError("events is missing: give their number, or a source")
        idle = sorted(self.model_fields_set - {"source", "role"})
        if self.source is not None and idle:
            raise ValueError(f"has a source, so {idle[0]} would not act; keep one of the two")
        return self


class ViewConfig(_Model):
    """An intervention: where to cut, what to change from there on, how often."""

    cut: str | None = Field(None, alias="from", description="stage to cut before; it and all later stages run again")
    base: Name = Field("nominal", description="the view that it is, up to its cut, and whose settings it changes")
    engine: Name | None = Field(None, description="the engine that stands in for the stages from the cut on, or some")
    set: dict[str, Value] = Field(default_factory=dict, description="settings of the re-run stages that change")
    replicas: int = Field(
        1, ge=1, le=1000, description="independent repetitions; more than one are named NAME_1, NAME_2 ..."
    )
    splits: tuple[SplitName, ...] = Field(
        SPLITS, min_length=1, description="make the view for events of these splits only"
    )
    role: Role = Field("any", description=_ROLE)

    @model_validator(mode="after")
    def _held_out(self) -> "ViewConfig":
        if self.role == "evaluation" and self.splits not in (SPLITS, ("test",)):
            raise ValueError("a view with role evaluation is made for the test split alone; leave out `splits`")
        return self

    @property
    def made_for(self) -> tuple[SplitName, ...]:
        """The splits that the view is made for."""
        return ("test",) if self.role == "evaluation" else self.splits


class PileupConfig(_Model):
    """The pool that pile-up is drawn from."""

    events: int = Field(5000, ge=500, multiple_of=500, description="collisions in the pool, each drawn many times")
    hard: dict[str, Scalar] = Field(
        {"SoftQCD:inelastic": True}, description="settings of the collisions (jets: Pythia's words)"
    )


def _behind_their_bases(views: dict[str, ViewConfig]) -> dict[str, ViewConfig]:
    """Order views so that each comes after its base; those of another config file come first to us."""
    placed, left = {"nominal": views["nominal"]}, {name: view for name, view in views.items() if name != "nominal"}
    while left:
        ready = {name: view for name, view in left.items() if view.base in placed and views[view.base].replicas == 1}
        if not ready:
            name, view = next(iter(left.items()))
            allowed = ", ".join(name for name, view in placed.items() if view.replicas == 1)
            raise ValueError(f"{name}.base: {view.base!r} is no view that it can start from; allowed: {allowed}")
        placed |= ready
        left = {name: view for name, view in left.items() if name not in ready}
    return placed


class Config(_Model):
    """What is simulated. The sections `training` and `evaluation` are checked by `resim-train`."""

    lane: Literal["jets", "lartpc"] = Field("jets", description="which chain: a folder of resim/")
    seed: int = Field(20260101, ge=0, lt=2**63, description="root of every random number")
    block_size: int = Field(100, ge=1, le=10_000, description="events a block: unit of seeding, memory and digests")
    events_per_part: int = Field(500, ge=1, description="events a part (a job); whole blocks; no effect on the numbers")
    splits: Splits = Splits()
    samples: dict[Name, Sample] = Field(min_length=1)
    pileup: PileupConfig = PileupConfig()
    checkpoint: Name | None = Field(
        None,
        description="stage whose states of nominal are kept in a part, beside those of the first, to add views later: "
        "jets: shower; lartpc: deposits",
    )
    engines: dict[Name, Engine] = Field(default_factory=dict, description="programs that run by themselves, by name")
    chain: dict[str, dict[str, Value]] = Field(default_factory=dict, description="nominal settings by stage")
    views: dict[Name, ViewConfig] = Field(description="interventions by name; `nominal` has none")
    training: Any = Field(None, description="read by resim-train")
    evaluation: Any = Field(None, description="read by resim-train")

    @field_validator("views")
    @classmethod
    def _has_plain_nominal(cls, views: dict[str, ViewConfig]) -> dict[str, ViewConfig]:
        if views.get("nominal") != ViewConfig():
            raise ValueError("there must be a view `nominal: {}`, with nothing in it: it is the chain as it stands")
        views = _behind_their_bases(views)
        for name, view in views.items():
            if views[view.base].role == "evaluation" and view.role != "evaluation":
                raise ValueError(f"{name}: its base {view.base!r} has role evaluation; give it `role: evaluation`, too")
        without = [name for name, view in views.items() if name != "nominal" and view.cut is None]
        if without:
            raise ValueError(f"view {without[0]!r} has no `from`: name the stage to cut before")
        for name, view in views.items():
            taken = views.keys() & set(replica_names(name, view.replicas)) - {name}
            if taken:
                raise ValueError(f"replicas of {name!r} would be named {min(taken)}, as another view is; rename one")
        return views

    @model_validator(mode="after")
    def _engines_are_there(self) -> "Config":
        named = {f"samples.{name}": sample.engine for name, sample in self.samples.items()}
        named |= {f"views.{name}": view.engine for name, view in self.views.items()}
        for where, name in named.items():
            if name is None:
                continue
            if name not in self.engines:
                raise ValueError(f"{where}.engine: there is no engine {name!r}; engines: {', '.join(self.engines)}")
            if where.startswith("samples") != (self.engines[name].input == "none"):
                wanted = "input none" if where.startswith("samples") else "input lhe or hepmc3"
                raise ValueError(f"{where}.engine: {name!r} has input {self.engines[name].input}; give one of {wanted}")
        return self

    @model_validator(mode="after")
    def _whole_blocks(self) -> "Config":
        check_whole_blocks("events_per_part", self.events_per_part, self.block_size)
        for name, sample in self.samples.items():
            if sample.events is not None:
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
