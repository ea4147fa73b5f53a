"""The second lane: sparse images from the store to the evaluation; and what is refused where lanes are mixed."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from resim.errors import UserError
from tests.training import images
from tests.training.conftest import write_toy
from tests.training.images import SAMPLES, VIEWS, write_images
from tests.training.test_compare import _run
from tests.training.test_training import small
from training.config import Config, TrainingConfig
from training.data.fetch import Store
from training.data.voxels import ADC, CHARGE, FEATURES
from training.files import read_model
from training.heads import load_for
from training.heldout import open_held_out
from training.lanes import JETS, LARTPC, lane_with
from training.meter import Meter
from training.methods import KINDS
from training.pretrain import contrastive_loader, normalisation_of, open_store
from training.provenance import provenance
from training.results import EvaluationResult

Toy = Callable[[int, int], dict[str, Path]]
METHODS = ("resim", "generic", "both", "supervised", "supervised_generic", "dann")
TRAINING = {
    "seeds": 1,
    "tasks": {"particle": {"classes": list(SAMPLES)}},
    "methods": {name: {} for name in METHODS} | {"tokens": {"kind": "both", "encoder": {"kind": "patches"}}},
    "views": list(VIEWS[:3]),
    "encoder": {"kind": "convnext", "constituents": 60},
    "pretrain": {"epochs": 1, "batch": 50, "projection": 8},
    "supervised": {"steps": 2, "batch": 50},
    "loader": {"group": 8, "shuffle": 64},
    "optimiser": {"learning_rate": 0.005},
}
EVALUATION = {"bootstrap": 20, "label_fractions": [1.0]}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("images")
    return {sample: write_images(base / sample, sample, 50) for sample in SAMPLES}


def _config(**training: object) -> Config:
    return Config.model_validate({"training": TRAINING | training, "evaluation": EVALUATION})


def test_the_store_tells_the_lane_and_gives_the_brightest_voxels(folders: dict[str, Path], toy: Toy) -> None:
    store, few = Store(folders, 200, 8), Store(folders, 10, 8)
    assert (store.lane, Store(toy(80, 40), 12, 8).lane) == (LARTPC, JETS)
    assert store.index.pt is None
    rows = np.flatnonzero(store.index.present["field_low"])
    everything, brightest = store.read("field_low", rows), few.read("field_low", rows)
    assert brightest.shape == (len(rows), 10, len(FEATURES))
    for all_of, some in zip(everything, brightest, strict=True):
        voxels = all_of[all_of[:, ADC] > 0]
        kept = np.sort(np.argsort(-voxels[:, CHARGE], kind="stable")[:10])
        np.testing.assert_array_equal(some[: len(kept)], voxels[kept])
        assert not some[len(kept) :].any()


def test_data_of_two_lanes_or_an_unknown_one_are_refused(folders: dict[str, Path], toy: Toy, tmp_path: Path) -> None:
    both = {"muon": folders["muon"], "qcd": toy(80, 40)["qcd"]}
    with pytest.raises(UserError, match="samples 'muon' and 'qcd' are of the lanes lartpc and jets; train on those of"):
        Store(both, 12, 8)
    with pytest.raises(UserError, match="sample 'pion' is of the lane 'cows'; allowed: jets, lartpc"):
        Store({"pion": write_images(tmp_path / "pion", "pion", 10, lane="cows")}, 12, 8)


def test_a_held_out_sample_of_another_lane_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    config = _config().model_copy(
        update={"evaluation": Config.model_validate({"evaluation": {"test_sets": {"x": {"muon": "hbb"}}}}).evaluation}
    )
    jets = write_toy(tmp_path / "hbb", "hbb", 40, 20, held_out=True)
    with pytest.raises(UserError, match=r"--held-out hbb=.*: is of the lane jets, and --data of lartpc; give one of"):
        open_held_out({"hbb": jets}, open_store(folders, config.training), config)


@pytest.mark.parametrize("kind", ["part", "rs3l"])
def test_an_encoder_of_jets_is_refused_for_images(folders: dict[str, Path], kind: str) -> None:
    told = f"training.encoder.kind: '{kind}' does not know the images of the lane lartpc; allowed: convnext, patches, p"
    with pytest.raises(UserError, match=told):
        open_store(folders, _config(encoder={"kind": kind}).training)


@pytest.mark.parametrize("kind", ["convnext", "patches"])
def test_an_encoder_of_images_is_refused_for_jets(toy: Toy, kind: str) -> None:
    told = f"training.encoder.kind: '{kind}' does not know the jets of the lane jets; allowed: plain, part, rs3l$"
    with pytest.raises(UserError, match=told):
        open_store(toy(80, 40), small(encoder={"kind": kind}).training)


def test_settings_of_the_other_lane_train_nothing_again(folders: dict[str, Path], toy: Toy) -> None:
    voxels, jet = {"augment": {"voxels": {"drop": 0.3}}}, {"augment": {"splits": 3}}
    stores = {JETS: Store(toy(80, 40), 12, 8), LARTPC: Store(folders, 12, 8)}
    for store, foreign, own in ((stores[JETS], voxels, jet), (stores[LARTPC], jet, voxels)):
        plain, same, other = (provenance(_config(**c), store, "both").training_digest for c in ({}, foreign, own))
        assert plain == same != other
    grid = {"encoder": {"kind": "plain", "grid": 0.5}}
    plain = {"encoder": {"kind": "plain"}}
    digests = [[provenance(_config(**c), s, "both").training_digest for c in (grid, plain)] for s in stores.values()]
    assert [one == other for one, other in digests] == [True, False]


def test_voxels_on_no_common_grid_need_one_that_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = {"muon": write_images(tmp_path / "muon", "muon", 20)}
    monkeypatch.setattr(images, "GRID", 0.4434)
    folders["pion"] = write_images(tmp_path / "pion", "pion", 20)
    store, config = Store(folders, 60, 8), _config().training
    with pytest.raises(
        UserError, match=r"training.encoder.grid: the voxels .* no common grid, .* edge of a cell in cm"
    ):
        normalisation_of(store, config)
    for encoder in ({"kind": "convnext", "grid": 0.38}, {"kind": "plain"}):
        normalisation_of(store, _config(encoder={**encoder, "constituents": 60}).training)
    alone = normalisation_of(Store({"pion": folders["pion"]}, 60, 8), config)
    assert alone.edge == pytest.approx(0.4434, rel=1e-5)


def test_a_method_changes_some_fields_of_a_section_within_a_section() -> None:
    methods = {"both": {"augment": {"voxels": {"drop": [0.0, 0.2]}}}}
    training = TrainingConfig.model_validate({"methods": methods, "augment": {"splits": 2, "voxels": {"drawn": 5}}})
    told = [training.of(f"both_drop_{drop}").augment for drop in ("0.0", "0.2")]
    assert [(t.splits, t.voxels.drawn, t.voxels.drop) for t in told] == [(2, 5, 0.0), (2, 5, 0.2)]


def test_inputs_tell_the_lane_of_a_checkpoint() -> None:
    assert [lane_with(list(lane.inputs)) for lane in (JETS, LARTPC)] == [JETS, LARTPC]
    assert lane_with(["x"]) is None


def test_workers_make_the_batches_that_threads_make(folders: dict[str, Path]) -> None:
    batches = []
    for workers in (0, 1):
        config = _config(loader={"group": 8, "shuffle": 64, "workers": workers, "buckets": 2}).training
        loader = contrastive_loader(open_store(folders, config), config, "both", 0, Meter())
        batches.append(list(loader.batches(range(1))))
    for one, other in zip(*batches, strict=True):
        assert one.rows.tolist() == other.rows.tolist()
        for first, second in zip(one.views, other.views, strict=True):
            assert first.values.equal(second.values)
            assert first.present.equal(second.present)


@pytest.fixture(scope="module")
def judged(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    """Train and judge by the command line: two steps of each method, but as many as it takes of the first two."""
    out = tmp_path_factory.mktemp("judged")
    longer = {"supervised": {"supervised": {"steps": 60}}, "resim": {"pretrain": {"epochs": 8}}}
    methods = {name: longer.get(name, given) for name, given in TRAINING["methods"].items()}  # type: ignore[attr-defined]
    (out / "c.yaml").write_text(json.dumps({"training": TRAINING | {"methods": methods}, "evaluation": EVALUATION}))
    shared = ["--config", out / "c.yaml", *(f"--data={name}={folder}" for name, folder in folders.items())]
    for name, given in methods.items():
        command = "supervised" if KINDS[given.get("kind", name)].labelled else "pretrain"
        mine = ["--method", name, "--seed-index", 0, *shared]
        _run(command, *mine, "--out", out / f"{name}.pt")
        _run("evaluate", *mine, "--encoder", out / f"{name}.pt", "--out", out / f"{name}.json")
    return out, {name: out / f"{name}.json" for name in methods}


def test_all_methods_are_trained_and_judged_by_class_on_every_view(judged: tuple[Path, dict[str, Path]]) -> None:
    for name, path in judged[1].items():
        result = read_model(path, EvaluationResult)
        rows = {row.view: row for row in result.rows if row.weighting == "flat"}
        assert list(rows) == list(VIEWS), name
        for row in rows.values():
            assert {f"accuracy_{sample}" for sample in SAMPLES} < set(row.figures)
            assert row.objects.keys() == set(SAMPLES)
        kind = KINDS["both"] if name == "tokens" else KINDS[name]
        assert (result.cost["augmented_jets"] > 0) == kind.augmented
        assert result.roc == []


def test_what_images_show_is_learned(judged: tuple[Path, dict[str, Path]]) -> None:
    """Tracks, showers and their charges are told apart at once: of 90 test images chance tells 0.20 +- 0.04 right."""
    for name in ("supervised", "resim"):
        result = read_model(judged[1][name], EvaluationResult)
        assert result.loss[-1] < result.loss[0]
        found = {row.view: row.figures["accuracy"].value for row in result.rows if row.weighting == "flat"}
        assert found["nominal"] > 0.5, (name, found)


def test_the_comparison_tells_of_images_and_no_spectrum(
    judged: tuple[Path, dict[str, Path]], folders: dict[str, Path]
) -> None:
    out, results = judged
    words = [word for path in results.values() for word in ("--evaluation", path)]
    data = [f"--data={name}={folder}" for name, folder in folders.items()]
    _run("compare", "--config", out / "c.yaml", *data, *words, "--out", out / "all.json", "--plots", out / "plots")
    told = json.loads((out / "all.json").read_text())
    assert told["pt_auc"] == {}
    assert " images. Of " in told["reading"][-1]
    assert {"robustness.png", "cost_by_stage.png", "table.csv"} <= {path.name for path in (out / "plots").iterdir()}


def test_an_encoder_comes_back_from_its_checkpoint_as_it_was(
    judged: tuple[Path, dict[str, Path]], folders: dict[str, Path]
) -> None:
    config = Config.model_validate(json.loads((judged[0] / "c.yaml").read_text())).of("tokens")
    trained = load_for(judged[0] / "tokens.pt", config, open_store(folders, config.training), "tokens", 0)
    assert trained.normalisation.lane is LARTPC
    assert trained.encoder.place_width.tolist() == trained.normalisation.width[-3:].tolist()
