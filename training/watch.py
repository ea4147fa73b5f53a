"""What tells after each epoch of a pretraining whether the encoder learns, or collapses.

On the same objects of the validation split, in nominal, from the encoder's own outputs:

`auc`             of a linear probe for the main task, fitted on one half of the objects and judged on the other, both
                  ways round; `accuracy` where there are more than two classes, `r2` of a target
`spread`          standard deviation of the outputs, scaled to length 1, times the square root of their number, mean
                  over outputs: 1 where they point in all directions alike, 0 where all objects have the same one
                  (SimSiam, arXiv:2011.10566)
`effective_rank`  exp of the entropy of the singular values: how many directions are used (RankMe, arXiv:2210.02885)

Nothing is drawn and no weight changes: a training that is watched ends with the same bits.
"""

import sys
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from training.config import Task, TrainingConfig
from training.data.fetch import Store
from training.data.loader import Jets, in_order
from training.encoders import Encoder
from training.figures import Scored, quality
from training.lanes import Normalisation
from training.tasks import Labels, labels_of

COLLAPSED = 0.1
"""Spread below which a warning is due. On the demo's data, from the first epoch on, trainings that learn had 0.14 (edge
convolutions under VICReg) to 0.82, untrained networks 0.5; those that collapse had 0.02 to 0.08 (a rate ten times too
high and more, VICReg without its variance and covariance terms)."""
_BATCH = 128
_RIDGE = 1e-3  # of the number of objects; outputs are standardised. Keeps the fit settled where a direction is not used
_EPSILON = 1e-7  # RankMe's, for single precision

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Watch:
    """An encoder under training, and the objects that it is watched on."""

    encoder: Encoder
    jets: list[Jets]
    task: Task
    label: Float
    """(n,) number of the class, or the target."""
    half: NDArray[np.int64]
    """(n,) 0 or 1; objects of an event are in the same."""

    @classmethod
    def on_validation(
        cls, encoder: Encoder, normalisation: Normalisation, store: Store, config: TrainingConfig
    ) -> "Watch | None":
        """Choose `pretrain.probe` objects of the main task, spread evenly; None if there are fewer than four."""
        labels = labels_of(store, config.main_task)
        rows = _chosen(store, labels, config.pretrain.probe)
        if len(rows) < 4:
            return None
        events = np.stack([store.index.sample[rows], store.index.event[rows]])
        half = np.unique(events, axis=1, return_inverse=True)[1].reshape(-1) % 2
        jets = [jets for _, jets in in_order(store, "nominal", rows, normalisation, _BATCH)]
        return cls(encoder, jets, config.main_task, labels.value[rows], half)

    def figures(self) -> dict[str, float]:
        """Look at the encoder as it is now."""
        outputs = self._outputs()
        return probed(self.task, outputs, self.label, self.half) | {
            "spread": spread(outputs),
            "effective_rank": effective_rank(outputs),
        }

    def _outputs(self) -> Float:
        """Run the encoder, (n, D); not as `torch.compile` made it, which would compile it once more for this."""
        device = next(self.encoder.parameters()).device
        training = self.encoder.training
        self.encoder.eval()
        with torch.inference_mode():
            moved = (jets.changed(lambda x: x.to(device)) for jets in self.jets)
            outputs = torch.cat([self.encoder.forward(jets.values, jets.present) for jets in moved])
        self.encoder.train(training)
        return outputs.double().cpu().numpy()


def warn_of_collapse(title: str, epoch: int, found: float) -> None:
    """Say on standard error, in a line, what has happened and what to change."""
    why = f"spread {found:.2g} of 1, below {COLLAPSED}: the encoder has collapsed to nearly one output for all objects"
    do = "lower training.optimiser.learning_rate, or of vicreg raise the weight of variance"
    print(f"warning: {title}: epoch {epoch}: {why}; {do}", file=sys.stderr)


def _chosen(store: Store, labels: Labels, count: int) -> NDArray[np.int64]:
    if "validation" not in store.index.splits:
        return np.zeros(0, dtype=np.int64)
    rows = store.index.rows("validation", ["nominal"])
    rows = rows[labels.member[rows]]
    count = min(count, len(rows))
    return rows[np.arange(count) * len(rows) // max(1, count)]


def probed(task: Task, features_nD: Float, label_n: Float, half_n: NDArray[np.int64]) -> dict[str, float]:
    """Fit a linear probe on each half and judge it on the other: the mean; nothing if a half lacks a class.

    The probe is ridge regression, of classes on their indicators: it is solved at once, where a logistic regression
    would take longer than the encoder.
    """
    name = "r2" if task.target is not None else "auc" if len(task.members) == 2 else "accuracy"
    if task.target is None and any(len(np.unique(label_n[half_n == h])) < len(task.members) for h in (0, 1)):
        return {}
    told = []
    for half in (0, 1):
        known = half_n == half
        aims = label_n[:, None] if task.target is not None else np.eye(len(task.members))[label_n.astype(int)]
        score = _ridge(features_nD[known], aims[known], features_nD[~known])
        score = score[:, 1] if name == "auc" else score[:, 0] if name == "r2" else score
        told.append(quality(task, Scored(score, label_n[~known], np.ones((1, len(score)))))[name][0])
    return {name: float(np.mean(told))}


def _ridge(known_nD: Float, aims_nK: Float, asked_mD: Float) -> Float:
    """Fit standardised features to aims; give what it tells of others, (m, K)."""
    centre, width = known_nD.mean(axis=0), known_nD.std(axis=0) + 1e-12
    known, asked = (known_nD - centre) / width, (asked_mD - centre) / width
    damped = known.T @ known + _RIDGE * len(known) * np.eye(known.shape[1])
    middle = aims_nK.mean(axis=0)
    return asked @ np.linalg.solve(damped, known.T @ (aims_nK - middle)) + middle


def spread(features_nD: Float) -> float:
    """Give how far normalised outputs are spread: 0 to about 1."""
    lengths = np.linalg.norm(features_nD, axis=1, keepdims=True)
    unit = features_nD / np.maximum(lengths, 1e-12)
    return float(unit.std(axis=0).mean() * np.sqrt(unit.shape[1]))


def effective_rank(features_nD: Float) -> float:
    """Give how many directions outputs use: 1 to D."""
    singular = np.linalg.svd(features_nD, compute_uv=False)
    share = singular / max(singular.sum(), 1e-12) + _EPSILON
    return float(np.exp(-np.sum(share * np.log(share))))
