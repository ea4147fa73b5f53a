"""Judge a classifier on the test split: on nominal, on every other view, and by how far its score moves between them.

Protocol. The test objects are those present in nominal; on another view, those present there too. Intervals come from
resampling test *events* (Poisson weights by a key of the event alone), so all methods, seeds and views see the same
resamplings and differences between them are paired. Weights are flat (as generated) or physical (the stored weight,
which undoes the flattening of the spectrum).

A held-out set has other events: it is compared with all of nominal, and both are resampled, each by its own events.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from resim.errors import UserError
from training import metrics
from training.config import Config
from training.data.features import Normalisation
from training.data.fetch import Index, Source, Store
from training.data.loader import in_order
from training.data.plan import Rows
from training.encoders import Encoder
from training.fit import History
from training.heldout import HeldOutSet
from training.keys import uniform_by_id
from training.provenance import provenance
from training.results import Cosine, EvaluationResult, Replicated, RocCurve, ViewFigures, Weighting

EFFICIENCIES = (0.5, 0.7)  # of the signal, at which background rejection is quoted
_ROC_GRID = np.round(np.linspace(0.01, 1, 100), 2)
_DIGITS = 6  # kept of a replicate
_EMBED_BATCH = 512


@dataclass(frozen=True)
class Outputs:
    """What a trained method says of the test rows; entries of absent objects are arbitrary."""

    logits: dict[float, dict[str, NDArray[np.float64]]]
    """Label fraction -> view or held-out set -> (n,)."""
    features: dict[str, NDArray[np.float32]]
    """View or held-out set -> (n, D) encoder outputs."""


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
    """Run the encoder over rows of a view: (n, D)."""
    features = np.empty((len(rows), encoder.width), dtype=np.float32)
    with torch.inference_mode():
        for places, jets in in_order(source, view, rows, normalisation, _EMBED_BATCH):
            features[places] = encoder(jets.values, jets.present).numpy()
    return features


def embed_all(
    encoder: Encoder, normalisation: Normalisation, store: Store, held_out: Sequence[HeldOutSet]
) -> dict[str, NDArray[np.float32]]:
    """Run the encoder over the test rows of every view that has a test split, and over the held-out sets."""
    rows = test_rows(store)
    views = [view for view in store.views if "test" in store.splits_of(view)]
    bar = tqdm(views, desc="embed", unit="view", disable=None)
    features = {view: embed(encoder, normalisation, store, view, rows) for view in bar}
    for each in held_out:
        pieces = [embed(encoder, normalisation, one.store, "nominal", one.rows) for one in each.stand_ins]
        features[each.name] = np.concatenate([features["nominal"][each.kept], *pieces])
    return features


def losses_of(history: History) -> dict[str, list[float]]:
    """Give what a result tells of a training's losses."""
    return {"loss": history.loss, "validation_loss": history.validation_loss}


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
    n_labels: Mapping[float, int],
    trained: Mapping[str, Any],
    held_out: Sequence[HeldOutSet] = (),
) -> EvaluationResult:
    """Compute all figures of one training.

    Parameters
    ----------
    outputs
        Of the method on `test_rows(store)` and on the held-out sets.
    n_labels
        Labels used at each fraction.
    trained
        `method`, `seed_index`, `cost`, `loss` and `validation_loss` of the result.
    """
    judge = _Judge.of(store, config, held_out)
    largest = max(outputs.logits)
    return EvaluationResult(
        provenance=provenance(config, store, trained["method"], held_out),
        n_labels={str(fraction): n for fraction, n in n_labels.items()},
        rows=[
            judge.figures(fraction, name, logits, weighting)
            for fraction, logits in outputs.logits.items()
            for name in logits
            for weighting in ("flat", "physical")
        ],
        roc=[judge.curve(name, logit) for name, logit in outputs.logits[largest].items()],
        cosine={
            view: judge.cosine(view, outputs.features)
            for view in outputs.features
            if view != "nominal" and view in store.views
        },
        **trained,
    )


@dataclass(frozen=True)
class Scored:
    """Objects with the scores of a classifier."""

    logit: NDArray[np.float64]
    """(n,)."""
    label: NDArray[np.int64]
    """(n,)."""
    weight: NDArray[np.float64]
    """(W, n), the first without resampling."""

    def of(self, label: int) -> "Scored":
        """Give the objects of one class."""
        return self.take(self.label == label)

    def take(self, chosen: NDArray[np.bool_]) -> "Scored":
        """Give some of the objects."""
        return Scored(self.logit[chosen], self.label[chosen], self.weight[:, chosen])

    @property
    def effective_background(self) -> float:
        """How many background objects of equal weight would settle as much."""
        return metrics.effective_number(self.of(0).weight[0])


@dataclass(frozen=True)
class _Objects:
    """The objects that something is judged on."""

    label: NDArray[np.int64]
    """(n,)."""
    physical: NDArray[np.float64]
    """(n,) undoes the flattening of the spectrum."""
    resampled: NDArray[np.float64]
    """(W, n), see `bootstrap_weights`."""

    @classmethod
    def of(cls, index: Index, rows: Rows, label: NDArray[np.int64], config: Config) -> "_Objects":
        resampled = bootstrap_weights(index, rows, config.evaluation.bootstrap, config.training.seed)
        return cls(label, index.weight[rows], resampled)

    def take(self, places: NDArray[np.int64]) -> "_Objects":
        return _Objects(self.label[places], self.physical[places], self.resampled[:, places])

    @classmethod
    def joined(cls, pieces: Sequence["_Objects"]) -> "_Objects":
        label, physical = (np.concatenate([getattr(p, name) for p in pieces]) for name in ("label", "physical"))
        return cls(label, physical, np.concatenate([piece.resampled for piece in pieces], axis=1))

    def scored(self, logit: NDArray[np.float64], weighting: Weighting) -> Scored:
        weight = self.resampled * self.physical if weighting == "physical" else self.resampled
        return Scored(logit, self.label, weight)


@dataclass(frozen=True)
class _Judge:
    nominal: _Objects
    present: dict[str, NDArray[np.bool_]]
    """View -> (n,) of the test rows."""
    held_out: dict[str, _Objects]

    @classmethod
    def of(cls, store: Store, config: Config, held_out: Sequence[HeldOutSet]) -> "_Judge":
        index, rows = store.index, test_rows(store)
        nominal = _Objects.of(index, rows, index.label[rows], config)
        sets = {
            each.name: _Objects.joined(
                [
                    nominal.take(each.kept),
                    *(
                        _Objects.of(o.store.index, o.rows, np.full(len(o.rows), o.label), config)
                        for o in each.stand_ins
                    ),
                ]
            )
            for each in held_out
        }
        return cls(nominal, {view: present[rows] for view, present in index.present.items()}, sets)

    def figures(
        self, fraction: float, name: str, logits: dict[str, NDArray[np.float64]], weighting: Weighting
    ) -> ViewFigures:
        """Compute the figures of one classifier on one view or held-out set."""
        after = self._scored(name, logits[name], weighting)
        # a view is compared on the objects that it has; a held-out set, which has others, with all of nominal
        same = name if name in self.present else "nominal"
        before = self._scored(same, logits["nominal"], weighting)
        figures = quality(after) | ({} if name == "nominal" else shift(before, after))
        return ViewFigures(
            label_fraction=fraction,
            view=name,
            weighting=weighting,
            n_signal=int(np.sum(after.label == 1)),
            n_background=int(np.sum(after.label == 0)),
            effective_background=after.effective_background,
            figures={name: _replicated(values) for name, values in figures.items()},
        )

    def _scored(self, name: str, logit: NDArray[np.float64], weighting: Weighting) -> Scored:
        if name in self.held_out:
            return self.held_out[name].scored(logit, weighting)
        return self.nominal.scored(logit, weighting).take(self.present[name])

    def curve(self, name: str, logit: NDArray[np.float64]) -> RocCurve:
        """Compute the ROC curve on a view or held-out set."""
        here = self._scored(name, logit, "flat")
        curve = metrics.roc(here.logit, here.label, here.weight[:1])
        background = np.interp(_ROC_GRID, curve.signal[0], curve.background[0])
        return RocCurve(
            view=name, signal_efficiency=_ROC_GRID.tolist(), background_efficiency=background.round(_DIGITS).tolist()
        )

    def cosine(self, view: str, features: dict[str, NDArray[np.float32]]) -> Cosine:
        """Compare encoder outputs of nominal and a view."""
        here = self.present[view]
        positive, random = metrics.cosine_pairs(features["nominal"][here], features[view][here])
        return Cosine(positive=positive, random=random)


def quality(scored: Scored) -> dict[str, NDArray[np.float64]]:
    """Compute AUC and background rejections, (W,) each."""
    curve = metrics.roc(scored.logit, scored.label, scored.weight)
    effective = scored.effective_background
    rejections = {
        f"rejection_{efficiency:.0%}".rstrip("%"): metrics.rejection(curve.background_at(efficiency), effective)
        for efficiency in EFFICIENCIES
    }
    return {"auc": curve.auc(), **rejections}


def shift(nominal: Scored, other: Scored) -> dict[str, NDArray[np.float64]]:
    """Compute how far scores move from nominal to a view or a held-out set, (W,) each.

    Efficiencies are taken above the threshold that keeps half of the signal in nominal; distances are between
    probabilities.
    """
    threshold = metrics.roc(nominal.logit, nominal.label, nominal.weight).threshold_at(EFFICIENCIES[0])
    figures = {}
    for name, label in (("background", 0), ("signal", 1)):
        pair = nominal.of(label), other.of(label)
        before, after = (metrics.efficiency_above(each.logit, threshold, each.weight) for each in pair)
        figures[f"{name}_efficiency_change"] = after - before
        scores, weights = [metrics.probability(each.logit) for each in pair], [each.weight for each in pair]
        figures[f"wasserstein_{name}"] = metrics.wasserstein(*scores, *weights)
    return figures


def _replicated(values: NDArray[np.float64]) -> Replicated:
    first, *others = (float(f"{value:.{_DIGITS}g}") for value in values)
    return Replicated(value=first, replicates=others)
