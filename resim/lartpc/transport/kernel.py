"""The loop over events: a stack of particles, each followed step by step; what they leave behind becomes segments.

An event draws from its own counters, so its numbers depend on nothing but its key, its primary and the settings.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from resim.lartpc.transport.argon import LIGHT, grid_place
from resim.lartpc.transport.charged import (
    LARGE,
    MASS,
    beta_squared,
    draw_delta,
    draw_loss,
    draw_scatter,
    large_scatters,
    largest_transfer,
    poisson,
    species_of,
)
from resim.lartpc.transport.decays import at_rest, decay_in_flight
from resim.lartpc.transport.draws import Draws, draws_of, exponential, isotropic, uniform
from resim.lartpc.transport.electrons import (
    draw_annihilation,
    draw_brems,
    draw_opening,
)
from resim.lartpc.transport.hadrons import elastic, elastic_length, inelastic, inelastic_length
from resim.lartpc.transport.particles import (
    ANTIMUON,
    ELECTRON,
    ELECTRON_MASS,
    MUON,
    MUON_LIFE,
    MUON_MASS,
    NEUTRON,
    NEUTRON_MASS,
    PHOTON,
    PI_MINUS,
    PI_PLUS,
    PI_ZERO,
    PI_ZERO_MASS,
    PION_LIFE,
    PION_MASS,
    POSITRON,
)
from resim.lartpc.transport.photons import (
    draw_compton,
    draw_pair,
    draw_photoelectron,
)
from resim.lartpc.transport.tables import ANNIHILATION, BREMS, DELTA, LOSS, RANGE, SOFT, Tables

F8 = NDArray[np.float64]
Vector = tuple[float, float, float]

# Columns of a particle
_ENERGY, _X, _Y, _Z, _UX, _UY, _UZ, _TIME, _TRACK, _PDG = range(10)
_COLUMNS = 10
# What may happen to a charged particle, in the order of the rates, behind DELTA, BREMS and ANNIHILATION
_ELASTIC, _INELASTIC, _DECAY = 3, 4, 5
# Counters of a block and of an event
_DEPTH, _SEGMENTS, _TRACKS, _STEPS = range(4)  # particles on the stack, segments, tracks, steps
_ESCAPED, _INVISIBLE = range(2)

_OUT = 64  # what an interaction gives at most
_ROOM = 80  # more than one step adds to the stack or to the segments
_SHARE = 0.2  # of the range, that a step takes at most
_LAST = np.array([2e-2, 2e-2, 5e-3, 5e-3, 5e-3, 5e-3, 5e-3])  # cm: what is left of a range is one step, by species


class Limits(NamedTuple):
    """What the settings say."""

    step: float
    electron_cut: float
    photon_cut: float
    neutron_cut: float
    hadronic: bool
    most_steps: int
    """Of an event; beyond, what is left of its particles' energy stays where they are."""
    low: F8
    """(3,), the corner of the world."""
    high: F8


class _Work(NamedTuple):
    """The arrays that a block of events is worked on with."""

    particle: F8
    stack: F8
    counts: NDArray[np.int64]
    ids: NDArray[np.int32]
    """(segments, 2): pdg, track."""
    values: NDArray[np.float32]
    """(segments, 9): start, end, length, energy, time."""
    sums: F8
    rates: F8
    out: tuple[NDArray[np.int32], F8, F8]


@njit(cache=True)
def total_energy(pdg: int, kinetic: float) -> float:
    """Give what a particle can leave behind: its mass counts where it may decay or annihilate."""
    if pdg == POSITRON:
        return kinetic + 2 * ELECTRON_MASS
    if abs(pdg) == MUON:
        return kinetic + MUON_MASS
    if abs(pdg) == PI_PLUS:
        return kinetic + PION_MASS
    return kinetic + PI_ZERO_MASS if pdg == PI_ZERO else kinetic


@njit(cache=True)
def transport(
    key: NDArray[np.uint64], event: NDArray[np.int64], primaries: F8, tables: Tables, limits: Limits
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32], F8, F8, NDArray[np.int64]]:
    """Follow the primaries of a block and all that they make.

    Parameters
    ----------
    key
        Of the stream, (2,).
    event
        (n,).
    primaries
        (n, 10): kinetic energy, place, direction, time, track, pdg.

    Returns
    -------
    offsets, ids, values, escaped, invisible, steps
        Segments: of each event, (n + 1,); pdg and track; start, end, length, energy, time. Energies, (n,) each. Steps
        that events took, (n,); one that took more than `Limits.most_steps` was not followed to its end.
    """
    offsets = np.zeros(len(event) + 1, dtype=np.int64)
    escaped, invisible = np.zeros(len(event)), np.zeros(len(event))
    steps = np.zeros(len(event), dtype=np.int64)
    work = _make(max(4096, 1024 * len(event)))
    for row in range(len(event)):
        draws = draws_of(key, event[row])
        work.stack[0] = primaries[row]
        work.counts[_DEPTH], work.counts[_TRACKS], work.counts[_STEPS] = 1, 1, 0
        work.sums[:] = 0.0
        while work.counts[_DEPTH] > 0:
            work.counts[_DEPTH] -= 1
            work.particle[:] = work.stack[work.counts[_DEPTH]]
            alive = not _outside(work.particle, limits) or _escape(work)
            while alive:
                if work.counts[_SEGMENTS] + _ROOM > len(work.ids) or work.counts[_DEPTH] + _ROOM > len(work.stack):
                    work = _grow(work)
                alive = _step(work, tables, limits, draws)
        offsets[row + 1] = work.counts[_SEGMENTS]
        escaped[row], invisible[row], steps[row] = work.sums[_ESCAPED], work.sums[_INVISIBLE], work.counts[_STEPS]
    used = work.counts[_SEGMENTS]
    return offsets, work.ids[:used].copy(), work.values[:used].copy(), escaped, invisible, steps


@njit(cache=True)
def _make(segments: int) -> _Work:
    out = np.zeros(_OUT, dtype=np.int32), np.zeros(_OUT), np.zeros((_OUT, 3))
    ids, values = np.empty((segments, 2), dtype=np.int32), np.empty((segments, 9), dtype=np.float32)
    counts = np.zeros(4, dtype=np.int64)
    return _Work(np.zeros(_COLUMNS), np.zeros((512, _COLUMNS)), counts, ids, values, np.zeros(2), np.zeros(6), out)


@njit(cache=True)
def _grow(work: _Work) -> _Work:
    """Make room: whichever of the two was full is doubled."""
    stack, ids, values = work.stack, work.ids, work.values
    if work.counts[_DEPTH] + _ROOM > len(stack):
        stack = np.concatenate((stack, np.zeros_like(stack)))
    if work.counts[_SEGMENTS] + _ROOM > len(ids):
        ids, values = np.concatenate((ids, np.empty_like(ids))), np.concatenate((values, np.empty_like(values)))
    return _Work(work.particle, stack, work.counts, ids, values, work.sums, work.rates, work.out)


@njit(cache=True)
def _step(work: _Work, tables: Tables, limits: Limits, draws: Draws) -> bool:
    """Follow the particle at hand for a step; tell whether it goes on."""
    p, pdg = work.particle, int(work.particle[_PDG])
    work.counts[_STEPS] += 1
    species = species_of(pdg)
    if work.counts[_STEPS] > limits.most_steps or (species < 0 and pdg not in (PHOTON, NEUTRON, PI_ZERO)):
        _leave(work, total_energy(pdg, p[_ENERGY]))
        return False
    if species >= 0:
        return _charged(work, tables, limits, species, draws)
    if pdg == PHOTON:
        return _photon(work, tables, limits, draws)
    return _neutron(work, limits, draws) if pdg == NEUTRON else _pi_zero(work, draws)


@njit(cache=True)
def _outside(p: F8, limits: Limits) -> bool:
    out = False
    for i in range(3):
        out |= p[_X + i] < limits.low[i] or p[_X + i] > limits.high[i]
    return out


@njit(cache=True)
def _share_inside(p: F8, start: Vector, limits: Limits) -> float:
    """Give how much of the way from a place inside to where the particle is lies inside."""
    share = 1.0
    for i in range(3):
        end, way = p[_X + i], p[_X + i] - start[i]
        if end < limits.low[i]:
            share = min(share, (limits.low[i] - start[i]) / way)
        elif end > limits.high[i]:
            share = min(share, (limits.high[i] - start[i]) / way)
    return share


@njit(cache=True)
def _escape(work: _Work) -> bool:
    """Take the particle out of the world, with all that it has."""
    work.sums[_ESCAPED] += total_energy(int(work.particle[_PDG]), work.particle[_ENERGY])
    return False


@njit(cache=True)
def _turned(p: F8, x: float, y: float, z: float) -> Vector:
    """Turn a vector, given where the particle flies along +z, into the frame of the world."""
    ux, uy, uz = p[_UX], p[_UY], p[_UZ]
    across = math.sqrt(ux * ux + uy * uy)
    if across < 1e-10:
        return (x, y, z) if uz > 0 else (-x, y, -z)
    return (
        (ux * uz * x - uy * y) / across + ux * z,
        (uy * uz * x + ux * y) / across + uy * z,
        -across * x + uz * z,
    )


@njit(cache=True)
def _bent(p: F8, cosine: float, azimuth: float) -> Vector:
    """Give a direction at some angle to the particle's."""
    sine = math.sqrt(max(1 - cosine * cosine, 0.0))
    return _turned(p, sine * math.cos(azimuth), sine * math.sin(azimuth), cosine)


@njit(cache=True)
def _head(p: F8, direction: Vector) -> None:
    """Give the particle a direction, made a unit vector again."""
    x, y, z = direction
    norm = 1 / math.sqrt(max(x * x + y * y + z * z, 1e-60))
    p[_UX], p[_UY], p[_UZ] = x * norm, y * norm, z * norm


@njit(cache=True)
def _push(work: _Work, pdg: int, kinetic: float, direction: Vector, delay: float) -> None:
    """Put a new particle on the stack, where the particle at hand is."""
    row = work.stack[work.counts[_DEPTH]]
    row[:] = work.particle
    row[_ENERGY], row[_PDG], row[_TRACK] = kinetic, pdg, work.counts[_TRACKS]
    row[_TIME] += delay
    _head(row, direction)
    work.counts[_DEPTH] += 1
    work.counts[_TRACKS] += 1


@njit(cache=True)
def _record(work: _Work, start: Vector, length: float, energy: float, time: float, pdg: int) -> None:
    """Write a segment from some place to where the particle is."""
    if energy <= 0:
        return
    i, p = work.counts[_SEGMENTS], work.particle
    work.ids[i, 0], work.ids[i, 1] = pdg, int(p[_TRACK])
    row = work.values[i]
    row[0], row[1], row[2] = start
    row[3], row[4], row[5] = p[_X], p[_Y], p[_Z]
    chord = math.sqrt((p[_X] - start[0]) ** 2 + (p[_Y] - start[1]) ** 2 + (p[_Z] - start[2]) ** 2)
    row[6], row[7], row[8] = max(length, chord), energy, time
    work.counts[_SEGMENTS] += 1


@njit(cache=True)
def _leave(work: _Work, energy: float) -> None:
    """Leave energy in a point."""
    p = work.particle
    _record(work, (p[_X], p[_Y], p[_Z]), 0.0, energy, p[_TIME], int(p[_PDG]))


@njit(cache=True)
def _leave_along(work: _Work, start: Vector, length: float, lost: float, late: float, limits: Limits) -> bool:
    """Leave energy along the way from a place to where the particle is; tell whether it is still inside.

    If it is not, the way ends at the boundary, and the energy that belongs to the rest of it stays with the particle.
    """
    p, inside = work.particle, not _outside(work.particle, limits)
    if not inside:
        share = _share_inside(p, start, limits)
        length, lost, late = share * length, share * lost, share * late
        for i in range(3):
            p[_X + i] = start[i] + share * (p[_X + i] - start[i])
    _record(work, start, length, lost, p[_TIME] + late / 2, int(p[_PDG]))
    p[_TIME] += late
    p[_ENERGY] -= lost
    return inside


@njit(cache=True)
def _move(p: F8, length: float) -> None:
    for i in range(3):
        p[_X + i] += length * p[_UX + i]


@njit(cache=True)
def _charged(work: _Work, tables: Tables, limits: Limits, species: int, draws: Draws) -> bool:
    """Follow a charged particle to its next interaction, or for a step."""
    p, table = work.particle, tables.charged[species]
    kinetic = p[_ENERGY]
    if kinetic <= 0 or (species < 2 and kinetic <= limits.electron_cut):
        return _stop(work, table, limits, draws)
    i, f = grid_place(kinetic)
    residual = _at(table[RANGE], i, f)
    length = min(max(_SHARE * residual, _LAST[species]), limits.step)
    if length >= residual:
        return _stop(work, table, limits, draws)
    flight = exponential(draws) / max(_fill_rates(work.rates, table, i, f, limits, p), 1e-30)
    happens = flight < length
    length = min(flight, length)
    mean = _mean_loss(table, i, f, kinetic, length, residual)
    lost = min(draw_loss(species, kinetic, mean, length, limits.electron_cut, draws), kinetic)
    start = (p[_X], p[_Y], p[_Z])
    _advance(p, species, length, _at(table[SOFT], i, f), limits.step, draws)
    late = length / (LIGHT * math.sqrt(beta_squared(species, kinetic)))
    if not _leave_along(work, start, length, lost, late, limits):
        return _escape(work)
    if happens and p[_ENERGY] > 0:
        return _interact(work, limits, species, draws)
    return True


@njit(cache=True)
def _at(row: F8, i: int, f: float) -> float:
    return row[i] + f * (row[i + 1] - row[i])


@njit(cache=True)
def _mean_loss(table: F8, i: int, f: float, kinetic: float, length: float, residual: float) -> float:
    """Give the mean loss in a step; where it slows down much, with the loss half-way."""
    loss = _at(table[LOSS], i, f)
    if length > 0.02 * residual:
        i, f = grid_place(max(kinetic - loss * length / 2, kinetic / 2))
        loss = _at(table[LOSS], i, f)
    return loss * length


@njit(cache=True)
def _fill_rates(rates: F8, table: F8, i: int, f: float, limits: Limits, p: F8) -> float:
    """Note how often each thing happens, per cm; give the sum."""
    pdg, kinetic = int(p[_PDG]), p[_ENERGY]
    for k in range(3):
        rates[k] = _at(table[k], i, f)
    rates[_ELASTIC], rates[_INELASTIC], rates[_DECAY] = 0.0, 0.0, 0.0
    if abs(pdg) > MUON and limits.hadronic:
        rates[_ELASTIC], rates[_INELASTIC] = 1 / elastic_length(pdg, kinetic), 1 / inelastic_length(pdg, kinetic)
    if abs(pdg) == MUON:
        rates[_DECAY] = MUON_MASS / (LIGHT * MUON_LIFE * math.sqrt(kinetic * (kinetic + 2 * MUON_MASS)))
    elif abs(pdg) == PI_PLUS:
        rates[_DECAY] = PION_MASS / (LIGHT * PION_LIFE * math.sqrt(kinetic * (kinetic + 2 * PION_MASS)))
    return rates.sum()


@njit(cache=True)
def _advance(p: F8, species: int, length: float, soft: float, step: float, draws: Draws) -> None:
    """Move along a step with one bend somewhere on it, which gives the right mean chord and side step."""
    first = length * uniform(draws)
    _move(p, first)
    small = soft * length * exponential(draws)
    cosine = 1 - small if small < 2 else 2 * uniform(draws) - 1
    _head(p, _bent(p, cosine, 2 * math.pi * uniform(draws)))
    limit, screening = large_scatters(species, p[_ENERGY], step)
    for _ in range(poisson(LARGE * length / step, draws)):
        mu = draw_scatter(species, p[_ENERGY], limit, screening, draws)
        _head(p, _bent(p, 1 - 2 * mu, 2 * math.pi * uniform(draws)))
    _move(p, length - first)


@njit(cache=True)
def _stop(work: _Work, table: F8, limits: Limits, draws: Draws) -> bool:
    """Leave the rest of the energy along the rest of the range; then annihilate, decay or be captured."""
    p, pdg = work.particle, int(work.particle[_PDG])
    if p[_ENERGY] > 0:
        i, f = grid_place(p[_ENERGY])
        start, residual = (p[_X], p[_Y], p[_Z]), _at(table[RANGE], i, f)
        _move(p, residual)
        if not _leave_along(work, start, residual, p[_ENERGY], 0.0, limits):
            return _escape(work)
    if pdg == POSITRON:
        x, y, z = isotropic(draws)
        _push(work, PHOTON, ELECTRON_MASS, (x, y, z), 0.0)
        _push(work, PHOTON, ELECTRON_MASS, (-x, -y, -z), 0.0)
    elif pdg in (MUON, ANTIMUON, PI_PLUS, PI_MINUS):
        count, local, invisible, delay = at_rest(pdg, draws, work.out)
        _leave(work, local)
        _push_out(work, 0, count, delay)
        work.sums[_INVISIBLE] += invisible
    return False


@njit(cache=True)
def _push_out(work: _Work, first: int, count: int, delay: float) -> None:
    """Put what an interaction gave on the stack."""
    pdg, kinetic, direction = work.out
    for i in range(first, count):
        turned = _turned(work.particle, direction[i, 0], direction[i, 1], direction[i, 2])
        _push(work, int(pdg[i]), kinetic[i], turned, delay)


@njit(cache=True)
def _interact(work: _Work, limits: Limits, species: int, draws: Draws) -> bool:
    """Let one of the things happen that the rates tell of."""
    rates, kind = work.rates, 0
    left = uniform(draws) * rates.sum()
    while kind < _DECAY and left >= rates[kind]:
        left -= rates[kind]
        kind += 1
    if kind == DELTA:
        return _delta(work, species, limits.electron_cut, draws)
    if kind == BREMS:
        return _brems(work, limits.photon_cut, draws)
    if kind == ANNIHILATION:
        return _annihilate(work, draws)
    return _hadronic(work, kind, draws)


@njit(cache=True)
def _delta(work: _Work, species: int, cut: float, draws: Draws) -> bool:
    """Knock out an electron; momentum is conserved."""
    p = work.particle
    kinetic, mass = p[_ENERGY], MASS[species]
    if largest_transfer(species, kinetic) <= cut:
        return True
    energy = draw_delta(species, kinetic, cut, draws)
    momentum = math.sqrt(kinetic * (kinetic + 2 * mass))
    its = math.sqrt(energy * (energy + 2 * ELECTRON_MASS))
    cosine = min(energy * (kinetic + mass + ELECTRON_MASS) / (its * momentum), 1.0)
    x, y, z = _bent(p, cosine, 2 * math.pi * uniform(draws))
    _push(work, ELECTRON, energy, (x, y, z), 0.0)
    _head(p, (momentum * p[_UX] - its * x, momentum * p[_UY] - its * y, momentum * p[_UZ] - its * z))
    p[_ENERGY] -= energy
    return True


@njit(cache=True)
def _brems(work: _Work, cut: float, draws: Draws) -> bool:
    """Radiate a photon; the electron keeps its direction."""
    p = work.particle
    if p[_ENERGY] <= cut:
        return True
    energy = draw_brems(p[_ENERGY], cut, draws)
    cosine = draw_opening(p[_ENERGY] + ELECTRON_MASS, draws)
    _push(work, PHOTON, energy, _bent(p, cosine, 2 * math.pi * uniform(draws)), 0.0)
    p[_ENERGY] -= energy
    return True


@njit(cache=True)
def _annihilate(work: _Work, draws: Draws) -> bool:
    """Annihilate in flight."""
    p = work.particle
    total, momentum = p[_ENERGY] + 2 * ELECTRON_MASS, math.sqrt(p[_ENERGY] * (p[_ENERGY] + 2 * ELECTRON_MASS))
    energy, cosine = draw_annihilation(p[_ENERGY], draws)
    x, y, z = _bent(p, cosine, 2 * math.pi * uniform(draws))
    _push(work, PHOTON, energy, (x, y, z), 0.0)
    ox, oy, oz = momentum * p[_UX] - energy * x, momentum * p[_UY] - energy * y, momentum * p[_UZ] - energy * z
    _push(work, PHOTON, total - energy, (ox, oy, oz), 0.0)
    return False


@njit(cache=True)
def _hadronic(work: _Work, kind: int, draws: Draws) -> bool:
    """Scatter, break up or decay."""
    p, pdg = work.particle, int(work.particle[_PDG])
    kinetic, first = p[_ENERGY], 0
    if kind == _ELASTIC:
        count, local, invisible = elastic(pdg, kinetic, draws, work.out)
        first = 1
    elif kind == _INELASTIC:
        count, local, invisible = inelastic(pdg, kinetic, draws, work.out)
    else:
        count, local, invisible = decay_in_flight(pdg, kinetic, draws, work.out)
    _leave(work, local)
    work.sums[_INVISIBLE] += invisible
    _push_out(work, first, count, 0.0)
    if first:
        direction = work.out[2]
        p[_ENERGY] = work.out[1][0]
        _head(p, _turned(p, direction[0, 0], direction[0, 1], direction[0, 2]))
    return first == 1


@njit(cache=True)
def _fly(work: _Work, limits: Limits, rate: float, draws: Draws) -> bool:
    """Move a neutral particle to its next interaction; tell whether that is inside."""
    p = work.particle
    length = exponential(draws) / max(rate, 1e-30)
    _move(p, length)
    if _outside(p, limits):
        return _escape(work)
    gamma = 1 + p[_ENERGY] / NEUTRON_MASS if p[_PDG] == NEUTRON else math.inf
    p[_TIME] += length / (LIGHT * math.sqrt(1 - 1 / (gamma * gamma)))
    return True


@njit(cache=True)
def _neutron(work: _Work, limits: Limits, draws: Draws) -> bool:
    """Follow a neutron; one below the cut is invisible."""
    p = work.particle
    if p[_ENERGY] <= limits.neutron_cut:
        work.sums[_INVISIBLE] += p[_ENERGY]
        return False
    scattered, broken = 0.0, 0.0
    if limits.hadronic:
        scattered, broken = 1 / elastic_length(NEUTRON, p[_ENERGY]), 1 / inelastic_length(NEUTRON, p[_ENERGY])
    if not _fly(work, limits, scattered + broken, draws):
        return False
    return _hadronic(work, _ELASTIC if uniform(draws) * (scattered + broken) < scattered else _INELASTIC, draws)


@njit(cache=True)
def _pi_zero(work: _Work, draws: Draws) -> bool:
    """Decay at once into two photons."""
    p = work.particle
    total = p[_ENERGY] + PI_ZERO_MASS
    beta = math.sqrt(1 - (PI_ZERO_MASS / total) ** 2)
    cosine, azimuth = 2 * uniform(draws) - 1, 2 * math.pi * uniform(draws)
    for sign in (1, -1):
        energy = total / 2 * (1 + sign * beta * cosine)
        along = (sign * cosine + beta) / (1 + sign * beta * cosine)
        _push(work, PHOTON, energy, _bent(p, along, azimuth + (0.0 if sign > 0 else math.pi)), 0.0)
    return False


@njit(cache=True)
def _photon(work: _Work, tables: Tables, limits: Limits, draws: Draws) -> bool:
    """Follow a photon to its next interaction."""
    p = work.particle
    if p[_ENERGY] > limits.photon_cut:
        i, f = grid_place(p[_ENERGY])
        compton, pair = _at(tables.photon[0], i, f), _at(tables.photon[1], i, f)
        total = compton + pair + _at(tables.photon[2], i, f)
        if not _fly(work, limits, total, draws):
            return False
        left = uniform(draws) * total
        if left < compton:
            return _compton(work, draws)
        if left < compton + pair and p[_ENERGY] > 2 * ELECTRON_MASS:
            return _pair(work, draws)
    cosine = draw_photoelectron(p[_ENERGY], draws)
    _push(work, ELECTRON, p[_ENERGY], _bent(p, cosine, 2 * math.pi * uniform(draws)), 0.0)
    return False


@njit(cache=True)
def _compton(work: _Work, draws: Draws) -> bool:
    """Scatter off an electron."""
    p = work.particle
    before = p[_ENERGY]
    energy, cosine = draw_compton(before, draws)
    x, y, z = _bent(p, cosine, 2 * math.pi * uniform(draws))
    other = (before * p[_UX] - energy * x, before * p[_UY] - energy * y, before * p[_UZ] - energy * z)
    if before > energy:
        _push(work, ELECTRON, before - energy, other, 0.0)
    p[_ENERGY] = energy
    _head(p, (x, y, z))
    return True


@njit(cache=True)
def _pair(work: _Work, draws: Draws) -> bool:
    """Make an electron and a positron, back to back across the photon's direction."""
    p = work.particle
    azimuth = 2 * math.pi * uniform(draws)
    electron, cosine, positron, its = draw_pair(p[_ENERGY], draws)
    _push(work, ELECTRON, electron, _bent(p, cosine, azimuth), 0.0)
    _push(work, POSITRON, positron, _bent(p, its, azimuth + math.pi), 0.0)
    return False
