"""What each kind of method is shown, and methods with sections of their own from the command line to the result."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from resim.errors import UserError
from tests.training.test_compare import _run
from tests.training.test_training import SMALL, small
from training.config import Config
from training.data.fetch import Store
from training.data.loader import Batch
from training.files import read_model
from training.labels import labelled_rows
from training.meter import Meter
from training.methods import KINDS
from training.pretrain import contrastive_loader, normalisation_of, open_store
from training.results import EvaluationResult
from training.supervised import loader_of, train_supervised
from training.tasks import labels_of

Toy = Callable[[int, int], dict[str, Path]]
VIEWS = ("nominal", "shower_seed", "fsr_mur_2")
LABELLED = [name for name, kind in KINDS.items() if kind.labelled]


def _batches(store: Store, config: Config, kind: str, epochs: int) -> list[Batch]:
    labels = labels_of(store, config.training.main_task)
    rows, scale = labelled_rows(store.index, labels, 0.5, 1, 0), normalisation_of(store, config.training)
    rows = np.intersect1d(rows, store.index.rows("train", KINDS[kind].seen(config.training.views)))
    loader = loader_of(store, config.training, KINDS[kind], labels, rows, scale, ("a key",), Meter())
    return list(loader.batches(range(epochs)))


@pytest.mark.parametrize("kind", LABELLED)
def test_labelled_objects_are_shown_once_an_epoch_in_one_of_the_views_of_the_kind(toy: Toy, kind: str) -> None:
    config = small(views=list(VIEWS))
    store = open_store(toy(80, 40), config.training)
    batches = _batches(store, config, kind, 20)
    assert all(len(batch.views) == 1 and batch.shown.shape == (len(batch.rows), 1) for batch in batches)
    rows = np.concatenate([batch.rows for batch in batches])
    assert set(Counter(rows.tolist()).values()) == {20}
    drawn = np.concatenate([batch.shown[:, 0] for batch in batches])
    assert set(drawn) == ({0, 1, 2} if kind in ("supervised_resim", "supervised_both") else {0})
    assert all(store.index.present[VIEWS[view]][row] for row, view in zip(rows, drawn, strict=True))
    assert {float(x) for batch in batches for x in batch.labels} == {0.0, 1.0}


def test_views_are_drawn_by_their_weights_whatever_pairs_would_begin_with(toy: Toy) -> None:
    config = small(views=list(VIEWS), pairs={"weights": {"fsr_mur_2": 3.0}, "first": "nominal"})
    store = open_store(toy(80, 40), config.training)
    batches = _batches(store, config, "supervised_resim", 100)
    rows, drawn = (np.concatenate(x) for x in zip(*((b.rows, b.shown[:, 0]) for b in batches), strict=True))
    everywhere = np.all([store.index.present[view] for view in VIEWS], axis=0)
    share = np.bincount(drawn[everywhere[rows]]) / everywhere[rows].sum()
    assert share == pytest.approx([0.2, 0.2, 0.6], abs=0.03)


def test_augmentation_is_anew_every_epoch_and_only_where_the_kind_has_it(toy: Toy) -> None:
    config = small()
    store = open_store(toy(80, 40), config.training)
    for kind in ("supervised", "supervised_generic"):
        first, again = ({}, {})
        for batch in _batches(store, config, kind, 2):
            inputs = (again if batch.epoch else first).setdefault
            for row, values, present in zip(batch.rows, batch.views[0].values, batch.views[0].present, strict=True):
                inputs(int(row), values[present])
        changed = [not (first[r].shape == again[r].shape and torch.equal(first[r], again[r])) for r in first]
        assert all(changed) if kind == "supervised_generic" else not any(changed)


@pytest.mark.parametrize("kind", [kind for kind in LABELLED if kind != "supervised"])
def test_other_kinds_of_supervised_training_end_elsewhere_from_the_same_start(toy: Toy, kind: str) -> None:
    config = small(methods={"supervised": {}, kind: {}})
    store = open_store(toy(80, 40), config.training)
    plain, other = (train_supervised(store, config, name, 0) for name in ("supervised", kind))
    assert plain.n_labels == other.n_labels
    assert (other.cost["augmented_jets"] > 0) == KINDS[kind].augmented
    for of, classifier in plain.classifiers.items():
        assert not torch.equal(classifier.head[0].weight, other.classifiers[of].head[0].weight)


def test_a_method_of_the_wrong_command_is_refused(toy: Toy) -> None:
    config = small(methods={"dann": {}, "mine": {"kind": "both"}})
    store = open_store(toy(80, 40), config.training)
    with pytest.raises(UserError, match="--method 'mine' learns from pairs; train it with `resim-train pretrain`"):
        train_supervised(store, config, "mine", 0)
    with pytest.raises(UserError, match="--method 'dann' learns from labels; train it with `resim-train supervised`"):
        contrastive_loader(store, config.training, "dann", 0, Meter())


def test_methods_with_sections_of_their_own_are_trained_and_judged_as_they_say(toy: Toy, tmp_path: Path) -> None:
    """Two layers and more constituents than the others, two views only, another optimiser."""
    changes = {"encoder": {"layers": 2, "constituents": 20}, "views": ["nominal", "fsr_mur_2"]}
    changes["optimiser"] = {"name": "adam", "schedule": "step", "every": 1}
    methods = {"pairs.2": {"kind": "resim", **changes}, "labels_2": {"kind": "supervised_both", **changes}, "resim": {}}
    judged = {"bootstrap": 20, "label_fractions": [1.0], "heads": ["linear", "finetuned"]}
    (tmp_path / "c.yaml").write_text(json.dumps({"training": SMALL | {"methods": methods}, "evaluation": judged}))
    data = [f"--data={sample}={folder}" for sample, folder in toy(80, 40).items()]
    shared = ["--config", tmp_path / "c.yaml", "--seed-index", 0, *data]
    results, evaluations = {}, list[object]()
    for name, command in (("pairs.2", "pretrain"), ("labels_2", "supervised"), ("resim", "pretrain")):
        out = tmp_path / name / "seed-0.pt"
        _run(command, "--method", name, *shared, "--out", out)
        told = json.loads((out.with_suffix(".run") / "run.json").read_text())["config"]["training"]
        assert told["methods"].keys() == {name}
        assert told["encoder"]["layers"] == (1 if name == "resim" else 2)
        assert told["pretrain"]["epochs"] == SMALL["pretrain"]["epochs"]
        result = tmp_path / f"{name}.json"
        _run("evaluate", "--method", name, *shared, "--encoder", out, "--out", result)
        results[name] = read_model(result, EvaluationResult)
        evaluations += ["--evaluation", result]
    assert {name: {row.head for row in result.rows} for name, result in results.items()} == {
        "pairs.2": {"linear", "finetuned"}, "labels_2": {"own"}, "resim": {"linear", "finetuned"}
    }  # fmt: skip
    _run("compare", "--config", tmp_path / "c.yaml", *data, *evaluations, "--out", tmp_path / "comparison.json")
    prices = {name: m["price"] for name, m in json.loads((tmp_path / "comparison.json").read_text())["methods"].items()}
    assert prices["pairs.2"]["views_cpu_s"] == prices["labels_2"]["views_cpu_s"] > 0
    assert prices["resim"]["views_cpu_s"] > 4 * prices["pairs.2"]["views_cpu_s"]
