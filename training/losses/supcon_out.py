"""Supervised contrastive loss with the logarithm inside the sum over partners: L_out of Khosla et al.

arXiv:2004.11362, equation 2, with continuous weights in place of 0 and 1.
"""

from torch import Tensor

from training.losses.pairs import similarities, weights


def supcon_out(first_BD: Tensor, second_BD: Tensor, labels_B: Tensor, alpha: float, temperature: float) -> Tensor:
    """Ask each projection to find all of its partners, each by its weight.

    Parameters
    ----------
    first_BD, second_BD
        Projections of the two views; rows of the same number are the same object.
    labels_B
        Class of each object, in any numeric type.
    alpha
        0 to 1. At 0 this is NT-Xent, at 1 SupCon: all objects of a class are partners alike.
    temperature
        Positive; cosine similarities are divided by it.

    Returns
    -------
    Tensor
        Scalar: mean over i of -sum_j w_ij log(exp(s_ij / t) / sum_(k != i) exp(s_ik / t)) / sum_j w_ij.
    """
    similarity = similarities(first_BD, second_BD, temperature)  # (2B, 2B)
    w = weights(labels_B, alpha)
    log_share = similarity.log_softmax(dim=1).masked_fill(w == 0, 0)  # 0 times -inf would be NaN
    return -((w * log_share).sum(dim=1) / w.sum(dim=1)).mean()
