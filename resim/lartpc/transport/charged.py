"""Charged particles in liquid argon: collision losses, straggling, delta rays, multiple scattering. MeV, cm.

Energy transfers above a cut make delta rays; below it, those large enough to be rare are drawn one by one, and only the
many small ones are a Gaussian.
"""

import math

import numpy as np
from numba import njit

from resim.lartpc.transport.argon import (
    ATOMS,
    COLLISION,
    DENSITY,
    EXCITATION,
    FINE_STRUCTURE,
    HBAR_C,
    Z,
    density_effect,
)
from resim.lartpc.transport.draws import Draws, normal, uniform
from resim.lartpc.transport.particles import (
    ALPHA,
    ALPHA_MASS,
    DEUTERON,
    DEUTERON_MASS,
    ELECTRON,
    ELECTRON_MASS,
    MUON,
    MUON_MASS,
    PI_PLUS,
    PION_MASS,
    POSITRON,
    PROTON,
    PROTON_MASS,
)

SPECIES = 7
"""Electron, positron, muon, pion, proton, deuteron, alpha: rows of the tables."""
MASS = np.array(
    [ELECTRON_MASS, ELECTRON_MASS, MUON_MASS, PION_MASS, PROTON_MASS, DEUTERON_MASS, ALPHA_MASS], dtype=np.float64
)
CHARGE = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0])

# Slow protons: kinetic energy, MeV, and stopping power, MeV cm2/g (NIST PSTAR, argon)
_SLOW_ENERGY = np.log(np.array([0.001, 0.003, 0.01, 0.03, 0.07, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0]))
_SLOW_LOSS = np.log(
    np.array([93.55, 154.7, 275.5, 423.0, 501.7, 486.2, 372.4, 225.8, 153.4, 97.78, 60.43, 36.26]) * DENSITY
)
_SLOW = 8.0 / PROTON_MASS  # kinetic energy over mass below which Bethe's formula gives way to them

_HITS = 3.0  # mean number of transfers in a step that are drawn one by one
_LEAST_HIT = 1e-3  # free electrons: not below the binding energies
LARGE = 0.5  # mean number of single scatterings in a full step that are drawn one by one
_SCREENING = (HBAR_C / (0.8853 * 0.529177e-8 * Z ** (-1 / 3))) ** 2  # (hbar / Thomas-Fermi radius)^2
_NUCLEAR_SIZE = (1.27e-13 * 39.948**0.27 / HBAR_C) ** 2 / 12  # exponential charge: r^2 / 12


@njit(cache=True)
def species_of(pdg: int) -> int:
    """Give the row of a particle in the tables; -1 for what is not charged or not known."""
    if pdg == ELECTRON:
        return 0
    if pdg == POSITRON:
        return 1
    if abs(pdg) == MUON:
        return 2
    if abs(pdg) == PI_PLUS:
        return 3
    if pdg == PROTON:
        return 4
    if pdg == DEUTERON:
        return 5
    return 6 if pdg == ALPHA else -1


@njit(cache=True)
def beta_squared(species: int, kinetic: float) -> float:
    """Give the squared velocity, in units of that of light."""
    gamma = 1 + kinetic / MASS[species]
    return 1 - 1 / (gamma * gamma)


@njit(cache=True)
def largest_transfer(species: int, kinetic: float) -> float:
    """Give the largest kinetic energy of a delta ray; of two electrons the slower one is it."""
    if species == 0:
        return kinetic / 2
    if species == 1:
        return kinetic
    gamma, ratio = 1 + kinetic / MASS[species], ELECTRON_MASS / MASS[species]
    return 2 * ELECTRON_MASS * (gamma * gamma - 1) / (1 + 2 * gamma * ratio + ratio * ratio)


@njit(cache=True)
def collision_loss(species: int, kinetic: float, cut: float) -> float:
    """Give the mean loss to transfers below a cut, MeV/cm; an infinite cut gives the stopping power."""
    if species < 2:
        return _electron_loss(species, kinetic, cut)
    if kinetic < _SLOW * MASS[species]:
        energy = math.log(max(kinetic * PROTON_MASS / MASS[species], 1e-3))
        return CHARGE[species] ** 2 * math.exp(np.interp(energy, _SLOW_ENERGY, _SLOW_LOSS))
    return _bethe(species, kinetic, cut)


@njit(cache=True)
def _bethe(species: int, kinetic: float, cut: float) -> float:
    """Give the restricted loss by Bethe's formula (PDG, Passage of particles through matter, 34.2.8)."""
    gamma, beta2 = 1 + kinetic / MASS[species], beta_squared(species, kinetic)
    momentum2 = gamma * gamma * beta2
    most = largest_transfer(species, kinetic)
    upper = min(cut, most)
    logarithm = math.log(2 * ELECTRON_MASS * momentum2 * upper / EXCITATION**2)
    bracket = logarithm - beta2 * (1 + upper / most) - density_effect(math.sqrt(momentum2)) - 2 * _shells(momentum2)
    return COLLISION * CHARGE[species] ** 2 / beta2 * bracket


@njit(cache=True)
def _shells(momentum2: float) -> float:
    """Give Barkas and Berger's shell correction C/Z (NASA SP-3013; Groom et al., equation 19), beta gamma > 0.13."""
    y, ev = 1 / momentum2, EXCITATION * 1e6
    second = y * (0.422377 + y * (0.0304043 - 0.00038106 * y)) * 1e-6 * ev**2
    third = y * (3.858019 + y * (-0.1667989 + 0.00157955 * y)) * 1e-9 * ev**3
    return (second + third) / Z


@njit(cache=True)
def _electron_loss(species: int, kinetic: float, cut: float) -> float:
    """Give the restricted loss of electrons and positrons (Berger and Seltzer; Geant4 manual, Ionisation)."""
    tau, beta2 = kinetic / ELECTRON_MASS, beta_squared(species, kinetic)
    gamma, d = 1 + tau, min(cut, largest_transfer(species, kinetic)) / ELECTRON_MASS
    bracket = math.log(2 * (tau + 2) * (ELECTRON_MASS / EXCITATION) ** 2)
    if species == 0:
        bracket += math.log((tau - d) * d) - 1 - beta2 + tau / (tau - d)
        bracket += (d * d / 2 + (2 * tau + 1) * math.log(1 - d / tau)) / (gamma * gamma)
    else:
        y, d2 = 1 / (1 + gamma), d * d / 2
        d3 = d2 * d / 1.5
        inner = d2 - tau * d3 + 0.75 * d3 * d
        bracket += math.log(tau * d) - beta2 * (tau + 2 * d - y * (3 * d2 + y * (d - d3 + y * inner))) / tau
    return COLLISION / beta2 * (bracket - density_effect(gamma * math.sqrt(beta2)))


@njit(cache=True)
def delta_rate(species: int, kinetic: float, cut: float) -> float:
    """Give the mean number of delta rays above a cut, per cm: Moller, Bhabha, or Bethe's with the spin-0 factor."""
    most = largest_transfer(species, kinetic)
    if most <= cut:
        return 0.0
    beta2 = beta_squared(species, kinetic)
    if species > 1:
        number = 1 / cut - 1 / most - beta2 / most * math.log(most / cut)
        return COLLISION * CHARGE[species] ** 2 / beta2 * number
    gamma, x = 1 + kinetic / ELECTRON_MASS, cut / kinetic
    if species == 0:
        g = (2 * gamma - 1) / (gamma * gamma)
        number = (1 - g) * (0.5 - x) + 1 / x - 1 / (1 - x) - g * math.log((1 - x) / x)
        return COLLISION / (beta2 * kinetic) * number
    b1, b2, b3, b4 = _bhabha(gamma)
    number = (1 - x) * (1 / (beta2 * x) + b2 - b3 * (1 + x) / 2 + b4 * (1 + x + x * x) / 3) + b1 * math.log(x)
    return COLLISION / kinetic * number


@njit(cache=True)
def _bhabha(gamma: float) -> tuple[float, float, float, float]:
    """Give the coefficients of Bhabha's cross-section (Geant4 manual, Ionisation of positrons)."""
    y = 1 / (1 + gamma)
    a = 1 - 2 * y
    return 2 - y * y, a * (3 + y * y), a**3 + a * a, a**3


@njit(cache=True)
def draw_delta(species: int, kinetic: float, cut: float, draws: Draws) -> float:
    """Draw the kinetic energy of a delta ray above the cut; the cut must be below the largest transfer."""
    low, high = cut / kinetic, largest_transfer(species, kinetic) / kinetic
    top = max(_weight(species, kinetic, low), _weight(species, kinetic, high), 1.0)
    while True:
        x = low / (1 - uniform(draws) * (1 - low / high))
        if uniform(draws) * top <= _weight(species, kinetic, x):
            return x * kinetic


@njit(cache=True)
def _weight(species: int, kinetic: float, x: float) -> float:
    """Give the cross-section at a share of the kinetic energy, over that of Rutherford, 1/x^2."""
    beta2 = beta_squared(species, kinetic)
    if species > 1:
        return 1 - beta2 * x * kinetic / largest_transfer(species, kinetic)
    gamma = 1 + kinetic / ELECTRON_MASS
    if species == 0:
        g, y = (2 * gamma - 1) / (gamma * gamma), x / (1 - x)
        return 1 - g * x + (1 - g) * x * x + y * y - g * x * y
    b1, b2, b3, b4 = _bhabha(gamma)
    return 1 + beta2 * x * (-b1 + x * (b2 + x * (-b3 + x * b4)))


@njit(cache=True)
def draw_loss(species: int, kinetic: float, mean: float, length: float, cut: float, draws: Draws) -> float:
    """Draw the loss to transfers below the cut in a step whose mean loss is `mean`."""
    beta2 = beta_squared(species, kinetic)
    scale = COLLISION * CHARGE[species] ** 2 / beta2 * length
    high = min(cut, largest_transfer(species, kinetic))
    low = max(scale / _HITS, _LEAST_HIT)
    lost, variance = 0.0, scale * high * (1 - beta2 / 2)
    if low < high:
        mean, variance = mean - scale * math.log(high / low), scale * low
        for _ in range(poisson(scale * (1 / low - 1 / high), draws)):
            lost += low / (1 - uniform(draws) * (1 - low / high))
    rest = mean + math.sqrt(variance) * normal(draws)
    return lost + min(max(rest, 0.0), 2 * max(mean, 0.0))


@njit(cache=True)
def poisson(mean: float, draws: Draws) -> int:
    """Draw a small Poisson number."""
    number, product, least = -1, 1.0, math.exp(-mean)
    while product >= least:
        product *= 1 - uniform(draws)
        number += 1
    return number


@njit(cache=True)
def _rutherford(species: int, kinetic: float) -> tuple[float, float]:
    """Give strength (per cm) and screening of d(number)/d(mu) = strength / (mu + screening)^2, mu = (1 - cos) / 2.

    Screening: Moliere's (Bethe, Phys. Rev. 89, 1256 (1953)). The strength is that of the nucleus alone, Z^2.
    """
    beta2, momentum2 = beta_squared(species, kinetic), kinetic * (kinetic + 2 * MASS[species])
    charge = Z * CHARGE[species] * FINE_STRUCTURE
    strength = math.pi * ATOMS * (charge * HBAR_C) ** 2 / (momentum2 * beta2)
    return strength, _SCREENING / momentum2 * (1.13 + 3.76 * charge * charge / beta2) / 4


@njit(cache=True)
def large_scatters(species: int, kinetic: float, step: float) -> tuple[float, float]:
    """Give the mu from which single scatterings are drawn one by one, LARGE a full step, and the screening."""
    strength, screening = _rutherford(species, kinetic)
    return 1 / (LARGE / (strength * step) + 1 / (1 + screening)) - screening, screening


@njit(cache=True)
def small_scatters(species: int, kinetic: float, step: float) -> float:
    """Give the mean 1 - cos by the others, per cm; the electrons of the atom count, Z (Z + 1)."""
    strength, screening = _rutherford(species, kinetic)
    limit = large_scatters(species, kinetic, step)[0]
    edge = limit + screening
    return 2 * strength * (1 + 1 / Z) * (math.log(edge / screening) - limit / edge)


@njit(cache=True)
def draw_scatter(species: int, kinetic: float, limit: float, screening: float, draws: Draws) -> float:
    """Draw mu = (1 - cos) / 2 of a large single scattering; 0 where spin or the size of the nucleus forbids it."""
    low, high = 1 / (limit + screening), 1 / (1 + screening)
    mu = 1 / (low - uniform(draws) * (low - high)) - screening
    transfer2 = 4 * mu * kinetic * (kinetic + 2 * MASS[species])
    allowed = (1 - beta_squared(species, kinetic) * mu) / (1 + _NUCLEAR_SIZE * transfer2) ** 2
    return mu if uniform(draws) < allowed else 0.0
