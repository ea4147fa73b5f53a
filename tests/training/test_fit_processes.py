"""Whole processes: killed and started again, and two that train together."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.test_fit import steps_of
from tests.training.test_training import SMALL
from training import supervised
from training.config import Config, load
from training.evaluate import embed
from training.fit import STATE
from training.meter import Meter
from training.pretrain import contrastive_loader, load_trained, open_store, pretrain, validation_loader

Toy = Callable[[int, int], dict[str, Path]]
Recorded = Callable[[str, object], None]
ROOT = Path(__file__).parents[2]
ALL = """
import sys
from training.cli import app
COMMANDS = ("pretrain", "resim"), ("pretrain", "both"), ("supervised", "supervised"), ("supervised", "dann")
for command, method in COMMANDS:
    app([command, "--method", method, *sys.argv[1:], "--out", f"{method}.pt"], standalone_mode=False)
"""

DYING = """
import os, signal, sys
from training import pretrain
from training.cli import main
loss = pretrain._loss

def dying(*given):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), number)
    return loss(*given)

if __name__ == "__main__":
    left, number, pretrain._loss = int(sys.argv.pop(1)), int(sys.argv.pop(1)), dying
    main()
"""


def _arguments(folder: Path, folders: dict[str, Path], training: dict[str, object]) -> tuple[Config, list[str]]:
    """Write a config and give it, and the options that both trainings share."""
    sections = {"training": SMALL | training, "evaluation": {"label_fractions": [0.5, 1.0]}}
    (folder / "config.yaml").write_text(json.dumps(sections))
    data = [f"--data={sample}={place}" for sample, place in folders.items()]
    return load(folder / "config.yaml"), ["--config", "config.yaml", "--seed-index", "0", *data]


def _start(folder: Path, command: list[str]) -> subprocess.Popen[str]:
    here = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]), "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.Popen(
        [sys.executable, *command], cwd=folder, env=os.environ | here, stderr=subprocess.PIPE, text=True
    )


def _assert_ended(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Check that it was killed, or told to stop and said so in its last line."""
    told = process.communicate()[1]
    if number == signal.SIGKILL:
        assert process.returncode == -number, told
        return
    assert process.returncode == 128 + number, told
    assert "Traceback" not in told
    assert told.splitlines()[-1].startswith(f"resim-train: stopped by {number.name}; nothing half-written was kept")


def test_a_killed_training_goes_on_to_the_same_bits(toy: Toy, tmp_path: Path, record_property: Recorded) -> None:
    config, common = _arguments(tmp_path, toy(80, 40), {"pretrain": {**SMALL["pretrain"], "epochs": 12, "batch": 8}})
    command = ["-m", "training.cli", "pretrain", "--method", "resim", *common, "--out", "encoder.pt"]
    process, state = _start(tmp_path, command), tmp_path / "encoder.run" / STATE
    while not state.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    _assert_ended(process, signal.SIGKILL)
    assert not (tmp_path / "encoder.pt").exists()
    done = len(torch.load(state, weights_only=True)["history"]["loss"])
    assert 0 < done < 12
    again = _start(tmp_path, command)
    whole, _ = pretrain(open_store(toy(80, 40), config.training), config, "resim", 0)
    assert again.communicate()[1] == ""
    assert again.returncode == 0
    trained, _ = load_trained(tmp_path / "encoder.pt")
    expected, weights = whole.encoder.state_dict(), trained.encoder.state_dict()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert trained.history == whole.history
    assert not state.exists()
    first, second = (steps_of(tmp_path / "encoder.run", start) for start in range(2))
    assert len(second) == whole.history.steps * (12 - done) // 12
    assert len(first) >= whole.history.steps - len(second)
    record_property("fault", ("kill -9 of a training", "right"))


@pytest.mark.parametrize(
    ("workers", "number"), [(0, signal.SIGKILL), (1, signal.SIGTERM)], ids=["streaming-killed", "worker-told"]
)
def test_a_training_that_ended_within_an_epoch_goes_on_to_the_same_bits(
    toy: Toy, tmp_path: Path, workers: int, number: signal.Signals, record_property: Recorded
) -> None:
    loader = SMALL["loader"] | {"memory_mb": 0, "workers": workers}
    settings = {"pretrain": {**SMALL["pretrain"], "epochs": 4, "batch": 8}, "loader": loader}
    config, common = _arguments(tmp_path, toy(80, 40), settings)
    store, state = open_store(toy(80, 40), config.training), tmp_path / "encoder.run" / STATE
    batches = contrastive_loader(store, config.training, "resim", 0, Meter())
    judged = validation_loader(batches, store)
    assert judged
    until = 2 * (batches.steps(1) + judged.steps(1)) + batches.steps(1) // 2
    (tmp_path / "dying.py").write_text(DYING)
    command = ["pretrain", "--method", "resim", *common, "--out", "encoder.pt"]
    _assert_ended(_start(tmp_path, ["dying.py", str(until), str(int(number)), *command]), number)
    assert not (tmp_path / "encoder.pt").exists()
    assert len(torch.load(state, weights_only=True)["history"]["loss"]) == 2
    again = _start(tmp_path, ["-m", "training.cli", *command])
    whole, _ = pretrain(store, config, "resim", 0)
    assert again.communicate()[1] == ""
    trained, _ = load_trained(tmp_path / "encoder.pt")
    expected, weights = whole.encoder.state_dict(), trained.encoder.state_dict()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert trained.history == whole.history
    record_property("fault", (f"{number.name} of a training within an epoch", "right"))


def test_an_adversarial_training_that_was_stopped_goes_on_to_the_same_bits(
    toy: Toy, tmp_path: Path, record_property: Recorded
) -> None:
    """Both of its loaders, the views' classifier and the strength of the reversal go on where they were."""
    training = {"methods": {"dann": {}}, "supervised": {"steps": 240, "batch": 8}}
    config, common = _arguments(tmp_path, toy(80, 40), training)
    command = ["-m", "training.cli", "supervised", "--method", "dann", *common, "--out", "dann.pt"]
    process, state = _start(tmp_path, command), tmp_path / "dann.run" / "h_qcd" / "labels-1" / STATE
    while not state.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _assert_ended(process, signal.SIGINT)
    done = len(torch.load(state, weights_only=True)["history"]["loss"])
    again = _start(tmp_path, command)
    store = open_store(toy(80, 40), config.training)
    whole = supervised.train_supervised(store, config, "dann", 0)
    assert 0 < done < len(whole.history.loss)
    assert again.communicate()[1] == ""
    trained = supervised.load_for(tmp_path / "dann.pt", config, store, "dann", 0)
    assert trained.history == whole.history
    for of, classifier in whole.classifiers.items():
        expected, weights = classifier.state_dict(), trained.classifiers[of].state_dict()
        assert all(torch.equal(weights[name], expected[name]) for name in expected)
    record_property("fault", ("SIGINT of a training", "right"))


def test_two_processes_learn_step_by_step_what_one_does(toy: Toy, tmp_path: Path) -> None:
    methods = {"resim": {}, "both": {}, "supervised": {}, "dann": {}}
    config, common = _arguments(tmp_path, toy(80, 40), {"supervised": {"steps": 6, "batch": 31}, "methods": methods})
    (tmp_path / "all.py").write_text(ALL)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "all.py", *common]
    process = _start(tmp_path, torchrun)
    store, alone = open_store(toy(80, 40), config.training), tmp_path / "alone"
    one, _ = pretrain(store, config, "resim", 0, alone / "resim.run")
    both, _ = pretrain(store, config, "both", 0)
    labelled = {
        name: supervised.train_supervised(store, config, name, 0, alone / f"{name}.run")
        for name in ("supervised", "dann")
    }
    errors = process.communicate(timeout=180)[1]
    assert process.returncode == 0, errors
    of_labels = [f"{name}.run/h_qcd/labels-{fraction}" for name in labelled for fraction in ("0.5", "1")]
    for run in ("resim.run", *of_labels):
        assert steps_of(tmp_path / run) == pytest.approx(steps_of(alone / run), rel=1e-4)
        assert len(steps_of(tmp_path / run)) > 3
    two, _ = load_trained(tmp_path / "resim.pt")
    assert two.history.validation_loss == pytest.approx(one.history.validation_loss, rel=1e-4)
    rows = store.index.rows("test", ["nominal"])
    outputs = [embed(t.encoder, t.normalisation, store, "nominal", rows) for t in (one, two)]
    np.testing.assert_allclose(*outputs, rtol=1e-2, atol=1e-3)
    for name, scratch in labelled.items():
        pair = supervised.load_for(tmp_path / f"{name}.pt", config, store, name, 0)
        assert pair.history.loss == pytest.approx(scratch.history.loss, rel=1e-4)
    record = json.loads((tmp_path / "both.run" / "run.json").read_text())
    assert record["environment"]["processes"] == 2
    assert record["cost"]["augmented_jets"] == both.cost["augmented_jets"] > 0
