"""Supervised training from scratch on the nominal view: what labels alone achieve, without views or augmentations."""

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from training.config import Config
from training.data.features import Normalisation
from training.data.fetch import Store
from training.data.loader import Batch, Loader
from training.data.plan import Rows
from training.encoders import make_encoder
from training.encoders.transformer import head
from training.evaluate import Outputs, embed_views, evaluation, losses_of
from training.fit import History, be_deterministic, fit
from training.keys import torch_generator
from training.labels import labelled_rows
from training.meter import Clock, Meter
from training.pretrain import check_seed_index, cost_of, normalisation_of, source_of, validation_batches
from training.results import EvaluationResult

METHOD = "supervised"


class Classifier(nn.Module):
    """An encoder of the same kind as the contrastive methods', and a perceptron that gives one logit a jet."""

    def __init__(self, config: Config, normalisation: Normalisation, seed_index: int) -> None:
        super().__init__()
        key = (config.training.seed, METHOD, seed_index)
        self.encoder = make_encoder(config.training.encoder, normalisation, torch_generator(*key, "encoder"))
        self.head = head(self.encoder.width, 1, torch_generator(*key, "head"))

    def forward(self, values_BPI: Tensor, present_BP: Tensor) -> Tensor:
        """Give logits, (B,)."""
        return self.head(self.encoder(values_BPI, present_BP))[:, 0]

    def logits(self, features_nD: NDArray[np.float32]) -> NDArray[np.float64]:
        """Give the logits of encoder outputs, (n,)."""
        with torch.inference_mode():
            return self.head(torch.from_numpy(features_nD))[:, 0].double().numpy()


def evaluate_supervised(store: Store, config: Config, seed_index: int) -> EvaluationResult:
    """Train at each label fraction and judge on every view; cost, loss and similarities are of the largest fraction."""
    check_seed_index(config.training, seed_index)
    be_deterministic(config.training.threads)
    normalisation = normalisation_of(store)
    outputs, n_labels, about = Outputs({}, {}), {}, {}
    for fraction in sorted(config.evaluation.label_fractions):
        clock, meter = Clock(), Meter()
        rows = labelled_rows(store.index, fraction, config.training.seed, seed_index)
        judged = fraction == max(config.evaluation.label_fractions)  # few labels make many epochs: it would be dear
        classifier, history = train(store, config, seed_index, rows, normalisation, meter, judged=judged)
        about = {"cost": cost_of(clock, meter, history)} | losses_of(history)
        features = embed_views(classifier.encoder, normalisation, store)
        outputs.features.update(features)
        outputs.logits[fraction] = {view: classifier.logits(values) for view, values in features.items()}
        n_labels[fraction] = len(rows)
    return evaluation(store, config, outputs, n_labels, {"method": METHOD, "seed_index": seed_index, **about})


def train(
    store: Store,
    config: Config,
    seed_index: int,
    rows: Rows,
    normalisation: Normalisation,
    meter: Meter,
    *,
    judged: bool,
) -> tuple[Classifier, History]:
    """Train a classifier on the labels of some rows; few labels are seen more often, for the same number of steps.

    `judged` asks for the loss on the validation split after each epoch.
    """
    settings = config.training
    classifier = Classifier(config, normalisation, seed_index)
    loader = Loader(
        source=source_of(store, ("nominal",), rows, settings, meter),
        index=store.index,
        rows=rows,
        views=("nominal",),
        normalisation=normalisation,
        config=settings.loader,
        batch=settings.supervised.batch,
        key=(settings.seed, METHOD, seed_index),
        meter=meter,
    )
    epochs = -(-settings.supervised.steps // loader.steps(1))
    steps, title = loader.steps(epochs), f"{METHOD} seed {seed_index}, {len(rows)} labels"
    batches, loss = loader.batches(range(epochs)), partial(_loss, classifier)
    validation = validation_batches(loader, store) if judged else []
    return classifier, fit(classifier, batches, loss, settings.optimiser, steps, title, validation)


def _loss(classifier: Classifier, batch: Batch) -> Tensor:
    (jets,) = batch.views
    return functional.binary_cross_entropy_with_logits(classifier(jets.values, jets.present), batch.labels)
