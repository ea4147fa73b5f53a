"""The same inputs give the same weights, to the bit, and training learns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from resim.errors import UserError
from training import supervised
from training.config import Config, EvaluationConfig, OptimiserConfig
from training.fit import be_deterministic, rate
from training.heads import evaluate_encoder, load_for
from training.meter import Meter
from training.pretrain import contrastive_loader, load_trained, open_store, pretrain, save, validation_loader
from training.supervised import evaluate_supervised, train_supervised

Toy = Callable[[int, int], dict[str, Path]]
SMALL = {
    "encoder": {"constituents": 12, "width": 8, "layers": 1, "heads": 2},
    "pretrain": {"epochs": 2, "batch": 32, "projection": 8},
    "supervised": {"steps": 6, "batch": 32},
    "loader": {"group": 8, "shuffle": 64},
}


def small(**training: Any) -> Config:
    """Give a config that trains in a second."""
    return Config.model_validate({"training": SMALL | training, "evaluation": {"bootstrap": 20}})


def _weights(folders: dict[str, Path], config: Config, method: str = "both") -> dict[str, torch.Tensor]:
    trained, _ = pretrain(open_store(folders, config.training), config, method, 0)
    return trained.encoder.state_dict()


def _same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_weights_are_the_same_bits_whatever_the_parts_and_wherever_the_data_is_read_from(toy: Toy) -> None:
    first = _weights(toy(80, 80), small())
    assert _same(first, _weights(toy(80, 80), small()))
    assert _same(first, _weights(toy(80, 20), small()))
    assert _same(first, _weights(toy(80, 20), small(loader={**SMALL["loader"], "memory_mb": 0})))
    assert not _same(first, _weights(toy(80, 80), small(seed=2)))


def test_a_checkpoint_gives_back_the_encoder_and_what_made_it(toy: Toy, tmp_path: Path) -> None:
    store, config = open_store(toy(80, 40), small().training), small()
    trained, checkpoint = pretrain(store, config, "generic", 1)
    save(tmp_path / "encoder.pt", checkpoint)
    again, content = load_trained(tmp_path / "encoder.pt")
    assert _same(trained.encoder.state_dict(), again.encoder.state_dict())
    np.testing.assert_array_equal(trained.normalisation.mean, again.normalisation.mean)
    assert (again.method, again.seed_index, again.history) == ("generic", 1, trained.history)
    assert Config.model_validate(content["config"]) == config.of("generic")
    assert content["provenance"]["data"] == store.digests()
    assert again.cost["augmented_jets"] == 2 * 2 * len(store.index.rows("train", ["nominal"]))
    assert again.cost["augment_cpu_s"] > 0
    assert len(trained.history.validation_loss) == len(trained.history.loss) == 2


def test_classifiers_are_the_same_when_loaded_and_refused_where_others_are_meant(toy: Toy, tmp_path: Path) -> None:
    config = small()
    store, path = open_store(toy(80, 40), config.training), tmp_path / "classifiers.pt"
    trained = train_supervised(store, config, "supervised", 1)
    supervised.save(path, trained, config, store)
    again = supervised.load_for(path, config, store, "supervised", 1)
    assert evaluate_supervised(store, config, again) == evaluate_supervised(store, config, trained)
    with pytest.raises(UserError, match="holds method 'supervised' seed index 1, not 'supervised' 0"):
        supervised.load_for(path, config, store, "supervised", 0)
    other = config.model_copy(update={"evaluation": EvaluationConfig(label_fractions=[0.5])})
    with pytest.raises(
        UserError, match=r"trained at the label fractions 0.01, 0.1, 1; run `resim-train supervised` ag"
    ):
        supervised.load_for(path, other, store, "supervised", 1)
    with pytest.raises(UserError, match=r"other `training` config; run `resim-train supervised` again"):
        supervised.load_for(path, small(seed=5), store, "supervised", 1)


def test_an_encoder_of_another_method_config_or_file_is_refused(toy: Toy, tmp_path: Path) -> None:
    config = small()
    store = open_store(toy(80, 40), config.training)
    save(tmp_path / "encoder.pt", pretrain(store, config, "resim", 0)[1])
    with pytest.raises(UserError, match="holds method 'resim' seed index 0, not 'both' 0"):
        load_for(tmp_path / "encoder.pt", config, store, "both", 0)
    with pytest.raises(UserError, match="was trained with other `training` config; run `resim-train pretrain` again"):
        load_for(tmp_path / "encoder.pt", small(seed=9), store, "resim", 0)
    of_others = small(supervised={"steps": 7, "batch": 3}, seeds=5, methods={"resim": {}, "generic": {}})
    assert load_for(tmp_path / "encoder.pt", of_others, store, "resim", 0).method == "resim"
    (tmp_path / "cut.pt").write_bytes((tmp_path / "encoder.pt").read_bytes()[:500])
    with pytest.raises(UserError, match=r"cut.pt: not a checkpoint, or a damaged one .*; make it anew"):
        load_trained(tmp_path / "cut.pt")
    with pytest.raises(UserError, match=r"none.pt: No such file or directory; expected a checkpoint"):
        load_trained(tmp_path / "none.pt")


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (["nominal", "vincia"], "training.views: 'vincia' was not made for the train split; allowed: nominal, shower_"),
        (["nominal", "herwig"], "training.views: 'herwig' is not in the data; allowed: nominal, shower_seed"),
    ],
    ids=["held out", "unknown"],
)
def test_a_view_without_train_objects_is_refused(toy: Toy, views: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_store(toy(80, 40), small(views=views).training)


def test_validation_is_of_the_validation_split_and_change_no_weight(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small()
    store = open_store(toy(80, 40), config.training)
    loader = contrastive_loader(store, config.training, "resim", 0, Meter())
    validation = validation_loader(loader, store)
    assert validation
    rows = np.concatenate([batch.rows for batch in validation.batches(range(1))])
    assert sorted(rows) == store.index.rows("validation", loader.views).tolist()
    with_validation = pretrain(store, config, "resim", 0)[0]
    monkeypatch.setattr("training.pretrain.validation_loader", lambda *_: None)
    without = pretrain(store, config, "resim", 0)[0]
    assert without.history.validation_loss == []
    assert _same(with_validation.encoder.state_dict(), without.encoder.state_dict())


def test_a_seed_index_beyond_the_config_is_refused(toy: Toy) -> None:
    with pytest.raises(UserError, match=r"--seed-index 3 is outside 0..2 \(training.seeds in the config\)"):
        pretrain(open_store(toy(80, 40), small().training), small(), "resim", 3)


def test_a_loss_that_is_not_finite_stops_the_training(toy: Toy) -> None:
    config = small(optimiser={"learning_rate": 1.0, "weight_decay": 0.0}, pretrain={"epochs": 1, "temperature": 1e-45})
    with pytest.raises(
        UserError,
        match=r"the loss is (nan|inf) at step 0 in epoch 0, in a batch with the objects hbb \d+, .*; lower the",
    ):
        pretrain(open_store(toy(80, 40), config.training), config, "resim", 0)


def test_contrastive_and_supervised_training_tell_two_prongs_from_one(toy: Toy) -> None:
    """One prong against two is easy: after a few epochs both must see it on every view."""
    config = small(
        encoder={"constituents": 20, "width": 16, "layers": 1, "heads": 2},
        pretrain={"epochs": 6, "batch": 32},
        supervised={"steps": 40, "batch": 64},
    )
    store = open_store(toy(400, 200), config.training)
    trained, _ = pretrain(store, config, "resim", 0)
    assert trained.history.loss[-1] < trained.history.loss[0]
    assert trained.history.validation_loss[-1] < trained.history.validation_loss[0]
    scratch = train_supervised(store, config, "supervised", 0)
    for result in (evaluate_encoder(store, config, trained), evaluate_supervised(store, config, scratch)):
        auc = {row.view: row.figures["auc"].value for row in result.rows if row.label_fraction == 1}
        assert set(auc) == set(store.views)
        assert min(auc.values()) > 0.9
        assert len(result.validation_loss) == len(result.loss)
        assert all(cosine.positive > cosine.random for cosine in result.cosine.values())


def test_the_rate_rises_in_a_line_and_ends_near_zero() -> None:
    rates = [rate(step, 100, 10, OptimiserConfig()) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[10] == 1
    assert np.all(np.diff(rates[10:]) < 0)
    assert rates[-1] < 0.001


def test_the_rate_falls_in_steps_as_torchs_own_schedule_has_it() -> None:
    """Eight epochs of five steps, as `StepLR`, which moves after every epoch."""
    weight = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.Adam([weight], lr=1.0)
    schedule, expected = torch.optim.lr_scheduler.StepLR(optimiser, step_size=3, gamma=0.5), []
    for _ in range(8):
        optimiser.step()
        expected += 5 * schedule.get_last_lr()
        schedule.step()
    config = OptimiserConfig(schedule="step", factor=0.5, every=3, warmup=0)
    assert [rate(step, 40, 8, config) for step in range(40)] == expected
    warm = config.model_copy(update={"warmup": 0.2})
    assert [rate(step, 40, 8, warm) for step in range(40)] == [(i + 1) / 8 for i in range(8)] + expected[8:]


def test_determinism_is_asked_of_torch() -> None:
    be_deterministic(1)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == 1
