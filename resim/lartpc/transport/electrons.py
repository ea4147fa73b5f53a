"""Bremsstrahlung and annihilation in liquid argon. MeV, cm."""

import math

import numpy as np
from numba import njit

from resim.lartpc.transport.argon import ATOMS, CLASSICAL_RADIUS, ELECTRONS, Z
from resim.lartpc.transport.draws import Draws, uniform
from resim.lartpc.transport.particles import ELECTRON_MASS

# Seltzer and Berger, At. Data Nucl. Data Tables 35, 345 (1986), argon: beta^2 / Z^2 k d(sigma)/dk in mb, nucleus and
# electrons of the atom together, at some of their energies (MeV; columns) and of their k / kinetic energy (rows).
_ENERGY = np.array([0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 10000.0])
_SHARE = np.array([0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0])
# fmt: off
_SPECTRUM = np.array([
    [9.914, 10.91, 11.56, 12.50, 13.41, 14.41, 15.12, 15.35, 15.38, 15.33, 15.23, 15.13, 14.66, 14.41, 14.11],
    [9.561, 10.18, 10.49, 10.85, 11.44, 12.23, 13.01, 13.25, 13.33, 13.33, 13.34, 13.37, 13.38, 13.38, 13.38],
    [9.159, 9.470, 9.517, 9.543, 9.991, 10.74, 11.73, 12.18, 12.43, 12.58, 12.66, 12.71, 12.74, 12.75, 12.76],
    [8.328, 8.229, 7.915, 7.552, 7.801, 8.506, 9.734, 10.44, 10.92, 11.29, 11.46, 11.56, 11.62, 11.64, 11.66],
    [7.509, 7.190, 6.660, 6.133, 6.280, 6.930, 8.163, 9.025, 9.683, 10.23, 10.47, 10.61, 10.71, 10.74, 10.77],
    [6.787, 6.323, 5.669, 5.060, 5.125, 5.713, 6.901, 7.854, 8.648, 9.361, 9.677, 9.874, 10.00, 10.04, 10.09],
    [6.214, 5.612, 4.877, 4.177, 4.175, 4.703, 5.866, 6.873, 7.779, 8.651, 9.064, 9.320, 9.490, 9.553, 9.611],
    [5.755, 5.016, 4.206, 3.425, 3.365, 3.831, 4.975, 6.015, 7.019, 8.069, 8.608, 8.942, 9.171, 9.258, 9.340],
    [5.362, 4.505, 3.602, 2.762, 2.649, 3.041, 4.138, 5.195, 6.286, 7.550, 8.249, 8.704, 9.031, 9.154, 9.275],
    [5.004, 4.064, 3.074, 2.186, 2.016, 2.312, 3.288, 4.319, 5.470, 6.945, 7.863, 8.517, 9.023, 9.217, 9.413],
    [4.680, 3.653, 2.600, 1.654, 1.428, 1.579, 2.253, 3.092, 4.178, 5.823, 7.024, 8.029, 8.939, 9.327, 9.733],
    [4.537, 3.478, 2.385, 1.403, 1.134, 1.180, 1.575, 2.138, 2.992, 4.541, 5.870, 7.141, 8.458, 9.141, 9.937],
    [4.432, 3.377, 2.253, 1.234, 0.907, 0.829, 0.881, 1.022, 1.306, 2.029, 2.942, 4.143, 5.972, 7.240, 9.770],
    [4.409, 3.353, 2.228, 1.198, 0.853, 0.739, 0.681, 0.652, 0.633, 0.620, 0.615, 0.613, 0.611, 0.611, 0.610],
])
# fmt: on
_LOG_ENERGY = np.log(_ENERGY)
_BARE = 1e-27 * Z * Z * ATOMS  # 1/cm for a millibarn of the table


@njit(cache=True)
def spectrum(kinetic: float, share: float) -> float:
    """Give beta^2 / Z^2 k d(sigma)/dk, mb, at k = share of the kinetic energy; the ends of the table hold beyond."""
    x = min(max(math.log(kinetic), _LOG_ENERGY[0]), _LOG_ENERGY[-1])
    i = min(int(np.searchsorted(_LOG_ENERGY, x, side="right")) - 1, len(_LOG_ENERGY) - 2)
    j = min(int(np.searchsorted(_SHARE, share, side="right")) - 1, len(_SHARE) - 2)
    f = (x - _LOG_ENERGY[i]) / (_LOG_ENERGY[i + 1] - _LOG_ENERGY[i])
    g = (share - _SHARE[j]) / (_SHARE[j + 1] - _SHARE[j])
    below = _SPECTRUM[j, i] * (1 - f) + _SPECTRUM[j, i + 1] * f
    above = _SPECTRUM[j + 1, i] * (1 - f) + _SPECTRUM[j + 1, i + 1] * f
    return below * (1 - g) + above * g


@njit(cache=True)
def radiative_loss(kinetic: float, cut: float) -> float:
    """Give the mean loss to photons below a cut, MeV/cm; an infinite cut gives the radiative stopping power."""
    upper, total, pieces = min(cut / kinetic, 1.0), 0.0, 200
    for i in range(pieces):
        total += spectrum(kinetic, (i + 0.5) / pieces * upper)
    return _BARE / _beta2(kinetic) * kinetic * total / pieces * upper


@njit(cache=True)
def brems_rate(kinetic: float, cut: float) -> float:
    """Give the mean number of photons above a cut, per cm."""
    if kinetic <= cut:
        return 0.0
    low, total, pieces = math.log(cut / kinetic), 0.0, 200
    for i in range(pieces):
        total += spectrum(kinetic, math.exp(low * (i + 0.5) / pieces))
    return _BARE / _beta2(kinetic) * total / pieces * -low


@njit(cache=True)
def _beta2(kinetic: float) -> float:
    gamma = 1 + kinetic / ELECTRON_MASS
    return 1 - 1 / (gamma * gamma)


@njit(cache=True)
def draw_brems(kinetic: float, cut: float, draws: Draws) -> float:
    """Draw the energy of a photon above the cut."""
    low = math.log(cut / kinetic)
    # at some GeV it has a shallow maximum near the end
    top = 1.02 * max(spectrum(kinetic, cut / kinetic), spectrum(kinetic, 1.0))
    while True:
        share = math.exp(low * uniform(draws))
        if uniform(draws) * top <= spectrum(kinetic, share):
            return share * kinetic


@njit(cache=True)
def draw_opening(total: float, draws: Draws) -> float:
    """Draw the cosine between an electron of some total energy and a photon made by it, or the other way round.

    Tsai's distribution (Rev. Mod. Phys. 46, 815 (1974)), as simplified in the Geant4 manual (Bremsstrahlung).
    """
    most = 2 * total / ELECTRON_MASS
    u = math.inf
    while u > most:
        slope = 1.6 if uniform(draws) < 0.25 else 1.6 / 3
        u = -math.log((1 - uniform(draws)) * (1 - uniform(draws))) * slope
    return 1 - 2 * (u / most) ** 2


@njit(cache=True)
def annihilation_rate(kinetic: float) -> float:
    """Give the mean number of annihilations in flight into two photons, per cm (Heitler)."""
    gamma = 1 + kinetic / ELECTRON_MASS
    p2 = gamma * gamma - 1
    p = math.sqrt(p2)
    bracket = (gamma * gamma + 4 * gamma + 1) / p2 * math.log(gamma + p) - (gamma + 3) / p
    return ELECTRONS * math.pi * CLASSICAL_RADIUS**2 / (gamma + 1) * bracket


@njit(cache=True)
def draw_annihilation(kinetic: float, draws: Draws) -> tuple[float, float]:
    """Draw energy and cosine of one of the two photons (Geant4 manual, Positron-electron annihilation)."""
    gamma = 1 + kinetic / ELECTRON_MASS
    half = 0.5 * math.sqrt((gamma - 1) / (gamma + 1))
    low, high = 0.5 - half, 0.5 + half
    while True:
        x = low * (high / low) ** uniform(draws)
        if uniform(draws) <= 1 - x + (2 * gamma * x - 1) / (x * (gamma + 1) ** 2):
            break
    cosine = (x * (gamma + 1) - 1) / (x * math.sqrt(gamma * gamma - 1))
    return x * (kinetic + 2 * ELECTRON_MASS), min(max(cosine, -1.0), 1.0)
