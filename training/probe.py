"""The linear probe: logistic regression on the frozen outputs of an encoder, in nominal."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from training.config import Config
from training.data.fetch import Store
from training.evaluate import Outputs, embed, embed_all, evaluation, losses_of
from training.fit import be_deterministic
from training.heldout import HeldOutSet
from training.labels import labelled_rows
from training.meter import Clock
from training.pretrain import Trained, check_origin, load_trained
from training.results import EvaluationResult


def evaluate_encoder(
    store: Store, config: Config, trained: Trained, held_out: Sequence[HeldOutSet] = ()
) -> EvaluationResult:
    """Fit a probe at each label fraction and judge it on every view and set; its cost is that of the largest."""
    index, settings = store.index, config.training
    be_deterministic(settings.threads)
    train, clock = index.rows("train", ["nominal"]), Clock()
    known = embed(trained.encoder, trained.normalisation, store, "nominal", train)
    embedding_cpu_s, probe_cpu_s = clock.cpu_s(), 0.0
    features = embed_all(trained.encoder, trained.normalisation, store, held_out)
    logits, n_labels = {}, {}
    for fraction in sorted(config.evaluation.label_fractions):
        rows, clock = labelled_rows(index, fraction, settings.seed, trained.seed_index), Clock()
        probe = fit_probe(known[np.searchsorted(train, rows)], index.label[rows], config.evaluation.probe_c)
        probe_cpu_s = embedding_cpu_s + clock.cpu_s()
        logits[fraction] = {view: probe.decision_function(values) for view, values in features.items()}
        n_labels[fraction] = len(rows)
    about = {"method": trained.method, "seed_index": trained.seed_index} | losses_of(trained.history)
    cost = {"cost": trained.cost | {"probe_cpu_s": probe_cpu_s}}
    return evaluation(store, config, Outputs(logits, features), n_labels, about | cost, held_out)


def load_for(path: Path, config: Config, store: Store, method: str, seed_index: int) -> Trained:
    """Load an encoder and check that it is the one that is meant.

    Raises
    ------
    UserError
        If it is of another method or seed, or was trained with another config or on other data.
    """
    trained, content = load_trained(path)
    check_origin(path, content, config, store, method, seed_index)
    return trained


def fit_probe(features: NDArray[np.float32], labels: NDArray[np.int64], c: float) -> Pipeline:
    """Standardise, then fit a logistic regression with L2 penalty 1 / c; both classes weigh the same."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=c, class_weight="balanced", max_iter=1000))
    return probe.fit(features.astype(np.float64), labels)
