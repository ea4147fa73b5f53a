"""Tasks: which objects of a store have which label, and what a network is told of it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from resim.errors import UserError
from training.config import Task, TrainingConfig
from training.data.fetch import Store


@dataclass(frozen=True)
class Labels:
    """What a task says of all objects of a store."""

    samples: tuple[str, ...]
    """Those that it is about."""
    member: NDArray[np.bool_]
    """(N,) whether the task is about it."""
    value: NDArray[np.float64]
    """(N,) number of its class, or its target; 0 where it is none of the task's."""
    target: str | None
    """The column that is regressed, if one is."""


def labels_of(store: Store, task: Task, stands_for: Mapping[str, str] | None = None, view: str = "nominal") -> Labels:
    """Label all objects of a store.

    Parameters
    ----------
    view
        Where a target is read that views have each for themselves, such as the mass of the generator jet.
    stands_for
        Sample of the store -> the one that it is judged in place of.

    Raises
    ------
    UserError
        If the target is no column of the data.
    """
    index = store.index
    class_of = {sample: number for number, members in enumerate(task.members) for sample in members}
    known = [(stands_for or {}).get(name, name) for name in index.samples]
    wanted = [name in (class_of if task.target is None else task.samples or known) for name in known]
    if task.target is None:
        value = np.array([class_of.get(name, np.nan) for name in known])[index.sample]
    else:
        value = np.where(np.array(wanted)[index.sample], store.column(task.target, view), np.nan)
    member = np.isfinite(value)
    samples = tuple(name for name, its in zip(index.samples, wanted, strict=True) if its)
    return Labels(samples, member, np.where(member, value, 0), task.target)


def pair_classes(store: Store, task: Task) -> NDArray[np.float32]:
    """Give the class of each object for losses that draw a class together, (N,).

    It is the task's; objects that the task is not about, or all where it has no classes, are of a class by sample.
    """
    index = store.index
    if task.target is not None:
        return index.sample.astype(np.float32)
    known = labels_of(store, task)
    return np.where(known.member, known.value, len(task.members) + index.sample).astype(np.float32)


def check_tasks(store: Store, config: TrainingConfig) -> None:
    """Refuse tasks of samples that are not there."""
    for name, task in config.tasks.items():
        for sample in task.named_samples:
            if sample not in store.index.samples:
                allowed = ", ".join(store.index.samples)
                raise UserError(f"training.tasks.{name}: {sample!r} is no data set; allowed: {allowed} (--data)")


def n_outputs(task: Task) -> int:
    """Count what a network tells of an object: a logit of two classes, one of each of more, or the target."""
    return len(task.members) if len(task.members) > 2 else 1


def loss(task: Task, outputs_BO: Tensor, labels_B: Tensor) -> Tensor:
    """Give the mean loss: cross entropy; of a target, whose labels are in units of its width, half the square."""
    if task.target is not None:
        return 0.5 * functional.mse_loss(outputs_BO[:, 0], labels_B)
    if n_outputs(task) == 1:
        return functional.binary_cross_entropy_with_logits(outputs_BO[:, 0], labels_B)
    return functional.cross_entropy(outputs_BO, labels_B.long())
