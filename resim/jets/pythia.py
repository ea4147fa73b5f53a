"""Pythia instances: every setting checked, nothing seeded by the clock."""

import difflib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import pythia8mc as pythia8

from resim.errors import UserError

# Settings that the key scheme and the replay own.
RESERVED = (
    "Random:",
    "Main:",
    "Print:",
    "Next:",
    "Init:",
    "Check:event",
    "Beams:frameType",
    "Beams:LHEF",
    "Beams:readLHEFheaders",
    "HadronLevel:all",
    "PartonLevel:all",
    "ProcessLevel:all",
)
QUIET = {"Print:quiet": True}
# What Pythia finds out by Monte Carlo at init() (phase-space maxima, the MPI cross section) is part of the physics
# of a run, so that all instances of all jobs start from the same seed.
INIT_SEED = 1
HADRONIZATION = (
    "StringZ:",
    "StringPT:",
    "StringFlav:",
    "StringFragmentation:",
    "MiniStringFragmentation:",
    "FragmentationSystems:",
    "HadronLevel:",
    "ParticleDecays:",
    "TauDecays:",
    "BoseEinstein:",
    "HadronScatter:",
    "DeuteronProduction:",
    "ThermalString",
    "Ropewalk:",
    "HadronVertex:",
    "ParticleData:",
)
# Settings of the hard process that the shower's instance must know as well, beside particle data.
INHERITED = ("PDF:", "StandardModel:", "Beams:id", "Beams:e")


def line(name: str, value: Any) -> str:
    """Write a setting as Pythia reads it."""
    text = {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
    return f"{name} = {text}"


def is_particle_data(name: str) -> bool:
    """Tell settings of a particle (`25:onMode`) from those of a program part."""
    return name.split(":")[0].lstrip("-").isdigit()


def is_hadronization(name: str) -> bool:
    """Tell whether a setting acts on hadronization and decays only."""
    return name.startswith(HADRONIZATION) or is_particle_data(name)


@lru_cache(maxsize=1)
def _reference() -> tuple[Any, dict[str, Any]]:
    """Give an instance that is never initialised, to try settings on, and all settings by their lower-case names."""
    bare = pythia8.Pythia("", False)
    bare.readString("Print:quiet = on")
    tables = (bare.settings.getFlagMap, bare.settings.getModeMap, bare.settings.getParmMap, bare.settings.getWordMap)
    return bare, {key: entry for table in tables for key, entry in table("").items()}


def check_settings(settings: Mapping[str, Any], where: str) -> None:
    """Let Pythia read every line.

    Raises
    ------
    UserError
        Quoting the first line that Pythia refuses or that the project reserves, and where it stands.
    """
    bare, known = _reference()
    for name, value in settings.items():
        if name.startswith(RESERVED):
            raise UserError(
                f"{where}: {name!r} is set by the project itself (keys and replay need it); remove the line"
            )
        understood = is_particle_data(name) or name.lower() in known
        if not understood or not bare.readString(line(name, value), False):
            raise UserError(f"{where}: Pythia refuses {line(name, value)!r}; {_hint(name, known)}")


def _hint(name: str, known: Mapping[str, Any]) -> str:
    """Say what to write instead of a line that Pythia refused."""
    if is_particle_data(name):
        return (
            "write ID:property = value, for example 25:onMode = off, as in the chapter on particle data of its manual"
        )
    setting = known.get(name.lower())
    if setting is None:
        close = difflib.get_close_matches(name, [entry.name for entry in known.values()], n=3, cutoff=0.6)
        return f"did you mean {' or '.join(close)}?" if close else "its manual lists the settings"
    if not hasattr(setting, "hasMin"):
        return "give on or off" if isinstance(setting, pythia8.Flag) else "give a word"
    ends = (setting.valMin if setting.hasMin else "-inf", setting.valMax if setting.hasMax else "inf")
    return f"give a number from {ends[0]} to {ends[1]}"


def make(settings: Iterable[tuple[str, Any]]) -> Any:
    """Make an instance with these settings, not yet initialised."""
    instance = pythia8.Pythia("", False)
    own = {**QUIET, "Random:setSeed": True, "Random:seed": INIT_SEED}
    for name, value in [*own.items(), *settings]:
        if not instance.readString(line(name, value), False):
            raise UserError(f"Pythia refuses {line(name, value)!r}; its manual lists the settings")
    return instance


def initialise(instance: Any, settings: Iterable[tuple[str, Any]]) -> Any:
    """Run init() and look at what it returns."""
    if not instance.init():
        lines = "; ".join(line(*pair) for pair in settings)
        raise UserError(
            f"Pythia's init() failed with [{lines}]; settings that do not go together, or not in this build"
        )
    return instance
