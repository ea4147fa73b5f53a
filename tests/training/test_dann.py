"""Domain-adversarial training: the reversed gradient, its schedule, what is beside a batch, and what it does."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.conftest import write_toy
from tests.training.test_fit import stop_after
from tests.training.test_training import small
from training import supervised
from training.config import Config
from training.dann import Adversarial, domains_of, reversal, reversed_gradient
from training.data.fetch import Store
from training.data.loader import Loader
from training.evaluate import embed
from training.fit import STATE
from training.labels import labelled_rows
from training.meter import Meter
from training.methods import KINDS
from training.pretrain import normalisation_of, open_store
from training.supervised import evaluate_supervised, loader_of, train_supervised
from training.tasks import labels_of

Toy = Callable[[int, int], dict[str, Path]]


def test_the_gradient_is_reversed_and_scaled() -> None:
    """Against finite differences of the same function without the reversal."""
    x = torch.linspace(-1, 1, 6, dtype=torch.float64, requires_grad=True)
    y = reversed_gradient(x, 0.3)
    assert torch.equal(y, x)
    y.sin().sum().backward()
    step = 1e-6 * torch.eye(6, dtype=torch.float64)
    slope = ((x.detach() + step).sin().sum(dim=1) - (x.detach() - step).sin().sum(dim=1)) / 2e-6
    torch.testing.assert_close(x.grad, -0.3 * slope, rtol=1e-6, atol=1e-9)


def test_the_strength_rises_from_0_to_1_as_published() -> None:
    assert [reversal(p) for p in (0, 0.1, 0.5, 1)] == pytest.approx([0, np.tanh(0.5), np.tanh(2.5), np.tanh(5)])


def test_domains_are_the_views_or_nominal_against_all_others() -> None:
    views = ("thrown_1", "nominal", "thrown_2")
    assert (domains_of(views, "views"), domains_of(views, "nominal")) == ((0, 1, 2), (1, 0, 1))


def _with_labels(config: Config, *fractions: float) -> Config:
    return config.model_copy(
        update={"evaluation": config.evaluation.model_copy(update={"label_fractions": list(fractions)})}
    )


def _dann() -> Config:
    return _with_labels(small(methods={"dann": {}}, supervised={"steps": 24, "batch": 16}), 0.1, 1.0)


def _loader(store: Store, config: Config, fraction: float = 1.0) -> Loader:
    task = labels_of(store, config.training.main_task)
    rows = labelled_rows(store.index, task, fraction, 1, 0)
    scale = normalisation_of(store, config.training)
    return loader_of(store, config.training, KINDS["dann"], task, rows, scale, ("a key",), Meter())


def test_beside_labelled_nominal_objects_are_all_train_objects_in_all_views_without_labels(toy: Toy) -> None:
    config = _dann()
    store = open_store(toy(80, 40), config.training)
    loader = _loader(store, config, 0.1)
    others = list(loader.batches(range(60)))
    assert {int(n) for batch in others for n in batch.shown.unique()} == {0}
    besides = [batch.beside for batch in others if batch.beside]
    assert len(besides) == len(others) == 60
    seen = {(int(row), int(view)) for b in besides for row, view in zip(b.rows, b.shown[:, 0], strict=True)}
    every = store.index.rows("train", config.training.views)
    assert {row for row, _ in seen} == set(every) > set(loader.rows)
    assert {view for _, view in seen} == set(range(6))
    assert all(store.index.present[config.training.views[view]][row] for row, view in seen)
    assert not any(b.labels.any() for b in besides)


def test_what_is_beside_is_the_same_from_any_step_on_and_for_any_ranks(toy: Toy) -> None:
    config = _dann()
    loader = _loader(open_store(toy(80, 40), config.training), config, 0.5)
    steps = loader.steps(1)
    assert steps != loader.beside.steps(1)
    whole = [(b.rows.tolist(), b.beside.rows.tolist(), b.beside.shown.tolist()) for b in loader.batches(range(5))]
    later = [(b.rows.tolist(), b.beside.rows.tolist(), b.beside.shown.tolist()) for b in loader.batches(range(2, 5), 1)]
    assert later == whole[2 * steps + 1 :]
    shares = [list(loader.of_rank(rank, 2, pin=False).batches(range(5))) for rank in range(2)]
    assert [a.beside.rows.tolist() + b.beside.rows.tolist() for a, b in zip(*shares, strict=True)] == [
        beside for _, beside, _ in whole
    ]


def test_an_interrupted_training_goes_on_to_the_same_bits(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _dann()
    store = open_store(toy(80, 40), config.training)
    whole = train_supervised(store, config, "dann", 0)
    with monkeypatch.context() as patch:
        stop_after(patch, "training.supervised._loss", 20)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            train_supervised(store, config, "dann", 0, tmp_path)
    assert [path.parent.name for path in tmp_path.rglob(STATE)] == ["labels-1"]
    again = train_supervised(store, config, "dann", 0, tmp_path)
    assert again.history == whole.history
    for of, classifier in whole.classifiers.items():
        expected, weights = classifier.state_dict(), again.classifiers[of].state_dict()
        assert all(torch.equal(weights[name], expected[name]) for name in expected)


@pytest.fixture(scope="module")
def smeared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Give toy data whose view `redetected` has 0.25 more noise in eta: another detector."""
    base = tmp_path_factory.mktemp("smeared")
    return {sample: write_toy(base / sample, sample, 400, 200, smeared=0.05) for sample in ("qcd", "hbb")}


def _views_told_apart_and_auc(
    folders: dict[str, Path], weight: float, monkeypatch: pytest.MonkeyPatch
) -> tuple[float, float]:
    """Train; give the accuracy of the domain classifier on test objects, and the AUC on the view without labels."""
    made: list[Adversarial] = []
    monkeypatch.setattr(supervised, "Adversarial", lambda *given: made.append(Adversarial(*given)) or made[-1])
    config = small(
        views=["nominal", "redetected"],
        methods={"dann": {"dann": {"weight": weight}}},
        encoder={"constituents": 20, "width": 16, "layers": 1, "heads": 2},
        supervised={"steps": 150, "batch": 64},
    )
    config = _with_labels(config, 1.0)
    store = open_store(folders, config.training)
    trained = train_supervised(store, config, "dann", 1)
    right = []
    for number, view in enumerate(config.training.views):
        rows = store.index.rows("test", [view])
        outputs = embed(made[0].encoder, trained.normalisation, store, view, rows)
        with torch.inference_mode():
            right.append((made[0].domains(torch.from_numpy(outputs)).argmax(dim=1) == number).float().mean().item())
    judged = evaluate_supervised(store, config, trained)
    (auc,) = (r.figures["auc"].value for r in judged.rows if (r.view, r.weighting) == ("redetected", "flat"))
    return float(np.mean(right)), auc


def test_views_that_differ_strongly_are_not_told_apart_where_the_gradient_is_reversed(
    smeared: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is learned on nominal then also holds better where nothing was labelled."""
    told_apart, auc = _views_told_apart_and_auc(smeared, 0, monkeypatch)
    confused, auc_adversarial = _views_told_apart_and_auc(smeared, 0.3, monkeypatch)
    assert told_apart > 0.7
    assert confused < 0.65
    assert auc_adversarial > auc + 0.03
