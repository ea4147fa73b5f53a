"""Fine-tuning: it goes on where it was killed, and what it leaves."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from tests.training.test_fit import steps_of
from tests.training.test_training import SMALL
from training import heads, supervised
from training.cli import app
from training.config import Config
from training.data.loader import in_order
from training.evaluate import embed
from training.fit import STATE, place
from training.heads import evaluate_encoder
from training.pretrain import open_store, pretrain, save
from training.results import EvaluationResult

Toy = Callable[[int, int], dict[str, Path]]
SECTIONS = {
    "training": SMALL | {"supervised": {"steps": 40, "batch": 32}, "methods": {"resim": {}}},
    "evaluation": {"bootstrap": 20, "label_fractions": [1.0], "heads": ["linear", "finetuned"]},
}


class _Killed(Exception):
    pass


def _dies_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Let fine-tuning end after some steps."""
    left, loss = [steps], supervised._loss

    def dying(*given: object) -> object:
        left[0] -= 1
        if left[0] < 0:
            raise _Killed
        return loss(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(supervised, "_loss", dying)


def test_a_killed_fine_tuning_goes_on_to_the_same_numbers(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config.model_validate(SECTIONS)
    store = open_store(toy(80, 40), config.training)
    trained, other = (pretrain(store, config, "resim", seed)[0] for seed in (0, 1))
    whole = evaluate_encoder(store, config, trained, folder=tmp_path / "whole")
    run = Path("h_qcd", "finetuned", "labels-1")
    with monkeypatch.context() as patched:
        _dies_after(patched, 25)
        with pytest.raises(_Killed):
            evaluate_encoder(store, config, trained, folder=tmp_path / "again")
    assert (tmp_path / "again" / run / STATE).exists()
    again = evaluate_encoder(store, config, trained, folder=tmp_path / "again")
    assert again.rows == whole.rows
    steps, second = steps_of(tmp_path / "whole" / run), steps_of(tmp_path / "again" / run, 1)
    assert len(steps) - 25 <= len(second) < len(steps)
    assert second == steps[-len(second) :]
    record = json.loads((tmp_path / "again" / run / "run.json").read_text())
    assert record["cost"]["steps"] == len(steps)
    assert record["cost"]["cpu_s"] == again.heads_cpu_s["finetuned"] > 0
    of_other = replace(trained, encoder=other.encoder)
    evaluate_encoder(store, config, of_other, folder=tmp_path / "again")
    assert len(steps_of(tmp_path / "again" / run, 2)) == len(steps)


def test_the_command_leaves_metrics_beside_its_result_and_no_state(toy: Toy, tmp_path: Path) -> None:
    config = Config.model_validate(SECTIONS)
    (tmp_path / "config.yaml").write_text(json.dumps(SECTIONS))
    save(tmp_path / "e.pt", pretrain(open_store(toy(80, 40), config.training), config, "resim", 0)[1])
    data = [f"--data={sample}={place}" for sample, place in toy(80, 40).items()]
    words = ["evaluate", "--config", str(tmp_path / "config.yaml"), "--method", "resim", "--seed-index", "0", *data]
    done = CliRunner().invoke(app, [*words, "--encoder", str(tmp_path / "e.pt"), "--out", str(tmp_path / "e.json")])
    assert done.exit_code == 0, done.output
    found = EvaluationResult.model_validate_json((tmp_path / "e.json").read_text())
    assert set(found.heads_cpu_s) == {"linear", heads.FINETUNED}
    assert steps_of(tmp_path / "e.run" / "h_qcd" / "finetuned" / "labels-1")
    assert not list(tmp_path.rglob(STATE))


@pytest.mark.parametrize(
    "accelerator",
    ["cpu", pytest.param("auto", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))],
)
def test_outputs_are_those_of_the_processor_wherever_the_encoder_is(
    toy: Toy, accelerator: Literal["cpu", "auto"]
) -> None:
    config = Config.model_validate(SECTIONS)
    store = open_store(toy(80, 40), config.training)
    trained, _ = pretrain(store, config, "resim", 0)
    rows = store.index.rows("test", ["nominal"])
    ((_, jets),) = in_order(store, "nominal", rows, trained.normalisation, len(rows))
    with torch.inference_mode():
        expected = trained.encoder(jets.values, jets.present).numpy()
    place(trained.encoder, config.training.trainer.model_copy(update={"accelerator": accelerator}))
    found = embed(trained.encoder, trained.normalisation, store, "nominal", rows)
    if accelerator == "cpu":
        np.testing.assert_array_equal(found, expected)
    else:
        assert next(trained.encoder.parameters()).device.type == "cuda"
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
