"""Tasks: labels by samples or a column, figures beside independent implementations, heads on encoders."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score, r2_score, roc_auc_score, root_mean_squared_error
from torch.nn import functional

from resim.errors import UserError
from tests.training.conftest import write_toy
from tests.training.test_training import SMALL
from training import figures, metrics, supervised
from training.config import Config, MethodConfig, Task, TrainingConfig
from training.data.fetch import Store
from training.evaluate import embed
from training.figures import Scored
from training.heads import evaluate_encoder, fit_head, load_for, scores
from training.heldout import open_held_out
from training.keys import generator
from training.labels import labelled_rows
from training.pretrain import labels_seen, open_store, pretrain, pretrained_on, save
from training.results import EvaluationResult
from training.supervised import evaluate_supervised, train_supervised
from training.tasks import labels_of, loss, pair_classes

TWO = Task(classes=["qcd", "hbb"])
THREE = Task(classes=["qcd", ["hbb", "hcc"], "wqq"])
TARGET = Task(target="pt", samples=["hbb"])
TASKS: dict[str, Any] = {
    "h_qcd": {"classes": ["qcd", "hbb"]},
    "three": {"classes": ["qcd", "hbb", "wqq"]},
    "pt": {"target": "pt", "samples": ["hbb"]},
    "w_qcd": {"classes": ["qcd", "wqq"]},
}
Folders = dict[str, Path]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    base = tmp_path_factory.mktemp("three")
    return {sample: write_toy(base / sample, sample, 200, 100) for sample in ("qcd", "hbb", "wqq")}


@pytest.fixture(scope="module")
def toy_of_few(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    base = tmp_path_factory.mktemp("few")
    return {sample: write_toy(base / sample, sample, 20, 20) for sample in ("qcd", "hbb")}


@pytest.fixture(scope="module")
def config() -> Config:
    told = {"label_fractions": [0.1, 1.0], "bootstrap": 20, "heads": ["linear", "mlp", "finetuned"]}
    return Config.model_validate({"training": SMALL | {"samples": ["qcd", "hbb"], "tasks": TASKS}, "evaluation": told})


@pytest.fixture(scope="module")
def judged(folders: Folders, config: Config) -> EvaluationResult:
    own = open_store(pretrained_on(folders, config.training), config.training)
    trained, _ = pretrain(own, config, "resim", 0)
    return evaluate_encoder(open_store(folders, config.training), config, trained)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({}, "either `classes` or `target`"),
        ({"classes": ["qcd", "hbb"], "target": "pt"}, "either `classes` or `target`"),
        ({"classes": ["qcd"]}, "at least 2 items"),
        ({"classes": ["qcd", ["hbb", "qcd"]]}, "twice: qcd"),
        ({"classes": ["qcd", []]}, "each class needs samples of its own"),
        ({"classes": ["qcd", "hbb"], "samples": ["qcd"]}, "`samples` belongs to `target`"),
    ],
)
def test_a_task_that_makes_no_sense_is_refused(task: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Task.model_validate(task)


def test_labels_go_by_sample_or_column_and_leave_the_others_out(folders: Folders) -> None:
    store = Store(folders, 12, 8)
    assert store.index.samples == ("hbb", "qcd", "wqq")
    two, three, target = (labels_of(store, task) for task in (TWO, Task(classes=["qcd", ["hbb", "wqq"]]), TARGET))
    assert two.value.tolist() == [1] * 200 + [0] * 400
    assert two.member.tolist() == [True] * 400 + [False] * 200
    assert three.value.tolist() == [1] * 200 + [0] * 200 + [1] * 200
    pt = store.datasets["hbb"].parts[0].view("nominal").column("pt")
    np.testing.assert_array_equal(target.value[:100][target.member[:100]], pt[np.isfinite(pt)])
    assert not target.member[200:].any()
    assert pair_classes(store, TWO).tolist() == [1] * 200 + [0] * 200 + [2 + 2] * 200
    assert pair_classes(store, TARGET).tolist() == [0] * 200 + [1] * 200 + [2] * 200


def test_a_column_that_is_not_there_is_named_with_those_that_are(folders: Folders) -> None:
    with pytest.raises(UserError, match=r"has no column 'mass_of_top'; allowed: event, object, split, weight, pt, eta"):
        labels_of(Store(folders, 12, 8), Task(target="mass_of_top"))


def test_tasks_share_the_labelled_objects_of_a_sample(folders: Folders) -> None:
    store = Store(folders, 12, 8)
    first, second = (
        set(labelled_rows(store.index, labels_of(store, task), 0.1, 1, 0))
        for task in (TWO, Task(classes=["qcd", "wqq"]))
    )
    qcd = set(np.flatnonzero(store.index.sample == 1))
    assert first & qcd == second & qcd != set()


def test_a_target_that_a_sample_does_not_have_is_named(folders: Folders) -> None:
    """To simulate more events would not help."""
    store = Store(folders, 12, 8)
    labels = labels_of(store, Task(target="pt"))
    none = replace(labels, member=labels.member & (store.index.sample != 1))
    why = r"the target 'pt' is no number in any train object of sample 'qcd'; leave that out of the task's `samples`"
    with pytest.raises(UserError, match=why):
        labelled_rows(store.index, none, 1.0, 1, 0)


@pytest.mark.parametrize(
    ("task", "of"),
    [(TWO, "hbb"), (Task(target="weight", samples=["hbb"]), "the target 'weight'")],
    ids=["class", "target"],
)
def test_views_without_nominal_that_lack_all_labelled_objects_of_a_class_are_named(
    folders: Folders, config: Config, task: Task, of: str
) -> None:
    """With few labels a class may be gone; the network would learn to tell one class from nothing."""
    views = ["fsr_mur_2", "fsr_mur_half"]
    settings = config.training.model_copy(
        update={
            "views": views,
            "tasks": {"main": task},
            "methods": {"supervised_resim": MethodConfig(kind="supervised_resim")},
        }
    )
    store, told = open_store(folders, settings), config.model_copy(update={"training": settings})
    rows = labelled_rows(store.index, labels_of(store, task), 0.1, settings.seed, 0)
    for view in views:
        store.index.present[view][rows[store.index.sample[rows] == 0]] = False
    message = rf"tasks.main at the label fraction 0.1: none of the \d+ labelled objects of {of} is in the views fsr_m"
    with pytest.raises(UserError, match=message):
        train_supervised(store, told, "supervised_resim", 0)


def test_losses_are_those_of_their_formulas() -> None:
    draws = torch.Generator().manual_seed(1)
    one, many = torch.randn(7, 1, generator=draws), torch.randn(7, 3, generator=draws)
    label = torch.tensor([0.0, 1, 1, 0, 1, 0, 0])
    p = torch.sigmoid(one[:, 0])
    expected = -(label * p.log() + (1 - label) * (1 - p).log()).mean()
    torch.testing.assert_close(loss(TWO, one, label), expected)
    number = torch.tensor([0.0, 1, 2, 0, 1, 2, 2])
    expected = -functional.log_softmax(many, dim=1)[torch.arange(7), number.long()].mean()
    torch.testing.assert_close(loss(THREE, many, number), expected)
    torch.testing.assert_close(loss(TARGET, one, label), ((one[:, 0] - label) ** 2).mean() / 2)


def _weights(n: int) -> np.ndarray:
    draws = generator("tasks", "weights")
    return np.vstack([np.ones(n), draws.poisson(1, (3, n))])


def test_figures_of_two_classes_are_those_of_scikit_learn() -> None:
    draws, n = generator("tasks", "two"), 300
    label = draws.integers(0, 2, n).astype(float)
    score, weight = np.round(draws.normal(size=n) + label, 1), _weights(n)  # with ties
    found = figures.quality(TWO, Scored(score, label, weight))["auc"]
    assert found == pytest.approx([roc_auc_score(label, score, sample_weight=w) for w in weight])


def test_figures_of_more_classes_are_those_of_scikit_learn() -> None:
    draws, n = generator("tasks", "three"), 300
    label = draws.integers(0, 3, n).astype(float)
    score, weight = draws.normal(size=(n, 3)) + 2 * np.eye(3)[label.astype(int)], _weights(n)
    found = figures.quality(THREE, Scored(score, label, weight))
    assert found["auc"][0] == pytest.approx(roc_auc_score(label, softmax(score, axis=1), multi_class="ovo"))
    told = score.argmax(axis=1)
    assert found["accuracy"] == pytest.approx([balanced_accuracy_score(label, told, sample_weight=w) for w in weight])
    assert np.mean([found[f"accuracy_{name}"] for name in ("qcd", "hbb+hcc", "wqq")], axis=0) == pytest.approx(
        found["accuracy"]
    )


def test_the_change_of_the_accuracy_is_that_of_the_same_objects_in_every_resampling() -> None:
    draws, n = generator("tasks", "change"), 300
    label, weight = draws.integers(0, 3, n).astype(float), _weights(n)
    before, after = (
        Scored(draws.normal(size=(n, 3)) + size * np.eye(3)[label.astype(int)], label, weight) for size in (2, 1)
    )
    good, worse = (figures.quality(THREE, scored)["accuracy"] for scored in (before, after))
    change = figures.shift(THREE, before, after)["accuracy_change"]
    assert change == pytest.approx(worse - good)
    assert np.all(change < 0)


def test_figures_of_a_regression_are_those_of_scikit_learn() -> None:
    draws, n = generator("tasks", "target"), 300
    target = draws.normal(100, 10, n)
    told, weight = target + draws.normal(2, 3, n), _weights(n)
    found = figures.quality(TARGET, Scored(told, target, weight))
    assert found["rmse"] == pytest.approx([root_mean_squared_error(target, told, sample_weight=w) for w in weight])
    assert found["r2"] == pytest.approx([r2_score(target, told, sample_weight=w) for w in weight])
    assert found["bias"][0] == np.quantile(told - target, 0.5, method="inverted_cdf")
    assert (found["bias"][0], found["resolution"][0]) == pytest.approx((2, 3), abs=0.6)


def test_weighted_quantiles_are_those_of_repeated_values() -> None:
    values, weight = np.array([3.0, 1.0, 2.0]), np.array([[1.0, 1, 1], [0, 2, 3]])
    assert metrics.quantiles(values, weight, (0.3, 0.5)).tolist() == [[1, 1], [2, 2]]


def test_scores_of_the_same_objects_move_by_nothing() -> None:
    draws = generator("tasks", "same")
    same = Scored(draws.normal(size=(50, 3)), draws.integers(0, 3, 50).astype(float), _weights(50))
    assert figures.shift(THREE, same, same)["wasserstein"].tolist() == [0] * 4
    same = Scored(draws.normal(size=50), draws.normal(size=50), _weights(50))
    assert all(values.tolist() == [0] * 4 for values in figures.shift(TARGET, same, same).values())
    higher = Scored(same.score + 1.5, same.label, same.weight)
    assert figures.shift(TARGET, same, higher)["wasserstein"] == pytest.approx(1.5)
    assert figures.shift(TARGET, same, higher)["mean_change"] == pytest.approx(1.5)


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("task", [TWO, THREE, TARGET], ids=["two", "three", "target"])
def test_heads_on_frozen_features_learn_every_kind_of_task(task: Task, head: str) -> None:
    draws = generator("tasks", "heads")
    label = draws.normal(size=400) if task.target else draws.integers(0, len(task.members), 400).astype(float)
    told = label[:, None] if task.target else np.eye(3)[label.astype(int)]
    features = (told + 0.3 * draws.normal(size=(400, told.shape[1]))).astype(np.float32)
    model, again = (fit_head(task, head, features[:300], label[:300], 1.0, generator("h")) for _ in range(2))
    found = scores(task, model, features[300:])
    np.testing.assert_array_equal(found, scores(task, again, features[300:]))
    assert found.shape == ((100, 3) if task is THREE else (100,))
    figure = figures.quality(task, Scored(found, label[300:], np.ones((1, 100))))
    assert figure["r2" if task.target else "auc"][0] > 0.85


def test_an_encoder_is_judged_in_every_task_by_every_head(judged: EvaluationResult, config: Config) -> None:
    keys = {(row.task, row.head, row.label_fraction, row.view, row.weighting) for row in judged.rows}
    assert len(keys) == len(judged.rows) == 4 * 3 * 2 * 7 * 2
    named = {task: next(row for row in judged.rows if row.task == task) for task in TASKS}
    assert {name: " ".join(row.objects) for name, row in named.items()} == {
        "h_qcd": "qcd hbb", "three": "qcd hbb wqq", "pt": "all", "w_qcd": "qcd wqq"
    }  # fmt: skip
    figure = {"h_qcd": "rejection_50", "three": "accuracy", "pt": "resolution", "w_qcd": "auc"}
    assert all(figure[name] in row.figures for name, row in named.items())
    assert judged.rows[0].task == "h_qcd"
    assert list(judged.heads_cpu_s) == list(config.evaluation.heads)
    assert min(judged.heads_cpu_s.values()) > 0


def test_similarities_are_of_the_main_tasks_objects(folders: Folders, config: Config) -> None:
    """A network from scratch is not run on the others; their zeros are no similarity of 0."""
    settings = config.model_copy(update={"training": config.training.model_copy(update={"tasks": {"h_qcd": TWO}})})
    store = open_store(folders, config.training)
    scratch = train_supervised(store, settings, "supervised", 0)
    (network,) = [network for of, network in scratch.classifiers.items() if of.fraction == 1.0]
    rows = store.index.rows("test", ["nominal"])
    rows = rows[store.index.present["vincia"][rows] & labels_of(store, TWO).member[rows]]
    found = [embed(network.encoder, scratch.normalisation, store, view, rows) for view in ("nominal", "vincia")]
    positive, random = metrics.cosine_pairs(*found)
    told = evaluate_supervised(store, settings, scratch).cosine["vincia"]
    assert (told.positive, told.random) == pytest.approx((positive, random), abs=1e-6)


def test_a_target_that_views_have_for_themselves_is_read_from_the_view(folders: Folders, config: Config) -> None:
    store = open_store(folders, config.training)
    nominal, moved = (labels_of(store, TARGET, view=view) for view in ("nominal", "redetected"))
    both = nominal.member & moved.member
    pt = store.datasets["hbb"].parts[0].view("redetected").column("pt")
    np.testing.assert_array_equal(moved.value[:100][moved.member[:100]], pt[np.isfinite(pt)])
    assert 0 < both.sum() < nominal.member.sum()
    methods = {"supervised_resim": {}}
    training = TrainingConfig.model_validate(
        SMALL | {"tasks": {"h_qcd": TASKS["h_qcd"], "pt": TASKS["pt"]}, "methods": methods}
    )
    with pytest.raises(UserError, match=r"tasks.pt: 'pt' differs from view to view, and 'supervised_resim' learns one"):
        train_supervised(store, config.model_copy(update={"training": training}), "supervised_resim", 0)


def test_logits_of_the_perceptron_do_not_end_where_probabilities_do() -> None:
    draws = generator("tasks", "far")
    label = draws.integers(0, 2, 200).astype(float)
    features = (40 * label[:, None] + draws.normal(size=(200, 2))).astype(np.float32)
    model = fit_head(TWO, "mlp", features, label, 1.0, generator("h"))
    near, far = scores(TWO, model, features), scores(TWO, model, 50 * features)
    assert np.isfinite(far).all()
    np.testing.assert_allclose(1 / (1 + np.exp(-near)), model.predict_proba(features.astype(float))[:, 1], atol=1e-9)
    many = fit_head(THREE, "mlp", features, draws.integers(0, 3, 200).astype(float), 1.0, generator("h"))
    told = softmax(scores(THREE, many, features), axis=1)
    np.testing.assert_allclose(told, many.predict_proba(features.astype(float)), atol=1e-9)


def test_a_perceptron_learns_a_target_far_from_0() -> None:
    draws = generator("tasks", "gev")
    features = draws.normal(size=(100, 3)).astype(np.float32)
    target = 125 + 10 * features[:, 0].astype(np.float64)
    model = fit_head(TARGET, "mlp", features, target, 1.0, generator("h"))
    assert np.sqrt(np.mean((scores(TARGET, model, features) - target) ** 2)) < 5


def test_equal_scores_are_one_threshold_even_if_infinite() -> None:
    score, label = np.array([np.inf, np.inf, -np.inf, -np.inf]), np.array([1, 0, 1, 0])
    for order in ([0, 1, 2, 3], [1, 0, 3, 2]):
        assert metrics.roc(score[order], label[order], np.ones((1, 4))).auc().tolist() == [0.5]


def test_a_resampling_without_a_class_takes_it_as_it_is(toy_of_few: Folders, config: Config) -> None:
    settings = config.model_copy(
        update={
            "training": config.training.model_copy(update={"tasks": {"h_qcd": TWO}}),
            "evaluation": config.evaluation.model_copy(update={"bootstrap": 2000, "heads": ["linear"]}),
        }
    )
    own = open_store(toy_of_few, config.training)
    trained, _ = pretrain(own, settings, "resim", 0)
    rows = evaluate_encoder(own, settings, trained).rows
    assert all(np.isfinite(figure.replicates).all() for row in rows for figure in row.figures.values())


def test_an_encoder_never_opens_the_samples_of_other_tasks(folders: Folders, config: Config, tmp_path: Path) -> None:
    """Its weights are the same bits, and its checkpoint is known, whatever else there is to be judged on."""
    own = open_store(pretrained_on(folders, config.training), config.training)
    assert set(own.datasets) == {"qcd", "hbb"}
    _, checkpoint = pretrain(own, config, "resim", 0)
    save(tmp_path / "e.pt", checkpoint)
    everything = open_store(folders, config.training)
    assert load_for(tmp_path / "e.pt", config, everything, "resim", 0).seed_index == 0
    more = config.model_copy(update={"training": config.training.model_copy(update={"tasks": {"h_qcd": TWO}})})
    assert load_for(tmp_path / "e.pt", more, everything, "resim", 0).seed_index == 0  # tasks do not touch it
    with pytest.raises(UserError, match=r"training.samples: 'qcd' is no data set; allowed: hbb, wqq \(--data\)"):
        pretrained_on({name: folders[name] for name in ("hbb", "wqq")}, config.training)


def test_a_task_of_an_unknown_sample_is_refused(folders: Folders, config: Config) -> None:
    own = open_store(pretrained_on(folders, config.training), config.training)
    with pytest.raises(UserError, match=r"training.tasks.three: 'wqq' is no data set; allowed: hbb, qcd \(--data\)"):
        train_supervised(own, config, "supervised", 0)


def test_networks_from_scratch_learn_every_kind_of_task(folders: Folders, config: Config, tmp_path: Path) -> None:
    store = open_store(folders, config.training)
    trained = train_supervised(store, config, "supervised", 0, tmp_path / "run")
    supervised.save(tmp_path / "s.pt", trained, config, store)
    again = supervised.load_for(tmp_path / "s.pt", config, store, "supervised", 0)
    result = evaluate_supervised(store, config, again)
    assert result == evaluate_supervised(store, config, trained)
    assert {(row.task, row.head) for row in result.rows} == {(task, "own") for task in TASKS}
    pt = next(r for r in result.rows if (r.task, r.label_fraction) == ("pt", 1.0))
    assert abs(pt.figures["bias"].value) < 300  # GeV; untrained it would tell 0, and the jets have 650
    assert sorted(path.parent.name for path in (tmp_path / "run").glob("*/labels-1")) == sorted(TASKS)


def test_a_test_set_serves_the_tasks_whose_samples_it_replaces(
    folders: Folders, config: Config, tmp_path: Path
) -> None:
    write_toy(tmp_path / "hbb_other", "hbb_other", 100, 100, held_out=True)
    sets = {"other": {"hbb": "hbb_other"}}
    update = {"evaluation": config.evaluation.model_copy(update={"test_sets": sets, "heads": ["linear"]})}
    config = config.model_copy(update=update)
    store = open_store(folders, config.training)
    own = open_store(pretrained_on(folders, config.training), config.training)
    trained, _ = pretrain(own, config, "generic", 0)
    held_out = open_held_out({"hbb_other": tmp_path / "hbb_other"}, store, config)
    rows = evaluate_encoder(store, config, trained, held_out).rows
    assert {row.task for row in rows if row.view == "other"} == {"h_qcd", "three", "pt"}
    other = next(row for row in rows if (row.task, row.view) == ("three", "other"))
    nominal = next(row for row in rows if (row.task, row.view) == ("three", "nominal"))
    assert other.objects["hbb"] == len(held_out[0].stand_ins[0].rows)
    assert other.objects["wqq"] == nominal.objects["wqq"]


def test_labels_seen_in_pretraining_are_of_the_samples_that_it_sees(folders: Folders, config: Config) -> None:
    update = {"pretrain": config.training.pretrain.model_copy(update={"loss": "supcon_in", "alpha": 1.0})}
    config = config.model_copy(update={"training": config.training.model_copy(update=update)})
    store = open_store(folders, config.training)
    own = open_store(pretrained_on(folders, config.training), config.training)
    assert labels_seen(store, config, "generic") == len(own.index.rows("train", ["nominal"]))
    assert len(own.index.samples) < len(store.index.samples)


def test_a_checkpoint_of_other_tasks_is_refused(folders: Folders, config: Config, tmp_path: Path) -> None:
    settings = config.training.model_copy(update={"tasks": {"h_qcd": TWO}})
    one = config.model_copy(update={"training": settings})
    store = open_store(folders, config.training)
    supervised.save(tmp_path / "s.pt", train_supervised(store, one, "supervised", 0), one, store)
    with pytest.raises(UserError, match=r"other `training` config; run `resim-train supervised` again"):
        supervised.load_for(tmp_path / "s.pt", config, store, "supervised", 0)
