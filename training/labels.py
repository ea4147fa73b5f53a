"""Which labels a method may see: nested subsets of a task's train objects by key."""

import math

import numpy as np

from resim.errors import UserError
from training.data.fetch import Index
from training.data.plan import Rows
from training.keys import uniform_by_id
from training.tasks import Labels


def labelled_rows(index: Index, labels: Labels, fraction: float, seed: int, seed_index: int) -> Rows:
    """Choose a share of the train objects in nominal, the same share (rounded up) of each sample, ascending.

    Each object has a number by (seed, seed index, sample, object); the smallest numbers are chosen, so that a larger
    fraction contains a smaller one. Tasks see the same objects of a sample.

    Raises
    ------
    UserError
        If a sample of the task has no train object, or its target is no number in any.
    """
    chosen = []
    for name, _, rows in index.by_sample(index.rows("train", ["nominal"])):
        if name not in labels.samples:
            continue
        members = rows[labels.member[rows]]
        if not len(rows):
            raise UserError(f"sample {name!r} has no train object in nominal; simulate more events")
        if not len(members):
            why = f"the target {labels.target!r} is no number in any train object of sample {name!r}"
            raise UserError(f"{why}; leave that out of the task's `samples`, or name another column")
        order = np.argsort(uniform_by_id(index.object[members], 1, seed, "labels", seed_index, name)[:, 0])
        chosen.append(members[order[: math.ceil(round(fraction * len(members), 6))]])
    return np.sort(np.concatenate(chosen))
