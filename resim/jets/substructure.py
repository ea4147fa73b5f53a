"""Soft-drop mass and the energy correlation ratio N2 of jets, from their constituents. GeV.

Compiled, because FastJet's own tools cost several times the clustering through its array interface; the tests
compare with them.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from resim.jets.states import F8, I8

Momenta = tuple[F8, F8, F8, F8]
"""px, py, pz, e: one array each."""


def softdrop_mass(momenta: Momenta, offsets: I8, z_cut: float, beta: float, radius: float) -> F8:
    """Give the soft-drop mass of each jet (Larkoski et al., arXiv:1402.2657).

    The constituents are reclustered with Cambridge/Aachen; the softer branch is dropped until
    min(pT1, pT2) / (pT1 + pT2) > z_cut (dR12 / radius)^beta. Where only one constituent is left, its mass is given.

    Parameters
    ----------
    momenta
        Of the constituents of all jets, (offsets[-1],) each, GeV; every jet has at least one.
    offsets
        (n + 1,), constituents of jet i are `offsets[i]:offsets[i + 1]`.
    """
    return _softdrop_masses(np.column_stack(momenta), offsets, z_cut, beta, radius)


def n2(momenta: Momenta, offsets: I8, beta: float) -> F8:
    """Give N2 = 2e3 / (1e2)^2 of each jet (Moult, Necib, Thaler, arXiv:1609.07483), NaN for one constituent.

    1e2 = sum over pairs of z_i z_j dR_ij^beta; 2e3 = sum over triplets of z_i z_j z_k times the two smallest of their
    three dR^beta; z is the share of the summed pT. Parameters as in `softdrop_mass`.
    """
    return _n2_ratios(np.column_stack(momenta), offsets, beta)


@njit(cache=True)
def _pt_rapidity_phi(p: NDArray[np.float64]) -> tuple[float, float, float]:
    pt2 = p[0] * p[0] + p[1] * p[1]
    m2 = max(0.0, (p[3] - p[2]) * (p[3] + p[2]) - pt2)
    # this form keeps its precision in the forward direction (FastJet's own)
    rapidity = 0.5 * np.log((pt2 + m2) / (p[3] + abs(p[2])) ** 2) if pt2 > 0 else -1e5
    return np.sqrt(pt2), -rapidity if p[2] > 0 else rapidity, np.arctan2(p[1], p[0])


@njit(cache=True)
def _distance2(rapidity: NDArray[np.float64], phi: NDArray[np.float64], i: int, j: int) -> float:
    turn = abs(phi[i] - phi[j])
    turn = min(turn, 2 * np.pi - turn)
    return (rapidity[i] - rapidity[j]) ** 2 + turn * turn


@njit(cache=True)
def _nearest(
    active: NDArray[np.int64], n: int, rapidity: NDArray[np.float64], phi: NDArray[np.float64], slot: int
) -> tuple[int, float]:
    best, least = -1, np.inf
    for other in range(n):
        if other != slot:
            d = _distance2(rapidity, phi, active[slot], active[other])
            if d < least:
                best, least = active[other], d
    return best, least


@njit(cache=True)
def _cambridge(
    p: NDArray[np.float64], rapidity: NDArray[np.float64], phi: NDArray[np.float64], pt: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Merge the nearest two until one is left: fills rows n.. of the arrays, gives the two children of every row."""
    total = len(p)
    n = (total + 1) // 2
    children = np.full((total, 2), -1)
    active = np.arange(n)
    nearest = np.empty(total, dtype=np.int64)
    distance = np.empty(total)
    for slot in range(n):
        nearest[slot], distance[slot] = _nearest(active, n, rapidity, phi, slot)
    for new in range(n, total):
        first = active[0]
        for slot in range(1, n):
            if distance[active[slot]] < distance[first]:
                first = active[slot]
        second = nearest[first]
        children[new] = first, second
        p[new] = p[first] + p[second]
        pt[new], rapidity[new], phi[new] = _pt_rapidity_phi(p[new])
        kept = 0
        for slot in range(n):
            if active[slot] != first and active[slot] != second:
                active[kept] = active[slot]
                kept += 1
        active[kept] = new
        n = kept + 1
        nearest[new], distance[new] = _nearest(active, n, rapidity, phi, kept)
        for slot in range(kept):
            this = active[slot]
            if nearest[this] == first or nearest[this] == second:
                nearest[this], distance[this] = _nearest(active, n, rapidity, phi, slot)
            else:
                d = _distance2(rapidity, phi, this, new)
                if d < distance[this]:
                    nearest[this], distance[this] = new, d
    return children


@njit(cache=True)
def _softdrop_masses(
    momenta: NDArray[np.float64], offsets: NDArray[np.int64], z_cut: float, beta: float, radius: float
) -> NDArray[np.float64]:
    masses = np.empty(len(offsets) - 1)
    for jet in range(len(masses)):
        n = offsets[jet + 1] - offsets[jet]
        p = np.empty((2 * n - 1, 4))
        p[:n] = momenta[offsets[jet] : offsets[jet + 1]]
        pt, rapidity, phi = np.empty(len(p)), np.empty(len(p)), np.empty(len(p))
        for i in range(n):
            pt[i], rapidity[i], phi[i] = _pt_rapidity_phi(p[i])
        children = _cambridge(p, rapidity, phi, pt)
        node = len(p) - 1
        while children[node, 0] >= 0:
            hard, soft = children[node]
            if pt[hard] < pt[soft]:
                hard, soft = soft, hard
            opening = np.sqrt(_distance2(rapidity, phi, hard, soft))
            if pt[soft] > z_cut * (opening / radius) ** beta * (pt[hard] + pt[soft]):
                break
            node = hard
        px, py, pz, e = p[node]
        masses[jet] = np.sqrt(max(0.0, (e - pz) * (e + pz) - px * px - py * py))
    return masses


@njit(cache=True)
def _n2_ratios(momenta: NDArray[np.float64], offsets: NDArray[np.int64], beta: float) -> NDArray[np.float64]:
    ratios = np.full(len(offsets) - 1, np.nan)
    for jet in range(len(ratios)):
        p = momenta[offsets[jet] : offsets[jet + 1]]
        n = len(p)
        pt, rapidity, phi = np.empty(n), np.empty(n), np.empty(n)
        for i in range(n):
            pt[i], rapidity[i], phi[i] = _pt_rapidity_phi(p[i])
        pt /= pt.sum()
        angle = np.zeros((n, n))
        pairs = 0.0
        for i in range(n):
            for j in range(i):
                angle[i, j] = angle[j, i] = _distance2(rapidity, phi, i, j) ** (0.5 * beta)
                pairs += pt[i] * pt[j] * angle[i, j]
        triplets = 0.0
        for i in range(n):
            for j in range(i):
                inner = 0.0
                for k in range(j):
                    a, b, c = angle[i, j], angle[i, k], angle[j, k]
                    inner += pt[k] * min(min(a * b, a * c), b * c)
                triplets += pt[i] * pt[j] * inner
        if pairs > 0:
            ratios[jet] = triplets / pairs**2
    return ratios
