"""What a pretraining is watched by: right figures, no effect on the training, a warning where it collapses."""

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score, recall_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

from tests.training.test_training import SMALL, small
from training.cli import main as main_command
from training.compare import compare
from training.config import Config, Task
from training.files import read_model
from training.fit import be_deterministic
from training.heads import evaluate_encoder
from training.keys import generator, torch_generator
from training.plots import training_curves
from training.pretrain import Trained, load_trained, make_encoder, normalisation_of, open_store, pretrain, save
from training.results import Comparison, EvaluationResult
from training.supervised import evaluate_supervised, train_supervised
from training.watch import _RIDGE, COLLAPSED, Watch, effective_rank, probed, spread

Toy = Callable[[int, int], dict[str, Path]]
ROOT = Path(__file__).parents[2]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "training.cli", "pretrain"]
THREE = Task(classes=["qcd", "hbb", "wqq"])


def _pretrained(folders: dict[str, Path], folder: Path | None = None, **pretraining: Any) -> Trained:
    training = {"optimiser": pretraining.pop("optimiser")} if "optimiser" in pretraining else {}
    config = small(pretrain=SMALL["pretrain"] | pretraining, **training)
    return pretrain(open_store(folders, config.training), config, "resim", 0, folder)[0]


def _watch(folders: dict[str, Path], config: Config) -> Watch | None:
    be_deterministic(1)
    store = open_store(folders, config.training)
    normalisation = normalisation_of(store, config.training)
    encoder = make_encoder(config.training.encoder, normalisation, torch_generator("watched"))
    return Watch.on_validation(encoder, normalisation, store, config.training)


def test_spread_is_one_for_all_directions_alike_and_zero_for_one_output() -> None:
    draws = generator("spread")
    alike = draws.normal(size=(4000, 16))
    assert spread(alike) == pytest.approx(1, rel=0.02)
    assert spread(alike * draws.uniform(1, 100, (4000, 1))) == pytest.approx(spread(alike))
    assert spread(np.tile(alike[:1], (50, 1))) == pytest.approx(0, abs=1e-9)
    assert spread(np.zeros((5, 3))) == 0


def test_the_effective_rank_counts_directions() -> None:
    for used in (1, 3, 8):
        assert effective_rank(np.tile(np.eye(8)[:used], (5, 1))) == pytest.approx(used, rel=1e-4)
    assert effective_rank(np.diag([2.0, 1.0, 1.0])) == pytest.approx(np.exp(1.5 * np.log(2)), rel=1e-4)
    assert np.isfinite(effective_rank(np.zeros((5, 3))))


@pytest.mark.parametrize("task", [Task(classes=["qcd", "hbb"]), THREE, Task(target="mass")])
def test_the_probe_is_ridge_regression_crossed_over_halves(task: Task) -> None:
    draws = generator("probe")
    features, half = draws.normal(size=(300, 6)) * [1, 1, 1, 1, 1, 50], draws.integers(0, 2, 300)
    told = features[:, 0] + 0.5 * features[:, 1] + draws.normal(size=300)
    label = told if task.target else np.digitize(told, [-0.5, 0.5] if task == THREE else [0.0]).astype(float)
    expected = []
    for h in (0, 1):
        scale = StandardScaler().fit(features[half == h])
        aims = label if task.target else np.eye(len(task.members))[label.astype(int)]
        model = Ridge(alpha=_RIDGE * np.sum(half == h)).fit(scale.transform(features[half == h]), aims[half == h])
        score, true = model.predict(scale.transform(features[half != h])), label[half != h]
        if task.target:
            expected.append(r2_score(true, score))
        elif task == THREE:
            expected.append(recall_score(true, score.argmax(axis=1), average="macro"))
        else:
            expected.append(roc_auc_score(true, score[:, 1]))
    name = "r2" if task.target else "accuracy" if task == THREE else "auc"
    assert probed(task, features, label, half) == {name: pytest.approx(np.mean(expected))}


def test_a_probe_of_a_class_that_is_not_there_tells_nothing() -> None:
    assert probed(THREE, np.eye(6), np.array([0.0, 1, 0, 1, 0, 1]), np.array([0, 0, 0, 1, 1, 1])) == {}


def test_objects_are_of_the_validation_split_and_spread_evenly(toy: Toy) -> None:
    index = open_store(toy(200, 100), small().training).index
    whole = _watch(toy(200, 100), small())
    assert whole
    rows = index.rows("validation", ["nominal"])
    assert whole.label.tolist() == [index.samples[s] == "hbb" for s in index.sample[rows]]
    few = _watch(toy(200, 100), small(pretrain=SMALL["pretrain"] | {"probe": 16}))
    assert few
    assert len(few.label) == sum(len(jets.values) for jets in few.jets) == 16
    assert abs(few.label.mean() - whole.label.mean()) < 0.1
    assert set(few.half) == {0, 1}
    assert _watch(toy(200, 100), small(pretrain=SMALL["pretrain"] | {"probe": 0})) is None


def test_watching_draws_nothing_and_leaves_the_encoder_as_it_was(toy: Toy) -> None:
    watch = _watch(toy(200, 100), small(encoder={"constituents": 12, "kind": "rs3l"}))
    assert watch
    watch.encoder.train()
    before = {name: value.clone() for name, value in watch.encoder.state_dict().items()}
    state = torch.random.get_rng_state()
    assert watch.figures() == watch.figures()
    assert watch.encoder.training
    assert all(module.training for module in watch.encoder.modules())
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in watch.encoder.state_dict().items())


def test_a_watched_training_ends_with_the_same_bits_and_leaves_its_figures(toy: Toy, tmp_path: Path) -> None:
    watched, alone = (_pretrained(toy(80, 40), tmp_path / str(probe), probe=probe) for probe in (512, 0))
    expected = alone.encoder.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in watched.encoder.state_dict().items())
    assert (watched.history.loss, watched.history.steps) == (alone.history.loss, alone.history.steps)
    assert alone.history.probe == {}
    assert {name: len(values) for name, values in watched.history.probe.items()} == {
        "auc": 2, "spread": 2, "effective_rank": 2
    }  # fmt: skip
    (file,) = (tmp_path / "512").glob("csv/*/metrics.csv")
    rows = [row for row in csv.DictReader(file.open()) if row["epoch_loss"]]
    for name, values in watched.history.probe.items():
        assert [float(row[f"probe_{name}"]) for row in rows] == pytest.approx(values)
    state = torch.load(tmp_path / "512" / "state.ckpt", weights_only=True)
    assert state["history"]["probe"] == watched.history.probe


@pytest.mark.parametrize(("main", "figures"), [("h_qcd", {"auc", "spread", "effective_rank"}), ("eta", set())])
def test_an_evaluation_of_another_main_task_tells_nothing_of_the_probe(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, main: str, figures: set[str]
) -> None:
    tasks = {"h_qcd": {"classes": ["qcd", "hbb"]}, "eta": {"target": "eta"}}
    for config, command, *words in (
        (small(tasks=tasks), "pretrain", "--out", "encoder.pt"),
        (small(tasks={main: tasks[main]} | tasks), "evaluate", "--encoder", "encoder.pt", "--out", "judged.json"),
    ):
        (tmp_path / "config.yaml").write_text(config.model_dump_json())
        data = [f"--data={sample}={folder}" for sample, folder in toy(80, 40).items()]
        common = ["--config=config.yaml", "--method=generic", "--seed-index=0", *data]
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["resim-train", command, *common, *words])
        with pytest.raises(SystemExit, match="0"):
            main_command()
    assert set(read_model(tmp_path / "judged.json", EvaluationResult).probe) == figures


@pytest.mark.parametrize(
    "wrong",
    [
        {"loss": "vicreg", "vicreg": {"variance": 0, "covariance": 0}, "optimiser": {"learning_rate": 0.02}},
        {"optimiser": {"learning_rate": 1.0, "weight_decay": 1.0}},  # the rate alone collapses for some seeds only
    ],
    ids=["nothing keeps outputs apart", "rate and decay too high"],
)
def test_a_collapse_is_told_once(toy: Toy, capsys: pytest.CaptureFixture[str], wrong: dict[str, Any]) -> None:
    settings = {"epochs": 8, "batch": 16} | wrong
    collapsed = _pretrained(toy(200, 100), **settings).history.probe["spread"]
    told = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert collapsed[-1] < COLLAPSED
    first = next(epoch for epoch, value in enumerate(collapsed) if value < COLLAPSED)
    assert len(told) == 1
    assert f"resim seed 0: epoch {first}: spread {collapsed[first]:.2g} of 1, below {COLLAPSED}: the encoder" in told[0]
    assert told[0].endswith("lower training.optimiser.learning_rate, or of vicreg raise the weight of variance")


@pytest.mark.parametrize(
    "settings", [{"optimiser": {"learning_rate": 0.02}}, {"loss": "vicreg"}], ids=["ntxent", "vicreg"]
)
def test_nothing_is_told_of_a_training_that_learns(
    toy: Toy, capsys: pytest.CaptureFixture[str], settings: dict[str, Any]
) -> None:
    found = _pretrained(toy(200, 100), epochs=8, batch=16, **settings).history.probe
    assert min(found["spread"]) > 1.2 * COLLAPSED
    assert capsys.readouterr().err == ""


def test_two_processes_see_what_one_does(toy: Toy, tmp_path: Path) -> None:
    config = small()
    (tmp_path / "config.yaml").write_text(config.model_dump_json())
    command = [*TORCHRUN, "--config=config.yaml", "--method=resim", "--seed-index=0", "--out=encoder.pt"]
    command += [f"--data={sample}={folder}" for sample, folder in toy(80, 40).items()]
    here = {"PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
    process = subprocess.Popen([sys.executable, *command], cwd=tmp_path, env=os.environ | here)
    one = _pretrained(toy(80, 40)).history.probe
    assert process.wait(timeout=120) == 0
    two = load_trained(tmp_path / "encoder.pt")[0].history.probe
    assert set(two) == set(one)
    for name, values in one.items():
        assert two[name] == pytest.approx(values, rel=0.02)


@pytest.fixture(scope="module")
def compared(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, list[Trained]]:
    """Train two seeds of a method and one of another; give the comparison and the encoders."""
    config, path = small(), tmp_path_factory.mktemp("watched") / "encoder.pt"
    store, trained = open_store(toy(80, 40), config.training), []
    for seed in range(2):
        save(path, pretrain(store, config, "resim", seed)[1])
        trained.append(load_trained(path)[0])
    results = [evaluate_encoder(store, config, each) for each in trained]
    results.append(evaluate_supervised(store, config, train_supervised(store, config, "supervised", 0)))
    return compare(results, store, config), trained


def test_the_comparison_tells_what_was_seen_of_each_seed(compared: tuple[Comparison, list[Trained]]) -> None:
    comparison, trained = compared
    assert comparison.methods["resim"].probe == [each.history.probe for each in trained]
    assert trained[0].history.probe["auc"] != trained[1].history.probe["auc"]
    assert comparison.methods["supervised"].probe == [{}]


def test_curves_are_of_losses_and_the_probe_for_each_method(compared: tuple[Comparison, list[Trained]]) -> None:
    comparison, trained = compared
    figure = training_curves(comparison)
    assert isinstance(figure, Figure)
    panels = {panel.get_ylabel(): panel for panel in figure.axes}
    assert list(panels) == [
        "loss of pairs", "validation loss of pairs", "loss of labels", "validation loss of labels",
        "AUC of a linear probe", "spread of outputs (0: collapse)", "effective rank of outputs",
    ]  # fmt: skip
    assert {panel.get_xlabel() for panel in panels.values()} == {"epoch"}
    assert [len(panel.lines) for panel in panels.values()] == [1] * 7
    (line,) = panels["AUC of a linear probe"].lines
    both = np.array([each.history.probe["auc"] for each in trained])
    np.testing.assert_allclose(line.get_ydata(), both.mean(axis=0))
    (band,) = panels["AUC of a linear probe"].collections
    assert band.get_datalim(panels["AUC of a linear probe"].transData).intervaly == pytest.approx(
        [both.min(), both.max()]
    )
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["resim", "supervised"]
