"""Random numbers of one event in compiled code, one after another: the same ones as `Stream.uniform` gives."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from resim.keys import four

Draws = tuple[NDArray[np.uint64], NDArray[np.float64]]
"""Key (2), event, place of the next four, and how many of the four at hand are used; and these four."""


@njit(cache=True)
def draws_of(key: NDArray[np.uint64], event: int) -> Draws:
    """Give the draws of an event, at their beginning."""
    words = np.array([key[0], key[1], np.uint64(event), np.uint64(0), np.uint64(4)], dtype=np.uint64)
    return words, np.empty(4)


@njit(cache=True)
def uniform(draws: Draws) -> float:
    """Draw from [0, 1)."""
    words, numbers = draws
    if words[4] == 4:
        numbers[0], numbers[1], numbers[2], numbers[3] = four(words[0], words[1], words[2], words[3])
        words[3] += np.uint64(1)
        words[4] = np.uint64(0)
    number = numbers[words[4]]
    words[4] += np.uint64(1)
    return number


@njit(cache=True)
def exponential(draws: Draws) -> float:
    """Draw from the exponential distribution of mean 1."""
    return -math.log1p(-uniform(draws))


@njit(cache=True)
def normal(draws: Draws) -> float:
    """Draw from the standard normal distribution (Box and Muller, one of the pair)."""
    radius = math.sqrt(2 * exponential(draws))
    return radius * math.cos(2 * math.pi * uniform(draws))


@njit(cache=True)
def isotropic(draws: Draws) -> tuple[float, float, float]:
    """Draw a direction."""
    cosine = 2 * uniform(draws) - 1
    sine, angle = math.sqrt(1 - cosine * cosine), 2 * math.pi * uniform(draws)
    return sine * math.cos(angle), sine * math.sin(angle), cosine
