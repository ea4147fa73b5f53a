"""Substructure of jets from their constituents: soft drop, N-subjettiness, N2. GeV.

Compiled, because FastJet's own tools cost several times the clustering through its array interface; the tests
compare with them.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from resim.jets.geometry import wrapped
from resim.jets.states import F8, I8

Momenta = tuple[F8, F8, F8, F8]
"""px, py, pz, e: one array each."""

_PT, _Y, _PHI, _COLUMNS = 4, 5, 6, 7  # columns 0..3 are px, py, pz, e
_MOST_AXES = 3


def kinematics(momenta: Momenta) -> F8:
    """Give a row (px, py, pz, e, pT, rapidity, phi) for each momentum: what the functions below start from."""
    return _kinematics(np.column_stack(momenta))


def softdrop(particles: F8, offsets: I8, z_cut: float, beta: float, radius: float) -> dict[str, F8]:
    """Groom each jet by soft drop (Larkoski et al., arXiv:1402.2657), and describe what is left.

    The constituents are reclustered with Cambridge/Aachen; the softer branch is dropped until
    min(pT1, pT2) / (pT1 + pT2) > z_cut (dR12 / radius)^beta; dR is taken in rapidity and phi.

    Parameters
    ----------
    particles
        Rows of `kinematics` for the constituents of all jets, (offsets[-1], 7); every jet has at least one.
    offsets
        (n + 1,), constituents of jet i are `offsets[i]:offsets[i + 1]`.

    Returns
    -------
    dict
        `softdrop_mass`, `softdrop_pt` of the groomed jet; of its two branches, the harder first, `subjet1_pt`,
        `subjet1_eta`, `subjet1_phi`, `subjet1_mass`, `subjet2_pt` ...; `zg`, the share of the softer one in their
        summed pT, and `rg`, their dR. Where a single constituent is left the branches are NaN. (n,) each.
    """
    rows = _groomed_jets(particles, offsets, z_cut, float(beta), radius)
    jet, hard, soft = rows[:, 0], rows[:, 1], rows[:, 2]
    branches = {
        f"subjet{i}_{name}": values
        for i, branch in enumerate((hard, soft), start=1)
        for name, values in zip(("pt", "eta", "phi", "mass"), _observables(branch), strict=True)
    }
    turn = wrapped(hard[:, _PHI] - soft[:, _PHI])
    zg, rg = soft[:, _PT] / (hard[:, _PT] + soft[:, _PT]), np.hypot(hard[:, _Y] - soft[:, _Y], turn)
    return {"softdrop_mass": _observables(jet)[3], "softdrop_pt": jet[:, _PT], **branches, "zg": zg, "rg": rg}


def _observables(rows: F8) -> tuple[F8, F8, F8, F8]:
    """Give pT, eta, phi and mass of rows."""
    px, py, pz, e, pt = rows.T[:5]
    return pt, np.arcsinh(pz / pt), np.arctan2(py, px), mass((px, py, pz, e))


def mass(momenta: Momenta) -> F8:
    """Give the invariant masses, 0 where rounding makes their squares negative."""
    px, py, pz, e = momenta
    return np.sqrt(np.maximum((e - pz) * (e + pz) - px**2 - py**2, 0))


def n_subjettiness(particles: F8, offsets: I8) -> F8:
    """Give tau_1, tau_2, tau_3 of each jet (Thaler, Van Tilburg, arXiv:1011.2268) at beta = 1, (n, 3).

    tau_N = sum over constituents of pT times dR to the nearest of N axes, over the summed pT. The axes are the
    exclusive kT subjets of the constituents, without a radius, recombined by winner-take-all (arXiv:1401.2158): the
    direction is the harder one's, pT adds up. Parameters as in `softdrop`. A jet of N or fewer constituents has
    tau_N = 0.
    """
    return _taus(particles, offsets)


def n2(particles: F8, offsets: I8, beta: float) -> F8:
    """Give N2 = 2e3 / (1e2)^2 of each jet (Moult, Necib, Thaler, arXiv:1609.07483), NaN for one constituent.

    1e2 = sum over pairs of z_i z_j dR_ij^beta; 2e3 = sum over triplets of z_i z_j z_k times the two smallest of their
    three dR^beta; z is the share of the summed pT. Parameters as in `softdrop`.
    """
    return _n2_ratios(particles, offsets, float(beta))


# Plain loops below, no array expressions: they run as fast and compile in a fifth of the time.


@njit(cache=True)
def _fill(p: NDArray[np.float64], i: int) -> None:
    """Fill pT, rapidity and phi of row i."""
    pt2 = p[i, 0] * p[i, 0] + p[i, 1] * p[i, 1]
    m2 = max(0.0, (p[i, 3] - p[i, 2]) * (p[i, 3] + p[i, 2]) - pt2)
    total = p[i, 3] + abs(p[i, 2])
    # this form keeps its precision in the forward direction (FastJet's own)
    rapidity = 0.5 * math.log((pt2 + m2) / (total * total)) if pt2 > 0 else -1e5
    p[i, _PT], p[i, _PHI] = math.sqrt(pt2), math.atan2(p[i, 1], p[i, 0])
    p[i, _Y] = -rapidity if p[i, 2] > 0 else rapidity


@njit(cache=True)
def _kinematics(momenta: NDArray[np.float64]) -> NDArray[np.float64]:
    p = np.empty((len(momenta), _COLUMNS))
    for i in range(len(momenta)):
        for column in range(4):
            p[i, column] = momenta[i, column]
        _fill(p, i)
    return p


@njit(cache=True)
def _distance2(y1: float, phi1: float, y2: float, phi2: float) -> float:
    turn = abs(phi1 - phi2)
    turn = min(turn, 2 * math.pi - turn)
    return (y1 - y2) * (y1 - y2) + turn * turn


@njit(cache=True)
def _merge(p: NDArray[np.float64], first: int, second: int, new: int, kt: bool) -> None:
    """Recombine two rows: by adding momenta, or, for kT, by winner-take-all (pT, rapidity and phi alone)."""
    if kt:
        winner = first if p[first, _PT] >= p[second, _PT] else second
        p[new, _PT], p[new, _Y], p[new, _PHI] = p[first, _PT] + p[second, _PT], p[winner, _Y], p[winner, _PHI]
    else:
        for column in range(4):
            p[new, column] = p[first, column] + p[second, column]
        _fill(p, new)


@njit(cache=True)
def _place(p: NDArray[np.float64], row: int, slot: int, slots: NDArray[np.float64], kt: bool) -> None:
    """Put rapidity, phi and weight of a row into a slot."""
    slots[0, slot], slots[1, slot] = p[row, _Y], p[row, _PHI]
    slots[3, slot] = p[row, _PT] * p[row, _PT] if kt else 1.0


@njit(cache=True)
def _find_nearest(slots: NDArray[np.float64], left: int, a: int, nearest: NDArray[np.int64]) -> None:
    """Find the nearest of slot a among `left` slots."""
    best, gap = -1, math.inf
    for b in range(left):
        d = _distance2(slots[0, a], slots[1, a], slots[0, b], slots[1, b])
        if d < gap and b != a:
            best, gap = b, d
    nearest[a], slots[2, a] = best, gap


@njit(cache=True)
def _drop(slots: NDArray[np.float64], nodes: NDArray[np.int64], a: int, last: int) -> None:
    """Put the last slot in place of slot a."""
    for quantity in range(4):
        slots[quantity, a] = slots[quantity, last]
    nodes[0, a], nodes[1, a] = nodes[0, last], nodes[1, last]


@njit(cache=True)
def _recombine(p: NDArray[np.float64], n: int, children: NDArray[np.int64], kt: bool) -> None:
    """Merge pairs until one row is left: fills rows n..2n-2 of p, and their two `children`.

    The next pair has the least min(w_i, w_j) dR_ij^2, with w = 1 (Cambridge/Aachen) or pT^2 (kT); it is one of i and
    its nearest in angle, so only nearest neighbours are kept (arXiv:hep-ph/0512210). What has not been merged yet
    fills the first slots: rapidity, phi, dR^2 to the nearest, w; and in `nodes` the row and the nearest's slot.
    """
    slots, nodes = np.empty((4, n)), np.empty((2, n), dtype=np.int64)
    row, nearest = nodes[0], nodes[1]
    for a in range(n):
        children[a, 0], row[a] = -1, a
        _place(p, a, a, slots, kt)
        nearest[a], slots[2, a] = -1, math.inf
        for b in range(a):
            d = _distance2(slots[0, a], slots[1, a], slots[0, b], slots[1, b])
            if d < slots[2, a]:
                nearest[a], slots[2, a] = b, d
            if d < slots[2, b]:
                nearest[b], slots[2, b] = a, d
    for new in range(n, 2 * n - 1):
        last = 2 * n - 1 - new
        a = 0
        for b in range(1, last + 1):
            if slots[2, b] * slots[3, b] < slots[2, a] * slots[3, a]:
                a = b
        a, b = min(a, nearest[a]), max(a, nearest[a])
        children[new, 0], children[new, 1] = row[a], row[b]
        _merge(p, row[a], row[b], new, kt)
        row[a] = new
        _place(p, new, a, slots, kt)
        _drop(slots, nodes, b, last)
        _refresh(slots, last, a, b, nearest)


@njit(cache=True)
def _refresh(slots: NDArray[np.float64], left: int, new: int, gone: int, nearest: NDArray[np.int64]) -> None:
    """Bring the nearest up to date, after slot `new` got another row and slot `gone` the row of slot `left`."""
    best, gap = -1, math.inf
    for b in range(left):
        if b == new:
            continue
        d = _distance2(slots[0, new], slots[1, new], slots[0, b], slots[1, b])
        if d < gap:
            best, gap = b, d
        if nearest[b] == new or nearest[b] == gone:
            _find_nearest(slots, left, b, nearest)
        elif d < slots[2, b]:
            nearest[b], slots[2, b] = new, d
        elif nearest[b] == left:
            nearest[b] = gone
    nearest[new], slots[2, new] = best, gap


@njit(cache=True)
def _load(particles: NDArray[np.float64], start: int, stop: int) -> NDArray[np.float64]:
    """Copy the rows of a jet, with room for the rows that they are merged into."""
    p = np.empty((2 * (stop - start), _COLUMNS))
    for i in range(stop - start):
        for column in range(_COLUMNS):
            p[i, column] = particles[start + i, column]
    return p


@njit(cache=True)
def _groom(
    p: NDArray[np.float64], root: int, children: NDArray[np.int64], z_cut: float, beta: float, radius: float
) -> int:
    """Go down the harder branches from `root` to the row that passes the soft-drop condition, or to a constituent.

    The harder branch is put first among the children on the way.
    """
    node = root
    while children[node, 0] >= 0:
        hard, soft = children[node, 0], children[node, 1]
        if p[hard, _PT] < p[soft, _PT]:
            hard, soft = soft, hard
        children[node, 0], children[node, 1] = hard, soft
        opening = math.sqrt(_distance2(p[hard, _Y], p[hard, _PHI], p[soft, _Y], p[soft, _PHI])) / radius
        if p[soft, _PT] > z_cut * math.pow(opening, beta) * (p[hard, _PT] + p[soft, _PT]):
            break
        node = hard
    return node


@njit(cache=True)
def _groomed_jets(
    particles: NDArray[np.float64], offsets: NDArray[np.int64], z_cut: float, beta: float, radius: float
) -> NDArray[np.float64]:
    """Give the rows of each groomed jet and of its two branches, (n, 3, 7)."""
    rows = np.full((len(offsets) - 1, 3, _COLUMNS), math.nan)
    for jet in range(len(rows)):
        n = offsets[jet + 1] - offsets[jet]
        p, children = _load(particles, offsets[jet], offsets[jet + 1]), np.empty((2 * n, 2), dtype=np.int64)
        _recombine(p, n, children, False)
        node = _groom(p, 2 * n - 2, children, z_cut, beta, radius)
        for column in range(_COLUMNS):
            rows[jet, 0, column] = p[node, column]
            if children[node, 0] >= 0:
                rows[jet, 1, column] = p[children[node, 0], column]
                rows[jet, 2, column] = p[children[node, 1], column]
    return rows


@njit(cache=True)
def _split_latest(axes: NDArray[np.int64], count: int, n: int, children: NDArray[np.int64]) -> int:
    """Undo the latest merger among `count` axes; gives their new number, the same where all are constituents."""
    latest = 0
    for i in range(1, count):
        if axes[i] > axes[latest]:
            latest = i
    node = axes[latest]
    if node < n:
        return count
    axes[latest], axes[count] = children[node, 0], children[node, 1]
    return count + 1


@njit(cache=True)
def _tau(p: NDArray[np.float64], n: int, axes: NDArray[np.int64], count: int) -> float:
    total = weighted = 0.0
    for i in range(n):
        nearest = math.inf
        for axis in axes[:count]:
            nearest = min(nearest, _distance2(p[i, _Y], p[i, _PHI], p[axis, _Y], p[axis, _PHI]))
        total += p[i, _PT]
        weighted += p[i, _PT] * math.sqrt(nearest)
    return weighted / total if total > 0 else math.nan


@njit(cache=True)
def _taus(particles: NDArray[np.float64], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    taus = np.empty((len(offsets) - 1, _MOST_AXES))
    axes = np.empty(_MOST_AXES, dtype=np.int64)
    for jet in range(len(taus)):
        n = offsets[jet + 1] - offsets[jet]
        p, children = _load(particles, offsets[jet], offsets[jet + 1]), np.empty((2 * n, 2), dtype=np.int64)
        _recombine(p, n, children, True)
        axes[0], count = 2 * n - 2, 1
        for i in range(_MOST_AXES):
            taus[jet, i] = _tau(p, n, axes, count)
            if i + 1 < _MOST_AXES:
                count = _split_latest(axes, count, n, children)
    return taus


# The sums may be taken in any order: that lets the innermost loop run four or eight terms at a time.
@njit(cache=True, fastmath={"reassoc", "nnan", "nsz"})
def _correlate(p: NDArray[np.float64], pt: NDArray[np.float64], angle: NDArray[np.float64], beta: float) -> float:
    total = pairs = triplets = 0.0
    for i in range(len(pt)):
        pt[i] = p[i, _PT]
        total += pt[i]
        for j in range(i):
            distance = math.sqrt(_distance2(p[i, _Y], p[i, _PHI], p[j, _Y], p[j, _PHI]))
            angle[i, j] = distance if beta == 1 else math.pow(distance, beta)
            pairs += pt[i] * pt[j] * angle[i, j]
        for j in range(i):
            a, inner = angle[i, j], 0.0
            for k in range(j):
                b, c = angle[i, k], angle[j, k]
                inner += pt[k] * min(min(a * b, a * c), b * c)
            triplets += pt[i] * pt[j] * inner
    return triplets * total / (pairs * pairs) if pairs > 0 else math.nan


@njit(cache=True)
def _n2_ratios(particles: NDArray[np.float64], offsets: NDArray[np.int64], beta: float) -> NDArray[np.float64]:
    ratios = np.empty(len(offsets) - 1)
    for jet in range(len(ratios)):
        n = offsets[jet + 1] - offsets[jet]
        ratios[jet] = _correlate(particles[offsets[jet] : offsets[jet + 1]], np.empty(n), np.empty((n, n)), beta)
    return ratios
