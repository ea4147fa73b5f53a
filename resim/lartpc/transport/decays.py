"""Placeholder: what decays leaves its mass behind, invisible. To be replaced."""
# ruff: noqa: ARG001

from numba import njit

from resim.lartpc.transport.draws import Draws
from resim.lartpc.transport.particles import MUON, MUON_LIFE, MUON_MASS, PION_LIFE, PION_MASS


@njit(cache=True)
def at_rest(pdg: int, draws: Draws, out: tuple) -> tuple[int, float, float, float]:  # type: ignore
    """Lose the mass."""
    if abs(pdg) == MUON:
        return 0, 0.0, MUON_MASS, MUON_LIFE
    return 0, 0.0, PION_MASS, PION_LIFE


@njit(cache=True)
def decay_in_flight(pdg: int, kinetic: float, draws: Draws, out: tuple) -> tuple[int, float, float]:  # type: ignore
    """Lose all energy."""
    return 0, 0.0, kinetic + (MUON_MASS if abs(pdg) == MUON else PION_MASS)
