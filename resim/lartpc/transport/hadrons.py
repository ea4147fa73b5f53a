"""Placeholder: no hadron interacts. To be replaced."""
# ruff: noqa: ARG001

import math

from numba import njit

from resim.lartpc.transport.draws import Draws


@njit(cache=True)
def inelastic_length(pdg: int, kinetic: float) -> float:
    """Give the mean free path, cm."""
    return math.inf


@njit(cache=True)
def elastic_length(pdg: int, kinetic: float) -> float:
    """Give the mean free path, cm."""
    return math.inf


@njit(cache=True)
def inelastic(pdg: int, kinetic: float, draws: Draws, out: tuple) -> tuple[int, float, float]:  # type: ignore
    """Leave the kinetic energy here."""
    return 0, kinetic, 0.0


@njit(cache=True)
def elastic(pdg: int, kinetic: float, draws: Draws, out: tuple) -> tuple[int, float, float]:  # type: ignore
    """Change nothing."""
    out[0][0], out[1][0] = pdg, kinetic
    out[2][0, 0], out[2][0, 1], out[2][0, 2] = 0.0, 0.0, 1.0
    return 1, 0.0, 0.0
