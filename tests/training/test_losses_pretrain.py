"""Losses and encoders of the config in a whole training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from tests.training.test_training import SMALL, small
from training import supervised
from training.evaluate import embed
from training.heads import evaluate_encoder
from training.meter import Meter
from training.pretrain import Trained, contrastive_loader, labels_seen, load_trained, open_store, pretrain, save

Toy = Callable[[int, int], dict[str, Path]]


def _trained(folders: dict[str, Path], **pretraining: Any) -> Trained:
    config = small(pretrain=SMALL["pretrain"] | pretraining)
    return pretrain(open_store(folders, config.training), config, "resim", 0)[0]


def test_labels_reach_the_loss_with_alpha_and_only_then(toy: Toy) -> None:
    """Were all labels different, as without them, full supervision would be NT-Xent."""
    expected = pytest.approx(_trained(toy(80, 40)).history.loss, rel=1e-4)
    for loss in ("supcon_in", "supcon_out"):
        assert _trained(toy(80, 40), loss=loss).history.loss == expected
        assert _trained(toy(80, 40), loss=loss, alpha=1).history.loss != expected


@pytest.mark.parametrize(
    ("pretraining", "kind", "counted"),
    [
        ({}, "resim", False),
        ({"loss": "supcon_in", "alpha": 0}, "resim", False),
        ({"loss": "supcon_in", "alpha": 0.5}, "resim", True),
        ({"loss": "supcon_out", "alpha": 1}, "generic", True),
        ({"loss": "supcon_out", "alpha": 1}, "supervised", False),
    ],
)
def test_labels_seen_in_pretraining_are_all_objects_of_a_supervised_loss(
    toy: Toy, pretraining: dict[str, Any], kind: str, counted: bool
) -> None:
    config = small(pretrain=SMALL["pretrain"] | pretraining, methods={"m": {"kind": kind}})
    store = open_store(toy(80, 40), config.training)
    views = ["nominal"] if kind == "generic" else config.training.views
    assert labels_seen(store, config, "m") == counted * len(store.index.rows("train", views))
    if kind != "supervised":
        loader = contrastive_loader(store, config.training, "m", 0, Meter())
        assert labels_seen(store, config, "m") == counted * len(loader.rows)


@pytest.mark.parametrize("loss", ["supcon_in", "supcon_out"])
def test_with_alpha_objects_of_a_class_come_together(toy: Toy, loss: str) -> None:
    """Cosine within the classes less that between them, on the test split, in whose labels nothing was trained."""
    store = open_store(toy(400, 200), small().training)
    rows, contrast = store.index.rows("test", ["nominal"]), {}
    same = torch.from_numpy(store.index.sample[rows][:, None] == store.index.sample[rows])
    for alpha in (0, 1):
        trained = _trained(toy(400, 200), loss=loss, alpha=alpha, epochs=6)
        z = torch.from_numpy(embed(trained.encoder, trained.normalisation, store, "nominal", rows))
        cosine = functional.normalize(z, dim=1) @ functional.normalize(z, dim=1).T
        contrast[alpha] = (cosine[same].mean() - cosine[~same].mean()).item()
    assert contrast[1] > contrast[0] + 0.1


def test_vicreg_lowers_its_loss_without_collapse(toy: Toy) -> None:
    trained = _trained(toy(400, 200), loss="vicreg", epochs=6)
    assert trained.history.loss[-1] < 0.8 * trained.history.loss[0]
    store = open_store(toy(400, 200), small().training)
    z = embed(trained.encoder, trained.normalisation, store, "nominal", store.index.rows("test", ["nominal"]))
    assert z.std(axis=0).min() > 0.01


@pytest.mark.parametrize("encoder", [{"kind": "part", "width": 8, "layers": 1, "heads": 2}, {"kind": "rs3l"}])
def test_every_encoder_is_trained_kept_and_judged(toy: Toy, tmp_path: Path, encoder: dict[str, Any]) -> None:
    config = small(encoder={"constituents": 12, **encoder})
    store = open_store(toy(80, 40), config.training)
    trained, checkpoint = pretrain(store, config, "both", 0)
    save(tmp_path / "encoder.pt", checkpoint)
    again, _ = load_trained(tmp_path / "encoder.pt")
    rows = store.index.rows("test", ["nominal"])
    before, after = (embed(t.encoder, t.normalisation, store, "nominal", rows) for t in (trained, again))
    assert before.tolist() == after.tolist()
    supervised.save(
        tmp_path / "classifiers.pt", supervised.train_supervised(store, config, "supervised", 0), config, store
    )
    classifiers = supervised.load_for(tmp_path / "classifiers.pt", config, store, "supervised", 0)
    for result in (
        evaluate_encoder(store, config, again),
        supervised.evaluate_supervised(store, config, classifiers),
    ):
        assert {row.view for row in result.rows} == set(store.views)


def test_without_a_projection_the_loss_compares_what_the_encoder_gives(toy: Toy) -> None:
    config = small(encoder={"constituents": 12, "kind": "rs3l"}, pretrain={**SMALL["pretrain"], "projection": 0})
    trained, checkpoint = pretrain(open_store(toy(80, 40), config.training), config, "resim", 0)
    assert checkpoint["projection"] == {}
    assert trained.encoder.width == 8
    assert trained.history.loss[-1] < trained.history.loss[0]
