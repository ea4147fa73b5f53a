"""Photons in liquid argon: Compton scattering, pair production, photoelectric effect. MeV, cm.

Coherent scattering is left out: it moves no energy.
"""

import math

import numpy as np
from numba import njit

from resim.lartpc.transport.argon import ATOMS, CLASSICAL_RADIUS, ELECTRONS, FINE_STRUCTURE, Z
from resim.lartpc.transport.draws import Draws, uniform
from resim.lartpc.transport.electrons import draw_opening
from resim.lartpc.transport.particles import ELECTRON_MASS

# NIST XCOM, argon: photon energy (MeV) and photoelectric cross-section (ln of barn an atom)
# fmt: off
_PHOTO_ENERGY = np.log(np.array([
    0.005, 0.008, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15,
    0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 5.0, 10.0, 100.0, 1000.0,
]))
_PHOTO = np.array([
    10.23746, 8.95674, 8.32700, 7.15305, 6.29968, 5.07142, 4.18556, 3.49073, 2.91939, 2.01210, 1.30590, 0.02372,
    -0.87563, -2.10784, -2.93878, -3.54669, -4.01461, -4.69313, -5.16799, -5.93736, -6.41367, -7.68646, -8.50625,
    -10.93015, -13.24510,
])
# fmt: on

# Pair production: fit of the tables of Hubbell, Gimm and Overbo (Geant4 manual, Gamma conversion), microbarn
_F1 = (8.7842e2, -1.9625e3, 1.2949e3, -2.0028e2, 1.2575e1, -2.8333e-1)
_F2 = (-1.0342e1, 1.7692e1, -8.2381, 1.3063, -9.0815e-2, 2.3586e-3)
_F3 = (-4.5263e2, 1.1161e3, -8.6749e2, 2.1773e2, -2.0467e1, 6.5372e-1)
_FIT_FROM = 1.5
_COULOMB_FROM = 50.0
_AZ2 = (FINE_STRUCTURE * Z) ** 2
# Davies, Bethe and Maximon, Phys. Rev. 93, 788 (1954)
_COULOMB = _AZ2 * (1 / (1 + _AZ2) + 0.20206 + _AZ2 * (-0.0369 + _AZ2 * (0.0083 - 0.002 * _AZ2)))


@njit(cache=True)
def compton_rate(energy: float) -> float:
    """Give the mean number of Compton scatterings per cm (Klein and Nishina, free electrons)."""
    k = energy / ELECTRON_MASS
    a, log = 1 + 2 * k, math.log(1 + 2 * k)
    first = (1 + k) / (k * k) * (2 * (1 + k) / a - log / k)
    return ELECTRONS * 2 * math.pi * CLASSICAL_RADIUS**2 * (first + log / (2 * k) - (1 + 3 * k) / (a * a))


@njit(cache=True)
def pair_rate(energy: float) -> float:
    """Give the mean number of pairs made per cm, by nuclei and electrons."""
    threshold = 2 * ELECTRON_MASS
    if energy <= threshold:
        return 0.0
    x, power = math.log(max(energy, _FIT_FROM) / ELECTRON_MASS), 1.0
    f1, f2, f3 = 0.0, 0.0, 0.0
    for i in range(6):
        f1, f2, f3 = f1 + _F1[i] * power, f2 + _F2[i] * power, f3 + _F3[i] * power
        power *= x
    section = max((Z + 1) * Z * (f1 + f2 * Z + f3 / Z), 0.0)
    if energy < _FIT_FROM:
        section *= ((energy - threshold) / (_FIT_FROM - threshold)) ** 2
    return ATOMS * 1e-30 * section


@njit(cache=True)
def photoelectric_rate(energy: float) -> float:
    """Give the mean number of photoelectric absorptions per cm."""
    return ATOMS * 1e-24 * math.exp(np.interp(math.log(energy), _PHOTO_ENERGY, _PHOTO))


@njit(cache=True)
def draw_compton(energy: float, draws: Draws) -> tuple[float, float]:
    """Draw energy and cosine of the scattered photon (Butcher and Messel's method; Geant4 manual, Compton)."""
    k = energy / ELECTRON_MASS
    least = 1 / (1 + 2 * k)
    first, second = -math.log(least), (1 - least * least) / 2
    while True:
        if uniform(draws) * (first + second) < first:
            x = math.exp(-first * uniform(draws))
        else:
            x = math.sqrt(least * least + (1 - least * least) * uniform(draws))
        t = (1 - x) / (k * x)
        if uniform(draws) <= 1 - x * t * (2 - t) / (1 + x * x):
            return x * energy, 1 - t


@njit(cache=True)
def draw_photoelectron(kinetic: float, draws: Draws) -> float:
    """Draw the cosine of a photoelectron (Sauter, K shell; sampled as in Penelope)."""
    gamma = 1 + kinetic / ELECTRON_MASS
    if gamma > 50 or gamma < 1 + 1e-6:
        return 1.0
    beta = math.sqrt(1 - 1 / (gamma * gamma))
    a = 1 / beta - 1
    b = 0.5 * beta * gamma * (gamma - 1) * (gamma - 2)
    top = 2 * (b + 1 / a)
    while True:
        q = uniform(draws)
        v = 2 * a * (2 * q + (a + 2) * math.sqrt(q)) / ((a + 2) ** 2 - 4 * q)
        if uniform(draws) * top <= (2 - v) * (b + 1 / (a + v)):
            return 1 - v


@njit(cache=True)
def _screened(delta: float) -> tuple[float, float]:
    """Give 3 phi1 - phi2 and (3 phi1 + phi2) / 2 of the screening variable (Butcher and Messel)."""
    if delta > 1.4:
        both = 42.038 - 8.29 * math.log(delta + 0.958)
        return both, both
    return 42.184 - delta * (7.444 - 1.623 * delta), 41.326 - delta * (5.848 - 0.902 * delta)


@njit(cache=True)
def _draw_share(energy: float, draws: Draws) -> float:
    """Draw the share of the lesser of the pair in the photon's energy (Bethe and Heitler, screened)."""
    least = ELECTRON_MASS / energy
    if energy < 2:
        return least + (0.5 - least) * uniform(draws)
    coulomb = 8 * (math.log(Z) / 3 + (_COULOMB if energy > _COULOMB_FROM else 0.0))
    screen = 136 * Z ** (-1 / 3) * least
    top1, top2 = _screened(4 * screen)
    top1, top2 = top1 - coulomb, top2 - coulomb
    deepest = math.exp((42.038 - coulomb) / 8.29) - 0.958
    low = max(least, 0.5 - 0.5 * math.sqrt(max(1 - 4 * screen / deepest, 0.0)))
    width = 0.5 - low
    first, second = max(top1 * width * width, 0.0), max(1.5 * top2, 0.0)
    while True:
        if uniform(draws) * (first + second) < first:
            share = 0.5 - width * uniform(draws) ** (1 / 3)
            weight = (_screened(screen / (share * (1 - share)))[0] - coulomb) / top1
        else:
            share = low + width * uniform(draws)
            weight = (_screened(screen / (share * (1 - share)))[1] - coulomb) / top2
        if uniform(draws) <= weight:
            return share


@njit(cache=True)
def draw_pair(energy: float, draws: Draws) -> tuple[float, float, float, float]:
    """Draw kinetic energy and cosine of the electron, then of the positron."""
    share = _draw_share(energy, draws)
    if uniform(draws) < 0.5:
        share = 1 - share
    electron, positron = share * energy, (1 - share) * energy
    along = draw_opening(electron, draws), draw_opening(positron, draws)
    rest = energy - 2 * ELECTRON_MASS
    kinetic = min(max(electron - ELECTRON_MASS, 0.0), rest)
    return kinetic, along[0], rest - kinetic, along[1]
