"""What a training leaves, what it goes on from, and what it runs on."""

import csv
import json
import multiprocessing
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import torch
from torch import Tensor

from resim.errors import UserError
from tests.training.test_training import SMALL, small
from training import supervised
from training.cli import main
from training.fit import STATE
from training.pretrain import Trained, is_finished, open_store, pretrain, save

Toy = Callable[[int, int], dict[str, Path]]


def _pretrained(folders: dict[str, Path], folder: Path | None = None, **training: Any) -> Trained:
    config = small(**training)
    return pretrain(open_store(folders, config.training), config, "both", 0, folder)[0]


def steps_of(folder: Path, start: int | str = "*") -> list[float]:
    """Read the loss of every step that the CSV logger wrote, in one start of the run or in all in a row."""
    files = sorted(folder.glob(f"csv/version_{start}/metrics.csv"))
    rows = [row for file in files for row in csv.DictReader(file.open())]
    return [float(row["loss"]) for row in rows if row["loss"]]


def _column(folder: Path, name: str) -> list[float]:
    (file,) = folder.glob("csv/*/metrics.csv")
    return [float(row[name]) for row in csv.DictReader(file.open()) if row[name]]


def stop_after(monkeypatch: pytest.MonkeyPatch, where: str, calls: int) -> None:
    """Let a loss fail after so many batches, validation included."""
    module, name = where.rsplit(".", 1)
    loss, left = getattr(pytest.importorskip(module), name), [calls]

    def failing(*arguments: Any) -> Tensor:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return loss(*arguments)

    monkeypatch.setattr(where, failing)


def test_metrics_of_every_step_and_epoch_are_left(toy: Toy, tmp_path: Path) -> None:
    trained = _pretrained(toy(80, 40), tmp_path)
    assert len(steps_of(tmp_path)) == trained.history.steps == len(_column(tmp_path, "rate"))
    assert _column(tmp_path, "epoch_loss") == pytest.approx(trained.history.loss)
    assert _column(tmp_path, "validation_loss") == pytest.approx(trained.history.validation_loss)


def test_a_run_leaves_its_config_environment_seeds_and_cost(toy: Toy, tmp_path: Path) -> None:
    trained = _pretrained(toy(80, 40), tmp_path)
    found = json.loads((tmp_path / "run.json").read_text())
    assert found["config"] == small().of("both").model_dump(mode="json")
    assert (found["method"], found["seed_index"], found["provenance"]["seed"]) == ("both", 0, 1)
    assert found["environment"]["packages"]["torch"] == version("torch")
    assert (found["environment"]["threads"], found["environment"]["processes"]) == (1, 1)
    assert found["cost"] == trained.cost


def test_tensorboard_is_a_choice(toy: Toy, tmp_path: Path) -> None:
    _pretrained(toy(80, 40), tmp_path, trainer={"logger": ["tensorboard"]})
    assert list(tmp_path.rglob("events.out.tfevents*"))
    assert not list(tmp_path.rglob("metrics.csv"))


def test_a_logger_that_is_not_installed_is_named(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.learner.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"training.trainer.logger: wandb is not installed; `pip install wandb`, or"):
        _pretrained(toy(80, 40), tmp_path, trainer={"logger": ["csv", "wandb"]})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_missed(toy: Toy) -> None:
    with pytest.raises(UserError, match=r"training.trainer.accelerator: gpu, and torch finds none; auto or cpu trains"):
        _pretrained(toy(80, 40), trainer={"accelerator": "gpu"})


@pytest.mark.parametrize("accelerator", ["cpu", "auto"])
def test_half_precision_is_refused_on_a_cpu(toy: Toy, accelerator: str) -> None:
    """Lightning would compute in bf16 without a word that stays."""
    if accelerator == "auto" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match=r"training.trainer.precision: 16-mixed needs a GPU.*: 32-true, bf16-mixed"):
        _pretrained(toy(80, 40), trainer={"accelerator": accelerator, "precision": "16-mixed"})


def test_an_interrupted_pretraining_goes_on_to_the_same_bits(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"pretrain": {**SMALL["pretrain"], "epochs": 4, "batch": 8}}
    whole = _pretrained(toy(80, 40), tmp_path / "whole", **settings)
    in_epoch = whole.history.steps // 4 + 1  # with its validation batch
    with monkeypatch.context() as patch:
        stop_after(patch, "training.pretrain._loss", 2 * in_epoch + 1)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            _pretrained(toy(80, 40), tmp_path / "cut", **settings)
    assert [path.name for path in (tmp_path / "cut").glob("*.ckpt")] == [STATE]
    again = _pretrained(toy(80, 40), tmp_path / "cut", **settings)
    weights, expected = again.encoder.state_dict(), whole.encoder.state_dict()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert again.history == whole.history
    assert again.cost["cpu_s"] > 0
    assert set(steps_of(tmp_path / "cut")) == set(steps_of(tmp_path / "whole"))


def test_an_interrupted_supervised_training_repeats_no_finished_fraction(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(supervised={"steps": 24, "batch": 8})
    store, calls = open_store(toy(80, 40), config.training), []
    whole = supervised.train_supervised(store, config, "supervised", 0)
    with monkeypatch.context() as patch:
        stop_after(patch, "training.supervised._loss", 3 * 24 - 4)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            supervised.train_supervised(store, config, "supervised", 0, tmp_path)
    loss = supervised._loss
    monkeypatch.setattr("training.supervised._loss", lambda *given: calls.append(1) or loss(*given))
    again = supervised.train_supervised(store, config, "supervised", 0, tmp_path)
    assert len(calls) < whole.history.steps
    assert again.history == whole.history
    for fraction, classifier in whole.classifiers.items():
        expected, weights = classifier.state_dict(), again.classifiers[fraction].state_dict()
        assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_a_state_of_another_training_is_not_gone_on_with(toy: Toy, tmp_path: Path) -> None:
    _pretrained(toy(80, 40), tmp_path)
    fresh, other = (_pretrained(toy(80, 40), folder, seed=2) for folder in (None, tmp_path))
    assert other.history == fresh.history


def test_what_was_seen_of_another_main_task_is_not_gone_on_with(toy: Toy, tmp_path: Path) -> None:
    """The weights are the same; the probe's curve would be of two tasks."""
    tasks = {"h_qcd": {"classes": ["qcd", "hbb"]}, "eta": {"target": "eta"}}
    _pretrained(toy(80, 40), tmp_path, tasks=tasks)
    other = _pretrained(toy(80, 40), tmp_path, tasks=dict(reversed(tasks.items())))
    assert {name: len(values) for name, values in other.history.probe.items()} == {
        "r2": 2, "spread": 2, "effective_rank": 2
    }  # fmt: skip


def test_a_state_that_is_no_state_is_refused(toy: Toy, tmp_path: Path) -> None:
    (tmp_path / STATE).write_bytes(b"half a file")
    with pytest.raises(UserError, match=rf"{STATE}: not a checkpoint, or a damaged one .*; make it anew"):
        _pretrained(toy(80, 40), tmp_path)


def test_a_finished_training_is_not_repeated(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text(json.dumps({"training": SMALL}))
    data = [f"--data={sample}={folder}" for sample, folder in toy(80, 40).items()]
    common = ["--config", str(tmp_path / "config.yaml"), "--seed-index", "0", *data]
    for command in (["pretrain", "--method", "resim"], ["supervised", "--method", "supervised"]):
        out, told = tmp_path / f"{command[0]}.pt", []
        for _ in range(2):
            monkeypatch.setattr("sys.argv", ["resim-train", *command, *common, "--out", str(out)])
            with pytest.raises(SystemExit, match="0"):
                main()
            told.append((out.stat().st_mtime_ns, capsys.readouterr().out))
        assert told[0][0] == told[1][0]
        assert told[0][1] == ""
        assert "trained before, with the same config, data and software; nothing to do" in told[1][1]
        assert not list(tmp_path.rglob(STATE))


def test_finished_is_of_this_config_and_seed_alone(toy: Toy, tmp_path: Path) -> None:
    config, path = small(), tmp_path / "encoder.pt"
    store = open_store(toy(80, 40), config.training)
    assert not is_finished(path, config, store, "resim", 0)
    save(path, pretrain(store, config, "resim", 0)[1])
    assert is_finished(path, config, store, "resim", 0)
    assert is_finished(path, small(trainer={"logger": ["tensorboard"]}), store, "resim", 0)
    assert not is_finished(path, small(seed=2), store, "resim", 0)
    assert not is_finished(path, config, store, "resim", 1)


def test_a_loss_that_is_not_finite_keeps_the_last_good_epoch(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training import pretrain as module

    loss = module._loss
    monkeypatch.setattr(module, "_loss", lambda *given: loss(*given) * (float("nan") if given[-1].epoch else 1))
    with pytest.raises(
        UserError,
        match=r"both seed 0: the loss is nan at step \d+ in epoch 1, in a batch with the objects "
        rf"((qcd|hbb) \d+,? ){{3}}\.\.\.; lower the learning rate; the last good state is .*{STATE}",
    ):
        _pretrained(toy(80, 40), tmp_path, pretrain={**SMALL["pretrain"], "batch": 8})
    assert len(torch.load(tmp_path / STATE, weights_only=True)["history"]["loss"]) == 1


def test_mixed_precision_is_close_to_single(toy: Toy) -> None:
    single = _pretrained(toy(80, 40))
    mixed = _pretrained(toy(80, 40), trainer={"precision": "bf16-mixed"})
    assert mixed.history.loss == pytest.approx(single.history.loss, rel=0.02)
    assert mixed.history.loss != single.history.loss
    assert {x.dtype for x in mixed.encoder.state_dict().values()} == {torch.float32}


def test_activations_computed_again_change_no_bit(toy: Toy) -> None:
    kept = _pretrained(toy(80, 40))
    again = _pretrained(toy(80, 40), encoder={**SMALL["encoder"], "recompute": True})
    assert again.history == kept.history


def test_processes_that_make_batches_change_no_bit_and_end(toy: Toy) -> None:
    threads, processes = (
        _pretrained(toy(80, 40), loader={**SMALL["loader"], "memory_mb": 0, "workers": n}) for n in (0, 1)
    )
    assert processes.history == threads.history
    assert multiprocessing.active_children() == []  # else their seconds were not in the price


def test_without_a_compiler_nothing_is_compiled(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(
        UserError, match=r"trainer.compile: needs a C\+\+ compiler, and there is no no-such-compiler; set"
    ):
        _pretrained(toy(80, 40), trainer={"compile": True})


@pytest.mark.slow
@pytest.mark.skipif(which(os.environ.get("CXX", "g++")) is None, reason="torch.compile needs a C++ compiler")
def test_compiled_networks_learn_the_same(toy: Toy) -> None:
    plain = _pretrained(toy(80, 40))
    compiled = _pretrained(toy(80, 40), trainer={"compile": True})
    assert compiled.history.loss == pytest.approx(plain.history.loss, rel=1e-4)
    assert compiled.encoder.state_dict().keys() == plain.encoder.state_dict().keys()
