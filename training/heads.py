"""What is fitted on an encoder, in nominal, to do a task with few labels.

`linear`      logistic regression on its frozen outputs (of a target: ridge regression), the linear probe
`mlp`         a perceptron with one hidden layer on its frozen outputs
`finetuned`   a perceptron as supervised training has, and the encoder with it
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from training.config import Config, Head, Task
from training.data.fetch import Store
from training.data.plan import Rows
from training.encoders import Encoder
from training.evaluate import Contender, Outputs, embed, embed_all, evaluation, losses_of
from training.files import digest
from training.fit import Run, be_deterministic, place
from training.heldout import HeldOutSet
from training.keys import generator
from training.labels import labelled_rows
from training.meter import Clock
from training.pretrain import Trained, check_origin, cost_of, labels_seen, load_trained
from training.provenance import origin_of, record, record_cost
from training.results import EvaluationResult
from training.supervised import Classifier
from training.supervised import train as train_classifier
from training.tasks import Labels, check_tasks, labels_of

Scores = dict[str, NDArray[np.float64]]
FINETUNED = "finetuned"
_HIDDEN, _EPOCHS = 100, 200  # scikit-learn's defaults


def evaluate_encoder(
    store: Store,
    config: Config,
    trained: Trained,
    held_out: Sequence[HeldOutSet] = (),
    folder: Path | None = None,
) -> EvaluationResult:
    """Fit every head for each task at each label fraction, and judge it on every view and set.

    The cost is that of the main task, with most labels. With a folder, fine-tunings go on from the states that a killed
    run left there, and leave their metrics and `run.json`.
    """
    config = config.of(trained.method)
    be_deterministic(config.training.threads)
    check_tasks(store, config.training)
    place(trained.encoder, config.training.trainer)
    clock = Clock()
    frozen = _Frozen.of(store, config, trained, folder)
    embedding_cpu_s, heads_cpu_s = clock.cpu_s(), dict[str, float]()
    features = embed_all(trained.encoder, trained.normalisation, store, held_out)
    outputs = Outputs(features=features)
    for of, rows, labels in _fits(store, config, trained.seed_index):
        fitted = frozen.fitted(of, rows, labels)
        heads_cpu_s.setdefault(of.head, embedding_cpu_s * (of.head != FINETUNED) + fitted.cpu_s)
        outputs.n_labels[of] = len(rows)
        outputs.scores[of] = fitted.predict(features, held_out)
    about: dict[str, Any] = {"method": trained.method, "seed_index": trained.seed_index}
    about |= losses_of(trained.history)
    about |= {"cost": trained.cost, "heads_cpu_s": heads_cpu_s}
    about |= {"pretraining_labels": labels_seen(store, config, trained.method)}
    return evaluation(store, config, outputs, about, held_out)


def _fits(store: Store, config: Config, seed_index: int) -> Iterator[tuple[Contender, Rows, Labels]]:
    """List what is fitted, with most labels first, and the labels that it sees."""
    for name, task in config.training.tasks.items():
        labels = labels_of(store, task)
        for head in config.evaluation.heads:
            for fraction in sorted(config.evaluation.label_fractions, reverse=True):
                rows = labelled_rows(store.index, labels, fraction, config.training.seed, seed_index)
                yield Contender(name, head, fraction), rows, labels


class _Fitted(NamedTuple):
    """A head."""

    predict: Callable[[Mapping[str, NDArray[np.float32]], Sequence[HeldOutSet]], Scores]
    """Makes the scores of all views and sets, from what the encoder made of them."""
    cpu_s: float
    """That its fit took."""


@dataclass(frozen=True)
class _Frozen:
    """An encoder with its outputs for all train objects."""

    store: Store
    config: Config
    trained: Trained
    train: Rows
    known: NDArray[np.float32]
    """(len(train), D)."""
    folder: Path | None
    """Where fine-tunings leave their states."""

    @classmethod
    def of(cls, store: Store, config: Config, trained: Trained, folder: Path | None) -> "_Frozen":
        train = store.index.rows("train", ["nominal"])
        known = embed(trained.encoder, trained.normalisation, store, "nominal", train)
        return cls(store, config, trained, train, known, folder)

    def fitted(self, of: Contender, rows: Rows, labels: Labels) -> _Fitted:
        """Fit a head."""
        if of.head == FINETUNED:
            return self._finetuned(of, rows)
        clock = Clock()
        task, seed = self.config.training.tasks[of.task], self.config.training.seed
        features, values = self.known[np.searchsorted(self.train, rows)], labels.value[rows]
        draws = generator(seed, "head", self.trained.seed_index, of.task, of.head)
        model = fit_head(task, of.head, features, values, self.config.evaluation.probe_c, draws)
        cpu_s = clock.cpu_s()
        return _Fitted(lambda outputs, _: {name: scores(task, model, x) for name, x in outputs.items()}, cpu_s)

    def _finetuned(self, of: Contender, rows: Rows) -> _Fitted:
        """Go on from the encoder with a classifier on it, as one from scratch is trained."""
        config, trained = self.config, self.trained
        task = config.training.tasks[of.task]
        classifier = Classifier(config, task, trained.normalisation, trained.seed_index)
        classifier.encoder.load_state_dict(trained.encoder.state_dict())
        run = self._run(of)
        record(run.folder, config, self.store, trained.method, trained.seed_index)
        history = train_classifier(
            classifier, self.store, config, trained.seed_index, of, rows, trained.normalisation, run
        )
        cost = cost_of(run, history)
        record_cost(run.folder, cost)
        place(classifier.encoder, config.training.trainer)

        def predict(_: Mapping[str, NDArray[np.float32]], held_out: Sequence[HeldOutSet]) -> Scores:
            features = embed_all(classifier.encoder, trained.normalisation, self.store, held_out, task)
            return {name: classifier.scores(values) for name, values in features.items()}

        return _Fitted(predict, cost["cpu_s"])

    def _run(self, of: Contender) -> Run:
        """Begin a fine-tuning: it depends on the encoder's weights, the labels and how classifiers are trained."""
        config, trained = self.config, self.trained
        where = self.folder and self.folder / of.task / of.head / f"labels-{of.fraction:g}"
        origin = origin_of(config, self.store, trained.method, trained.seed_index)
        origin |= {"encoder": _digest(trained.encoder), "label_fraction": of.fraction}
        told = {
            "task": config.training.tasks[of.task].model_dump(mode="json"),
            "supervised": config.training.supervised.model_dump(mode="json"),
        }
        return Run.begin(where, origin | told)


def _digest(encoder: Encoder) -> str:
    """Give the SHA-256 of the weights."""
    return digest(b"".join(weights.cpu().numpy().tobytes() for weights in encoder.state_dict().values()))


def fit_head(
    task: Task,
    head: Head | str,
    features_nD: NDArray[np.float32],
    labels_n: NDArray[np.float64],
    c: float,
    draws: np.random.Generator,
) -> Pipeline:
    """Standardise, then fit a head on frozen features.

    The linear one has the L2 penalty 1 / c, and all classes weigh the same. The perceptron starts from random numbers.
    """
    model: Any
    features, labels = features_nD.astype(np.float64), labels_n
    if task.target is None:
        labels = labels_n.astype(np.int64)
    if head == "linear":
        logistic = LogisticRegression(C=c, class_weight="balanced", max_iter=1000)
        model = Ridge(alpha=1 / c) if task.target is not None else logistic
        return make_pipeline(StandardScaler(), model).fit(features, labels)
    settings = {"hidden_layer_sizes": (_HIDDEN,), "max_iter": _EPOCHS, "random_state": int(draws.integers(2**32))}
    model = MLPClassifier(**settings)
    if task.target is not None:
        model = TransformedTargetRegressor(MLPRegressor(**settings), transformer=StandardScaler())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is meant
        return make_pipeline(StandardScaler(), model).fit(features, labels)


def scores(task: Task, model: Pipeline, features_nD: NDArray[np.float32]) -> NDArray[np.float64]:
    """Give the logit of the second of two classes (n,), those of more (n, K), or the target (n,)."""
    features = features_nD.astype(np.float64)
    told: NDArray[np.float64]
    if task.target is not None:
        told = model.predict(features)
    elif isinstance(model[-1], LogisticRegression):
        told = np.asarray(model.decision_function(features))
    else:  # of the perceptron's layers: its probabilities end at 0 and 1, where logits do not
        hidden, last = zip(model[-1].coefs_, model[-1].intercepts_, strict=True)
        told = np.maximum(model[0].transform(features) @ hidden[0] + hidden[1], 0) @ last[0] + last[1]
    return told[:, 0] if told.ndim == 2 and told.shape[1] == 1 else told


def load_for(path: Path, config: Config, store: Store, method: str, seed_index: int) -> Trained:
    """Load an encoder and check that it is the one that is meant.

    Raises
    ------
    UserError
        If it is of another method or seed, or was trained with another config or on other data.
    """
    trained, content = load_trained(path)
    check_origin(path, content, config, store, method, seed_index)
    return trained.for_task(config.training.main_task)
