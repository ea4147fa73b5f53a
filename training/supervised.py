"""Supervised training from scratch on the nominal view: what labels alone achieve, without views or augmentations."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from resim.errors import UserError
from training.config import Config
from training.data.features import INPUTS, Normalisation
from training.data.fetch import Store
from training.data.loader import Batch, Loader
from training.data.plan import Rows
from training.encoders import make_encoder
from training.encoders.transformer import head
from training.evaluate import Outputs, embed_all, evaluation, losses_of
from training.files import load_checkpoint, save_checkpoint
from training.fit import History, Run, be_deterministic, fit
from training.heldout import HeldOutSet
from training.keys import torch_generator
from training.labels import labelled_rows
from training.losses.ranks import gathered
from training.pretrain import check_origin, check_seed_index, cost_of, normalisation_of, source_of, validation_loader
from training.provenance import made_before, origin_of, provenance, record, record_cost
from training.results import EvaluationResult

METHOD = "supervised"
FORMAT, VERSION = "resim-classifiers", 1


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


@dataclass(frozen=True)
class Supervised:
    """A classifier for each label fraction; cost and losses are those of the largest."""

    classifiers: dict[float, Classifier]
    n_labels: dict[float, int]
    normalisation: Normalisation
    seed_index: int
    cost: dict[str, float]
    history: History


def train_supervised(store: Store, config: Config, seed_index: int, folder: Path | None = None) -> Supervised:
    """Train at each label fraction.

    With a folder, it goes on from the states that a killed run left there, and leaves its metrics and `run.json`.
    """
    check_seed_index(config.training, seed_index)
    be_deterministic(config.training.threads)
    normalisation, fractions = normalisation_of(store), sorted(config.evaluation.label_fractions)
    classifiers, n_labels = {}, {}
    record(folder, config, store, METHOD, seed_index)
    for fraction, run in zip(fractions, runs(store, config, seed_index, folder), strict=True):
        rows = labelled_rows(store.index, fraction, config.training.seed, seed_index)
        judged = fraction == fractions[-1]  # few labels make many epochs: it would be dear
        classifiers[fraction], history = train(store, config, seed_index, rows, normalisation, run, judged=judged)
        n_labels[fraction] = len(rows)
    cost = cost_of(run, history)
    record_cost(folder, cost)
    return Supervised(classifiers, n_labels, normalisation, seed_index, cost, history)


def runs(store: Store, config: Config, seed_index: int, folder: Path | None) -> Iterator[Run]:
    """Give the run of each label fraction, from the smallest; its clock starts when it is asked for."""
    origin = origin_of(config, store, METHOD, seed_index)
    for fraction in sorted(config.evaluation.label_fractions):
        yield Run.begin(folder and folder / f"labels-{fraction:g}", origin | {"label_fraction": fraction})


def evaluate_supervised(
    store: Store, config: Config, trained: Supervised, held_out: Sequence[HeldOutSet] = ()
) -> EvaluationResult:
    """Judge the classifiers on every view and held-out set; similarities are of the largest fraction."""
    be_deterministic(config.training.threads)
    outputs = Outputs({}, {})
    for fraction, classifier in trained.classifiers.items():
        features = embed_all(classifier.encoder, trained.normalisation, store, held_out)
        outputs.features.update(features)
        outputs.logits[fraction] = {name: classifier.logits(values) for name, values in features.items()}
    about = {"method": METHOD, "seed_index": trained.seed_index, "cost": trained.cost} | losses_of(trained.history)
    return evaluation(store, config, outputs, trained.n_labels, about, held_out)


def save(path: Path, trained: Supervised, config: Config, store: Store) -> None:
    """Write the classifiers as a checkpoint."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        "method": METHOD,
        "seed_index": trained.seed_index,
        "inputs": list(INPUTS),
        "mean": torch.from_numpy(trained.normalisation.mean),
        "width": torch.from_numpy(trained.normalisation.width),
        "classifiers": {fraction: c.state_dict() for fraction, c in trained.classifiers.items()},
        "n_labels": trained.n_labels,
        "history": asdict(trained.history),
        "cost": trained.cost,
        "provenance": provenance(config, store, METHOD).model_dump(mode="json"),
    }
    save_checkpoint(path, content)


def is_finished(path: Path, config: Config, store: Store, seed_index: int) -> bool:
    """Tell whether a file holds these very classifiers."""
    content = made_before(path, FORMAT, VERSION, origin_of(config, store, METHOD, seed_index))
    return content is not None and sorted(content["classifiers"]) == sorted(config.evaluation.label_fractions)


def load_for(path: Path, config: Config, store: Store, seed_index: int) -> Supervised:
    """Load classifiers and check that they are those that are meant.

    Raises
    ------
    UserError
        If they are of another seed, or were trained with another config, other label fractions or on other data.
    """
    content = load_checkpoint(path, FORMAT, VERSION)
    check_origin(path, content, config, store, METHOD, seed_index)
    if sorted(content["classifiers"]) != sorted(config.evaluation.label_fractions):
        has = ", ".join(f"{fraction:g}" for fraction in content["classifiers"])
        raise UserError(f"{path}: was trained at the label fractions {has}; run `resim-train supervised` again")
    normalisation = Normalisation(content["mean"].numpy(), content["width"].numpy())
    classifiers = {}
    for fraction, weights in content["classifiers"].items():
        classifiers[fraction] = Classifier(config, normalisation, seed_index)
        classifiers[fraction].load_state_dict(weights)
        classifiers[fraction].eval()
    fields = {name: content[name] for name in ("n_labels", "seed_index", "cost")}
    return Supervised(classifiers, normalisation=normalisation, history=History(**content["history"]), **fields)


def train(
    store: Store,
    config: Config,
    seed_index: int,
    rows: Rows,
    normalisation: Normalisation,
    run: Run,
    *,
    judged: bool,
) -> tuple[Classifier, History]:
    """Train a classifier on the labels of some rows; few labels are seen more often, for the same number of steps.

    `judged` asks for the loss on the validation split after each epoch.
    """
    settings = config.training
    classifier = Classifier(config, normalisation, seed_index)
    loader = Loader(
        source=source_of(store, ("nominal",), rows, settings, run.meter),
        index=store.index,
        rows=rows,
        views=("nominal",),
        normalisation=normalisation,
        config=settings.loader,
        batch=settings.supervised.batch,
        key=(settings.seed, METHOD, seed_index),
        meter=run.meter,
    )
    epochs = -(-settings.supervised.steps // loader.steps(1))
    title = f"{METHOD} seed {seed_index}, {len(rows)} labels"
    validation = validation_loader(loader, store) if judged else None
    return classifier, fit(classifier, partial(_loss, classifier), loader, epochs, settings, title, run, validation)


def _loss(classifier: Classifier, batch: Batch) -> Tensor:
    """Give the loss of all ranks' rows; in single precision, whatever the network is computed in."""
    (jets,) = batch.views
    logits = jets.through(classifier).float()
    return functional.binary_cross_entropy_with_logits(gathered(logits), gathered(batch.labels))
