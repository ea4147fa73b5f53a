"""Generic augmentations of sparse images, as of the contrastive training of arXiv:2502.07724 (github.com/radiradev).

A few are drawn for each view of an image, with replacement, and done one after another. Each function takes voxels
(B, P, F) as stored (see `training.data.voxels`), absent ones anywhere, and returns new ones. Charge is scaled, and the
counts, which no network sees, are left.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from training.config import AugmentConfig, VoxelAugmentConfig
from training.data.voxels import ADC, CHARGE, PLACE, FloatArray, centre
from training.keys import Draws

Float = NDArray[np.float64]
Step = Callable[[FloatArray, Draws, VoxelAugmentConfig], FloatArray]


def augment(x_BPF: FloatArray, draws: Draws, config: AugmentConfig) -> FloatArray:
    """Apply what is drawn of the augmentations that the config asks for; each image has draws of its own.

    Returns
    -------
    NDArray
        (B, P, F), present voxels first.
    """
    settings = config.voxels
    steps = [step for name, step in STEPS.items() if getattr(settings, name) not in (0, "off")]
    if not steps:
        return x_BPF
    x_BPF = x_BPF.copy()
    chosen = (draws.uniform("which", settings.drawn) * len(steps)).astype(np.int64)
    for turn, of_image in enumerate(chosen.T):
        for number, step in enumerate(steps):
            rows = np.flatnonzero(of_image == number)
            x_BPF[rows] = step(x_BPF[rows], Draws(draws.ids[rows], (*draws.words, turn)), settings)
    return compacted(x_BPF)


def compacted(x_BPF: FloatArray) -> FloatArray:
    """Put present voxels first, in the order that they have, and zeros behind."""
    absent = x_BPF[:, :, ADC] <= 0
    order = np.argsort(absent, axis=1, kind="stable")
    x_BPF = np.take_along_axis(x_BPF, order[:, :, None], axis=1)
    x_BPF[np.take_along_axis(absent, order, axis=1)] = 0
    return x_BPF


def turned(x_BPF: FloatArray, turn_B33: Float) -> FloatArray:
    """Turn images about their charge-weighted centres by matrices."""
    middle = centre(x_BPF)
    place = middle + (x_BPF[:, :, PLACE] - middle) @ turn_B33.transpose(0, 2, 1)
    return _placed(x_BPF, place)


def any_turn(normal_B4: Float) -> Float:
    """Give turns about any axis by any angle, uniform among all of them, (B, 3, 3), from standard normals.

    These are a unit quaternion when scaled to length 1 (Marsaglia, Ann. Math. Statist. 43 (1972) 645).
    """
    w, x, y, z = (normal_B4 / np.linalg.norm(normal_B4, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.array(rows).transpose(2, 0, 1)


def turn_about_drift(angle_B: Float) -> Float:
    """Give turns about x by angles in radians, (B, 3, 3)."""
    cos, sin, zero, one = np.cos(angle_B), np.sin(angle_B), np.zeros_like(angle_B), np.ones_like(angle_B)
    return np.array([[one, zero, zero], [zero, cos, -sin], [zero, sin, cos]]).transpose(2, 0, 1)


def _rotate(x_BPF: FloatArray, draws: Draws, config: VoxelAugmentConfig) -> FloatArray:
    if config.rotate == "any":
        return turned(x_BPF, any_turn(draws.normal("rotate", 4)))
    return turned(x_BPF, turn_about_drift(2 * np.pi * draws.uniform("rotate", 1)[:, 0]))


def _translate(x_BPF: FloatArray, draws: Draws, config: VoxelAugmentConfig) -> FloatArray:
    shift = config.translate * (2 * draws.uniform("translate", 3) - 1)
    return _placed(x_BPF, x_BPF[:, :, PLACE] + shift[:, None])


def _drop(x_BPF: FloatArray, draws: Draws, config: VoxelAugmentConfig) -> FloatArray:
    """Leave voxels out, but for one of each image, which stays whatever is drawn: the one that is last to go."""
    uniform, present = draws.uniform("drop", x_BPF.shape[1]), x_BPF[:, :, ADC] > 0
    last = np.where(present, uniform, -1).max(axis=1, keepdims=True)
    kept = (uniform >= config.drop) | (uniform == last)
    return np.where(kept[:, :, None], x_BPF, 0)


def _scale(x_BPF: FloatArray, draws: Draws, config: VoxelAugmentConfig) -> FloatArray:
    return _charged(x_BPF, 1 + config.scale * draws.normal("scale", 1))


def _scale_voxels(x_BPF: FloatArray, draws: Draws, config: VoxelAugmentConfig) -> FloatArray:
    return _charged(x_BPF, 1 + config.scale_voxels * draws.normal("scale_voxels", x_BPF.shape[1]))


def _shift_voxels(x_BPF: FloatArray, draws: Draws, config: VoxelAugmentConfig) -> FloatArray:
    normal = draws.normal("shift_voxels", 3 * x_BPF.shape[1]).reshape(*x_BPF.shape[:2], 3)
    return _placed(x_BPF, x_BPF[:, :, PLACE] + config.shift_voxels * normal)


def _placed(x_BPF: FloatArray, place_BP3: Float) -> FloatArray:
    """Put present voxels elsewhere."""
    moved = x_BPF.copy()
    moved[:, :, PLACE] = np.where(x_BPF[:, :, ADC, None] > 0, place_BP3, 0)
    return moved


def _charged(x_BPF: FloatArray, factor: Float) -> FloatArray:
    """Multiply charges, (B, 1) or (B, P)."""
    scaled = x_BPF.copy()
    scaled[:, :, CHARGE] *= factor
    return scaled


STEPS: dict[str, Step] = {
    "identity": lambda x, draws, config: x,
    "rotate": _rotate,
    "translate": _translate,
    "drop": _drop,
    "scale": _scale,
    "scale_voxels": _scale_voxels,
    "shift_voxels": _shift_voxels,
}
"""By the names of their settings."""
