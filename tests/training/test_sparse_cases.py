"""Simulated images that are empty, of one voxel, or cut off: learned from and judged in finite numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from resim.config import Config as Simulated
from resim.errors import UserError
from resim.simulate import Simulation, simulate_part
from resim.store import open_dataset, write_manifest
from resim.typed import parse
from tests.lanes import LARTPC
from tests.training.test_compare import _run
from training.config import Config
from training.files import read_model
from training.lanes import LARTPC as LANE
from training.lanes import Normalisation
from training.meter import Meter
from training.methods import KINDS
from training.pretrain import contrastive_loader, open_store, pretrain
from training.results import EvaluationResult

EVENTS = 60
# Electrons about the threshold, most of no voxel or one; and muons that leave the detector.
GUNS = {
    "electron": {"particle": "e-", "kinetic_energy": [0.2, 1.0]},
    "proton": {"particle": "mu-", "kinetic_energy": [2000, 3000], "direction": "beam", "centre": [0.0, 3.4, 800.0]},
}
TRAINING = {
    "seeds": 1,
    "tasks": {"particle": {"classes": list(GUNS)}},
    "methods": {name: {} for name in ("both", "supervised_generic", "dann")},
    "views": ["nominal", "redeposited", "thrown", "noise"],
    "encoder": {"kind": "convnext", "constituents": 64},
    "pretrain": {"epochs": 1, "batch": 16, "projection": 8},
    "supervised": {"steps": 2, "batch": 16},
    "loader": {"group": 8, "shuffle": 64},
}


def _simulated(folder: Path, sample: str, gun: dict[str, Any]) -> Path:
    values = LARTPC.config(block_size=20, events_per_part=EVENTS, checkpoint=None)
    values["samples"] = {sample: {"events": EVENTS, "process": sample, "set": gun}}
    simulation = Simulation(parse(Simulated, values, "test"), sample)
    write_manifest(folder, [simulate_part(simulation, 0, EVENTS, folder, simulation.all_views).path])
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("cases")
    return {sample: _simulated(base / sample, sample, gun) for sample, gun in GUNS.items()}


def _config(**training: Any) -> Config:
    judged = {"bootstrap": 20, "label_fractions": [1.0]}
    return Config.model_validate({"training": TRAINING | training, "evaluation": judged})


def test_the_data_are_what_they_are_meant_to_be(folders: dict[str, Path]) -> None:
    electrons = open_dataset(folders["electron"]).parts[0].view("nominal")
    assert 5 < electrons.present.sum() < EVENTS - 5
    assert (electrons.column("n_voxels") == 1).sum() > 3
    muons = open_dataset(folders["proton"]).parts[0].view("nominal")
    assert muons.present.all()
    assert (muons.column("contained") == 0).all()


def test_batches_hold_numbers_only_and_no_empty_image(folders: dict[str, Path]) -> None:
    config = _config(methods={"both": {}, "resim": {}}).training
    store = open_store(folders, config)
    for method in config.methods:
        loader = contrastive_loader(store, config, method, 0, Meter())
        lengths = []
        for batch in loader.batches(range(2)):
            for view in batch.views:
                assert torch.isfinite(view.values).all()
                lengths += view.present.sum(dim=1).tolist()
        assert min(lengths) == 1
        assert max(lengths) > 32


@pytest.mark.parametrize("kind", ["convnext", "patches", "plain"])
def test_encoders_give_numbers_for_images_of_any_size(kind: str, folders: dict[str, Path]) -> None:
    """The encoder's own batches: a lone voxel, and even none, among others and alone."""
    config = _config(encoder={"kind": kind, "constituents": 64}, methods={"resim": {}})
    store = open_store(folders, config.training)
    trained, _ = pretrain(store, config, "resim", 0)
    assert np.isfinite(trained.history.loss).all()
    rows = np.flatnonzero(store.index.present["nominal"])
    images = store.read("nominal", rows)
    lengths = (images[:, :, LANE.present] > 0).sum(axis=1)
    chosen = np.stack([images[np.argmin(lengths)], images[np.argmax(lengths)], np.zeros_like(images[0])])
    encoder = trained.encoder.eval()
    with torch.no_grad():
        together = _embedded(encoder, trained.normalisation, chosen)
        alone = torch.cat([_embedded(encoder, trained.normalisation, chosen[i : i + 1]) for i in range(3)])
    assert torch.isfinite(together).all()
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def _embedded(encoder: Any, normalisation: Normalisation, images: np.ndarray) -> torch.Tensor:
    values, present = normalisation(images)
    return encoder(torch.from_numpy(values), torch.from_numpy(present))


def test_methods_are_trained_and_judged_in_numbers(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(json.dumps(_config().model_dump(mode="json", exclude_unset=True)))
    shared = ["--config", tmp_path / "c.yaml", *(f"--data={name}={folder}" for name, folder in folders.items())]
    for name in TRAINING["methods"]:  # type: ignore[attr-defined]
        mine = ["--method", name, "--seed-index", 0, *shared]
        _run("supervised" if KINDS[name].labelled else "pretrain", *mine, "--out", tmp_path / f"{name}.pt")
        _run("evaluate", *mine, "--encoder", tmp_path / f"{name}.pt", "--out", tmp_path / f"{name}.json")
        result = read_model(tmp_path / f"{name}.json", EvaluationResult)
        assert np.isfinite(result.loss).all()
        assert {row.view for row in result.rows} >= {"nominal", "thrown", "noise", "all_max"}
        assert all(np.isfinite(figure.value) for row in result.rows for figure in row.figures.values())


def test_images_that_are_all_empty_are_refused_in_a_line(folders: dict[str, Path], tmp_path: Path) -> None:
    outside = _simulated(tmp_path / "proton", "proton", {"kinetic_energy": [50, 60], "centre": [0, 0, 3000]})
    config = _config()
    store = open_store(folders | {"proton": outside}, config.training)
    with pytest.raises(UserError, match="sample 'proton' has no train object in nominal"):
        pretrain(store, config, "both", 0)
