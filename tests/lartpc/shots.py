"""Shots along +z from the origin, into a big world of liquid argon, for the tests of the transport."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from resim.keys import stream
from resim.lartpc.deposits import DepositSettings, deposit
from resim.lartpc.gun import GunSettings, shoot
from resim.lartpc.states import Deposits, Primaries

WORLD = {"world_centre": (0.0, 0.0, 0.0), "world_half_size": (2000.0, 2000.0, 2000.0)}


def primaries(particle: Any, kinetic: float, number: int) -> Primaries:
    """Give particles of one kinetic energy (MeV), ready to be fired."""
    gun = GunSettings(
        particle=particle,
        kinetic_energy=(kinetic, kinetic),
        centre=(0, 0, 0),
        half_size=(0, 0, 0),
        direction="beam",
        opening_angle=0,
    )
    return shoot(gun, stream(1, particle, "gun"), np.arange(number))


def fire(particle: Any, kinetic: float, number: int, **settings: Any) -> Deposits:
    """Fire particles of one kinetic energy (MeV)."""
    card = DepositSettings(**{**WORLD, **settings})
    return deposit(primaries(particle, kinetic, number), card, stream(1, particle, "deposits"))


def deposited(made: Deposits) -> NDArray[np.float64]:
    """Give the energy in the segments of each event, MeV."""
    ends = np.concatenate([[0.0], np.cumsum(made.segments["energy"], dtype=np.float64)])[made.segments.offsets]
    return np.diff(ends)
