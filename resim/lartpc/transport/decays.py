"""Decay and capture of pions and muons, at rest and in flight. MeV, cm, µs.

Neutrinos are invisible. Polarisation is left out, and so are pi -> e nu (1.2e-4) and radiative decays. A positron
counts with two electron masses, one of them of an electron of the argon; the neutrinos' share is too small by that.
"""

import math

from numba import njit

from resim.lartpc.transport.argon import LIGHT
from resim.lartpc.transport.draws import Draws, exponential, isotropic, uniform
from resim.lartpc.transport.hadrons import absorb
from resim.lartpc.transport.kinematics import ALONG_Z, Ended, Out, boost, energy_of, momentum_of, put, scale
from resim.lartpc.transport.nucleus import NEUTRONS, PROTONS, cool
from resim.lartpc.transport.particles import (
    ANTIMUON,
    ELECTRON,
    ELECTRON_MASS,
    MUON,
    MUON_LIFE,
    MUON_MASS,
    PI_MINUS,
    PI_PLUS,
    PION_LIFE,
    PION_MASS,
    POSITRON,
)

MICHEL_END = (MUON_MASS**2 + ELECTRON_MASS**2) / (2 * MUON_MASS)  # 52.83 MeV, total energy of the electron
MUON_OF_PION = (PION_MASS - MUON_MASS) ** 2 / (2 * PION_MASS)  # 4.12 MeV, kinetic

# mu- in argon: 0.537 +- 0.032 µs (measured in 1973, as quoted by Suzuki, Measday, Roalsvig, PRC 35
# (1987) 2212). Of the free decay rate 98 % are left in the atom (Huff factor). Capture has the rest, 76 %.
CAPTURE_LIFE, HUFF = 0.537, 0.98
DECAY_SHARE = HUFF * CAPTURE_LIFE / MUON_LIFE
CAPTURE_EXCITATION = 15.0  # mean; the neutrino takes the rest (Measday, Phys. Rept. 354 (2001) 243, section 4.6)


@njit(cache=True)
def decay_length(pdg: int, kinetic: float) -> float:
    """Give the mean way to the decay of a muon or charged pion in flight, cm; infinite for others."""
    if pdg in (MUON, ANTIMUON):
        return momentum_of(kinetic, MUON_MASS) / MUON_MASS * LIGHT * MUON_LIFE
    if pdg in (PI_PLUS, PI_MINUS):
        return momentum_of(kinetic, PION_MASS) / PION_MASS * LIGHT * PION_LIFE
    return math.inf


@njit(cache=True)
def michel(draws: Draws) -> float:
    """Draw the electron's total energy where a muon rests: x^2 (3 - 2x), x its share of the most it can have."""
    while True:
        x = uniform(draws)
        if uniform(draws) < x * x * (3 - 2 * x) and x * MICHEL_END > ELECTRON_MASS:
            return x * MICHEL_END


@njit(cache=True)
def decay_in_flight(pdg: int, kinetic: float, draws: Draws, out: Out) -> Ended:
    """Let a muon or charged pion decay; its charged daughter is the one secondary, the projectile flies along +z."""
    if pdg in (MUON, ANTIMUON):
        mother, daughter, mass, energy = MUON_MASS, ELECTRON if pdg == MUON else POSITRON, ELECTRON_MASS, michel(draws)
    else:
        mother, daughter, mass = PION_MASS, ANTIMUON if pdg == PI_PLUS else MUON, MUON_MASS
        energy = MUON_OF_PION + MUON_MASS
    along = scale(isotropic(draws), momentum_of(energy - mass, mass))
    velocity = scale(ALONG_Z, momentum_of(kinetic, mother) / (kinetic + mother))
    energy, along = boost(energy, along, velocity)
    put(out, 0, daughter, energy - mass, along)
    return 1, 0.0, energy_of(pdg, kinetic) - energy_of(daughter, out[1][0])


@njit(cache=True)
def at_rest(pdg: int, draws: Draws, out: Out) -> tuple[int, float, float, float]:
    """Let a stopped muon or charged pion decay or be captured.

    Returns
    -------
    Number of secondaries, local, invisible, and the delay (µs). Nothing at all for other particles.
    """
    if pdg == MUON:
        delay = CAPTURE_LIFE * exponential(draws)
        if uniform(draws) < DECAY_SHARE:
            count, local, invisible = decay_in_flight(pdg, 0.0, draws, out)
        else:
            count, local, invisible = capture_muon(draws, out)
        return count, local, invisible, delay
    if pdg in (ANTIMUON, PI_PLUS):
        delay = (MUON_LIFE if pdg == ANTIMUON else PION_LIFE) * exponential(draws)
        count, local, invisible = decay_in_flight(pdg, 0.0, draws, out)
        return count, local, invisible, delay
    if pdg == PI_MINUS:
        count, local, invisible = absorb(pdg, 0.0, draws, out)
        return count, local, invisible, 0.0
    return 0, 0.0, 0.0, 0.0


@njit(cache=True)
def capture_muon(draws: Draws, out: Out) -> Ended:
    """Let the nucleus capture a muon: a neutrino takes most of its mass, the rest excites the nucleus.

    The excitation is Gamma distributed (shape 2). X-rays of the muonic atom (0.9 MeV in all) count to the neutrino.
    """
    excitation = min(CAPTURE_EXCITATION / 2 * (exponential(draws) + exponential(draws)), MUON_MASS)
    nucleus = PROTONS - 1, NEUTRONS + 1
    count, local, paid = cool(out, 0, excitation, False, nucleus, draws)
    return count, local, MUON_MASS - excitation + paid
