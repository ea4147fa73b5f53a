"""Every kind of training on images, with every encoder of the lane, in a few steps."""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.images import SAMPLES, VIEWS, write_images
from training import supervised
from training.config import Config
from training.dann import Adversarial
from training.meter import Meter
from training.methods import KINDS
from training.pretrain import contrastive_loader, open_store, pretrain
from training.supervised import evaluate_supervised, train_supervised

ENCODERS: dict[str, dict[str, Any]] = {
    "convnext": {"kind": "convnext"},
    "patches": {"kind": "patches", "width": 16, "heads": 2},
    "plain": {"kind": "plain", "width": 16, "heads": 2},
}
LABELLED = ("supervised_generic", "dann")
PAIRS = {"kind": "both", "pretrain": {"loss": "supcon_out", "alpha": [0, 0.25, 0.5, 0.75, 1]}}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("images")
    return {sample: write_images(base / sample, sample, 40) for sample in SAMPLES}


def _config(encoder: str) -> Config:
    training = {
        "seeds": 1,
        "tasks": {"particle": {"classes": list(SAMPLES)}},
        "methods": {name: {} for name in ("supervised", *LABELLED, "both", "generic")} | {"supcon": PAIRS},
        "views": list(VIEWS[:3]),
        "encoder": ENCODERS[encoder] | {"constituents": 40},
        "pretrain": {"epochs": 1, "batch": 50, "projection": 8, "probe": 0},
        "supervised": {
            "steps": 4,
            "batch": 50,
        },  # the reversed gradient begins with 0, and acts on the head a step later
        "dann": {"domains": "nominal"},
        "loader": {"group": 8, "shuffle": 64},
    }
    return Config.model_validate({"training": training, "evaluation": {"label_fractions": [1.0], "bootstrap": 20}})


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("method", LABELLED)
def test_labels_are_learned_with_augmentations_and_against_the_views(
    folders: dict[str, Path], encoder: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both start as `supervised` does and end elsewhere; the domains of `dann` are nominal and what is thrown."""
    made: list[Adversarial] = []
    monkeypatch.setattr(supervised, "Adversarial", lambda *given: made.append(Adversarial(*given)) or made[-1])
    config = _config(encoder)
    store = open_store(folders, config.training)
    plain, trained = (train_supervised(store, config, name, 0) for name in ("supervised", method))
    (one,), (other,) = plain.classifiers.values(), trained.classifiers.values()
    assert not torch.equal(one.head[0].weight, other.head[0].weight)
    assert (trained.cost["augmented_jets"] > 0) == KINDS[method].augmented
    assert [adversary.domain_of for adversary in made] == ([(0, 1, 1)] if method == "dann" else [])
    judged = evaluate_supervised(store, config, trained)
    assert {row.view for row in judged.rows} == set(VIEWS)
    assert all(np.isfinite(figure.value) for row in judged.rows for figure in row.figures.values())
    moved = [row.figures for row in judged.rows if row.view != "nominal"]
    assert all({"accuracy", "accuracy_change", *(f"accuracy_{s}" for s in SAMPLES)} < set(found) for found in moved)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_scan_of_alpha_goes_from_ntxent_to_all_labels(folders: dict[str, Path], encoder: str) -> None:
    config = _config(encoder)
    scan = [f"supcon_alpha_{alpha}" for alpha in PAIRS["pretrain"]["alpha"]]
    assert list(config.training.methods) == ["supervised", *LABELLED, "both", "generic", *scan]
    store = open_store(folders, config.training)
    losses = {name: pretrain(store, config, name, 0)[0].history.loss[0] for name in ("both", *scan)}
    assert losses[scan[0]] == pytest.approx(losses["both"], rel=1e-5)
    others = [losses[name] for name in scan]
    assert len({round(loss, 4) for loss in others}) == len(scan)
    assert np.isfinite(others).all()


def test_the_two_views_of_a_pair_and_every_epoch_are_augmented_by_draws_of_their_own(folders: dict[str, Path]) -> None:
    config = _config("convnext").training
    loader = contrastive_loader(open_store(folders, config), config, "generic", 0, Meter())
    shown: dict[int, list[torch.Tensor]] = {}
    for batch in loader.batches(range(2)):
        for view in batch.views:
            for row, values in zip(batch.rows.tolist(), view.values[:, :1], strict=True):
                shown.setdefault(row, []).append(values)
    alike = [torch.equal(a, b) for four in shown.values() for a, b in combinations(four, 2)]
    assert all(len(four) == 4 for four in shown.values())
    assert np.mean(alike) < 0.05  # by identity or drop alone, three times, where the first voxel stays: (2/7)^6
