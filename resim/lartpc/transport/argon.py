"""Liquid argon: the constants of the medium, and the grid on which its tables stand. cm, MeV.

Density, mean excitation energy, Sternheimer's parameters and radiation length: PDG, Atomic and Nuclear Properties,
"argon, liquid" (Groom, Mokhov and Striganov, At. Data Nucl. Data Tables 78, 183 (2001)).
"""

import math

from numba import njit

Z = 18
A = 39.948
DENSITY = 1.396
"""g/cm3."""
EXCITATION = 188e-6
RADIATION_LENGTH = 19.55 / DENSITY
MOLIERE_RADIUS = 12.62 / DENSITY
CRITICAL_ENERGY = 32.84
"""Of electrons, by Rossi's definition."""

FINE_STRUCTURE = 1 / 137.035999
HBAR_C = 1.973269804e-11
"""MeV cm."""
CLASSICAL_RADIUS = 2.8179403262e-13
ATOMS = 6.02214076e23 * DENSITY / A
"""Per cm3."""
ELECTRONS = Z * ATOMS
LIGHT = 29979.2458
"""cm/µs."""
COLLISION = 2 * math.pi * CLASSICAL_RADIUS**2 * 0.51099895 * ELECTRONS
"""MeV/cm: 2 pi r_e^2 m_e n_e, the factor K Z rho / 2 A of the Bethe formula."""

# Sternheimer, Berger and Seltzer, At. Data Nucl. Data Tables 30, 261 (1984), as the PDG gives them for the liquid
_A, _K, _X0, _X1, _C = 0.19559, 3.0, 0.2, 3.0, 5.2146

GRID_POINTS = 8 * 48 + 1
_GRID_FIRST = math.log(1e-3)
_GRID_STEP = math.log(10) / 48


@njit(cache=True)
def density_effect(beta_gamma: float) -> float:
    """Give the density correction delta of the Bethe formula."""
    x = math.log10(beta_gamma)
    if x < _X0:
        return 0.0
    delta = 2 * math.log(10) * x - _C
    return delta if x >= _X1 else delta + _A * (_X1 - x) ** _K


@njit(cache=True)
def grid_energy(i: int) -> float:
    """Give the energy of a place on the grid: 1 keV to 100 GeV, 48 places a decade."""
    return math.exp(_GRID_FIRST + i * _GRID_STEP)


@njit(cache=True)
def grid_place(energy: float) -> tuple[int, float]:
    """Give the place below an energy, and the part of the way to the next one; the ends hold beyond them."""
    x = min(max((math.log(energy) - _GRID_FIRST) / _GRID_STEP, 0.0), GRID_POINTS - 1.000001)
    return int(x), x - int(x)
