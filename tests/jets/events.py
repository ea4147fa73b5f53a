"""Blocks of real events, made once a process: starting Pythia takes half a second."""

from functools import cache
from typing import Any

from resim.chain import Settings, Step
from resim.config import Config
from resim.jets import lane
from resim.jets.hadronization import Hadronization
from resim.jets.hard import generate
from resim.jets.shower import Shower
from resim.jets.states import Hadrons, HardEvents, PartonLevel
from resim.typed import parse
from tests.conftest import small_config

ENERGY = 13000.0
SEED = 77
CONFIG = parse(Config, small_config(), "test")


def hard_settings(sample: str) -> dict[str, Any]:
    """Give the settings of the shipped hard process."""
    return lane.hard_settings(CONFIG, sample)


@cache
def hard_block(sample: str, block: int = 0, size: int = 30) -> HardEvents:
    """Make a block of hard processes."""
    return generate(hard_settings(sample), SEED, sample, block, size)


def steps(view: str = "nominal", shower: Settings = ()) -> tuple[Step, Step]:
    """Name the two fused runs of a view."""
    return Step("shower", shower, view), Step("hadronization", (), view)


def shower_of(
    hard: HardEvents, sample: str, pair: tuple[Step, Step], keep: bool = True
) -> tuple[PartonLevel | None, Hadrons]:
    """Shower and hadronize."""
    streams = (pair[0].stream(SEED, sample), pair[1].stream(SEED, sample))
    return Shower(ENERGY, ()).run_fused(hard, *pair, streams, keep)


@cache
def nominal(sample: str) -> tuple[PartonLevel, Hadrons]:
    """Run the nominal view of a block as far as hadrons."""
    partons, hadrons = shower_of(hard_block(sample), sample, steps())
    assert partons is not None
    return partons, hadrons


def rehadronize(partons: PartonLevel, sample: str, view: str) -> Hadrons:
    """Hadronize kept parton levels again, with the key of a view."""
    return Hadronization(ENERGY).run(partons, (), steps(view)[1].stream(SEED, sample))
