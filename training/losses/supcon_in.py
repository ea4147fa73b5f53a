"""Supervised contrastive loss with the sum over partners inside the logarithm, between self- and fully supervised.

With weights of 0 and 1 it is L_in of Khosla et al. (arXiv:2004.11362, equation 3) but for the division by the number of
partners, which is a constant of the batch. The gradient goes to the partners that are near already.
"""

from torch import Tensor

from training.losses.pairs import similarities, weights


def supcon_in(first_BD: Tensor, second_BD: Tensor, labels_B: Tensor, alpha: float, temperature: float) -> Tensor:
    """Ask each projection to find one of its partners: the same object, and by `alpha` objects of the same class.

    Parameters
    ----------
    first_BD, second_BD
        Projections of the two views; rows of the same number are the same object.
    labels_B
        Class of each object, in any numeric type.
    alpha
        0 to 1. At 0 this is NT-Xent, at 1 all objects of a class are partners.
    temperature
        Positive; cosine similarities are divided by it.

    Returns
    -------
    Tensor
        Scalar: mean over i of -log(sum_j w_ij exp(s_ij / t) / sum_(j != i) exp(s_ij / t)); below zero where one object
        has several near partners.
    """
    similarity = similarities(first_BD, second_BD, temperature)  # (2B, 2B)
    partners = similarity + weights(labels_B, alpha).to(similarity.dtype).log()  # -inf where there is no weight
    return (similarity.logsumexp(dim=1) - partners.logsumexp(dim=1)).mean()
