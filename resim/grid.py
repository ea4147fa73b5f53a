"""The grid that constituents stand on, told from where they are. Knows no physics."""

import numpy as np
from numpy.typing import NDArray

_LEAST = 5e-3  # cm; in a large detector single precision hardly tells two places apart that are nearer
_OFF = 0.02  # of an edge, by which places may miss the grid


def edge(places: NDArray[np.floating]) -> float:
    """Give the edge of voxels by their places (n, 3): the step that these are whole numbers of apart, along each axis.

    Returns
    -------
    float
        cm; NaN where there is no such step, or no two places differ.
    """
    gaps = np.concatenate([np.diff(np.unique(axis)) for axis in places.astype(np.float64).T])
    gaps = gaps[gaps > _LEAST]
    if not len(gaps):
        return float("nan")
    step = gaps[gaps < 1.5 * gaps.min()].mean()
    step = gaps.sum() / np.round(gaps / step).sum()  # over long ways, for places are stored in single precision
    steps = gaps / step
    return float(step) if np.abs(steps - np.round(steps)).max() < _OFF else float("nan")
