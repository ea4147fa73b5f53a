"""A parametric detector: tracks, two calorimeters and energy flow, on flat arrays for a whole block of events.

The logic is that of Delphes 3 (arXiv:1307.6346); the numbers are in the detector cards. GeV, mm, rad, tesla.

Every draw belongs to a particle's place in its event: a track's to the particle that made it, a cell's to the first
particle that hit it. So an event's numbers depend on nothing outside it.
"""

import math
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from resim.errors import UserError
from resim.jets.cards import Calorimeter, DetectorSettings, Efficiency, PtResolution, Region, Tracking
from resim.jets.states import F8, I4, I8, NEUTRINOS, Candidates, Hadrons
from resim.keys import Stream, to_normal
from resim.ragged import Ragged, offsets_of, row_of

CHARGED_HADRON, NEUTRAL_HADRON, PHOTON, ELECTRON, MUON = range(5)
"""Codes of `kind` in `Candidates`."""

I1 = NDArray[np.int8]
Bools = NDArray[np.bool_]

_CURVATURE = 0.299792458e-3  # GeV / (T mm): pT = _CURVATURE * B * radius
_NUMBERS = ("px", "py", "pz", "e", "m", "x", "y", "z")
_K0S, _LAMBDA = 310, 3122  # they shower partly in the ECAL
_TURN = 2 * math.pi
_ON_AXIS = 1e-9  # mm: at the end caps, eta beyond 29
_STRAIGHT = 1e5  # radii of the volume: a circle this large bends by less than 10 um in it
_AT_ONCE = 100_000  # particles: their columns fit in the cache
_GUESSES = 4096  # steps in eta in which strips are looked up: more than one a strip


def detect(hadrons: Hadrons, settings: DetectorSettings, stream: Stream) -> Candidates:
    """Turn stable particles into energy-flow candidates.

    Charged candidates keep their direction at the production vertex; neutral ones are massless and point to a place in
    the cell that saw them. In each event tracks come first, then photons, then neutral hadrons.

    Raises
    ------
    UserError
        If a particle's momentum, energy or vertex is not finite.
    """
    n, total = len(hadrons.event), hadrons.particles.offsets[-1]
    if hadrons.pileup is not None:
        total += hadrons.pileup.offsets[-1]
    bounds = np.linspace(0, n, max(1, min(n, math.ceil(total / _AT_ONCE))) + 1).astype(np.int64).tolist()
    pieces = [
        _flow(hadrons.event[first:stop], hadrons.seen_between(first, stop), settings, stream)
        for first, stop in pairwise(bounds)
    ]
    return Candidates(hadrons, pieces[0] if len(pieces) == 1 else Ragged.join(pieces))


def _flow(event: I8, table: Ragged, settings: DetectorSettings, stream: Stream) -> Ragged:
    """Give the candidates of some events; `table` has their particles."""
    particles = _particles(event, table)
    _require_finite(particles)
    volume = _Volume(_CURVATURE * settings.magnetic_field, settings.radius, settings.half_length)
    face = _reach_face(particles, volume)
    tracks = _track(particles, face, settings.tracking, stream)
    tracks, photons = _measure(particles, face, tracks, settings.ecal, stream.child("ecal"))
    tracks, neutrals = _measure(particles, face, tracks, settings.hcal, stream.child("hcal"))
    identified = _identify(particles, face, tracks, settings, stream.child("tracks.identification"))
    flow = [
        _of_tracks(tracks, particles, identified),
        _of_neutrals(photons, PHOTON),
        _of_neutrals(neutrals, NEUTRAL_HADRON),
    ]
    return _gather(flow, len(event))


# --- particles ---------------------------------------------------------------------------------------------------


class _Particles(NamedTuple):
    """All particles of a block, (n,) each: the event's row and id, the place in the event, and what `Hadrons` has."""

    row: I8
    event: I8
    place: I8
    id: I4
    charge: I1
    px: F8
    py: F8
    pz: F8
    e: F8
    m: F8
    x: F8
    y: F8
    z: F8


def _particles(event: I8, table: Ragged) -> _Particles:
    row = row_of(table.offsets)
    names = np.ascontiguousarray(table["id"], dtype=np.int32), np.ascontiguousarray(table["charge"], dtype=np.int8)
    numbers = [np.ascontiguousarray(table[name], dtype=np.float64) for name in _NUMBERS]
    return _Particles(row, event[row], np.arange(len(row)) - table.offsets[row], *names, *numbers)


def _require_finite(p: _Particles) -> None:
    for name in _NUMBERS:
        column = getattr(p, name)
        with np.errstate(invalid="ignore", over="ignore"):
            if np.isfinite(column.sum()):  # quicker than to look at each
                continue
        for bad in np.flatnonzero(~np.isfinite(column))[:1]:
            where = f"event {p.event[bad]}, particle {p.place[bad]} (id {p.id[bad]})"
            raise UserError(f"{where}: {name} is {column[bad]}, expected a finite number; drop the event")


# --- propagation -------------------------------------------------------------------------------------------------
# Compiled functions that are called for a particle take numbers, not arrays: to count references to arrays would cost
# more than the physics.


class _Volume(NamedTuple):
    """The tracking volume: curvature is pT (GeV) over the radius of the circle (mm) of a unit charge."""

    curvature: float
    radius: float
    half_length: float


class _Flight(NamedTuple):
    """A particle at its production vertex: GeV, mm."""

    x: float
    y: float
    z: float
    px: float
    py: float
    pz: float
    pt: float


class _Face(NamedTuple):
    """Where particles reach the calorimeter face (if they do), and the impact parameters of their path; (n,) each."""

    arrives: Bools
    eta: F8
    phi: F8
    d0: F8
    dz: F8
    pt: F8


Path = tuple[float, float, float, float, float]
"""x, y, z at the face, d0 = (x py - y px) / pT and dz at the point closest to the beam line; mm."""


def _reach_face(particles: _Particles, volume: _Volume) -> _Face:
    """Move particles to the calorimeter face. Those that circle in the tracking volume for ever do not arrive."""
    x, y, slope, d0, dz, pt = _propagate(particles, volume)
    return _Face(np.isfinite(slope), np.arcsinh(slope), np.arctan2(y, x), d0, dz, pt)


@njit(cache=True, error_model="numpy")
def _propagate(particles: _Particles, volume: _Volume) -> tuple[F8, F8, F8, F8, F8, F8]:
    """Give x, y and z over the radius at the face (infinite: does not arrive), d0, dz and pT of all particles."""
    p, n = particles, len(particles.px)
    x, y, slope, d0, dz, pt = np.zeros(n), np.zeros(n), np.full(n, math.inf), np.zeros(n), np.zeros(n), np.zeros(n)
    for i in range(n):
        pt[i] = math.sqrt(p.px[i] * p.px[i] + p.py[i] * p.py[i])
        flight = _Flight(p.x[i], p.y[i], p.z[i], p.px[i], p.py[i], p.pz[i], pt[i])
        if not _is_visible(abs(p.id[i]), flight, volume):
            continue
        # a circle too large for its bending to be told in double precision is a straight line
        if abs(p.charge[i]) * volume.curvature * volume.radius * _STRAIGHT > pt[i]:
            x[i], y[i], z, d0[i], dz[i] = _along_helix(flight, p.charge[i], volume)
        else:
            x[i], y[i], z, d0[i], dz[i] = _along_line(flight, volume)
        slope[i] = z / max(math.sqrt(x[i] * x[i] + y[i] * y[i]), _ON_AXIS)
    return x, y, slope, d0, dz, pt


@njit(cache=True, error_model="numpy")
def _is_visible(kind: int, at: _Flight, volume: _Volume) -> bool:
    """Leave out neutrinos, what does not move away from the beam, and what is made outside."""
    inside = at.x * at.x + at.y * at.y < volume.radius * volume.radius and abs(at.z) < volume.half_length
    return inside and at.pt > 0 and kind not in NEUTRINOS


@njit(cache=True, error_model="numpy")
def _to_face(at: _Flight, to_side: float, half_length: float) -> tuple[float, float]:
    """Give the transverse path length to the face and z there: infinite where neither side nor end cap is reached."""
    to_endcap = (math.copysign(half_length, at.pz) - at.z) * at.pt / at.pz if at.pz != 0 else math.inf
    if to_side < to_endcap:
        return to_side, at.z + at.pz / at.pt * to_side
    return to_endcap, math.copysign(half_length, at.pz) if to_endcap < math.inf else math.inf


@njit(cache=True, error_model="numpy")
def _along_line(at: _Flight, volume: _Volume) -> Path:
    """Follow a straight line."""
    ux, uy = at.px / at.pt, at.py / at.pt
    ahead, d0 = at.x * ux + at.y * uy, at.x * uy - at.y * ux
    length, z = _to_face(at, math.sqrt(volume.radius * volume.radius - d0 * d0) - ahead, volume.half_length)
    return at.x + ux * length, at.y + uy * length, z, d0, at.z - ahead * at.pz / at.pt


@njit(cache=True, error_model="numpy")
def _along_helix(at: _Flight, charge: int, volume: _Volume) -> Path:
    """Follow a helix.

    The angle `beta` runs along the circle in the direction of flight, from the point closest to the beam line. The
    distance from it is sqrt(c^2 + r^2 - 2 c r cos(beta)) with c the distance of the circle's centre, r its radius.
    """
    ux, uy, turn, r = at.px / at.pt, at.py / at.pt, math.copysign(1.0, charge), at.pt / (volume.curvature * abs(charge))
    x_centre, y_centre = at.x + turn * r * uy, at.y - turn * r * ux
    c = math.sqrt(x_centre * x_centre + y_centre * y_centre)
    # where the track is nearest to the beam line it flies along (-turn y_centre, turn x_centre)
    beta = math.atan2(ux * x_centre + uy * y_centre, turn * (uy * x_centre - ux * y_centre))
    cosine = (c * c + r * r - volume.radius * volume.radius) / (2 * c * r) if c > 0 else -math.inf
    to_side = (math.acos(min(cosine, 1.0)) - beta) * r if cosine >= -1 else math.inf
    length, z = _to_face(at, to_side, volume.half_length)
    turned = -turn * length / r if length < math.inf else 0.0
    cos, sin = math.cos(turned), math.sin(turned)
    x = x_centre - turn * r * (uy * cos + ux * sin)
    y = y_centre + turn * r * (ux * cos - uy * sin)
    return x, y, z, turn * (c - r), at.z - beta * r * at.pz / at.pt


# --- tracks ------------------------------------------------------------------------------------------------------


class _Tracks(NamedTuple):
    """Tracks of a block, (k,) each: the particle, its kind, the relative pT resolution, and what was measured."""

    particle: I8
    kind: I1
    resolution: F8
    px: F8
    py: F8
    pz: F8
    e: F8
    d0: F8
    dz: F8
    d0_error: F8
    dz_error: F8


def _track(p: _Particles, face: _Face, settings: Tracking, stream: Stream) -> _Tracks:
    """Choose the charged particles that become tracks; smear pT (direction kept), d0 and dz."""
    found = _find_tracks(p, face, settings, stream.child("tracks.efficiency"))
    kind, pt, pz = _kind(p.id[found]), face.pt[found], p.pz[found]
    normal = to_normal(stream.child("tracks.resolution").uniform_at(p.event[found], p.place[found])[:, :3])
    widths = (settings.hadron_resolution, settings.electron_resolution, settings.muon_resolution)
    resolution = np.minimum(settings.resolution_factor * _pt_resolution(widths, kind, pt, face.eta[found]), 1.0)
    ratio = settings.scale * _lognormal(resolution, normal[:, 0])
    px, py, pz = ratio * p.px[found], ratio * p.py[found], ratio * pz
    e = np.sqrt(px**2 + py**2 + pz**2 + p.m[found] ** 2)
    d0_error, dz_error = _impact_errors(settings, pt, p.pz[found])
    d0, dz = face.d0[found] + d0_error * normal[:, 1], face.dz[found] + dz_error * normal[:, 2]
    return _Tracks(found, kind, resolution, px, py, pz, e, d0, dz, d0_error, dz_error)


def _find_tracks(p: _Particles, face: _Face, settings: Tracking, stream: Stream) -> I8:
    """Give the particles that become tracks."""
    charged = np.flatnonzero(face.arrives & (p.charge != 0))
    tables = (settings.hadron_efficiency, settings.electron_efficiency, settings.muon_efficiency)
    probability = _probability(tables, _kind(p.id[charged]), face.pt[charged], face.eta[charged])
    possible = np.flatnonzero(probability)
    charged, probability = charged[possible], settings.efficiency_factor * probability[possible]
    found = charged[stream.uniform_at(p.event[charged], p.place[charged])[:, 0] < probability]
    return found[~_is_within(settings.dead, face.eta[found], face.phi[found])]


def _identify(p: _Particles, face: _Face, tracks: _Tracks, settings: DetectorSettings, stream: Stream) -> Bools:
    """Decide which tracks of electrons and muons are identified, by their pT after energy flow."""
    leptons = np.flatnonzero(tracks.kind != CHARGED_HADRON)
    particle, pt = tracks.particle[leptons], _add(tracks.px[leptons], tracks.py[leptons])
    tables = (None, settings.identification.electron, settings.identification.muon)
    probability = _probability(tables, tracks.kind[leptons], pt, face.eta[particle])
    identified = np.zeros(len(tracks.kind), dtype=np.bool_)
    identified[leptons] = stream.uniform_at(p.event[particle], p.place[particle])[:, 0] < probability
    return identified


def _kind(particle: I4) -> I1:
    """Give the kind of charged candidates by PDG id."""
    absolute, kind = np.abs(particle), np.full(len(particle), CHARGED_HADRON, dtype=np.int8)
    kind[absolute == 11], kind[absolute == 13] = ELECTRON, MUON
    return kind


def _probability(tables: tuple[Efficiency | None, ...], kind: I1, pt: F8, eta: F8) -> F8:
    """Look efficiencies up: of hadrons, electrons and muons; 0 where there is no table."""
    value = np.zeros(len(kind))
    for code, table in zip((CHARGED_HADRON, ELECTRON, MUON), tables, strict=True):
        if table is None:
            continue
        # zeros below the first pT and beyond the last |eta|; a bin is (low, high] in both, as in Delphes's cards
        padded = np.zeros((len(table.eta_edges) + 1, len(table.pt_edges) + 1))
        padded[:-1, 1:] = table.values
        mine = np.flatnonzero(kind == code)
        columns = _bins(table.pt_edges, pt[mine])
        value[mine] = padded[_bins(table.eta_edges, np.abs(eta[mine])), columns]
        if table.decline > 0:
            value[mine] *= np.exp(-table.decline * np.maximum(pt[mine] - table.pt_edges[-1], 0))
    return value


def _pt_resolution(tables: tuple[PtResolution, ...], kind: I1, pt: F8, eta: F8) -> F8:
    """Look sigma(pT)/pT up: of hadrons, electrons and muons."""
    value = np.zeros(len(kind))
    for code, table in zip((CHARGED_HADRON, ELECTRON, MUON), tables, strict=True):
        mine = np.flatnonzero(kind == code)
        strip = np.minimum(_bins(table.eta_edges, np.abs(eta[mine])), len(table.eta_edges) - 1)
        value[mine] = _add(np.array(table.a)[strip], np.array(table.b)[strip] * pt[mine])
    return value


def _bins(edges: tuple[float, ...], values: F8) -> I8:
    """Count the edges below each value: what `np.searchsorted` gives, and faster for a few edges."""
    below = np.zeros(len(values), dtype=np.int64)
    for edge in edges:
        below += values > edge
    return below


def _lognormal(width: F8, normal: F8) -> F8:
    """Turn standard normals into log-normal numbers of mean 1 and the given standard deviation."""
    width2 = np.log1p(width**2)
    return np.exp(np.sqrt(width2) * normal - width2 / 2)


def _impact_errors(settings: Tracking, pt: F8, pz: F8) -> tuple[F8, F8]:
    """Give sigma(d0) and sigma(dz) in mm."""
    terms, factor = settings.impact, settings.impact.resolution_factor
    sine = pt / _add(pt, pz)
    scattering = 1 / (pt * np.sqrt(sine))
    return factor * _add(terms.d0_a, terms.d0_b * scattering), factor * _add(terms.dz_a, terms.dz_b * scattering / sine)


def _add(first: F8 | float, second: F8) -> F8:
    """Add in quadrature; `np.hypot` takes ten times as long."""
    return np.sqrt(first * first + second * second)


def _is_within(regions: tuple[Region, ...], eta: F8, phi: F8) -> Bools:
    """Tell which places lie in one of the regions."""
    within = np.zeros(len(eta), dtype=np.bool_)
    for eta_min, eta_max, phi_min, phi_max in regions:
        width = _TURN if phi_max - phi_min >= _TURN else (phi_max - phi_min) % _TURN
        within |= (eta >= eta_min) & (eta <= eta_max) & ((phi - phi_min) % _TURN <= width)
    return within


# --- calorimeters ------------------------------------------------------------------------------------------------


class _Cells(NamedTuple):
    """The cells of a calorimeter: strips in eta, each cut into `phi_cells` cells, numbered from `first`.

    Of each strip also the terms of the resolution (see `Calorimeter.terms`), of each cell whether it is dead. `guess`
    has the strip in which each of many equal steps in eta begins, for a quick look-up.
    """

    edges: F8
    guess: I8
    phi_cells: I8
    first: I8
    constant: F8
    stochastic: F8
    noise: F8
    dead: Bools


class _Hits(NamedTuple):
    """Cells that were hit, (c,) each: strip, number, the first particle, energy; `of` particles (n,), -1 for none."""

    strip: I8
    cell: I8
    opener: I8
    deposited: F8
    of: I8


class _Neutrals(NamedTuple):
    """Neutral excesses of a block, (k,) each; `row` is the event's."""

    row: I8
    px: F8
    py: F8
    pz: F8
    e: F8


@lru_cache(maxsize=8)
def _cells(settings: Calorimeter) -> _Cells:
    edges, phi_cells = _strips(settings)
    first = offsets_of(phi_cells)
    centre = (edges[:-1] + edges[1:]) / 2
    strip = row_of(first)
    phi = (np.arange(first[-1]) - first[strip] + 0.5) * _TURN / phi_cells[strip] - np.pi
    guess = np.searchsorted(edges, np.linspace(edges[0], edges[-1], _GUESSES, endpoint=False), side="right") - 1
    dead = _is_within(settings.dead, centre[strip], phi)
    return _Cells(edges, guess, phi_cells, first, *settings.terms(centre), dead)


def check_dead(settings: DetectorSettings, where: str) -> None:
    """Check that every dead region kills something.

    Raises
    ------
    UserError
        If a region of a calorimeter has no centre of a cell in it.
    """
    for name, calorimeter in (("ecal", settings.ecal), ("hcal", settings.hcal)):
        for region in calorimeter.dead:
            if not _cells(calorimeter.model_copy(update={"dead": (region,)})).dead.any():
                raise UserError(f"{where}: {name}.dead: {list(region)} has no centre of a cell in it; make it larger")


def _strips(settings: Calorimeter) -> tuple[F8, I8]:
    """Give the eta edges of the strips and their numbers of cells around; coarse strips are made of like ones."""
    fine, around = [0.0], []
    for ring in settings.rings:
        fine += list(np.linspace(fine[-1], ring.eta_max, ring.eta_cells + 1)[1:])
        around += [ring.phi_cells] * ring.eta_cells
    edges, phi_cells, merged = [0.0], [], 0
    for strip, cells in enumerate(around):
        merged += 1
        if merged == settings.coarsen or strip + 1 == len(around) or around[strip + 1] != cells:
            edges.append(fine[strip + 1])
            phi_cells.append(-(-cells // settings.coarsen))
            merged = 0
    both = np.array(phi_cells[::-1] + phi_cells, dtype=np.int64)
    return np.array([-edge for edge in edges[:0:-1]] + edges), both


def _measure(
    p: _Particles, face: _Face, tracks: _Tracks, settings: Calorimeter, stream: Stream
) -> tuple[_Tracks, _Neutrals]:
    """Measure the cells that were hit and subtract the tracks: gives the tracks, scaled, and the neutral excesses.

    Cells without a significant excess over their tracks do not count twice: there the tracks are scaled to the best
    combination of both measurements.
    """
    cells = _cells(settings)
    share = _shares(p.id, face.arrives, settings.electromagnetic, settings.long_lived, settings.hadron)
    hits = _hit_cells(p, face, share, cells)
    uniform = stream.uniform_at(p.event[hits.opener], p.place[hits.opener])
    energy, sigma = _read_out(hits, cells, settings, to_normal(uniform[:, 0]))

    cell = hits.of[tracks.particle]
    deposits = np.flatnonzero(cell >= 0)
    owner = cell[deposits]
    left = share[tracks.particle[deposits]] * tracks.e[deposits]
    in_tracks, variance = (
        np.bincount(owner, weights, len(energy)).astype(np.float64)
        for weights in (left, (tracks.resolution[deposits] * left) ** 2)
    )
    excess = np.maximum(energy - in_tracks, 0)
    neutral = (excess > settings.energy_min) & (excess > settings.significance_min * np.sqrt(variance + sigma**2))
    best = _combine(in_tracks[owner], variance[owner], energy[owner], sigma[owner] ** 2)
    ratio = np.ones(len(cell))
    ratio[deposits] = np.where(neutral[owner], 1.0, best)
    px, py, pz = (getattr(tracks, name) * ratio for name in ("px", "py", "pz"))
    energies = np.sqrt(px**2 + py**2 + pz**2 + p.m[tracks.particle] ** 2)  # a track keeps its mass
    scaled = tracks._replace(px=px, py=py, pz=pz, e=energies)
    return scaled, _point(p, hits, cells, np.flatnonzero(neutral), excess, settings.spread, uniform[:, 1:3])


@njit(cache=True, error_model="numpy")
def _shares(particle: I4, arrives: Bools, electromagnetic: float, long_lived: float, hadron: float) -> F8:
    """Give the share of its energy that each particle (PDG id) leaves, 0 for those that do not arrive."""
    share = np.zeros(len(particle))
    for i in range(len(particle)):
        kind = abs(particle[i])
        if not arrives[i] or kind == 13:
            continue
        if kind in (11, 22):
            share[i] = electromagnetic
        else:
            share[i] = long_lived if kind in (_K0S, _LAMBDA) else hadron
    return share


@njit(cache=True, error_model="numpy")
def _hit_cells(p: _Particles, face: _Face, share: F8, cells: _Cells) -> _Hits:
    """Find the cells that were hit, in the order of the first hits, and add up what particles leave in them."""
    n, total, steps = len(share), 0, _GUESSES / (cells.edges[-1] - cells.edges[0])
    strip, cell, opener = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    deposited, of = np.zeros(n), np.full(n, -1)
    # the last hit of each cell; it holds if its opener is of the same event
    hit = np.full(cells.first[-1], -1, dtype=np.int32)
    for i in range(n):
        eta, left = face.eta[i], share[i] * p.e[i]
        if left <= 0 or eta < cells.edges[0] or eta >= cells.edges[-1]:
            continue
        s = cells.guess[min(int((eta - cells.edges[0]) * steps), _GUESSES - 1)]
        while eta >= cells.edges[s + 1]:
            s += 1
        while eta < cells.edges[s]:  # where rounding took the guess a step too far
            s -= 1
        around = math.floor((face.phi[i] + math.pi) / _TURN * cells.phi_cells[s]) % cells.phi_cells[s]
        here = cells.first[s] + around
        if cells.dead[here]:
            continue
        if hit[here] < 0 or p.row[opener[hit[here]]] != p.row[i]:
            hit[here], strip[total], cell[total], opener[total] = total, s, here, i
            total += 1
        of[i] = hit[here]
        deposited[of[i]] += left
    return _Hits(strip[:total].copy(), cell[:total].copy(), opener[:total].copy(), deposited[:total].copy(), of)


def _read_out(hits: _Hits, cells: _Cells, settings: Calorimeter, normal: F8) -> tuple[F8, F8]:
    """Smear the deposited energies and cut off noise: gives energy (0 below threshold) and its resolution, GeV."""
    constant, stochastic, noise = cells.constant[hits.strip], cells.stochastic[hits.strip], cells.noise[hits.strip]

    def resolution(energy: F8) -> F8:
        return np.sqrt((constant * energy) ** 2 + stochastic**2 * energy + noise**2)

    mean = settings.scale * hits.deposited
    energy = mean * _lognormal(resolution(mean) / mean, normal)
    sigma = resolution(energy)
    seen = (energy >= settings.energy_min) & (energy >= settings.significance_min * sigma)
    return np.where(seen, energy, 0.0), sigma


def _combine(first: F8, variance: F8, second: F8, other_variance: F8) -> F8:
    """Give the weighted mean of two measurements over the first; an exact one is taken as it is, of two the first."""
    total = variance + other_variance
    share = np.divide(variance, total, out=np.zeros(len(total)), where=total > 0)  # of the second measurement
    return 1 + share * (second / first - 1)


def _point(p: _Particles, hits: _Hits, cells: _Cells, kept: I8, energy: F8, spread: float, uniform: F8) -> _Neutrals:
    """Make massless candidates of some hits; they point to places drawn in the cells."""
    strip, energy, across, around = hits.strip[kept], energy[kept], *(0.5 + spread * (uniform[kept].T - 0.5))
    low, high = cells.edges[strip], cells.edges[strip + 1]
    eta = low + (high - low) * across
    phi = (hits.cell[kept] - cells.first[strip] + around) * _TURN / cells.phi_cells[strip] - np.pi
    pt = energy / np.cosh(eta)
    return _Neutrals(p.row[hits.opener[kept]], pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), energy)


# --- candidates --------------------------------------------------------------------------------------------------


def _of_tracks(tracks: _Tracks, p: _Particles, identified: Bools) -> tuple[I8, dict[str, NDArray[Any]]]:
    """Give the events' rows and the columns of track candidates."""
    names = ("px", "py", "pz", "e", "kind", "d0", "dz", "d0_error", "dz_error")
    columns = {name: getattr(tracks, name) for name in names}
    return p.row[tracks.particle], columns | {"charge": p.charge[tracks.particle], "identified": identified}


def _of_neutrals(neutrals: _Neutrals, kind: int) -> tuple[I8, dict[str, NDArray[Any]]]:
    """Give the events' rows and the columns of neutral candidates."""
    n = len(neutrals.row)
    columns: dict[str, NDArray[Any]] = {name: getattr(neutrals, name) for name in ("px", "py", "pz", "e")}
    columns |= {"charge": np.zeros(n, dtype=np.int8), "kind": np.full(n, kind, dtype=np.int8)}
    columns |= dict.fromkeys(("d0", "dz", "d0_error", "dz_error"), np.zeros(n))
    return neutrals.row, columns | {"identified": np.zeros(n, dtype=np.bool_)}


def _gather(flow: list[tuple[I8, dict[str, NDArray[Any]]]], n_events: int) -> Ragged:
    """Put the candidates of each event together, keeping the order of the lists."""
    row = np.concatenate([part for part, _ in flow])
    order = np.argsort(row, kind="stable")
    columns = {name: np.concatenate([part[name] for _, part in flow])[order] for name in flow[0][1]}
    return Ragged(offsets_of(np.bincount(row, minlength=n_events)), columns)
