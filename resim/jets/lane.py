"""The jets lane: binds its stages for the core."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from resim import engines
from resim.chain import Draw, FusedStage, Settings, Stage, Step, View, first_values, settings_of
from resim.config import Config, Engine
from resim.errors import UserError
from resim.interop.files import file_digest
from resim.jets import engine, external, hard, kept, pileup, pythia
from resim.jets.cards import DetectorSettings, detector_settings
from resim.jets.clustering import JetSettings, from_hard_vertex, make_objects
from resim.jets.detector import check_dead, detect
from resim.jets.features import FEATURES, JET_COLUMNS
from resim.jets.pileup import PileupSettings, overlay, read_pool
from resim.jets.states import Candidates, Hadrons, HardEvents, Records
from resim.jets.truth import OBJECT_COLUMNS, object_table
from resim.keys import Stream, stream
from resim.lane import Lane, Objects
from resim.store import Checkpoint, Column, Schema
from resim.store.tables import SLOTS
from resim.typed import card_of, nested, read_yaml


class Detector:
    """The stage that turns stable particles into energy-flow candidates."""

    def run(self, state: Hadrons, settings: Settings, stream: Stream) -> Candidates:
        """Pass a block through the detector."""
        return detect(state, _card(DetectorSettings, settings), stream)


class Pileup:
    """The stage that lays pile-up over the events."""

    def __init__(self, path: Path | None, wanted: str) -> None:
        self._path, self._wanted = path, wanted

    def run(self, state: Hadrons, settings: Settings, stream: Stream) -> Hadrons:
        """Overlay a block; without any pile-up where mu is 0."""
        card = _card(PileupSettings, settings)
        if card.mu == 0:
            return replace(state, pileup=None)
        if self._path is None:
            raise UserError("pile-up is asked for (mu > 0) and no pool is given; add --pool, made with `resim pool`")
        return overlay(state, card, read_pool(self._path, self._wanted), stream)


class Jets:
    """The stage that finds the jets and matches them to hard partons."""

    def run(self, state: Candidates, settings: Settings, stream: Stream) -> "FoundJets":
        """Cluster a block; there is nothing random in it."""
        card = _card(JetSettings, settings)
        return FoundJets(state.event, make_objects(from_hard_vertex(state, card), card), state.hadrons.hard.variations)


class FoundJets:
    """The last state: the objects, with the events that came this far (a jet may be missing, its event not)."""

    def __init__(self, event: NDArray[np.int64], objects: Objects, weights: Mapping[str, NDArray[np.float64]]) -> None:
        self.event = event
        self.objects = objects
        self.weights = weights
        """Of the events, by name: what turns them into a variation of the shower."""

    def take(self, rows: NDArray[Any]) -> "FoundJets":
        """Select events by index or mask."""
        event = self.event[rows]
        mine = np.isin(self.objects.object // SLOTS, event)
        weights = {name: values[rows] for name, values in self.weights.items()}
        return FoundJets(event, self.objects if mine.all() else self.objects.take(mine), weights)

    @classmethod
    def join(cls, pieces: "Sequence[FoundJets]") -> "FoundJets":
        """Put pieces behind each other."""
        objects = Objects.join([piece.objects for piece in pieces])
        weights = {n: np.concatenate([piece.weights[n] for piece in pieces]) for n in pieces[0].weights}
        return cls(np.concatenate([piece.event for piece in pieces]), objects, weights)


class JetsLane(Lane):
    """Hard process, shower, hadronization, decays, pile-up, detector, jets."""

    name = "jets"
    stages = ("hard", "shower", "hadronization", "decays", "pileup", "detector", "jets")
    fused = engine.STAGES
    kept = "shower"
    replaced = external.REPLACED
    cards: ClassVar[Mapping[str, type[BaseModel]]] = {
        "pileup": PileupSettings,
        "detector": DetectorSettings,
        "jets": JetSettings,
    }
    schema = Schema(tuple(Column(*c) for c in JET_COLUMNS), tuple(Column(*f) for f in FEATURES))
    common = ("object_pt_min", "object_eta_max")
    revisions: ClassVar[Mapping[str, int]] = dict.fromkeys((*stages, engines.STAGE), 1) | {"detector": 3, "jets": 3}
    packages = ("pythia8mc", "fastjet", "numpy", "numba", "scipy", "awkward")

    def __init__(self, config: Config, sample: str, pool: Path | None = None) -> None:
        self._sample, self._seed, self._block_size = sample, config.seed, config.block_size
        self.root_settings = hard_settings(config, sample)
        path = config.samples[sample].lhe
        self._file = None if path is None else hard.opened(Path(path), float(self.root_settings[pythia.ENERGY]))
        self._objects = _card(JetSettings, settings_of(config.chain.get("jets", {})))
        self.energy = float(self.root_settings[pythia.ENERGY])
        self.inherited = tuple(
            (k, v)
            for k, v in self.root_settings.items()
            if k.startswith(pythia.INHERITED) or pythia.is_particle_data(k)
        )
        pythia_run = engine.Pythia(self.energy, self.inherited)
        self._external = external.External()
        self._engine = config.samples[sample].engine
        self._pool = pool_recipe(config)
        self.runs: Mapping[str, Stage] = {
            "decays": pythia_run,
            "pileup": Pileup(pool, self._pool),
            "detector": Detector(),
            "jets": Jets(),
            engines.STAGE: self._external,
        }
        self.fused_runs: Mapping[str, FusedStage] = {"shower": pythia_run, "hadronization": pythia_run}

    @property
    def source_digest(self) -> str | None:
        """Digest of the file that the hard processes are read from, if they are."""
        return file_digest(self._file.path) if self._file else None

    def pool_recipe(self, view: View) -> str | None:
        """Digest what the pool of pile-up depends on, for a view that has some."""
        settings: Settings = next((step.settings for step in view.path if step.stage == "pileup"), ())
        mu = dict(settings).get("mu", 0)
        return self._pool if (max(mu.given) if isinstance(mu, Draw) else mu) else None

    def send(self, state: HardEvents | Hadrons, path: Path) -> None:
        """Write a state for an engine."""
        external.write_outgoing(state, path, self.energy)

    def receive(self, draws: Stream, path: Path, engine: Engine, events: NDArray[np.int64]) -> None:
        """Read what an engine gave for these events."""
        self._external.receive(draws, path, engine, events)

    def source(self, block: int) -> HardEvents:
        """Make the hard processes of a block, or read them."""
        if self._engine:
            events = np.arange(self._block_size, dtype=np.int64) + block * self._block_size
            return self._external.hard(stream(self._seed, self._sample, engines.STAGE), events)
        if self._file is None:
            return hard.generate(self.root_settings, self._seed, self._sample, block, self._block_size)
        draws = stream(self._seed, self._sample, self.stages[0])
        return hard.read(self._file, self.root_settings, draws, self.energy, block, self._block_size)

    @staticmethod
    def checkpoint(state: HardEvents) -> Checkpoint:
        """Lay the hard processes out for the store."""
        return hard.to_checkpoint(state)

    @staticmethod
    def restore(checkpoint: Checkpoint) -> HardEvents:
        """Give the hard processes back, to the bit."""
        return hard.from_checkpoint(checkpoint)

    def keep(self, state: Records) -> Checkpoint:
        """Lay the states after the stage `kept` out for the store."""
        return kept.to_checkpoint(state, self.energy)

    def bring_back(self, checkpoint: Checkpoint, before: HardEvents, settings: Settings) -> Records:
        """Give the states after the stage `kept` back, for those of its events that are in the state before it."""
        found = checkpoint.take(np.isin(checkpoint.events["event"], before.event))
        hard = before.take(np.isin(before.event, found.events["event"]))
        return kept.from_checkpoint(found, hard, (*self.inherited, *settings))

    def objects(self, state: HardEvents) -> dict[str, NDArray[Any]]:
        """Give the rows of the data set that these hard processes make, whatever a view does with them."""
        table = object_table(state, self._objects)
        event = np.searchsorted(state.event, table["event"])
        return table | {name: values[event] for name, values in state.further.items()}

    @staticmethod
    def object_column(name: str) -> Column:
        """Describe a column of the rows."""
        known = {column[0]: Column(*column) for column in OBJECT_COLUMNS}
        return known.get(name) or hard.further_column(name)

    @staticmethod
    def rows(state: FoundJets) -> Objects:
        """Give the objects of a view's last state."""
        return state.objects

    @classmethod
    def route(cls, cut: str, name: str) -> str:
        """Tell which stage a setting in `set:` belongs to, for a view cut before `cut`; Pythia's have a colon."""
        if name == "card":  # no field of the detector's card: it says which card
            return "detector"
        if ":" not in name:
            return super().route(cut, name)
        stages = pythia.stages_of(name)
        return next((stage for stage in stages if cls.stages.index(stage) >= cls.stages.index(cut)), stages[-1])

    @classmethod
    def resolved(cls, stage: str, settings: Settings) -> Any:
        """Give all that a stage's numbers depend on; Pythia's settings as they are."""
        card = cls.cards.get(stage)
        full = _card(card, settings).model_dump(mode="json") if card else settings
        return [cls.revisions[stage], full]

    @classmethod
    def check(cls, stage: str, settings: Mapping[str, Any], where: str) -> None:
        """Check the settings of a stage, those of Pythia by asking it."""
        if stage in cls.cards:
            card = _card(cls.cards[stage], settings_of(settings), where)
            if isinstance(card, DetectorSettings):
                check_dead(card, where)
            return
        pythia.check_settings(settings, where)
        for name in settings:
            allowed = pythia.stages_of(name)
            if stage not in allowed:
                raise UserError(f"{where}: {name!r} does not act on the stage {stage!r}; it belongs to {allowed[0]!r}")

    @staticmethod
    def library() -> Mapping[str, Mapping[str, Any]]:
        """Give the library of hard processes."""
        return processes()

    @staticmethod
    def check_path(path: Sequence[Step], changes: Collection[str], where: str) -> None:  # noqa: ARG004 - a lane's
        """Check what the settings of a view's stages need of each other.

        Raises
        ------
        UserError
            If its strings are to be ropes and the shower sets no vertices: Pythia does nothing then, and says nothing.
        """
        steps = {step.stage: dict(first_values(step.settings)) for step in path if step.stage in engine.STAGES}
        ropes, vertices = "Ropewalk:RopeHadronization", "PartonVertex:setVertex"
        if "shower" not in steps or not pythia.is_on(steps.get("hadronization", {}).get(ropes, False)):
            return
        if not pythia.is_on(steps["shower"].get(vertices, False)):
            raise UserError(
                f"{where}: {ropes} does nothing without the vertices of partons; set `{vertices}: on` in chain.shower, "
                "or in a view that it names as its base"
            )

    @staticmethod
    def check_sample(config: Config, sample: str, where: str) -> None:
        """Check what a sample needs beside valid settings.

        Raises
        ------
        UserError
            If its process is not in the library, or it has no process at all, or no energy.
        """
        wanted, library = config.samples[sample], processes()
        if wanted.edep is not None:
            raise UserError(f"{where}.edep: is for the lane lartpc; give process, set, lhe or engine")
        if wanted.engine is not None:
            _check_engine(config, sample, where)
            return
        if wanted.process is not None and wanted.process not in library:
            raise UserError(f"{where}.process: there is no {wanted.process!r}; the library has {', '.join(library)}")
        if wanted.process is None and wanted.lhe is None and not wanted.set:
            raise UserError(f"{where}: has neither process, set nor lhe; give one, `resim processes` lists the library")
        if wanted.lhe is not None and not Path(wanted.lhe).is_file():
            raise UserError(f"{where}.lhe: there is no file {wanted.lhe}; give one that exists")
        if wanted.lhe is not None and wanted.process is not None:
            raise UserError(f"{where}: has both process and lhe; keep one (set says how resonances of the file decay)")
        cuts = [name for name in wanted.set if wanted.lhe and name.startswith("PhaseSpace:")]
        if cuts:
            raise UserError(f"{where}.set: {cuts[0]!r} does not act on events of a file; remove the line")
        if pythia.ENERGY not in hard_settings(config, sample):
            raise UserError(f"{where}.set: {pythia.ENERGY} (GeV) is missing; set it in chain.hard")


def _check_engine(config: Config, sample: str, where: str) -> None:
    """Check a sample whose events an engine makes."""
    wanted = config.samples[sample]
    if wanted.process is not None or wanted.lhe is not None or wanted.set:
        raise UserError(f"{where}: has engine beside process, lhe or set; the engine makes whole events: keep it")
    if pythia.ENERGY not in hard_settings(config, sample):
        raise UserError(f"{where}: {pythia.ENERGY} (GeV) is missing; set it in chain.hard")


@lru_cache(maxsize=1)
def processes() -> dict[str, dict[str, Any]]:
    """Give the library of hard processes: name -> Pythia settings."""
    return read_yaml(Path(__file__).with_name("processes.yaml"))


def hard_settings(config: Config, sample: str) -> dict[str, Any]:
    """Lay the settings of a sample's hard process over those of its process, and these over what all samples share."""
    wanted = config.samples[sample]
    named = processes()[wanted.process] if wanted.process else {}
    merged = {**config.chain.get("hard", {}), **named, **wanted.set}
    # cuts in phase space are for what Pythia itself makes, and it refuses some of them with a file
    return {name: v for name, v in merged.items() if not (wanted.lhe and name.startswith("PhaseSpace:"))}


def pool_settings(config: Config) -> dict[str, Any]:
    """Give Pythia's settings for pile-up: its process, and the chain's beams, tune and decays."""
    energy = {pythia.ENERGY: config.chain.get("hard", {}).get(pythia.ENERGY)}
    nominal = {name: value for stage in engine.STAGES for name, value in config.chain.get(stage, {}).items()}
    return {**energy, **nominal, **config.pileup.hard}


def pool_recipe(config: Config) -> str:
    """Digest all that the numbers of the pool of pile-up depend on."""
    return pileup.recipe(pool_settings(config), config.pileup.events, config.seed)


@lru_cache(maxsize=64)
def _card(model: type[Any], settings: Settings, where: str = "settings") -> Any:
    """Fill a settings model from dotted names; a detector's is laid over the card that it names."""
    if model is DetectorSettings:
        return detector_settings(nested(settings, where), where)
    return card_of(model, settings, where)  # type: ignore[arg-type]
