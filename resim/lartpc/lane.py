"""The LArTPC lane: binds its stages for the core."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from resim.chain import Settings, Stage, Step, View, first_values, middle_values, settings_of
from resim.config import Config
from resim.errors import UserError
from resim.keys import Stream, stream
from resim.lane import Lane, Objects
from resim.lartpc import charge, deposits, gun, pixels, readout, voxels
from resim.lartpc.edep import EdepFiles
from resim.lartpc.geometry import geometry
from resim.lartpc.states import SEGMENT_COLUMNS, Deposits, Images, Primaries
from resim.ragged import Ragged, offsets_of
from resim.store import Checkpoint, Column, Schema
from resim.store.tables import SLOTS
from resim.typed import card_of

_OBJECT_COLUMNS = (
    Column("pdg", "", "PDG id of the primary"),
    Column("kinetic_energy", "MeV", "of the primary"),
    *(Column(f"vertex_{axis}", "cm", "where it starts; x drift, y up, z beam") for axis in "xyz"),
    *(Column(f"direction_{axis}", "", "unit vector of its momentum") for axis in "xyz"),
)
_ENERGIES = ("escaped", "invisible")


Run = Callable[[Any, Any, Mapping[str, NDArray[np.float64]], Stream], Any]


class _Stage:
    """A stage that is one function of state, card, what events drew, and random numbers."""

    def __init__(self, card: type[BaseModel], run: Run) -> None:
        self._card, self._run = card, run

    def run(self, state: Any, settings: Settings, stream: Stream) -> Any:
        """Run a block; settings that are arrays have a number for each event."""
        drawn = {name: value for name, value in settings if isinstance(value, np.ndarray)}
        card = card_of(self._card, tuple((name, value) for name, value in settings if name not in drawn))
        return self._run(state, card, drawn, stream)


class LArTPCLane(Lane):
    """Particle gun, energy deposits, charge, pixels, readout, voxels."""

    name = "lartpc"
    stages = ("gun", "deposits", "charge", "pixels", "readout", "voxels")
    kept = "deposits"
    cards: ClassVar[Mapping[str, type[BaseModel]]] = {
        "gun": gun.GunSettings,
        "deposits": deposits.DepositSettings,
        "charge": charge.ChargeSettings,
        "pixels": pixels.PixelSettings,
        "readout": readout.ReadoutSettings,
        "voxels": voxels.VoxelSettings,
    }
    schema = Schema(
        tuple(Column(*column) for column in voxels.IMAGE_COLUMNS),
        tuple(Column(*column) for column in voxels.VOXEL_FEATURES),
    )
    common = ("geometry", "world_centre", "world_half_size")
    by_event: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "charge": charge.THROWN,
        "readout": readout.THROWN,
    }
    revisions: ClassVar[Mapping[str, int]] = dict.fromkeys(stages, 1) | {"deposits": 2}
    packages = ("numpy", "numba", "scipy")

    def __init__(self, config: Config, sample: str, pool: Path | None = None) -> None:
        self._block_size = config.block_size
        files = config.samples[sample].edep
        self._files = None if files is None else EdepFiles(files)
        self.root_settings = {} if files else gun_settings(config, sample)
        self._stream = stream(config.seed, sample, self.stages[0])
        layout = geometry(card_of(charge.ChargeSettings, settings_of(config.chain.get("charge", {}))).geometry)
        functions: dict[str, Run] = {
            "deposits": lambda state, card, _, draws: self._deposits(state, card, draws),
            "charge": charge.charge,
            "pixels": lambda state, card, _, draws: pixels.pixels(state, card, layout, draws),
            "readout": lambda state, card, drawn, draws: readout.readout(state, card, drawn, layout, draws),
            "voxels": lambda state, card, *_: voxels.voxels(state, card, layout),
        }
        self.runs: Mapping[str, Stage] = {stage: _Stage(self.cards[stage], run) for stage, run in functions.items()}
        self.fused_runs = {}

    def pool_recipe(self, view: View) -> str | None:
        """Tell that no view draws from a pool."""
        return None

    @property
    def source_digest(self) -> str | None:
        """Digest of the files that the deposits are read from, if they are."""
        return self._files.digest if self._files else None

    def _deposits(self, state: Primaries, card: Any, draws: Stream) -> Deposits:
        """Follow the primaries, or take what files have of them."""
        if self._files is None or not len(state.event):
            return deposits.deposit(state, card, draws)
        found = self._files.read(int(state.event[0]), int(state.event[-1]) + 1)
        return found.take(np.isin(found.event, state.event))

    def source(self, block: int) -> Primaries:
        """Shoot a block of particles, or read them."""
        first = block * self._block_size
        if self._files:
            return self._files.read(first, first + self._block_size).primaries
        events = np.arange(self._block_size, dtype=np.int64) + first
        return gun.shoot(card_of(gun.GunSettings, settings_of(self.root_settings)), self._stream, events)

    @staticmethod
    def checkpoint(state: Primaries) -> Checkpoint:
        """Lay the primaries out for the store."""
        events = {"event": state.event, **_flat(state)}
        return Checkpoint(events, np.zeros(len(state.event) + 1, np.int64), {}, (_EVENT, *_OBJECT_COLUMNS))

    @staticmethod
    def restore(checkpoint: Checkpoint) -> Primaries:
        """Give the primaries back, to the bit."""
        events = checkpoint.events
        vectors = [np.stack([events[f"{what}_{axis}"] for axis in "xyz"], axis=1) for what in ("vertex", "direction")]
        return Primaries(events["event"], events["pdg"], events["kinetic_energy"], *vectors)

    def keep(self, state: Deposits) -> Checkpoint:
        """Lay the deposits out for the store."""
        events = {"event": state.event, **{name: getattr(state, name) for name in _ENERGIES}}
        return Checkpoint(events, state.segments.offsets, state.segments.columns, _KEPT_COLUMNS)

    def bring_back(self, checkpoint: Checkpoint, before: Primaries, settings: Settings) -> Deposits:
        """Give the deposits back, for those of their events that are in the state before them."""
        found = checkpoint.take(np.isin(checkpoint.events["event"], before.event))
        primaries = before.take(np.isin(before.event, found.events["event"]))
        energies = [found.events[name] for name in _ENERGIES]
        return Deposits(found.events["event"], primaries, Ragged(found.offsets, found.particles), *energies)

    def objects(self, state: Primaries) -> dict[str, NDArray[Any]]:
        """Give the rows of the data set: an image an event."""
        weight = np.ones(len(state.event))
        return {"object": SLOTS * state.event, "event": state.event, "weight": weight, **_flat(state)}

    @staticmethod
    def object_column(name: str) -> Column:
        """Describe a column of the rows."""
        return next(column for column in _OBJECT_COLUMNS if column.name == name)

    @staticmethod
    def rows(state: Images) -> Objects:
        """Give the images that hold a voxel; without one there is nothing to be seen of an event."""
        # Not state.take, which would copy all that the images were made from.
        counts = np.diff(state.voxels.offsets)
        filled = np.flatnonzero(counts)
        features = np.stack([state.voxels[name] for name, _, _ in voxels.VOXEL_FEATURES], axis=1)
        constituents = Ragged(offsets_of(counts[filled]), {"features": features})
        return Objects(SLOTS * state.event[filled], voxels.image_columns(state)[filled], constituents)

    @staticmethod
    def library() -> Mapping[str, Mapping[str, Any]]:
        """Give what the gun can be told to shoot by one name."""
        return gun.library()

    @classmethod
    def resolved(cls, stage: str, settings: Settings) -> Any:
        """Give all that a stage's numbers depend on; of primaries that are read the files, which have a digest."""
        if stage == cls.stages[0] and not settings:
            return [cls.revisions[stage]]
        return super().resolved(stage, settings)

    @classmethod
    def check(cls, stage: str, settings: Mapping[str, Any], where: str) -> None:
        """Check the settings of a stage; those of the gun that all samples share say of no particle."""
        some = {"particle": "e-", "kinetic_energy": (1.0, 1.0)} if stage == cls.stages[0] else {}
        super().check(stage, some | dict(settings), where)

    @classmethod
    def completed(
        cls, chain: Mapping[str, Mapping[str, Any]], where: str = "config"
    ) -> Mapping[str, Mapping[str, Any]]:
        """Add the argon's box, which the geometry has, and what hits are read by: velocity and counts of this chain.

        Of what the chain draws, the middle is taken.

        Raises
        ------
        UserError
            If the charge's or the electronics' settings are wrong.
        """

        def settings(stage: str) -> Settings:
            return middle_values(settings_of(chain.get(stage, {})))

        drift = card_of(charge.ChargeSettings, settings("charge"), f"{where}: chain.charge")
        electronics = card_of(readout.ReadoutSettings, settings("readout"), f"{where}: chain.readout")
        centre, half = geometry(drift.geometry).argon()
        follows: dict[str, dict[str, Any]] = {
            "deposits": {"world_centre": centre, "world_half_size": half},
            "voxels": voxels.nominal(drift, electronics),
        }
        return {**chain, **{stage: _laid_over(values, chain.get(stage, {})) for stage, values in follows.items()}}

    @staticmethod
    def check_path(path: Sequence[Step], changes: Collection[str], where: str) -> None:
        """Check that what a view sets does something.

        Raises
        ------
        UserError
            If it is a constant of the other model of recombination, a pixel that is not there, or nothing at all where
            the chain's own is taken already.
        """
        settings = {step.stage: first_values(step.settings) for step in path}
        drift = card_of(charge.ChargeSettings, settings["charge"], where)
        other = {"birks": "box", "box": "birks"}[drift.recombination]
        for name in (name for name in changes if name.startswith(f"{other}_")):
            why = f"{name!r} does nothing with `recombination: {drift.recombination}`"
            raise UserError(f"{where}: {why}; set `recombination: {other}` with it, or remove the line")
        known = geometry(drift.geometry).pixels
        for pixel in card_of(readout.ReadoutSettings, settings["readout"], where).dead_pixels:
            if pixel >= known:
                allowed = f"{drift.geometry!r} has 0 to {known - 1}"
                raise UserError(f"{where}: dead_pixels: there is no pixel {pixel}; {allowed}; remove it")
        for name, value in settings["voxels"]:
            if value is None and name in ("velocity", "calibration"):
                raise UserError(f"{where}: {name}: null is what the view has anyway; remove the line, or give a number")

    @staticmethod
    def check_sample(config: Config, sample: str, where: str) -> None:
        """Check that a sample says what is shot.

        Raises
        ------
        UserError
            If its process is not in the library, or it has none and no particle; if its vertices leave the argon, files
            are not there, or something would not act.
        """
        wanted, library = config.samples[sample], gun.library()
        for word in ("lhe", "engine"):
            if getattr(wanted, word) is not None:
                raise UserError(f"{where}.{word}: is for the lane jets; give process, set or edep")
        if wanted.edep is not None:
            _check_edep(config, sample, where)
            return
        if wanted.process is not None and wanted.process not in library:
            raise UserError(f"{where}.process: there is no {wanted.process!r}; the library has {', '.join(library)}")
        if "particle" not in gun_settings(config, sample):
            raise UserError(f"{where}: says of no particle; give process, `resim processes` lists the library")
        settings = gun_settings(config, sample)
        card = card_of(gun.GunSettings, settings_of(settings), f"{where}.set")
        if card.direction == "isotropic" and "opening_angle" in settings:
            why = "'opening_angle' does nothing with `direction: isotropic`"
            raise UserError(f"{where}.set: {why}; set `direction: beam` with it, or remove it, also from chain.gun")
        _check_vertices(config, card, where)


def _laid_over(values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Lay what a config gives over values; null leaves them."""
    names = {name.split(".")[0] for name in values}
    return {**values, **{name: value for name, value in given.items() if value is not None or name not in names}}


def _check_vertices(config: Config, card: gun.GunSettings, where: str) -> None:
    """Refuse vertices outside the argon: nothing would be seen of them."""
    argon = card_of(deposits.DepositSettings, settings_of(LArTPCLane.completed(config.chain)["deposits"])).limits()
    low, high = (np.array(card.centre) + sign * np.array(card.half_size) for sign in (-1, 1))
    if (low < argon.low).any() or (high > argon.high).any():
        there = f"vertices from {low.tolist()} to {high.tolist()} cm leave the argon"
        allowed = f"from {argon.low.tolist()} to {argon.high.tolist()} in this geometry"
        raise UserError(
            f"{where}: {there}, {allowed}; change centre and half_size of chain.gun, or of the sample's set"
        )


def _check_edep(config: Config, sample: str, where: str) -> None:
    """Check a sample whose primaries and deposits are read."""
    wanted = config.samples[sample]
    for path in wanted.edep or ():
        if not Path(path).is_file():
            raise UserError(f"{where}.edep: there is no file {path}; give files that edep-sim or its dumpTree wrote")
    idle = [word for word in ("process", "set") if getattr(wanted, word)]
    if idle:
        raise UserError(f"{where}: has edep, so {idle[0]} would not act; keep one of the two")
    again = [name for name, view in config.views.items() if view.cut == "deposits"]
    if again:
        why = f"views.{again[0]} makes deposits anew, and those of the files cannot be; cut it at charge or later"
        raise UserError(f"{where}.edep: {why}")


def _flat(state: Primaries) -> dict[str, NDArray[Any]]:
    """Give the primaries' columns by the names of the store."""
    vectors = {"vertex": state.vertex, "direction": state.direction}
    parts = {f"{what}_{axis}": values[:, i] for what, values in vectors.items() for i, axis in enumerate("xyz")}
    return {"pdg": state.pdg, "kinetic_energy": state.kinetic_energy, **parts}


_EVENT = Column("event", "", "event id")
_SEGMENT_UNITS = {"pdg": "", "track": "", "energy": "MeV", "time": "µs"}
_KEPT_COLUMNS = (
    _EVENT,
    *(Column(name, "MeV", f"{name} energy") for name in _ENERGIES),
    *(Column(name, _SEGMENT_UNITS.get(name, "cm"), "of a segment") for name in SEGMENT_COLUMNS),
)


def gun_settings(config: Config, sample: str) -> dict[str, Any]:
    """Lay the settings of a sample's gun over those of its particle, and these over what all samples share."""
    wanted = config.samples[sample]
    named = gun.library().get(wanted.process or "", {})
    return {**config.chain.get("gun", {}), **named, **wanted.set}
