"""What two constituents are to each other: the four pairwise features of ParT (Qu et al., arXiv:2202.03772)."""

import torch
from torch import Tensor
from torch.nn import functional

ANGLE_MIN = 1e-3  # floor of angles: what no detector separates; identical directions would have a logarithm of -inf
# Mean and width of ln kT, ln z, ln dR, ln m^2 (GeV) over the pairs of QCD and H jets of 400 to 1000 GeV
_CENTRE, _SPREAD = (0.0, -1.5, -1.5, 1.0), (1.2, 0.8, 1.1, 2.3)


def pairwise(log_pt_BP: Tensor, eta_BP: Tensor, phi_BP: Tensor) -> Tensor:
    """Give ln kT, ln z, ln dR and ln m^2 of each pair, (4, B, P, P), not standardised.

    kT is the smaller pT times dR, z the smaller pT over the sum of both. Constituents are taken as massless, so that
    the mass follows from pT and angles: m^2 = 2 pT pT' (cosh deta - cos dphi). From four-momenta in single precision
    it would be lost in rounding for near pairs.

    Parameters
    ----------
    log_pt_BP
        ln of pT in GeV.
    eta_BP, phi_BP
        In radians, to any common axis.
    """
    deta, dphi = (x[:, :, None] - x[:, None, :] for x in (eta_BP, phi_BP))
    dphi = torch.remainder(dphi + torch.pi, 2 * torch.pi) - torch.pi
    log_dr = 0.5 * (deta.square() + dphi.square()).clamp(min=ANGLE_MIN**2).log()
    # 2 (cosh a - cos b) = 4 (sinh^2 a/2 + sin^2 b/2), which does not cancel
    opening = 4 * (torch.sinh(deta / 2).square() + torch.sin(dphi / 2).square())
    first, second = log_pt_BP[:, :, None], log_pt_BP[:, None, :]
    log_z = functional.logsigmoid(-(first - second).abs())
    log_mass = first + second + opening.clamp(min=ANGLE_MIN**2).log()
    return torch.stack([torch.minimum(first, second) + log_dr, log_z, log_dr, log_mass])


def standardised(pairs_4BPP: Tensor) -> Tensor:
    """Bring the four features to the order of one, by fixed numbers: a jet must not see the others of its batch."""
    centre, spread = (pairs_4BPP.new_tensor(x)[:, None, None, None] for x in (_CENTRE, _SPREAD))
    return (pairs_4BPP - centre) / spread
