"""What the network sees of a jet, derived in one place from the fifteen stored constituent features.

Arrays of constituents are named by their axes: B jets, P constituents (zero-padded), F features in the order of
`FEATURES`. A constituent is there where its pT is positive. Momenta in GeV, lengths in mm, angles in radians.
"""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

FEATURES = (
    "pt",
    "relpt",
    "eta",
    "phi",
    "e",
    "rele",
    "charge",
    "d0",
    "dz",
    "dr",
    "is_photon",
    "is_muon",
    "is_electron",
    "is_charged_hadron",
    "is_neutral_hadron",
)
PT, RELPT, ETA, PHI, E, RELE, CHARGE, D0, DZ, DR = range(10)
FLAGS = slice(10, 15)

INPUTS = (
    "log_pt",
    "log_e",
    "log_relpt",
    "log_rele",
    "deta",
    "dphi",
    "dr",
    "asinh_d0",
    "asinh_dz",
    "charge",
    *FEATURES[FLAGS],
)
SCALED = 9  # the first inputs are standardised; charge and flags are small integers already
IMPACT_SCALE = 0.1  # mm; the asinh is linear below and logarithmic above: a few track resolutions, tails of b decays
_TINY = 1e-6  # GeV, and relative: floor of logarithms


def wrapped(angle: NDArray[np.floating]) -> NDArray[np.floating]:
    """Bring an angle into [-pi, pi)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def jet_momentum(x_BPF: FloatArray) -> tuple[NDArray[np.float64], ...]:
    """Add up four-momenta: pT, eta, phi, E of the jets, each (B, 1); eta is 0 for a jet without constituents."""
    pt, eta, phi, e = (x_BPF[:, :, i].astype(np.float64) for i in (PT, ETA, PHI, E))
    px, py, pz = (np.sum(p, axis=1, keepdims=True) for p in (pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)))
    jet_pt = np.hypot(px, py)
    jet_eta = np.arcsinh(pz / np.where(jet_pt > 0, jet_pt, 1))
    return jet_pt, jet_eta, np.arctan2(py, px), e.sum(axis=1, keepdims=True)


def relative(x_BPF: FloatArray) -> tuple[FloatArray, ...]:
    """Give relpt, rele, deta, dphi of constituents to the jet that they add up to, each (B, P), 0 where absent."""
    pt, eta, phi, e = jet_momentum(x_BPF)
    present = x_BPF[:, :, PT] > 0
    values = (
        x_BPF[:, :, PT] / np.where(pt > 0, pt, 1),
        x_BPF[:, :, E] / np.where(e > 0, e, 1),
        x_BPF[:, :, ETA] - eta,
        wrapped(x_BPF[:, :, PHI] - phi),
    )
    return tuple(np.where(present, value, 0).astype(np.float32) for value in values)


def completed(x_BPF: FloatArray) -> FloatArray:
    """Recompute the features that follow from the others: relpt, rele and dr."""
    relpt, rele, deta, dphi = relative(x_BPF)
    x_BPF = x_BPF.copy()
    x_BPF[:, :, RELPT], x_BPF[:, :, RELE], x_BPF[:, :, DR] = relpt, rele, np.hypot(deta, dphi)
    return x_BPF


def inputs(x_BPF: FloatArray) -> FloatArray:
    """Derive the network's inputs, (B, P, len(INPUTS)), not yet standardised, 0 where there is no constituent.

    The jet is the sum of the constituents that are given, so that truncation and augmentation leave it consistent.
    """
    relpt, rele, deta, dphi = relative(x_BPF)
    columns = [np.log(np.maximum(v, _TINY)) for v in (x_BPF[:, :, PT], x_BPF[:, :, E], relpt, rele)]
    columns += [deta, dphi, np.hypot(deta, dphi)]
    columns += [np.arcsinh(x_BPF[:, :, i] / np.float32(IMPACT_SCALE)) for i in (D0, DZ)]
    values = np.concatenate([np.stack(columns, axis=2), x_BPF[:, :, CHARGE, None], x_BPF[:, :, FLAGS]], axis=2)
    values[x_BPF[:, :, PT] <= 0] = 0
    return values
