"""Four-vectors in compiled code, and the rows that an interaction fills with its secondaries. MeV.

An interaction writes its secondaries into an `Out`: PDG ids, kinetic energies and unit vectors. What it says of energy
holds to rounding: energy in = sum of `energy_of` over the secondaries + local + invisible.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from resim.lartpc.transport.draws import Draws, uniform
from resim.lartpc.transport.particles import (
    ANTIMUON,
    ELECTRON_MASS,
    MUON,
    MUON_MASS,
    PHOTON,
    PI_MINUS,
    PI_PLUS,
    PI_ZERO,
    PI_ZERO_MASS,
    PION_MASS,
    POSITRON,
)

ROWS = 64
"""Secondaries that an interaction can have; `hadrons` and `decays` stay below."""

Out = tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.float64]]
"""PDG ids (ROWS,), kinetic energies (ROWS,), directions (ROWS, 3)."""
Vector = tuple[float, float, float]
Ended = tuple[int, float, float]
"""Number of secondaries; energy left on the spot; energy that ionises nothing."""

ALONG_Z = (0.0, 0.0, 1.0)


def rows() -> Out:
    """Give rows to write secondaries to."""
    return np.zeros(ROWS, dtype=np.int32), np.zeros(ROWS), np.zeros((ROWS, 3))


@njit(cache=True)
def energy_of(pdg: int, kinetic: float) -> float:
    """Give the energy that a particle can still leave.

    With its mass for muons and pions; positrons with two electron masses, for they annihilate; kinetic for others.
    """
    if pdg in (MUON, ANTIMUON):
        return kinetic + MUON_MASS
    if pdg in (PI_PLUS, PI_MINUS):
        return kinetic + PION_MASS
    if pdg == PI_ZERO:
        return kinetic + PI_ZERO_MASS
    if pdg == POSITRON:
        return kinetic + 2 * ELECTRON_MASS
    return kinetic


@njit(cache=True)
def put(out: Out, row: int, pdg: int, kinetic: float, along: Vector) -> None:
    """Write a secondary; `along` need not have length 1, and may be 0 for a particle that does not move."""
    ids, energies, directions = out
    length = math.sqrt(along[0] * along[0] + along[1] * along[1] + along[2] * along[2])
    ids[row], energies[row] = pdg, max(kinetic, 0.0)
    if length > 0:
        directions[row, 0], directions[row, 1] = along[0] / length, along[1] / length
        directions[row, 2] = along[2] / length
    else:
        directions[row, 0], directions[row, 1], directions[row, 2] = 0.0, 0.0, 1.0


@njit(cache=True)
def momentum_of(kinetic: float, mass: float) -> float:
    """Give the momentum of a particle."""
    return math.sqrt(max(kinetic * (kinetic + 2 * mass), 0.0))


@njit(cache=True)
def add(a: Vector, b: Vector) -> Vector:
    """Add vectors."""
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


@njit(cache=True)
def scale(a: Vector, factor: float) -> Vector:
    """Multiply a vector by a number."""
    return a[0] * factor, a[1] * factor, a[2] * factor


@njit(cache=True)
def dot(a: Vector, b: Vector) -> float:
    """Multiply vectors with each other."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(cache=True)
def boost(energy: float, momentum: Vector, velocity: Vector) -> tuple[float, Vector]:
    """Give a four-vector as seen where its own frame moves with `velocity`."""
    square = dot(velocity, velocity)
    if square <= 0:
        return energy, momentum
    gamma = 1 / math.sqrt(1 - square)
    along = dot(velocity, momentum)
    push = (gamma - 1) * along / square + gamma * energy
    return gamma * (energy + along), add(momentum, scale(velocity, push))


@njit(cache=True)
def turned(axis: Vector, cosine: float, angle: float) -> Vector:
    """Give the unit vector at polar angle acos(`cosine`) and azimuth `angle` about an axis of any length."""
    length = math.sqrt(dot(axis, axis))
    x, y, z = (axis[0] / length, axis[1] / length, axis[2] / length) if length > 0 else (0.0, 0.0, 1.0)
    sine, flat = math.sqrt(max(1 - cosine * cosine, 0.0)), math.sqrt(x * x + y * y)
    a, b = sine * math.cos(angle), sine * math.sin(angle)
    if flat < 1e-12:
        return a, b, cosine * math.copysign(1.0, z)
    return (
        (a * x * z - b * y) / flat + cosine * x,
        (a * y * z + b * x) / flat + cosine * y,
        cosine * z - a * flat,
    )


@njit(cache=True)
def two_bodies(
    energy: float, momentum: Vector, first: float, second: float, axis: Vector, cosine: float, angle: float
) -> tuple[float, Vector]:
    """Let a system go into two bodies; give the four-vector of the first (the second has the rest).

    Parameters
    ----------
    energy, momentum
        Of the system, whose mass must be at least `first` + `second`.
    first, second
        Masses of the bodies.
    axis, cosine, angle
        Direction of the first body in the system's own frame, about an axis given in that frame.
    """
    square = energy * energy - dot(momentum, momentum)
    mass = math.sqrt(square)
    alone = (square + first * first - second * second) / (2 * mass)
    size = math.sqrt(max(alone * alone - first * first, 0.0))
    direction = turned(axis, cosine, angle)
    return boost(alone, scale(direction, size), scale(momentum, 1 / energy))


@njit(cache=True)
def forward(slope: float, momentum: float, draws: Draws) -> float:
    """Draw the cosine of a scattering angle from exp(slope t), t = -2 momentum^2 (1 - cosine); slope in 1/MeV^2."""
    steepness = 2 * slope * momentum * momentum
    u = uniform(draws)
    if steepness < 1e-6:
        return 2 * u - 1
    return max(-1.0, 1 + math.log1p(-u * -math.expm1(-2 * steepness)) / steepness)


@njit(cache=True)
def decay_pi_zeros(out: Out, count: int, draws: Draws) -> int:
    """Turn each neutral pion into two photons; give the new number of secondaries."""
    ids, energies, directions = out
    for row in range(count):
        if ids[row] != PI_ZERO:
            continue
        energy = energies[row] + PI_ZERO_MASS
        size = momentum_of(energies[row], PI_ZERO_MASS)
        momentum = (directions[row, 0] * size, directions[row, 1] * size, directions[row, 2] * size)
        cosine, angle = 2 * uniform(draws) - 1, 2 * math.pi * uniform(draws)
        one, along = two_bodies(energy, momentum, 0.0, 0.0, ALONG_Z, cosine, angle)
        put(out, row, PHOTON, one, along)
        put(out, count, PHOTON, energy - one, add(momentum, scale(along, -1.0)))
        count += 1
    return count
