"""What happens inside an argon nucleus: bound nucleons, collisions among them, evaporation. MeV.

A nucleus is a Fermi gas in a well. Inside, a nucleon's energy counts from the bottom of the well; it leaves if it has
more than the well's depth, which is the Fermi energy plus the binding of the last nucleon. So energy is exact: each
collision keeps it, what leaves takes its kinetic energy and `BINDING`, and the rest excites the nucleus, which
evaporates and then radiates. Momentum is kept in collisions only: the nucleus takes what is missing, and its recoil
energy (below 1 MeV) is not told apart from excitation. Charge is kept in collisions; the nucleus has the rest, and
gives no proton or neutron that it does not have.
Nucleons have one mass here; 1.3 MeV between proton and neutron go into the excitation.
"""

import math

from numba import njit

from resim.lartpc.transport.draws import Draws, exponential, isotropic, uniform
from resim.lartpc.transport.kinematics import (
    Ended,
    Out,
    Vector,
    add,
    boost,
    decay_pi_zeros,
    energy_of,
    forward,
    momentum_of,
    put,
    scale,
    two_bodies,
)
from resim.lartpc.transport.particles import ALPHA, DEUTERON, NEUTRON, PHOTON, PI_MINUS, PI_PLUS, PROTON

PROTONS, NEUTRONS = 18, 22  # 40Ar
PROTON_SHARE = PROTONS / (PROTONS + NEUTRONS)
NUCLEON_MASS = 938.919
BINDING = 8.0  # of the last nucleon: 9.9 (n) and 12.5 (p) in 40Ar, less in what is left of it (AME2020)
ALPHA_COST, DEUTERON_COST = 6.80, 2 * BINDING - 2.22  # AME2020: separation of an alpha from 40Ar; deuteron binding
FERMI_MOMENTUM = 251.0  # calcium: Moniz et al., PRL 26 (1971) 445
FERMI_ENERGY = math.sqrt(NUCLEON_MASS**2 + FERMI_MOMENTUM**2) - NUCLEON_MASS
WELL = FERMI_ENERGY + BINDING
BARRIER = 3.7  # 0.8 of 1.44 Z / (1.2 (A^1/3 + 1)) MeV, for protons: tunnelling takes the rest
NUCLEON_SLOPE = 5.5e-6  # 1/MeV^2, of exp(bt) in nucleon-nucleon scattering near 1 GeV
RESCATTER = 0.6  # 3/4 R = 3.1 fm of way out at 3.4 fm between collisions: 40 mb, half of them Pauli blocked
LEVELS = 5.0  # level density A/8, 1/MeV
FIRST_LEVEL = 1.46  # 40Ar (ENSDF)
MOST_FAST, MOST_SLOW = 14, 24
_SOFT = 0.05  # below, a photon is not worth following


@njit(cache=True)
def bound_nucleon(draws: Draws) -> tuple[float, Vector]:
    """Draw the four-vector of a nucleon of the Fermi gas."""
    size = FERMI_MOMENTUM * uniform(draws) ** (1 / 3)
    return math.sqrt(NUCLEON_MASS * NUCLEON_MASS + size * size), scale(isotropic(draws), size)


@njit(cache=True)
def any_nucleon(draws: Draws) -> int:
    """Draw a proton or neutron."""
    return PROTON if uniform(draws) < PROTON_SHARE else NEUTRON


@njit(cache=True)
def is_nucleon(pdg: int) -> bool:
    """Tell nucleons from others."""
    return pdg in (PROTON, NEUTRON)


@njit(cache=True)
def collide(out: Out, count: int, row: int, draws: Draws) -> int:
    """Let the nucleon of a row meet a bound one; give the number of rows, unchanged if Pauli's principle forbids."""
    ids, energies, directions = out
    size = momentum_of(energies[row], NUCLEON_MASS)
    momentum = (directions[row, 0] * size, directions[row, 1] * size, directions[row, 2] * size)
    energy = energies[row] + NUCLEON_MASS
    bound_energy, bound = bound_nucleon(draws)
    total, sum_ = energy + bound_energy, add(momentum, bound)
    velocity = scale(sum_, -1 / total)
    axis = boost(energy, momentum, velocity)[1]
    squared = axis[0] * axis[0] + axis[1] * axis[1] + axis[2] * axis[2]
    cosine = forward(NUCLEON_SLOPE, math.sqrt(squared), draws)
    one, along = two_bodies(total, sum_, NUCLEON_MASS, NUCLEON_MASS, axis, cosine, 2 * math.pi * uniform(draws))
    other = total - one
    if min(one, other) - NUCLEON_MASS < FERMI_ENERGY:
        return count
    put(out, row, ids[row], one - NUCLEON_MASS, along)
    put(out, count, any_nucleon(draws), other - NUCLEON_MASS, add(sum_, scale(along, -1.0)))
    return count + 1


@njit(cache=True)
def cascade(out: Out, count: int, draws: Draws) -> int:
    """Let the nucleons of the rows, and those they knock on, collide on their way out."""
    row = 0
    while row < count and count < MOST_FAST:
        if is_nucleon(out[0][row]) and uniform(draws) < RESCATTER:
            count = collide(out, count, row, draws)
        row += 1
    return count


@njit(cache=True)
def escape(out: Out, count: int, budget: float) -> tuple[int, float, float]:
    """Take what leaves the well out of it; give the rows kept, the excitation left, and the binding paid."""
    ids, energies, directions = out
    kept, paid = 0, 0.0
    for row in range(count):
        kinetic = energies[row]
        if is_nucleon(ids[row]):
            kinetic -= WELL
            if kinetic <= (BARRIER if ids[row] == PROTON else 0.0):
                continue
            budget -= BINDING
            paid += BINDING
        budget -= energy_of(ids[row], kinetic)
        put(out, kept, ids[row], kinetic, (directions[row, 0], directions[row, 1], directions[row, 2]))
        kept += 1
    return kept, max(budget, 0.0), paid


@njit(cache=True)
def _evaporated(temperature: float, draws: Draws) -> tuple[int, float, float]:
    """Draw what evaporates: PDG id, cost beside its kinetic energy, barrier.

    Neutrons and, behind their Coulomb barriers, protons, alphas and deuterons.
    """
    proton, alpha = math.exp(-BARRIER / temperature), 0.4 * math.exp(-7.0 / temperature)
    deuteron = 0.15 * proton
    u = uniform(draws) * (1 + proton + alpha + deuteron)
    if u < 1:
        return NEUTRON, BINDING, 0.0
    if u < 1 + proton:
        return PROTON, BINDING, BARRIER
    if u < 1 + proton + alpha:
        return ALPHA, ALPHA_COST, 7.0
    return DEUTERON, DEUTERON_COST, BARRIER


@njit(cache=True)
def made_of(pdg: int) -> tuple[int, int]:
    """Give the protons and neutrons that a particle takes out of a nucleus; a pi+ makes a proton a neutron."""
    if pdg in (PROTON, NEUTRON):
        return (1, 0) if pdg == PROTON else (0, 1)
    if pdg in (PI_PLUS, PI_MINUS):
        return (1, -1) if pdg == PI_PLUS else (-1, 1)
    if pdg == DEUTERON:
        return 1, 1
    return (2, 2) if pdg == ALPHA else (0, 0)


@njit(cache=True)
def left(pdg: int, out: Out, count: int) -> tuple[int, int]:
    """Count the protons and neutrons of argon that took in a projectile and gave the rows."""
    protons, neutrons = made_of(pdg)
    for row in range(count):
        gone = made_of(out[0][row])
        protons, neutrons = protons - gone[0], neutrons - gone[1]
    return PROTONS + protons, NEUTRONS + neutrons


@njit(cache=True)
def evaporate(
    out: Out, count: int, excitation: float, owed: bool, nucleus: tuple[int, int], draws: Draws
) -> tuple[int, float, float]:
    """Evaporate until nothing can leave; give the rows, the excitation left, and the binding paid.

    Energies are Maxwell's above the barrier, at the temperature sqrt(excitation / level density). Where a nucleon is
    `owed` (the projectile was one, and none left) the first is one in any case. Of a `nucleus` of so many protons and
    neutrons, what is drawn and not there is a neutron instead, or the last protons.
    """
    paid, last = 0.0, min(count + MOST_SLOW, 58)
    protons, neutrons = nucleus
    while count < last and protons + neutrons > 0 and (owed or excitation > BINDING + FIRST_LEVEL):
        temperature = math.sqrt(max(excitation, 1.0) / LEVELS)
        pdg, cost, barrier = _evaporated(temperature, draws)
        kinetic = barrier + temperature * (exponential(draws) + exponential(draws))
        lacking = made_of(pdg)[0] > protons or made_of(pdg)[1] > neutrons
        if cost + kinetic > excitation - FIRST_LEVEL or lacking or (owed and not is_nucleon(pdg)):
            pdg, cost = NEUTRON if neutrons > 0 else PROTON, BINDING
            kinetic = uniform(draws) * max(excitation - BINDING - FIRST_LEVEL, 0.0)
        put(out, count, pdg, kinetic, isotropic(draws))
        count += 1
        paid += cost
        excitation = max(excitation - cost - kinetic, 0.0)
        protons, neutrons = protons - made_of(pdg)[0], neutrons - made_of(pdg)[1]
        owed = False
    return count, excitation, paid


@njit(cache=True)
def radiate(out: Out, count: int, excitation: float, draws: Draws) -> tuple[int, float]:
    """Let the nucleus radiate photons; give the rows and what is left on the spot.

    More than 30 MeV only a nucleus has that has evaporated all it can: fragments take the rest, on the spot.
    """
    local = max(excitation - 30.0, 0.0)
    excitation -= local
    while excitation > _SOFT and count < 62:
        part = excitation if excitation < 2 else excitation * (0.25 + 0.5 * uniform(draws))
        put(out, count, PHOTON, part, isotropic(draws))
        count += 1
        excitation -= part
    return count, local + excitation


@njit(cache=True)
def cool(out: Out, count: int, excitation: float, owed: bool, nucleus: tuple[int, int], draws: Draws) -> Ended:
    """Evaporate and radiate; give rows, local and the binding paid."""
    count, excitation, paid = evaporate(out, count, excitation, owed, nucleus, draws)
    count, local = radiate(out, count, excitation, draws)
    return count, local, paid


@njit(cache=True)
def finish(out: Out, count: int, energy: float, pdg: int, draws: Draws) -> Ended:
    """Bring an interaction to its end: collisions on the way out, escape, evaporation, radiation, neutral pions.

    Parameters
    ----------
    out, count
        Nucleons inside the well, pions outside.
    energy
        That the projectile brought, as `energy_of` counts it.
    pdg
        The projectile: a nucleon brings its binding along.
    """
    count = cascade(out, count, draws)
    nucleon = is_nucleon(pdg)
    brought = BINDING if nucleon else 0.0
    count, excitation, paid = escape(out, count, energy + brought)
    count, local, more = cool(out, count, excitation, nucleon and paid == 0, left(pdg, out, count), draws)
    return decay_pi_zeros(out, count, draws), local, paid + more - brought
