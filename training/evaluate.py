"""Judge what was learned on the test split: on nominal, on every other view, and by how far scores move between them.

Protocol. The test objects of a task are those present in nominal; on another view, those present there too. Intervals
come from resampling test *events* (Poisson weights by a key of the event alone), so all methods, seeds and views see
the same resamplings and differences between them are paired. Weights are flat (as generated) or physical (the stored
weight, which undoes the flattening of the spectrum).

A held-out set has other events: it is compared with all of nominal, and both are resampled, each by its own events.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from resim.errors import UserError
from training import metrics
from training.config import Config, Task
from training.data.fetch import Index, Source, Store
from training.data.loader import in_order
from training.data.plan import Rows
from training.encoders import Encoder
from training.figures import Scored, quality, shift
from training.fit import History
from training.heldout import HeldOutSet
from training.keys import uniform_by_id
from training.lanes import Normalisation
from training.provenance import provenance
from training.results import Cosine, EvaluationResult, Replicated, RocCurve, ViewFigures, Weighting
from training.tasks import labels_of

_ROC_GRID = np.round(np.linspace(0.01, 1, 100), 2)
_DIGITS = 6  # kept of a replicate
_EMBED_BATCH = 512


@dataclass(frozen=True, order=True)
class Contender:
    """One thing that is judged: what was learned for a task from a share of the labels, by one head."""

    task: str
    head: str
    fraction: float


@dataclass(frozen=True)
class Outputs:
    """What a trained method says of the test rows; entries of absent objects, and of other tasks', are arbitrary."""

    scores: dict[Contender, dict[str, NDArray[np.float64]]] = field(default_factory=dict)
    """-> view or held-out set -> (n,) or (n, K)."""
    features: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """View or held-out set -> (n, D) encoder outputs."""
    n_labels: dict[Contender, int] = field(default_factory=dict)
    """Labels that were seen."""


def test_rows(store: Store) -> Rows:
    """Give the rows on which everything is judged.

    Raises
    ------
    UserError
        If a sample has fewer than two of them.
    """
    rows = store.index.rows("test", ["nominal"])
    for name, places, _ in store.index.by_sample(rows):
        if len(places) < 2:
            raise UserError(
                f"sample {name!r} has {len(places)} test objects in nominal, at least 2 needed; simulate more"
            )
    return rows


def embed(encoder: Encoder, normalisation: Normalisation, source: Source, view: str, rows: Rows) -> NDArray[np.float32]:
    """Run the encoder over rows of a view, where its weights are (see `training.fit.place`): (n, D), on the CPU."""
    device = next(encoder.parameters()).device
    features = np.empty((len(rows), encoder.width), dtype=np.float32)
    with torch.inference_mode():
        for places, jets in in_order(source, view, rows, normalisation, _EMBED_BATCH):
            features[places] = encoder(jets.values.to(device), jets.present.to(device)).cpu().numpy()
    return features


def embed_all(
    encoder: Encoder,
    normalisation: Normalisation,
    store: Store,
    held_out: Sequence[HeldOutSet],
    task: Task | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Run the encoder over the test rows of every view that has a test split, and over the held-out sets.

    With a task, only its own objects are run; the others' outputs are zeros.
    """
    rows = test_rows(store)
    wanted = np.ones(len(rows), dtype=bool) if task is None else labels_of(store, task).member[rows]
    views = [view for view in store.views if "test" in store.splits_of(view)]
    features = {}
    for view in tqdm(views, desc="embed", unit="view", disable=None):
        features[view] = np.zeros((len(rows), encoder.width), dtype=np.float32)
        features[view][wanted] = embed(encoder, normalisation, store, view, rows[wanted])
    for each in held_out:
        pieces = [embed(encoder, normalisation, one.store, "nominal", one.rows) for one in each.stand_ins]
        features[each.name] = np.concatenate([features["nominal"][each.kept], *pieces])
    return features


def losses_of(history: History) -> dict[str, Any]:
    """Give what a result tells of how a training went."""
    return {"loss": history.loss, "validation_loss": history.validation_loss, "probe": history.probe}


def bootstrap_weights(index: Index, rows: Rows, count: int, seed: int) -> NDArray[np.float64]:
    """Give weights (1 + count, n): ones, then how often each row's event occurs in each resampling."""
    poisson = np.cumsum([math.exp(-1) / math.factorial(k) for k in range(12)])  # P(12 or more) is 1e-9
    weights = np.ones((1 + count, len(rows)))
    for name, places, members in index.by_sample(rows):
        events, inverse = np.unique(index.event[members], return_inverse=True)
        uniforms = uniform_by_id(events, count, seed, "bootstrap", name)
        weights[1:, places] = np.searchsorted(poisson, uniforms, side="right")[inverse].T
    return weights


def evaluation(
    store: Store,
    config: Config,
    outputs: Outputs,
    trained: Mapping[str, Any],
    held_out: Sequence[HeldOutSet] = (),
) -> EvaluationResult:
    """Compute all figures of one training.

    Parameters
    ----------
    outputs
        Of the method on `test_rows(store)` and on the held-out sets.
    trained
        `method`, `seed_index`, `cost`, `loss`, `validation_loss` and `probe` of the result.
    """
    tested = _Tested.of(store, config, held_out)
    judges = {name: _Judge(tested, store, task, held_out) for name, task in config.training.tasks.items()}
    main, first = _headline(outputs)
    return EvaluationResult(
        provenance=provenance(config, store, trained["method"], held_out),
        rows=[
            judges[of.task].figures(of, view, scores, weighting, outputs.n_labels[of])
            for of, scores in outputs.scores.items()
            for view in judges[of.task].known
            for weighting in ("flat", "physical")
        ],
        roc=judges[main].curves(first) if len(config.training.main_task.members) == 2 else [],
        cosine={
            view: tested.cosine(view, outputs.features, judges[main].known["nominal"][0])
            for view in outputs.features
            if view != "nominal" and view in store.views
        },
        **trained,
    )


def _headline(outputs: Outputs) -> tuple[str, dict[str, NDArray[np.float64]]]:
    """Give the main task and what its first head says with most labels."""
    main = next(iter(outputs.scores))
    mine = [of for of in outputs.scores if (of.task, of.head) == (main.task, main.head)]
    return main.task, outputs.scores[max(mine, key=lambda of: of.fraction)]


@dataclass(frozen=True)
class _Objects:
    """The objects of a view or a held-out set."""

    physical: NDArray[np.float64]
    """(n,) undoes the flattening of the spectrum."""
    resampled: NDArray[np.float64]
    """(W, n), see `bootstrap_weights`."""

    @classmethod
    def of(cls, index: Index, rows: Rows, config: Config) -> "_Objects":
        resampled = bootstrap_weights(index, rows, config.evaluation.bootstrap, config.training.seed)
        return cls(index.weight[rows], resampled)

    @classmethod
    def joined(cls, nominal: "_Objects", kept: NDArray[np.int64], others: Sequence["_Objects"]) -> "_Objects":
        physical = np.concatenate([nominal.physical[kept], *(each.physical for each in others)])
        return cls(physical, np.concatenate([nominal.resampled[:, kept], *(o.resampled for o in others)], axis=1))

    def weight(self, weighting: Weighting) -> NDArray[np.float64]:
        return self.resampled * self.physical if weighting == "physical" else self.resampled


@dataclass(frozen=True)
class _Tested:
    """What all tasks are judged on."""

    rows: Rows
    objects: dict[str, _Objects]
    """View or held-out set ->; all views have the same, nominal's."""
    present: dict[str, NDArray[np.bool_]]
    """View -> (n,) of the test rows."""

    @classmethod
    def of(cls, store: Store, config: Config, held_out: Sequence[HeldOutSet]) -> "_Tested":
        rows = test_rows(store)
        nominal = _Objects.of(store.index, rows, config)
        objects = {view: nominal for view in store.views if "test" in store.splits_of(view)}
        for each in held_out:
            others = [_Objects.of(one.store.index, one.rows, config) for one in each.stand_ins]
            objects[each.name] = _Objects.joined(nominal, each.kept, others)
        return cls(rows, objects, {view: present[rows] for view, present in store.index.present.items()})

    def cosine(self, view: str, features: dict[str, NDArray[np.float32]], member: NDArray[np.bool_]) -> Cosine:
        """Compare encoder outputs of nominal and a view, of some of the objects."""
        here = self.present[view] & member
        positive, random = metrics.cosine_pairs(features["nominal"][here], features[view][here])
        return Cosine(positive=positive, random=random)


class _Judge:
    """Judges one task.

    Attributes
    ----------
    known
        View or held-out set -> which objects are the task's, and their labels. Sets that replace none of them are left
        out: they would be nominal again.
    """

    def __init__(self, tested: _Tested, store: Store, task: Task, held_out: Sequence[HeldOutSet]) -> None:
        self._tested, self._task = tested, task
        self.known: dict[str, tuple[NDArray[np.bool_], NDArray[np.float64]]] = {}
        for view in (view for view in tested.objects if view in tested.present):
            labels = labels_of(store, task, view=view)
            here, value = labels.member[tested.rows] & tested.present[view], labels.value[tested.rows]
            self.known[view] = here if view == "nominal" else here & self.known["nominal"][0], value
        member, value = self.known["nominal"]
        for each in held_out:
            others = [labels_of(one.store, task, {one.sample: one.replaced}) for one in each.stand_ins]
            theirs = [(o.member[one.rows], o.value[one.rows]) for o, one in zip(others, each.stand_ins, strict=True)]
            if any(here.any() for here, _ in theirs):
                pieces = [(member[each.kept], value[each.kept]), *theirs]
                members, values = zip(*pieces, strict=True)
                self.known[each.name] = np.concatenate(members), np.concatenate(values)
        for name in self.known:
            self._check(name)

    def _check(self, name: str) -> None:
        """Refuse to judge on a view or set that lacks what there is to judge."""
        chosen, label = self.known[name]
        for what, count in self._count(label[chosen]).items():
            if count < 2:
                why = f"{name!r} has {count} test objects of {what!r}, at least 2 needed"
                raise UserError(f"training.tasks: {why}; simulate more events, or leave the task or the view out")

    def figures(
        self,
        of: Contender,
        name: str,
        scores: dict[str, NDArray[np.float64]],
        weighting: Weighting,
        n_labels: int,
    ) -> ViewFigures:
        """Compute the figures of one contender on one view or held-out set."""
        after = self._scored(name, scores[name], weighting)
        # a view is compared on the objects that it has; a held-out set, which has others, with all of nominal
        same = name if name in self._tested.present else "nominal"
        before = self._scored(same, scores["nominal"], weighting)
        figures = quality(self._task, after) | ({} if name == "nominal" else shift(self._task, before, after))
        return ViewFigures(
            task=of.task,
            head=of.head,
            label_fraction=of.fraction,
            n_labels=n_labels,
            view=name,
            weighting=weighting,
            objects=self._count(after.label),
            effective_background=after.effective_background if len(self._task.members) == 2 else None,
            figures={name: _replicated(values) for name, values in figures.items()},
        )

    def _count(self, label: NDArray[np.float64]) -> dict[str, int]:
        if self._task.target is not None:
            return {"all": len(label)}
        return {name: int(np.sum(label == number)) for number, name in enumerate(self._task.names)}

    def _scored(self, name: str, score: NDArray[np.float64], weighting: Weighting) -> Scored:
        chosen, label = self.known[name]
        found = Scored(score, label, self._tested.objects[name].weight(weighting)).take(chosen)
        classes = [found.label == number for number in range(len(self._task.members))]
        return replace(found, weight=_none_empty(found.weight, classes or [np.ones(len(found.label), dtype=bool)]))

    def curves(self, scores: dict[str, NDArray[np.float64]]) -> list[RocCurve]:
        """Compute the ROC curve on every view and held-out set."""
        return [self._curve(name, scores[name]) for name in self.known]

    def _curve(self, name: str, score: NDArray[np.float64]) -> RocCurve:
        here = self._scored(name, score, "flat")
        curve = metrics.roc(here.score, here.label, here.weight[:1])
        background = np.interp(_ROC_GRID, curve.signal[0], curve.background[0])
        return RocCurve(
            view=name, signal_efficiency=_ROC_GRID.tolist(), background_efficiency=background.round(_DIGITS).tolist()
        )


def _none_empty(weight_Wn: NDArray[np.float64], classes: Sequence[NDArray[np.bool_]]) -> NDArray[np.float64]:
    """Take a class as it is in resamplings that leave none of it, as happens to a handful of objects."""
    filled = weight_Wn.copy()
    for members in classes:
        empty = np.flatnonzero(weight_Wn[:, members].sum(axis=1) == 0)
        filled[np.ix_(empty, np.flatnonzero(members))] = weight_Wn[0, members]
    return filled


def _replicated(values: NDArray[np.float64]) -> Replicated:
    first, *others = (float(f"{value:.{_DIGITS}g}") for value in values)
    return Replicated(value=first, replicates=others)
