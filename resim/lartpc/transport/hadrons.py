"""Interactions of pions, protons and neutrons with argon nuclei: lengths, elastic and inelastic. MeV, cm.

Cross-sections are tables (sources beside them), linear in between, constant above. The final states are a
parametrised cascade: the kind of reaction is drawn from measured shares, its first collision is done with a nucleon of
the Fermi gas, and `nucleus` brings what comes of it out. docs/physics.md says how well that does.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from resim.lartpc.transport.argon import ATOMS
from resim.lartpc.transport.draws import Draws, isotropic, uniform
from resim.lartpc.transport.kinematics import (
    ALONG_Z,
    Ended,
    Out,
    Vector,
    add,
    boost,
    dot,
    energy_of,
    forward,
    momentum_of,
    put,
    scale,
    two_bodies,
)
from resim.lartpc.transport.nucleus import (
    FERMI_ENERGY,
    NUCLEON_MASS,
    NUCLEON_SLOPE,
    PROTON_SHARE,
    WELL,
    any_nucleon,
    bound_nucleon,
    collide,
    finish,
)
from resim.lartpc.transport.particles import (
    NEUTRON,
    NEUTRON_MASS,
    PI_MINUS,
    PI_PLUS,
    PI_ZERO,
    PI_ZERO_MASS,
    PION_MASS,
    PROTON,
    PROTON_MASS,
)

FREE_PATH = 1e27 / ATOMS
"""Mean free path of a millibarn, cm."""
ARGON_MASS = 37224.7  # MeV, 39.9624 u less 18 electrons

# Reaction and total cross-section of 40Ca, mb: V. S. Barashenkov's compilation (Cross sections of interactions of
# particles with nuclei, JINR 1993), as Geant4 has it for pions (BarashenkovPion) and for nucleons (preprint JINR
# P2-89-770). Between Al and Ca, A = 39.95 is 99 % Ca, so this is calcium scaled by (39.95/40.08)^0.75.
_SIZE = (39.948 / 40.078) ** 0.75
# fmt: off
_PI_ENERGY = np.array(
    [2, 20, 40, 60, 80, 100, 120, 140, 160, 180, 200, 220, 250, 300, 350, 400, 450, 500, 600, 700, 800, 900,
     1e3, 2e3, 3e3, 5e3, 1e4, 2e4, 5e4]
)
_PI_MINUS_TOTAL = _SIZE * np.array(
    [800, 800, 980, 1240, 1460, 1570, 1600, 1580, 1535, 1475, 1425, 1375, 1295, 1200, 1083, 1000, 948, 915, 895, 900,
     908, 915, 922, 856, 795, 740, 705, 682, 660]
)
_PI_MINUS_REACTION = _SIZE * np.array(
    [470, 470, 550, 620, 860, 955, 980, 960, 920, 860, 820, 780, 740, 665, 637, 615, 600, 590, 590, 600, 608, 610,
     615, 550, 525, 510, 488, 470, 450]
)
_PI_PLUS_TOTAL = _SIZE * np.array(
    [50, 275, 445, 790, 1195, 1440, 1485, 1475, 1435, 1385, 1335, 1295, 1245, 1160, 1050, 970, 923, 895, 877, 887, 897,
     904, 913, 855, 795, 740, 705, 682, 660]
)
_PI_PLUS_REACTION = _SIZE * np.array(
    [0, 160, 315, 500, 745, 870, 905, 900, 860, 810, 770, 740, 710, 640, 617, 595, 585, 575, 575, 590, 600, 602, 608,
     510, 510, 510, 488, 470, 450]
)
# Nucleons: Barashenkov from 14 MeV; below, by hand. Neutrons follow the average course of evaluated data for 40Ar,
# good to 20-30 % only, without resonances; protons fall to nothing at the Coulomb barrier.
_N_ENERGY = np.array(
    [0.01, 0.1, 0.5, 1, 1.6, 2, 3, 4, 5, 6, 7, 8, 10, 14, 20, 25, 30, 35, 40, 45, 50, 60, 70, 80, 90, 100, 120, 140,
     160, 200, 250, 300, 350, 400, 500, 600, 700, 800, 1e3, 1.5e3, 2e3, 3e3, 5e3, 1e4, 2e4, 5e4]
)
_N_TOTAL = _SIZE * np.array(
    [800, 1500, 2500, 3000, 3300, 3400, 3400, 3300, 3200, 3000, 2800, 2650, 2400, 2180, 2115, 2220, 2300,
     2365, 2360, 2280, 2180, 2000, 1805, 1650, 1500, 1340, 1140, 990, 890, 790, 770, 773, 787, 800, 830, 870,
     905, 930, 965, 990, 1002, 990, 965, 925, 892, 860]
)
_N_REACTION = _SIZE * np.array(
    [0, 0, 0, 0, 0, 250, 750, 1050, 1250, 1350, 1380, 1380, 1330, 1240, 1125, 1045, 980, 925, 880, 825, 770,
     680, 640, 620, 615, 600, 580, 565, 560, 550, 535, 530, 540, 550, 570, 595, 610, 615, 622, 629, 630, 620,
     607, 592, 587, 580]
)
_P_REACTION = _SIZE * np.array(
    [0, 0, 0, 0, 0, 0, 0, 0, 120, 250, 370, 480, 630, 770, 900, 935, 895, 835, 800, 750, 715, 640, 605, 590,
     588, 573, 555, 543, 540, 535, 530, 530, 540, 550, 570, 595, 610, 615, 622, 629, 630, 620, 607, 592, 587,
     580]
)
# fmt: on
_P_ELASTIC = np.where(_N_ENERGY < 5, 0.0, np.minimum(_N_TOTAL - _P_REACTION, 1410.0))

# Shares of pion reactions. Absorption: LADS on argon (Kotlinski et al., EPJ A9 (2000) 537: 180 +- 43, 320 +- 65,
# 351 +- 49, 283 +- 28, 225 +- 17 mb at 70, 118, 162, 239, 330 MeV), INCL below (206, 304 mb at 20, 50 MeV), CEM03
# above. Charge exchange: Ashery et al., PRC 23 (1981) 2173, between Al and Fe. Production: free pi N (PDG).
_SHARE_ENERGY = np.array([0.0, 20, 50, 70, 118, 162, 205, 239, 330, 400, 500, 600, 800, 1e3, 2e3])
_ABSORBED = np.array([0.86, 0.84, 0.50, 0.36, 0.37, 0.41, 0.405, 0.395, 0.355, 0.235, 0.13, 0.11, 0.098, 0.075, 0.05])
_EXCHANGED = np.array([0.02, 0.04, 0.08, 0.085, 0.08, 0.10, 0.092, 0.11, 0.135, 0.14, 0.14, 0.14, 0.13, 0.12, 0.08])
_PRODUCED = np.array([0.0, 0, 0, 0, 0, 0, 0, 0, 0.02, 0.06, 0.15, 0.25, 0.40, 0.50, 0.65])

# Pions a nucleon reaction makes: CEM03 for p Fe (S. Mashnik), sum of three charges over the reaction cross-section.
_MAKING_ENERGY = np.array([0.0, 250, 300, 350, 400, 500, 600, 700, 800, 900, 1e3, 2e3])
_MAKING = np.array([0.0, 0.003, 0.011, 0.027, 0.053, 0.127, 0.219, 0.310, 0.397, 0.485, 0.572, 0.80])
_MAKING_PLUS, _MAKING_ZERO = 0.33, 0.45  # its shares at 1 GeV; the rest is pi-

# Elastic scattering, dsigma/dt: two exponentials (H. Fesefeldt, GHEISHA, PITHA 85-02; Geant4's G4HadronElastic, A < 63)
_SLOPE, _TAIL_SLOPE = 14.5e-6 * 39.948 ** (2 / 3), 10e-6  # 1/MeV^2
_CORE = 39.948**1.63 / (14.5 * 39.948 ** (2 / 3))
_CORE_SHARE = _CORE / (_CORE + 1.4 * 39.948 ** (1 / 3) / 10)
_LINDHARD = 0.133 * 18 ** (2 / 3) / math.sqrt(39.948)  # J. Lindhard et al., Mat. Fys. Medd. 33 (1963) no. 10
_DELTA_MASS, _DELTA_WIDTH = 1232.0, 117.0  # PDG
_PION_SLOPE = 7e-6  # 1/MeV^2, pi N above the resonance
_TRIES = 6


@njit(cache=True)
def _between(x: float, points: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """Interpolate linearly in a table, which goes on with its first and last value."""
    i = np.searchsorted(points, x)
    if i == 0:
        return values[0]
    if i == len(points):
        return values[-1]
    share = (x - points[i - 1]) / (points[i] - points[i - 1])
    return values[i - 1] + share * (values[i] - values[i - 1])


@njit(cache=True)
def reaction(pdg: int, kinetic: float) -> float:
    """Give the reaction (inelastic) cross-section on argon, mb; 0 for others than pi+-, p and n."""
    if pdg == PI_PLUS:
        return _between(kinetic, _PI_ENERGY, _PI_PLUS_REACTION)
    if pdg == PI_MINUS:
        return _between(kinetic, _PI_ENERGY, _PI_MINUS_REACTION)
    if pdg == PROTON:
        return _between(kinetic, _N_ENERGY, _P_REACTION)
    if pdg == NEUTRON:
        return _between(kinetic, _N_ENERGY, _N_REACTION)
    return 0.0


@njit(cache=True)
def scattering(pdg: int, kinetic: float) -> float:
    """Give the elastic nuclear cross-section on argon, mb; 0 for others than pi+-, p and n."""
    if pdg == PI_PLUS:
        return _between(kinetic, _PI_ENERGY, _PI_PLUS_TOTAL) - _between(kinetic, _PI_ENERGY, _PI_PLUS_REACTION)
    if pdg == PI_MINUS:
        return _between(kinetic, _PI_ENERGY, _PI_MINUS_TOTAL) - _between(kinetic, _PI_ENERGY, _PI_MINUS_REACTION)
    if pdg == PROTON:
        return _between(kinetic, _N_ENERGY, _P_ELASTIC)
    if pdg == NEUTRON:
        return _between(kinetic, _N_ENERGY, _N_TOTAL) - _between(kinetic, _N_ENERGY, _N_REACTION)
    return 0.0


@njit(cache=True)
def inelastic_length(pdg: int, kinetic: float) -> float:
    """Give the mean free path to an inelastic reaction, cm; infinite where there is none."""
    section = reaction(pdg, kinetic)
    return FREE_PATH / section if section > 0 else math.inf


@njit(cache=True)
def elastic_length(pdg: int, kinetic: float) -> float:
    """Give the mean free path to elastic scattering off a nucleus, cm; infinite where there is none."""
    section = scattering(pdg, kinetic)
    return FREE_PATH / section if section > 0 else math.inf


@njit(cache=True)
def _mass(pdg: int) -> float:
    if pdg == PROTON:
        return PROTON_MASS
    return NEUTRON_MASS if pdg == NEUTRON else PION_MASS


@njit(cache=True)
def ionising(recoil: float) -> float:
    """Give what an argon nucleus of this energy leaves in ionisation and light (Lindhard), MeV."""
    reduced = 11.5 * 18 ** (-7 / 3) * recoil * 1e3
    g = 3 * reduced**0.15 + 0.7 * reduced**0.6 + reduced
    return recoil * _LINDHARD * g / (1 + _LINDHARD * g)


@njit(cache=True)
def elastic(pdg: int, kinetic: float, draws: Draws, out: Out) -> Ended:
    """Scatter off a nucleus as a whole: exact two-body kinematics, the first row is the projectile.

    Of the nucleus's recoil the ionising part (Lindhard's) is local; the rest, spent on atoms, is invisible.
    """
    mass, energy = _mass(pdg), kinetic + _mass(pdg)
    momentum = momentum_of(kinetic, mass)
    square = mass * mass + ARGON_MASS * ARGON_MASS + 2 * energy * ARGON_MASS
    inside = momentum * ARGON_MASS / math.sqrt(square)
    slope = _SLOPE if uniform(draws) < _CORE_SHARE else _TAIL_SLOPE
    recoil = inside * inside * (1 - forward(slope, inside, draws)) / ARGON_MASS
    left = max(kinetic - recoil, 0.0)
    after = momentum_of(left, mass)
    cosine = 1.0
    if momentum > 0 and after > 0:
        kicked = momentum_of(recoil, ARGON_MASS)
        cosine = (momentum * momentum + after * after - kicked * kicked) / (2 * momentum * after)
    cosine = min(1.0, max(-1.0, cosine))
    sine, angle = math.sqrt(1 - cosine * cosine), 2 * math.pi * uniform(draws)
    put(out, 0, pdg, left, (sine * math.cos(angle), sine * math.sin(angle), cosine))
    recoil = kinetic - left
    local = ionising(recoil)
    return 1, local, recoil - local


@njit(cache=True)
def inelastic(pdg: int, kinetic: float, draws: Draws, out: Out) -> Ended:
    """Let a pion or nucleon react; give the number of secondaries, what is local, and what is invisible.

    The projectile flies along +z. Invisible is what freed nucleons of the nucleus (`BINDING` each).
    """
    if pdg in (PI_PLUS, PI_MINUS):
        return _pion(pdg, kinetic, draws, out)
    return _nucleon(pdg, kinetic, draws, out)


@njit(cache=True)
def _pion(pdg: int, kinetic: float, draws: Draws, out: Out) -> Ended:
    """Draw what a pion does: absorption, charge exchange, production of another, else quasi-elastic scattering."""
    u = uniform(draws) - _between(kinetic, _SHARE_ENERGY, _ABSORBED)
    if u < 0:
        return absorb(pdg, kinetic, draws, out)
    u -= _between(kinetic, _SHARE_ENERGY, _EXCHANGED)
    if u < 0:
        return _quasi_elastic(pdg, kinetic, True, draws, out)
    if u < _between(kinetic, _SHARE_ENERGY, _PRODUCED):
        count = _second_pion(pdg, kinetic, draws, out)
        if count > 0:
            return finish(out, count, energy_of(pdg, kinetic), pdg, draws)
    return _quasi_elastic(pdg, kinetic, False, draws, out)


@njit(cache=True)
def absorb(pdg: int, kinetic: float, draws: Draws, out: Out) -> Ended:
    """Absorb a pion, in flight or (kinetic 0) at rest, on a pair of nucleons, which leave back to back.

    85 % of the pairs are np: pi+ gives pp, pi- gives nn. Three and more nucleons come of collisions on the way out.
    """
    alike = uniform(draws) < 0.85
    first = PROTON if pdg == PI_PLUS else NEUTRON
    second = first if alike else (NEUTRON if first == PROTON else PROTON)
    for _ in range(_TRIES):
        one_energy, one = bound_nucleon(draws)
        two_energy, two = bound_nucleon(draws)
        total = kinetic + PION_MASS + one_energy + two_energy
        momentum = add(scale(ALONG_Z, momentum_of(kinetic, PION_MASS)), add(one, two))
        energy, along = two_bodies(total, momentum, NUCLEON_MASS, NUCLEON_MASS, isotropic(draws), 1.0, 0.0)
        if min(energy, total - energy) - NUCLEON_MASS >= FERMI_ENERGY:
            put(out, 0, first, energy - NUCLEON_MASS, along)
            put(out, 1, second, total - energy - NUCLEON_MASS, add(momentum, scale(along, -1.0)))
            return finish(out, 2, kinetic + PION_MASS, pdg, draws)
    return finish(out, 0, kinetic + PION_MASS, pdg, draws)


@njit(cache=True)
def _struck(pdg: int, kinetic: float, draws: Draws) -> int:
    """Draw which nucleon a pion hits: pi+ p and pi- n nine times rather than the others on the Delta, 1.5 above."""
    ratio = 9.0 if kinetic < 250 else max(1.5, 9.0 - (kinetic - 250) * 7.5 / 350)
    protons, neutrons = PROTON_SHARE, 1 - PROTON_SHARE
    if pdg == PI_PLUS:
        protons *= ratio
    else:
        neutrons *= ratio
    return PROTON if uniform(draws) * (protons + neutrons) < protons else NEUTRON


@njit(cache=True)
def _pion_cosine(kinetic: float, size: float, draws: Draws) -> float:
    """Draw the pi N scattering angle: 1 + 3 cos^2 on the Delta, exponential in t above 350 MeV."""
    if kinetic > 350:
        return forward(_PION_SLOPE, size, draws)
    while True:
        cosine = 2 * uniform(draws) - 1
        if 4 * uniform(draws) < 1 + 3 * cosine * cosine:
            return cosine


@njit(cache=True)
def _quasi_elastic(pdg: int, kinetic: float, exchange: bool, draws: Draws, out: Out) -> Ended:
    """Scatter a pion off a nucleon of the nucleus, with or without exchange of charge.

    Where Pauli's principle forbids all that is drawn, the nucleus as a whole takes some of the energy.
    """
    struck = (NEUTRON if pdg == PI_PLUS else PROTON) if exchange else _struck(pdg, kinetic, draws)
    freed = (PROTON if struck == NEUTRON else NEUTRON) if exchange else struck
    after, mass = (PI_ZERO, PI_ZERO_MASS) if exchange else (pdg, PION_MASS)
    energy = kinetic + PION_MASS
    momentum = scale(ALONG_Z, momentum_of(kinetic, PION_MASS))
    for _ in range(_TRIES):
        bound_energy, bound = bound_nucleon(draws)
        total, sum_ = energy + bound_energy, add(momentum, bound)
        axis = boost(energy, momentum, scale(sum_, -1 / total))[1]
        cosine = _pion_cosine(kinetic, math.sqrt(dot(axis, axis)), draws)
        scattered, along = two_bodies(total, sum_, mass, NUCLEON_MASS, axis, cosine, 2 * math.pi * uniform(draws))
        hit = total - scattered - NUCLEON_MASS
        if hit >= FERMI_ENERGY:
            put(out, 0, after, scattered - mass, along)
            put(out, 1, freed, hit, add(sum_, scale(along, -1.0)))
            return finish(out, 2, energy, pdg, draws)
    put(out, 0, after, (energy - mass) * (0.5 + 0.5 * uniform(draws)), isotropic(draws))
    return finish(out, 1, energy, pdg, draws)


@njit(cache=True)
def _resonance(mass: float, light: float, draws: Draws) -> float:
    """Draw the mass of nucleon + pion: Breit and Wigner's Delta, up to `mass` - `light`."""
    low = math.atan((NUCLEON_MASS + PION_MASS - _DELTA_MASS) * 2 / _DELTA_WIDTH)
    high = math.atan((mass - light - _DELTA_MASS) * 2 / _DELTA_WIDTH)
    return _DELTA_MASS + _DELTA_WIDTH / 2 * math.tan(low + (high - low) * uniform(draws))


@njit(cache=True)
def _through_delta(
    energy: float, momentum: Vector, mass: float, slope: float, draws: Draws
) -> tuple[float, Vector, float, Vector, float, Vector]:
    """Let projectile and a bound nucleon become light body + nucleon + pion, by way of a Delta; four-vectors of all.

    All energies are 0 if there is not enough energy, or Pauli's principle forbids it.
    """
    bound_energy, bound = bound_nucleon(draws)
    total, sum_ = energy + bound_energy, add(momentum, bound)
    whole = math.sqrt(total * total - dot(sum_, sum_))
    nothing = (0.0, 0.0, 0.0)
    if whole < mass + NUCLEON_MASS + PION_MASS + 1:
        return 0.0, nothing, 0.0, nothing, 0.0, nothing
    delta = _resonance(whole, mass, draws)
    axis = boost(energy, momentum, scale(sum_, -1 / total))[1]
    cosine = forward(slope, math.sqrt(dot(axis, axis)), draws)
    light, along = two_bodies(total, sum_, mass, delta, axis, cosine, 2 * math.pi * uniform(draws))
    rest, rest_along = total - light, add(sum_, scale(along, -1.0))
    nucleon, nucleon_along = two_bodies(rest, rest_along, NUCLEON_MASS, PION_MASS, isotropic(draws), 1.0, 0.0)
    if nucleon - NUCLEON_MASS < FERMI_ENERGY:
        return 0.0, nothing, 0.0, nothing, 0.0, nothing
    return light, along, nucleon, nucleon_along, rest - nucleon, add(rest_along, scale(nucleon_along, -1.0))


@njit(cache=True)
def _second_pion(pdg: int, kinetic: float, draws: Draws, out: Out) -> int:
    """Make a pion of a pion and a nucleon; give the rows, 0 if it failed. Two of five of the new pions are neutral."""
    momentum = scale(ALONG_Z, momentum_of(kinetic, PION_MASS))
    for _ in range(_TRIES):
        light, along, nucleon, nucleon_along, made, made_along = _through_delta(
            kinetic + PION_MASS, momentum, PION_MASS, _PION_SLOPE, draws
        )
        if light == 0:
            continue
        struck = any_nucleon(draws)
        put(out, 0, pdg, light - PION_MASS, along)
        if uniform(draws) < 0.4:
            put(out, 1, struck, nucleon - NUCLEON_MASS, nucleon_along)
            put(out, 2, PI_ZERO, made - PI_ZERO_MASS, made_along)
        else:
            put(out, 1, PROTON if struck == NEUTRON else NEUTRON, nucleon - NUCLEON_MASS, nucleon_along)
            put(out, 2, PI_MINUS if struck == NEUTRON else PI_PLUS, made - PION_MASS, made_along)
        return 3
    return 0


@njit(cache=True)
def _nucleon(pdg: int, kinetic: float, draws: Draws, out: Out) -> Ended:
    """Let a nucleon make a pion, or knock on a nucleon, or (where Pauli forbids) be swallowed by the nucleus."""
    inside = kinetic + WELL
    if uniform(draws) < _between(kinetic, _MAKING_ENERGY, _MAKING):
        count = _first_pion(pdg, inside, draws, out)
        if count > 0:
            return finish(out, count, kinetic, pdg, draws)
    put(out, 0, pdg, inside, ALONG_Z)
    for _ in range(3):
        if collide(out, 1, 0, draws) == 2:
            return finish(out, 2, kinetic, pdg, draws)
    return finish(out, 0, kinetic, pdg, draws)


@njit(cache=True)
def _first_pion(pdg: int, inside: float, draws: Draws, out: Out) -> int:
    """Make a pion in a collision of two nucleons; give the rows, 0 if it failed. For neutrons, charges mirrored."""
    u = uniform(draws)
    charge = 1 if u < _MAKING_PLUS else (0 if u < _MAKING_PLUS + _MAKING_ZERO else -1)
    other = 1 if uniform(draws) < PROTON_SHARE else 0
    if charge == -1:
        other = 0
    protons = 1 + other - charge
    momentum = scale(ALONG_Z, momentum_of(inside, NUCLEON_MASS))
    for _ in range(_TRIES):
        light, along, nucleon, nucleon_along, made, made_along = _through_delta(
            inside + NUCLEON_MASS, momentum, NUCLEON_MASS, NUCLEON_SLOPE, draws
        )
        if light - NUCLEON_MASS < FERMI_ENERGY:
            continue
        mirrored = pdg == NEUTRON
        put(out, 0, PROTON if (protons > 0) != mirrored else NEUTRON, light - NUCLEON_MASS, along)
        put(out, 1, PROTON if (protons > 1) != mirrored else NEUTRON, nucleon - NUCLEON_MASS, nucleon_along)
        if charge == 0:
            put(out, 2, PI_ZERO, made - PI_ZERO_MASS, made_along)
        else:
            put(out, 2, PI_PLUS if (charge > 0) != mirrored else PI_MINUS, made - PION_MASS, made_along)
        return 3
    return 0
