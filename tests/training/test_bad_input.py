"""What cannot be used ends a command in one line, with exit code 2."""

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from resim.store import open_part, write_manifest, write_part
from resim.store.encoding import write_array
from resim.store.files import sealed, sha256
from resim.store.part import read_objects, schema_of
from tests.training.test_training import SMALL
from training.cli import main
from training.files import read_checkpoint, save_checkpoint

Toy = Callable[[int, int], dict[str, Path]]
Run = Callable[..., str]
JUDGED = {"label_fractions": [1.0], "bootstrap": 20}


@pytest.fixture(scope="module")
def made(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train and judge by the command line; give the folder."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "config.yaml").write_text(json.dumps({"training": SMALL, "evaluation": JUDGED}))
    with pytest.MonkeyPatch.context() as patch:
        for words in (
            ["pretrain", "--method", "resim", "--out", "encoder.pt"],
            ["supervised", "--method", "supervised", "--out", "classifiers.pt"],
            ["evaluate", "--method", "resim", "--encoder", "encoder.pt", "--out", "judged.json"],
        ):
            assert _code(patch, folder, toy(80, 40), words) == 0
    return folder


def _code(patch: pytest.MonkeyPatch, folder: Path, data: dict[str, Path], words: list[str]) -> int:
    seed = [] if words[0] == "compare" else ["--seed-index", "0"]
    given = [f"--data={sample}={place}" for sample, place in data.items()]
    patch.chdir(folder)
    patch.setattr("sys.argv", ["resim-train", words[0], "--config", "config.yaml", *seed, *given, *words[1:]])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.fixture
def refused(made: Path, toy: Toy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command that must fail; give its one line."""

    def run(*words: str, data: dict[str, Path] | None = None, **training: Any) -> str:
        (made / "config.yaml").write_text(json.dumps({"training": SMALL | training, "evaluation": JUDGED}))
        assert _code(monkeypatch, made, data or toy(80, 40), list(words)) == 2
        told = capsys.readouterr().err
        assert told.startswith("resim-train: ")
        assert told.count("\n") == 1
        return told

    return run


PRETRAIN = ("pretrain", "--method", "resim", "--out", "new.pt")
EVALUATE = ("evaluate", "--method", "resim", "--out", "new.json", "--encoder")
SCRATCH = ("evaluate", "--method", "supervised", "--out", "new.json", "--encoder")


def test_a_store_without_the_view(refused: Run) -> None:
    told = refused(*PRETRAIN, views=["nominal", "herwig"])
    assert "training.views: 'herwig' is not in the data; allowed: nominal, shower_seed" in told


def _copied(toy: Toy, folder: Path) -> tuple[dict[str, Path], Path]:
    """Copy the data; give it, and a part of it."""
    data = {sample: shutil.copytree(place, folder / sample) for sample, place in toy(80, 40).items()}
    return data, next(data["hbb"].glob("part-*"))


def _replace_array(part: Path, name: str, values: np.ndarray) -> None:
    """Put other values into an array, and make all checksums of the part fit."""
    group = part / "data.zarr" / name
    attributes = json.loads((group / "zarr.json").read_text())["attributes"]
    shutil.rmtree(group)
    write_array(group, values, attributes)
    content = json.loads((part / "digest.json").read_text())
    for file in group.iterdir():
        raw = file.read_bytes()
        content["files"][file.relative_to(part).as_posix()] = [len(raw), sha256(raw)]
    content.pop("self")
    (part / "digest.json").write_text(json.dumps(sealed(content)))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        ("present", "present has 39 rows for 40 objects; make the view again"),
        ("offsets", "offsets has 39 rows for 40 objects; make the view again"),
    ],
)
def test_a_view_of_fewer_rows_than_objects(refused: Run, toy: Toy, tmp_path: Path, array: str, message: str) -> None:
    data, part = _copied(toy, tmp_path)
    name = f"views/redetected/{array}"
    _replace_array(part, name, open_part(part).read_array(name)[:-1])
    assert f"{part.name}: view 'redetected': {message}" in refused(*PRETRAIN, data=data)


def test_a_view_of_other_objects(refused: Run, toy: Toy, tmp_path: Path) -> None:
    data, part = _copied(toy, tmp_path)
    present = open_part(part).view("redetected").present.copy()
    present[np.flatnonzero(present)[0]] = False
    _replace_array(part, "views/redetected/present", present)
    told = refused(*PRETRAIN, data=data)
    assert f"{part.name}: view 'redetected' is of other objects than the part says; make the view again" in told


def _cut(place: Path, folder: Path, keep: Callable[[dict[str, np.ndarray]], np.ndarray]) -> Path:
    """Write a data set with the objects that pass a cut."""
    parts = []
    for path in sorted(place.glob("part-*")):
        part = open_part(path)
        objects = read_objects(part)
        rows = np.flatnonzero(keep(objects.columns))
        views = {}
        for name in part.views:
            view = part.view(name).read(slice(None))
            counts = np.diff(view.offsets)
            views[name] = replace(
                view,
                present=view.present[rows],
                columns=view.columns[rows],
                offsets=np.concatenate([[0], np.cumsum(counts[rows])]),
                constituents=view.constituents[np.repeat(np.isin(np.arange(len(view)), rows), counts)],
            )
        objects = replace(objects, columns={name: values[rows] for name, values in objects.columns.items()})
        attributes = {k: v for k, v in part.attributes.items() if k not in ("format", "version")}
        parts.append(write_part(folder, objects, views, schema_of(part.view("nominal")), attributes).path)
    write_manifest(folder, parts)
    return folder


@pytest.mark.parametrize("splits", [[1, 2], []], ids=["of the train split", "at all"])
def test_a_sample_without_an_object_to_train_on(refused: Run, toy: Toy, tmp_path: Path, splits: list[int]) -> None:
    hbb = _cut(toy(80, 40)["hbb"], tmp_path, lambda columns: np.isin(columns["split"], splits))
    for command in (PRETRAIN, ("supervised", "--method", "supervised", "--out", "new.pt")):
        told = refused(*command, data={"qcd": toy(80, 40)["qcd"], "hbb": hbb})
        assert "sample 'hbb' has no train object in nominal" in told


def test_no_object_at_all_is_left_to_train_on(refused: Run, toy: Toy, tmp_path: Path) -> None:
    data = {s: _cut(place, tmp_path / s, lambda c: c["split"] == 1) for s, place in toy(80, 40).items()}
    assert "has no train object in nominal, shower_seed" in refused(*PRETRAIN, data=data)
    told = refused("supervised", "--method", "supervised", "--out", "new.pt", data=data)
    assert "the data sets hold no object of the train split in view 'nominal'; simulate more events" in told


def test_an_encoder_of_another_architecture_names_the_first_layer(refused: Run, made: Path) -> None:
    content = read_checkpoint(made / "encoder.pt")
    content["encoder"]["embed.0.weight"] = torch.zeros(16, 15)
    save_checkpoint(made / "other.pt", content)
    told = refused(*EVALUATE, "other.pt")
    assert "other.pt: of another architecture: layer 'embed.0.weight' is (16, 15), expected (8, 15)" in told


def test_classifiers_of_another_architecture_name_the_first_layer(refused: Run, made: Path) -> None:
    content = read_checkpoint(made / "classifiers.pt")
    del content["classifiers"][0]["weights"]["encoder.embed.0.bias"]
    save_checkpoint(made / "other.pt", content)
    told = refused(*SCRATCH, "other.pt")
    assert "other.pt: of another architecture: layer 'encoder.embed.0.bias' is missing, expected (8,)" in told


class Trap:
    """What leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Path]]:
        return Path.touch, (self.mark,)


def test_a_pickle_that_is_not_weights_is_never_run(refused: Run, made: Path) -> None:
    mark = made / "mark"
    (made / "trap.pt").write_bytes(pickle.dumps(Trap(mark)))
    assert "trap.pt: not a checkpoint, or a damaged one" in refused(*EVALUATE, "trap.pt")
    save_checkpoint(made / "trap.pt", {"format": "resim-encoder", "version": 2, "encoder": Trap(mark)})
    assert "trap.pt: not a file of weights (UnpicklingError); make it anew" in refused(*EVALUATE, "trap.pt")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"history": None}, "damaged: history: Input should be a valid dictionary or instance of HistoryFile"),
        ({"history": {"loss": [], "validation_loss": []}}, "damaged: history.steps: Field required; make it anew"),
        ({"seed_index": "0"}, "damaged: seed_index: Input should be a valid integer; make it anew"),
        ({"mean": [0.0]}, "damaged: mean: Input should be an instance of Tensor; make it anew"),
        ({"width": torch.ones(3)}, "damaged: the file: Value error, width is not 15 numbers, one for each input"),
        ({"encoder": {"embed.0.weight": 1}}, "damaged: encoder.embed.0.weight: Input should be an instance of Tensor"),
        ({"provenance": {"seed": 1}}, "damaged: provenance.training_digest: Field required; make it anew"),
        ({"config": {"training": {"seed": -1}}}, "damaged: config.training.seed: Input should be greater than or eq"),
        ({"version": 1}, "format 'resim-encoder' version 1, expected 'resim-encoder'"),
        ({"format": "resim-classifiers"}, "format 'resim-classifiers' version"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_checkpoint_of_other_content(refused: Run, made: Path, change: dict[str, Any], message: str) -> None:
    save_checkpoint(made / "changed.pt", read_checkpoint(made / "encoder.pt") | change)
    assert f"changed.pt: {message}" in refused(*EVALUATE, "changed.pt")


@pytest.mark.parametrize("name", ["method", "inputs", "mean", "encoder", "projection", "config", "cost", "provenance"])
def test_a_checkpoint_that_lacks_something(refused: Run, made: Path, name: str) -> None:
    content = read_checkpoint(made / "encoder.pt")
    del content[name]
    save_checkpoint(made / "less.pt", content)
    assert f"less.pt: damaged: {name}: Field required; make it anew" in refused(*EVALUATE, "less.pt")


def test_a_checkpoint_cut_short_or_with_a_flipped_bit(refused: Run, made: Path) -> None:
    sound = (made / "encoder.pt").read_bytes()
    for position in np.linspace(0, len(sound) - 1, 8).astype(int):
        flipped = bytearray(sound)
        flipped[position] ^= 1 << (position % 8)
        for content in (bytes(flipped), sound[:position]):
            (made / "bad.pt").write_bytes(content)
            assert "bad.pt: not a checkpoint, or a damaged one" in refused(*EVALUATE, "bad.pt")


def test_a_state_that_holds_something_else(refused: Run, made: Path) -> None:
    state = made / "new.run" / "state.ckpt"
    save_checkpoint(state, {"format": "resim-state", "version": 1, "origin": {}})
    assert "state.ckpt: damaged: state_dict: Field required; make it anew" in refused(*PRETRAIN)
    state.unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-40], "not a EvaluationResult: the file: Invalid JSON: EOF while parsing"),
        (lambda text: text.replace('"method"', '"methods"'), "not a EvaluationResult: method: Field required; make it"),
        (lambda text: text.replace('"seed_index": 0', '"seed_index": "first"'), "not a EvaluationResult: seed_index:"),
        (lambda _: "[]", "not a EvaluationResult: the file: Input should be an object; make it anew"),
    ],
    ids=["cut", "renamed", "typed", "list"],
)
def test_a_damaged_evaluation(refused: Run, made: Path, change: Callable[[str], str], message: str) -> None:
    (made / "bad.json").write_text(change((made / "judged.json").read_text()))
    told = refused("compare", "--evaluation", "bad.json", "--out", "new.json")
    assert f"bad.json: {message}" in told
