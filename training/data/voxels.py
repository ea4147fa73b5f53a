"""What the network sees of a sparse image of a time-projection chamber, derived in one place from the stored voxels.

Arrays are named by their axes: B images, P voxels (zero-padded), F features in the order of `FEATURES`. A voxel is
there where its counts are positive: its charge, from which the pedestal is taken, may be any number. Positions in cm,
charge in thousands of electrons.
"""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

FEATURES = ("x", "y", "z", "adc", "charge")
ADC, CHARGE = 3, 4
PLACE = slice(0, 3)

INPUTS = ("charge", "log_charge", "dx", "dy", "dz", "x", "y", "z")
SCALED = len(INPUTS)
_SOFTEST = 0.1  # ke; floor of logarithms and of weights, a tenth of what one count is worth


def centre(x_BPF: FloatArray) -> NDArray[np.float64]:
    """Give the charge-weighted centre of each image, (B, 1, 3), cm; 0 for an image without voxels."""
    weight = np.where(x_BPF[:, :, ADC] > 0, np.maximum(x_BPF[:, :, CHARGE], _SOFTEST), 0).astype(np.float64)
    total = weight.sum(axis=1)[:, None, None]
    return (weight[:, None, :] @ x_BPF[:, :, PLACE].astype(np.float64)) / np.where(total > 0, total, 1)


def inputs(x_BPF: FloatArray) -> FloatArray:
    """Derive the network's inputs, (B, P, len(INPUTS)), not yet standardised, 0 where there is no voxel.

    dx, dy and dz are measured from the centre of the voxels that are given. Counts are none of the inputs: charge is a
    linear function of them.
    """
    charge = x_BPF[:, :, CHARGE, None]
    from_centre = (x_BPF[:, :, PLACE] - centre(x_BPF)).astype(np.float32)
    columns = [charge, np.log(np.maximum(charge, np.float32(_SOFTEST))), from_centre, x_BPF[:, :, PLACE]]
    values = np.concatenate(columns, axis=2)
    values[x_BPF[:, :, ADC] <= 0] = 0
    return values
