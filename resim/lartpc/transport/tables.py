"""Rates, losses and ranges in liquid argon on a grid of energies, made once for some cuts. MeV, cm."""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from resim.lartpc.transport.argon import GRID_POINTS, grid_energy
from resim.lartpc.transport.charged import SPECIES, collision_loss, delta_rate, small_scatters
from resim.lartpc.transport.electrons import annihilation_rate, brems_rate, radiative_loss
from resim.lartpc.transport.photons import compton_rate, pair_rate, photoelectric_rate

F8 = NDArray[np.float64]

# Columns of charged particles: the first three are rates of what may happen
DELTA, BREMS, ANNIHILATION, LOSS, RANGE, SOFT = range(6)


class Tables(NamedTuple):
    """Rates and losses on the grid of energies."""

    charged: F8
    """(species, 6, grid): delta rays, photons, annihilations (1/cm), loss (MeV/cm), range (cm), 1 - cos (1/cm)."""
    photon: F8
    """(3, grid): Compton, pairs, photoelectric (1/cm)."""


@njit(cache=True)
def make_tables(step: float, electron_cut: float, photon_cut: float) -> Tables:
    """Fill the tables for some cuts (MeV) and longest step (cm)."""
    charged, photon = np.zeros((SPECIES, 6, GRID_POINTS)), np.empty((3, GRID_POINTS))
    for i in range(GRID_POINTS):
        energy = grid_energy(i)
        photon[0, i], photon[1, i] = compton_rate(energy), pair_rate(energy)
        photon[2, i] = photoelectric_rate(energy)
        brems, soft = brems_rate(energy, photon_cut), radiative_loss(energy, photon_cut)
        for s in range(SPECIES):
            row = charged[s]
            row[DELTA, i] = delta_rate(s, energy, electron_cut)
            row[LOSS, i] = collision_loss(s, energy, electron_cut)
            row[SOFT, i] = small_scatters(s, energy, step)
            if s < 2:
                row[BREMS, i], row[LOSS, i] = brems, row[LOSS, i] + soft
            if s == 1:
                row[ANNIHILATION, i] = annihilation_rate(energy)
    for s in range(SPECIES):
        _integrate(charged[s])
    return Tables(charged, photon)


@njit(cache=True)
def _integrate(row: F8) -> None:
    """Fill in the ranges: trapezia in the logarithm of the energy, the loss constant below the grid."""
    row[RANGE, 0] = grid_energy(0) / row[LOSS, 0]
    for i in range(1, GRID_POINTS):
        low, high = grid_energy(i - 1), grid_energy(i)
        mean = (low / row[LOSS, i - 1] + high / row[LOSS, i]) / 2
        row[RANGE, i] = row[RANGE, i - 1] + mean * math.log(high / low)
