"""Generic jet augmentations in the manner of JetCLR (Dillon et al., arXiv:2108.04253, section 3).

Each function takes constituents (B, P, F) as stored (see `training.data.jets`), returns new ones, and leaves
relpt, rele and dr to be recomputed; `augment` does all of them. Masses and pT of constituents are kept when eta moves,
so energies follow. What a constituent is (charge, impact parameters, flags) is kept, also by both halves of a split
one: only the momentum flow is augmented.
"""

import numpy as np
from numpy.typing import NDArray

from training.config import AugmentConfig
from training.data.jets import ETA, PHI, PT, E, FloatArray, completed, wrapped
from training.keys import Draws

_WIDEST = 0.4  # half the radius of a jet


def augment(x_BPF: FloatArray, draws: Draws, config: AugmentConfig) -> FloatArray:
    """Apply all augmentations that the config asks for; each jet gets draws of its own, whatever batch it is in.

    Returns
    -------
    NDArray
        (B, P, F), by falling pT, all fifteen features consistent.
    """
    if config.rotate:
        x_BPF = rotated(x_BPF, 2 * np.pi * draws.uniform("rotate", 1)[:, 0])
    if config.translate:
        x_BPF = translated(x_BPF, config.translate * (2 * draws.uniform("translate", 2) - 1))
    if config.smear:
        x_BPF = smeared(x_BPF, draws.normal("smear", 2 * x_BPF.shape[1]).reshape(*x_BPF.shape[:2], 2), config.smear)
    if config.splits:
        x_BPF = split(x_BPF, draws, config.splits)
    return completed(x_BPF)


def rotated(x_BPF: FloatArray, angle_B: NDArray[np.float64]) -> FloatArray:
    """Rotate jets in the eta-phi plane about their pT-weighted centre, by angles in radians."""
    pt = x_BPF[:, :, PT].astype(np.float64)
    total = np.maximum(pt.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    phi_zero = x_BPF[:, :1, PHI].astype(np.float64)  # phi is unwrapped about the hardest constituent
    eta, phi = x_BPF[:, :, ETA].astype(np.float64), wrapped(x_BPF[:, :, PHI] - phi_zero)
    eta_centre, phi_centre = ((pt * v).sum(axis=1, keepdims=True) / total for v in (eta, phi))
    cos, sin = np.cos(angle_B)[:, None], np.sin(angle_B)[:, None]
    deta, dphi = eta - eta_centre, phi - phi_centre
    return _moved(x_BPF, eta_centre + cos * deta - sin * dphi, phi_zero + phi_centre + sin * deta + cos * dphi)


def translated(x_BPF: FloatArray, shift_B2: NDArray[np.float64]) -> FloatArray:
    """Shift all constituents of a jet by the same (eta, phi)."""
    return _moved(x_BPF, x_BPF[:, :, ETA] + shift_B2[:, :1], x_BPF[:, :, PHI] + shift_B2[:, 1:])


def smeared(x_BPF: FloatArray, normal_BP2: NDArray[np.float64], scale: float) -> FloatArray:
    """Move each constituent in eta and phi by standard normals times scale / pT, as soft radiation would.

    `scale` is in GeV; JetCLR takes 0.1, about Lambda_QCD. For softer constituents the width is capped inside the jet.
    """
    pt = x_BPF[:, :, PT]
    width = np.minimum(scale / np.where(pt > 0, pt, 1), _WIDEST)
    return _moved(x_BPF, x_BPF[:, :, ETA] + width * normal_BP2[..., 0], x_BPF[:, :, PHI] + width * normal_BP2[..., 1])


def split(x_BPF: FloatArray, draws: Draws, most: int) -> FloatArray:
    """Split some constituents into two with the same direction whose pT and energy add up to the old.

    The number of splits of a jet is uniform in 0..most, but no more than it has constituents; which ones is uniform,
    the share z of the first half too. The network must see augmented jets as it sees all others, the hardest P
    constituents: where a jet has more after the splits, the softest go, and pT and energy of the others are scaled
    up so that the summed pT stays what it was.

    Returns
    -------
    NDArray
        (B, P, F), by falling pT.
    """
    slots, total = x_BPF.shape[1], x_BPF[:, :, PT].sum(axis=1, dtype=np.float64)
    present = x_BPF[:, :, PT] > 0
    order = np.argsort(np.where(present, draws.uniform("which", slots), np.inf), axis=1)[:, :most]
    if order.shape[1] < most:  # fewer slots than splits
        order = np.pad(order, ((0, 0), (0, most - order.shape[1])), mode="edge")
    wanted = np.minimum((draws.uniform("how often", 1)[:, 0] * (most + 1)).astype(np.int64), present.sum(axis=1))
    jet, slot = np.nonzero(np.arange(most) < wanted[:, None])
    mother = order[jet, slot]
    z = (1 - draws.uniform("share", most)[jet, slot]).astype(np.float32)
    result = np.concatenate([x_BPF, np.zeros((len(x_BPF), most, x_BPF.shape[2]), dtype=np.float32)], axis=1)
    daughter = result[jet, mother]
    for column in (PT, E):
        first = z * daughter[:, column]
        result[jet, mother, column] -= first
        daughter[:, column] = first
    result[jet, slots + slot] = daughter
    result = _by_falling_pt(result)
    crowded = np.flatnonzero((result[:, slots:, PT] > 0).any(axis=1))
    result = result[:, :slots]
    scale = total[crowded] / result[crowded, :, PT].sum(axis=1, dtype=np.float64)
    for column in (PT, E):
        result[crowded, :, column] *= scale[:, None]
    return result


def _by_falling_pt(x_BPF: FloatArray) -> FloatArray:
    """Order constituents by falling pT and empty the slots of those that have none left."""
    order = np.argsort(-x_BPF[:, :, PT], axis=1, kind="stable")
    x_BPF = np.take_along_axis(x_BPF, order[:, :, None], axis=1)
    x_BPF[x_BPF[:, :, PT] <= 0] = 0
    return x_BPF


def _moved(x_BPF: FloatArray, eta: NDArray[np.floating], phi: NDArray[np.floating]) -> FloatArray:
    """Put constituents at new directions, keeping pT and mass."""
    present = x_BPF[:, :, PT] > 0
    pt, e = x_BPF[:, :, PT].astype(np.float64), x_BPF[:, :, E].astype(np.float64)
    mass_squared = np.maximum(e**2 - (pt * np.cosh(x_BPF[:, :, ETA].astype(np.float64))) ** 2, 0)
    moved = x_BPF.copy()
    moved[:, :, ETA] = np.where(present, eta, 0)
    moved[:, :, PHI] = np.where(present, wrapped(phi), 0)
    moved[:, :, E] = np.sqrt(mass_squared + (pt * np.cosh(moved[:, :, ETA].astype(np.float64))) ** 2)
    return moved
