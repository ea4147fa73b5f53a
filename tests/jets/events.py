"""Blocks of real events, made once a process: starting Pythia takes half a second."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from resim.chain import Settings, Step
from resim.config import Config
from resim.jets import lane
from resim.jets.engine import Pythia
from resim.jets.hard import generate
from resim.jets.states import Hadrons, HardEvents, Records
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


def steps(view: str = "nominal", shower: Settings = ()) -> tuple[Step, Step, Step]:
    """Name the three fused runs of a view."""
    return Step("shower", shower, view), Step("hadronization", (), view), Step("decays", (), view)


def shower_of(
    hard: HardEvents, sample: str, path: Sequence[Step], keep: bool = True
) -> tuple[Records | None, Records | None, Hadrons]:
    """Shower, hadronize and decay."""
    streams = [step.stream(SEED, sample) for step in path]
    partons, primary, hadrons = Pythia(ENERGY, ()).run_fused(hard, path, streams, [keep, keep, False])
    return partons, primary, hadrons


@cache
def nominal(sample: str) -> tuple[Records, Hadrons]:
    """Run the nominal view of a block as far as stable particles."""
    partons, _, hadrons = shower_of(hard_block(sample), sample, steps())
    assert partons is not None
    return partons, hadrons


def rehadronize(partons: Records, sample: str, view: str) -> Hadrons:
    """Hadronize and decay kept parton levels again, with the key of a view."""
    path = steps(view)[1:]
    streams = [step.stream(SEED, sample) for step in path]
    hadrons: Hadrons = Pythia(ENERGY, ()).run_fused(partons, path, streams, [False, False])[-1]
    return hadrons


def decay(primary: Records, sample: str, view: str) -> Hadrons:
    """Decay kept hadrons again, with the key of a view."""
    step = steps(view)[2]
    return Pythia(ENERGY, ()).run(primary, step.settings, step.stream(SEED, sample))
