"""Figures of merit: how good scores are, and how far they move, for each kind of task."""

import numpy as np
from numpy.typing import NDArray

from training.config import Task
from training.figures import binary, classes, target
from training.figures.scored import Scored

__all__ = ["Scored", "quality", "shift"]
Figures = dict[str, NDArray[np.float64]]


def quality(task: Task, scored: Scored) -> Figures:
    """Compute how good scores are: name -> (W,)."""
    if task.target is not None:
        return target.quality(scored)
    return binary.quality(scored) if len(task.members) == 2 else classes.quality(scored, task.names)


def shift(task: Task, before: Scored, after: Scored) -> Figures:
    """Compute how far scores move from nominal to a view or a held-out set: name -> (W,)."""
    if task.target is not None:
        return target.shift(before, after)
    return binary.shift(before, after) if len(task.members) == 2 else classes.shift(before, after)
