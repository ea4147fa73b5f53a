"""Supervised training from scratch: what labels achieve, by what the network is shown of a labelled object.

`supervised`            its nominal view
`supervised_generic`    its nominal view, augmented anew every epoch
`supervised_resim`      a view drawn anew every epoch
`supervised_both`       a view drawn anew, augmented
`dann`                  its nominal view; beside it objects without labels in all views, see `training.dann`
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Strict
from torch import Tensor, nn

from resim.errors import UserError
from training.config import Config, Task, TrainingConfig
from training.dann import Adversarial, domains_of
from training.data.fetch import Index, Store
from training.data.loader import Batch, Loader
from training.data.plan import Key, Rows
from training.encoders import make_encoder
from training.encoders.encoder import load_layers
from training.encoders.transformer import head
from training.evaluate import Contender, Outputs, embed_all, evaluation, losses_of
from training.files import Layout, load_checkpoint, save_checkpoint
from training.fit import History, Run, be_deterministic, fit, place
from training.heldout import HeldOutSet
from training.keys import torch_generator
from training.labels import labelled_rows
from training.lanes import Normalisation
from training.losses.ranks import gathered
from training.meter import Meter
from training.methods import KINDS, Kind
from training.pretrain import check_origin, check_seed_index, cost_of, normalisation_of, source_of, validation_loader
from training.provenance import Result, made_before, origin_of, provenance, record, record_cost
from training.results import OWN_HEAD, EvaluationResult
from training.tasks import Labels, check_tasks, labels_of, loss, n_outputs

FORMAT, VERSION = "resim-classifiers", 2


class _ClassifierFile(Layout):
    task: str
    fraction: float
    labels: int
    weights: dict[str, Tensor]


class ClassifiersFile(Result):
    """What `supervised` writes."""

    classifiers: list[Annotated[_ClassifierFile, Strict(False)]]


class Classifier(nn.Module):
    """An encoder of the same kind as the contrastive methods', and a perceptron that tells what a task asks.

    `centre` and `width` are a regression's, of the targets that it learned from; 0 and 1 where there are classes.
    """

    centre: Tensor
    width: Tensor

    def __init__(self, config: Config, task: Task, normalisation: Normalisation, seed_index: int) -> None:
        super().__init__()
        key = (config.training.seed, "supervised", seed_index)
        self.encoder = make_encoder(config.training.encoder, normalisation, torch_generator(*key, "encoder"))
        self.head = head(self.encoder.width, n_outputs(task), torch_generator(*key, "head"))
        self.register_buffer("centre", torch.zeros(()))
        self.register_buffer("width", torch.ones(()))

    def forward(self, values_BPI: Tensor, present_BP: Tensor) -> Tensor:
        """Give logits, or the target less its centre, over its width, (B, O)."""
        return self.head(self.encoder(values_BPI, present_BP))

    def scores(self, features_nD: NDArray[np.float32]) -> NDArray[np.float64]:
        """Give logits or targets from encoder outputs, (n,) or (n, K)."""
        with torch.inference_mode():
            told = self.head(torch.from_numpy(features_nD)).double() * self.width + self.centre
        return (told[:, 0] if told.shape[1] == 1 else told).numpy()


@dataclass(frozen=True)
class Supervised:
    """A classifier for each task and label fraction; cost and losses are those of the main task's largest."""

    classifiers: dict[Contender, Classifier]
    n_labels: dict[Contender, int]
    normalisation: Normalisation
    method: str
    seed_index: int
    cost: dict[str, float]
    history: History


def train_supervised(
    store: Store, config: Config, method: str, seed_index: int, folder: Path | None = None
) -> Supervised:
    """Train for each task at each label fraction.

    With a folder, it goes on from the states that a killed run left there, and leaves its metrics and `run.json`.

    Raises
    ------
    UserError
        If the method learns from pairs, or no labelled object of a class is in the views that it sees.
    """
    config = config.of(method)
    if not config.training.kind(method).labelled:
        raise UserError(f"--method {method!r} learns from pairs; train it with `resim-train pretrain`")
    check_seed_index(config.training, seed_index)
    check_tasks(store, config.training)
    _check_targets(store, config.training, method)
    be_deterministic(config.training.threads)
    normalisation, all_of = normalisation_of(store, config.training), contenders(config)
    classifiers, n_labels, costs, histories = {}, {}, {}, {}
    record(folder, config, store, method, seed_index)
    for of, run in zip(all_of, runs(store, config, method, seed_index, folder), strict=True):
        labels = labels_of(store, config.training.tasks[of.task])
        rows = labelled_rows(store.index, labels, of.fraction, config.training.seed, seed_index)
        rows = visible_rows(store.index, config.training, of, labels, rows)
        learner = Classifier(config, config.training.tasks[of.task], normalisation, seed_index)
        judged = of == all_of[0]  # few labels make many epochs: it would be dear
        histories[of] = train(learner, store, config, seed_index, of, rows, normalisation, run, judged=judged)
        classifiers[of], n_labels[of], costs[of] = learner, len(rows), cost_of(run, histories[of])
    record_cost(folder, costs[all_of[0]])
    main = costs[all_of[0]], histories[all_of[0]]
    return Supervised(classifiers, n_labels, normalisation, method, seed_index, *main)


def _check_targets(store: Store, config: TrainingConfig, method: str) -> None:
    """Refuse to learn one target of objects that are shown in all views, where each view has its own."""
    kind = config.kind(method)
    for name, task in config.tasks.items():
        if kind.resimulated and not kind.adversarial and task.target and task.target not in store.parts[0].objects():
            why = f"{task.target!r} differs from view to view, and {method!r} learns one target of all views"
            raise UserError(f"training.tasks.{name}: {why}; give it `tasks` without, or take a column of `objects`")


def contenders(config: Config) -> list[Contender]:
    """List what is trained: tasks in their order, most labels first."""
    fractions = sorted(config.evaluation.label_fractions, reverse=True)
    return [Contender(task, OWN_HEAD, fraction) for task in config.training.tasks for fraction in fractions]


def runs(store: Store, config: Config, method: str, seed_index: int, folder: Path | None) -> Iterator[Run]:
    """Give the run of each contender; its clock starts when it is asked for."""
    origin = origin_of(config, store, method, seed_index)
    for of in contenders(config):
        where = folder and folder / of.task / f"labels-{of.fraction:g}"
        yield Run.begin(where, origin | {"task": of.task, "label_fraction": of.fraction})


def evaluate_supervised(
    store: Store, config: Config, trained: Supervised, held_out: Sequence[HeldOutSet] = ()
) -> EvaluationResult:
    """Judge the classifiers on every view and held-out set; similarities are the main task's, with most labels."""
    be_deterministic(config.training.threads)
    outputs = Outputs(n_labels=trained.n_labels)
    for of, classifier in trained.classifiers.items():
        task = config.training.tasks[of.task]
        place(classifier.encoder, config.training.trainer)
        features = embed_all(classifier.encoder, trained.normalisation, store, held_out, task)
        outputs.scores[of] = {name: classifier.scores(values) for name, values in features.items()}
        if not outputs.features:
            outputs.features.update(features)
    about = {"method": trained.method, "seed_index": trained.seed_index, "cost": trained.cost}
    about |= losses_of(trained.history) | {"heads_cpu_s": {}, "pretraining_labels": 0}
    return evaluation(store, config, outputs, about, held_out)


def save(path: Path, trained: Supervised, config: Config, store: Store) -> None:
    """Write the classifiers as a checkpoint."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        "method": trained.method,
        "seed_index": trained.seed_index,
        "inputs": list(trained.normalisation.lane.inputs),
        "mean": torch.from_numpy(trained.normalisation.mean),
        "width": torch.from_numpy(trained.normalisation.width),
        "classifiers": [
            {"task": of.task, "fraction": of.fraction, "labels": trained.n_labels[of], "weights": c.state_dict()}
            for of, c in trained.classifiers.items()
        ],
        "history": asdict(trained.history),
        "cost": trained.cost,
        "provenance": provenance(config, store, trained.method).model_dump(mode="json"),
    }
    save_checkpoint(path, content)


def is_finished(path: Path, config: Config, store: Store, method: str, seed_index: int) -> bool:
    """Tell whether a file holds these very classifiers."""
    content = made_before(path, FORMAT, VERSION, ClassifiersFile, origin_of(config, store, method, seed_index))
    return content is not None and _contenders_in(content) == contenders(config)


def _contenders_in(content: Mapping[str, Any]) -> list[Contender]:
    return [Contender(each["task"], OWN_HEAD, each["fraction"]) for each in content["classifiers"]]


def load_for(path: Path, config: Config, store: Store, method: str, seed_index: int) -> Supervised:
    """Load classifiers and check that they are those that are meant.

    Raises
    ------
    UserError
        If they are of another method or seed, or were trained with another config, other label fractions or on other
        data.
    """
    config = config.of(method)
    content = load_checkpoint(path, FORMAT, VERSION, ClassifiersFile)
    check_origin(path, content, config, store, method, seed_index)
    if _contenders_in(content) != contenders(config):
        has = ", ".join(f"{fraction:g}" for fraction in sorted({of.fraction for of in _contenders_in(content)}))
        raise UserError(f"{path}: was trained at the label fractions {has}; run `resim-train supervised` again")
    normalisation = Normalisation(store.lane, content["mean"].numpy(), content["width"].numpy())
    classifiers, n_labels = {}, {}
    for of, each in zip(contenders(config), content["classifiers"], strict=True):
        classifiers[of] = Classifier(config, config.training.tasks[of.task], normalisation, seed_index)
        load_layers(classifiers[of], each["weights"], str(path))
        classifiers[of].eval()
        n_labels[of] = each["labels"]
    history = History(**content["history"])
    return Supervised(classifiers, n_labels, normalisation, method, seed_index, content["cost"], history)


def train(
    classifier: Classifier,
    store: Store,
    config: Config,
    seed_index: int,
    of: Contender,
    rows: Rows,
    normalisation: Normalisation,
    run: Run,
    *,
    judged: bool = False,
) -> History:
    """Train a classifier on the labels of some rows, by the config of one method.

    Few labels are seen more often, for the same number of steps.

    `judged` asks for the loss on the validation split after each epoch.
    """
    settings, task = config.training, config.training.tasks[of.task]
    labels = labels_of(store, task)
    if task.target is not None:
        classifier.centre.fill_(labels.value[rows].mean())
        classifier.width.fill_(labels.value[rows].std() or 1.0)
    labels = replace(labels, value=(labels.value - classifier.centre.item()) / classifier.width.item())
    (method,) = settings.methods
    kind = settings.kind(method) if of.head == OWN_HEAD else KINDS["supervised"]
    key = (settings.seed, "supervised", seed_index)
    loader = loader_of(store, settings, kind, labels, rows, normalisation, key, run.meter)
    epochs = -(-settings.supervised.steps // loader.steps(1))
    network: nn.Module = classifier
    loss_of: Callable[[Batch], Tensor] = partial(_loss, task, classifier)
    if loader.beside:
        domain_of = domains_of(loader.beside.views, settings.dann.domains)
        domains = head(classifier.encoder.width, max(domain_of) + 1, torch_generator(*key, "domains"))
        network = nn.ModuleList([*classifier.children(), domains])
        loss_of = Adversarial(
            loss_of, classifier.encoder, domains, domain_of, settings.dann.weight, loader.steps(1), epochs
        )
    title = f"{method} seed {seed_index}, {of.task}, {len(rows)} labels"
    validation = validation_loader(loader, store, labels.member) if judged else None
    return fit(network, loss_of, loader, epochs, settings, title, run, validation)


def visible_rows(index: Index, settings: TrainingConfig, of: Contender, labels: Labels, rows: Rows) -> Rows:
    """Give the labelled rows that the one method of the settings sees; views without nominal may lack some.

    Raises
    ------
    UserError
        If there is none, or none of a class.
    """
    (method,) = settings.methods
    views, task = shown(settings, settings.kind(method)), settings.tasks[of.task]
    visible = np.intersect1d(rows, index.rows("train", views))
    seen = set(labels.value[visible].astype(int) if task.target is None else range(len(visible)))
    lacking = [name for number, name in enumerate(task.names or [f"the target {task.target!r}"]) if number not in seen]
    if lacking:
        why = f"none of the {len(rows)} labelled objects of {lacking[0]} is in the views {', '.join(views)}"
        what = "add nominal to training.views, raise the fraction, or simulate more events"
        raise UserError(f"training.tasks.{of.task} at the label fraction {of.fraction:g}: {why}; {what}")
    return visible


def shown(settings: TrainingConfig, kind: Kind) -> tuple[str, ...]:
    """Name the views of which a labelled object is shown one."""
    return ("nominal",) if kind.adversarial else kind.seen(settings.views)


def loader_of(
    store: Store,
    settings: TrainingConfig,
    kind: Kind,
    labels: Labels,
    rows: Rows,
    normalisation: Normalisation,
    key: Key,
    meter: Meter,
) -> Loader:
    """Make batches of labelled rows as a kind of method is shown them, with others beside if it is adversarial."""
    views, every = shown(settings, kind), kind.seen(settings.views)
    loader = Loader(
        source=source_of(store, views, rows, settings, meter),
        index=store.index,
        labels=labels.value.astype(np.float32),
        rows=rows,
        views=views,
        normalisation=normalisation,
        config=settings.loader,
        batch=settings.supervised.batch,
        key=key,
        meter=meter,
        augment=partial(store.lane.augment, config=settings.augment) if kind.augmented else None,
        pairs=settings.pairs,
        single=True,
    )
    if not kind.adversarial:
        return loader
    others = store.index.rows("train", every)
    others = others[labels.member[others]]
    source, unknown = source_of(store, every, others, settings, meter), np.zeros_like(loader.labels)
    beside = replace(loader, source=source, labels=unknown, rows=others, views=every, key=(*key, "beside"))
    return replace(loader, beside=beside)


def _loss(task: Task, classifier: Classifier, batch: Batch) -> Tensor:
    """Give the loss of all ranks' rows; in single precision, whatever the network is computed in."""
    (jets,) = batch.views
    outputs = jets.through(classifier).float()
    return loss(task, gathered(outputs), gathered(batch.labels))
