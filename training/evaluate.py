"""Judge a classifier on the test split: on nominal, on every other view, and by how far its score moves between them.

Protocol. The test objects are those present in nominal; on another view, those present there too. Intervals come from
resampling test *events* (Poisson weights by a key of the event alone), so all methods, seeds and views see the same
resamplings and differences between them are paired. Weights are flat (as generated) or physical (the stored weight,
which undoes the flattening of the spectrum).
"""

import math
from collections.abc import Mapping
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
    """Label fraction -> view -> (n,)."""
    features: dict[str, NDArray[np.float32]]
    """View -> (n, D) encoder outputs."""


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


def embed_views(encoder: Encoder, normalisation: Normalisation, store: Store) -> dict[str, NDArray[np.float32]]:
    """Run the encoder over the test rows of every view that has a test split."""
    rows = test_rows(store)
    views = [view for view in store.views if "test" in store.splits_of(view)]
    bar = tqdm(views, desc="embed", unit="view", disable=None)
    return {view: embed(encoder, normalisation, store, view, rows) for view in bar}


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
    store: Store, config: Config, outputs: Outputs, n_labels: Mapping[float, int], trained: Mapping[str, Any]
) -> EvaluationResult:
    """Compute all figures of one training.

    Parameters
    ----------
    outputs
        Of the method on `test_rows(store)`.
    n_labels
        Labels used at each fraction.
    trained
        `method`, `seed_index`, `cost`, `loss` and `validation_loss` of the result.
    """
    rows = test_rows(store)
    weights = bootstrap_weights(store.index, rows, config.evaluation.bootstrap, config.training.seed)
    judge = _Judge(store.index, rows, weights)
    largest = max(outputs.logits)
    return EvaluationResult(
        provenance=provenance(config, store, trained["method"]),
        n_labels={str(fraction): n for fraction, n in n_labels.items()},
        rows=[
            judge.figures(fraction, view, logits, weighting)
            for fraction, logits in outputs.logits.items()
            for view in logits
            for weighting in ("flat", "physical")
        ],
        roc=[judge.curve(view, logit) for view, logit in outputs.logits[largest].items()],
        cosine={view: judge.cosine(view, outputs.features) for view in outputs.features if view != "nominal"},
        **trained,
    )


@dataclass(frozen=True)
class _Judge:
    index: Index
    rows: Rows
    weights: NDArray[np.float64]

    def figures(
        self, fraction: float, view: str, logits: dict[str, NDArray[np.float64]], weighting: Weighting
    ) -> ViewFigures:
        """Compute the figures of one classifier on one view."""
        here = self._here(view)
        label, weight = self.index.label[self.rows[here]], self.weights[:, here]
        if weighting == "physical":
            weight = weight * self.index.weight[self.rows[here]]
        n_background = int(np.sum(label == 0))
        effective = metrics.effective_number(weight[0, label == 0])
        figures = quality(logits[view][here], label, weight, effective)
        if view != "nominal":
            figures |= shift(logits["nominal"][here], logits[view][here], label, weight)
        return ViewFigures(
            label_fraction=fraction,
            view=view,
            weighting=weighting,
            n_signal=int(np.sum(label == 1)),
            n_background=n_background,
            effective_background=effective,
            figures={name: _replicated(values) for name, values in figures.items()},
        )

    def curve(self, view: str, logit: NDArray[np.float64]) -> RocCurve:
        """Compute the ROC curve on a view."""
        here = self._here(view)
        curve = metrics.roc(logit[here], self.index.label[self.rows[here]], self.weights[:1, here])
        background = np.interp(_ROC_GRID, curve.signal[0], curve.background[0])
        return RocCurve(
            view=view, signal_efficiency=_ROC_GRID.tolist(), background_efficiency=background.round(_DIGITS).tolist()
        )

    def cosine(self, view: str, features: dict[str, NDArray[np.float32]]) -> Cosine:
        """Compare encoder outputs of nominal and a view."""
        here = self._here(view)
        positive, random = metrics.cosine_pairs(features["nominal"][here], features[view][here])
        return Cosine(positive=positive, random=random)

    def _here(self, view: str) -> NDArray[np.bool_]:
        return self.index.present[view][self.rows]


def quality(
    logit: NDArray[np.float64], label: NDArray[np.int64], weight: NDArray[np.float64], effective: float
) -> dict[str, NDArray[np.float64]]:
    """Compute AUC and background rejections, (W,) each; `effective` is how many background objects there are."""
    curve = metrics.roc(logit, label, weight)
    rejections = {
        f"rejection_{efficiency:.0%}".rstrip("%"): metrics.rejection(curve.background_at(efficiency), effective)
        for efficiency in EFFICIENCIES
    }
    return {"auc": curve.auc(), **rejections}


def shift(
    nominal: NDArray[np.float64], logit: NDArray[np.float64], label: NDArray[np.int64], weight: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Compute how far scores move from nominal to a view, (W,) each.

    Efficiencies are taken above the threshold that keeps half of the signal in nominal; distances are between
    probabilities.
    """
    threshold = metrics.roc(nominal, label, weight).threshold_at(EFFICIENCIES[0])
    figures = {}
    for name, chosen in (("background", label == 0), ("signal", label == 1)):
        before, after, w = nominal[chosen], logit[chosen], weight[:, chosen]
        change = metrics.efficiency_above(after, threshold, w) - metrics.efficiency_above(before, threshold, w)
        figures[f"{name}_efficiency_change"] = change
        figures[f"wasserstein_{name}"] = metrics.wasserstein(metrics.probability(before), metrics.probability(after), w)
    return figures


def _replicated(values: NDArray[np.float64]) -> Replicated:
    first, *others = (float(f"{value:.{_DIGITS}g}") for value in values)
    return Replicated(value=first, replicates=others)
