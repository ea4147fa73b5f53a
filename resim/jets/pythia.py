"""Pythia instances: every setting checked, nothing seeded by the clock."""

import difflib
import re
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
    "Merging:",
    "JetMatching:",
    "HeavyIon:",
    "LesHouches:",
    "PartonVertex:randomPlane",
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
    "ClosePacking:",
    "MiniStringFragmentation:",
    "FragmentationSystems:",
    "HadronLevel:",
    "ThermalString",
    "Fragmentation:",
    "Ropewalk:",
    "HadronVertex:",
    "ParticleData:",
)
DECAYS = ("ParticleDecays:", "TauDecays:", "BoseEinstein:", "HadronScatter:", "DeuteronProduction:")
# Choice of process and phase space.
HARD = (
    "PhaseSpace:",
    "Beams:",
    "SigmaProcess:",
    "ResonanceWidths:",
    "HardQCD:",
    "SoftQCD:",
    "Higgs",
    "Weak",
    "PromptPhoton:",
    "PhotonCollision:",
    "PhotonParton:",
    "Top:",
    "FourthBottom:",
    "FourthTop:",
    "FourthPair:",
    "SUSY:",
    "SLHA:",
    "NewGaugeBoson:",
    "LeftRightSymmmetry:",
    "LeptoQuark:",
    "ExcitedFermion:",
    "ContactInteractions:",
    "HiddenValley:",
    "ExtraDimensions",
    "DM:",
    "Charmonium:",
    "Bottomonium:",
    "Onia:",
)
WEAK_SHOWER = "WeakShower:"
ENERGY = "Beams:eCM"  # the one setting of the beams: the replay is of protons
_ON, _OFF = ("on", "yes", "true", "1"), ("off", "no", "false", "0")
_SWITCH = (*_ON, *_OFF)
_INTEGER = re.compile(r"[+-]?\d+")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
# What the hard process has in common with the shower: set for the former, known to the latter, which may change it.
INHERITED = ("PDF:", "StandardModel:")


def line(name: str, value: Any) -> str:
    """Write a setting as Pythia reads it."""
    return f"{name} = {_text(value)}"


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "{" + ",".join(_text(v) for v in value) + "}"
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def is_on(value: Any) -> bool:
    """Tell how Pythia reads the value of a flag."""
    return str(value).lower() in _ON


def is_particle_data(name: str) -> bool:
    """Tell settings of a particle (`25:onMode`) from those of a program part."""
    return name.split(":")[0].lstrip("-").isdigit()


def stages_of(name: str) -> tuple[str, ...]:
    """Tell the stages that a setting may be given for, the first being where it acts first."""
    if is_particle_data(name):
        return ("hard", "hadronization", "decays")
    if name.startswith(DECAYS):
        return ("decays",)
    if name.startswith(HADRONIZATION):
        return ("hadronization",)
    if name.startswith(INHERITED):
        return ("hard", "shower")
    if name.startswith(HARD) and not name.startswith(WEAK_SHOWER):
        return ("hard",)
    return ("shower",)


@lru_cache(maxsize=1)
def _reference() -> tuple[Any, dict[str, Any]]:
    """Give an instance that is never initialised, to try settings on, and all settings by their lower-case names."""
    bare = pythia8.Pythia("", False)
    bare.readString("Print:quiet = on")
    kinds = ("Flag", "Mode", "Parm", "Word", "FVec", "MVec", "PVec", "WVec")
    return bare, {key: entry for kind in kinds for key, entry in getattr(bare.settings, f"get{kind}Map")("").items()}


def check_settings(settings: Mapping[str, Any], where: str) -> None:
    """Check each line: its spelling, its value, and that Pythia reads it.

    Pythia itself takes any case, and any word for a flag (as off): both would pass our other checks unseen.

    Raises
    ------
    UserError
        Quoting the first line that Pythia refuses or that the project reserves, and where it stands.
    """
    bare, known = _reference()
    for name, value in settings.items():
        setting = known.get(name.lower())
        if setting is not None and setting.name != name:
            raise UserError(f"{where}: {name!r} must be written as Pythia writes it, {setting.name!r}")
        if name.startswith(RESERVED) or (name.startswith("Beams:") and name != ENERGY):
            raise UserError(f"{where}: {name!r} is set by the project itself, for keys and replay; remove the line")
        good = _particle_value(name, value) if is_particle_data(name) else setting and _value(setting, value)
        if not good or not bare.readString(line(name, value), False):
            raise UserError(f"{where}: Pythia refuses {line(name, value)!r}; {_hint(name, known)}")


def _value(setting: Any, value: Any) -> bool:
    """Tell whether a value is of a setting's kind and in its range."""
    if isinstance(setting, pythia8.Flag):
        return isinstance(value, bool) or str(value).lower() in _SWITCH
    if not isinstance(setting, pythia8.Mode | pythia8.Parm):
        return "\n" not in str(value)
    kind = _INTEGER if isinstance(setting, pythia8.Mode) else _NUMBER
    if isinstance(value, bool) or not kind.fullmatch(str(value)):
        return False
    number = float(value)
    return not ((setting.hasMin and number < setting.valMin) or (setting.hasMax and number > setting.valMax))


def _particle_value(name: str, value: Any) -> bool:
    """Tell whether a value can be one of a particle's property."""
    if name.split(":")[-1] in ("m0", "mWidth", "mMin", "mMax", "tau0"):
        return not isinstance(value, bool) and _NUMBER.fullmatch(str(value)) is not None
    if name.split(":")[-1] in ("onMode", "mayDecay", "isResonance", "isVisible"):
        return isinstance(value, bool) or str(value).lower() in _SWITCH or _INTEGER.fullmatch(str(value)) is not None
    return "\n" not in str(value)


def _hint(name: str, known: Mapping[str, Any]) -> str:
    """Say what to write instead of a line that Pythia refused."""
    if is_particle_data(name):
        return "write ID:property = value, for example 25:onMode = off, as its manual has it under particle data"
    if ":" not in name:
        return "its settings are Group:name; for those of the detector or the jets, `from: detector` or `from: jets`"
    setting = known.get(name.lower())
    if setting is None:
        close = difflib.get_close_matches(name, [entry.name for entry in known.values()], n=3, cutoff=0.6)
        return f"did you mean {' or '.join(close)}?" if close else "its manual lists the settings"
    if not hasattr(setting, "hasMin"):
        return "give on or off" if isinstance(setting, pythia8.Flag) else "its manual says what it takes"
    ends = (setting.valMin if setting.hasMin else "-inf", setting.valMax if setting.hasMax else "inf")
    return f"give a {'whole ' if isinstance(setting, pythia8.Mode) else ''}number from {ends[0]} to {ends[1]}"


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
