"""A boolean is no number, wherever a number is meant."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from resim.config import Config, ViewConfig
from resim.errors import UserError
from resim.jets.clustering import JetSettings
from resim.jets.pileup import PileupSettings
from resim.typed import parse, read_yaml
from tests.conftest import small_config
from training.config import Config as Training


@pytest.mark.parametrize(
    ("model", "values", "key"),
    [
        (JetSettings, {"radius": True}, "radius"),
        (JetSettings, {"vertex_dz_max": True}, "vertex_dz_max"),
        (PileupSettings, {"mu": False}, "mu"),
        (Config, small_config(seed=True), "seed"),
        (
            Config,
            small_config(splits={"train": True, "validation": False, "test": 0}),
            "splits.train",
        ),
        (ViewConfig, {"from": "shower", "set": {"x": {"choose": [True, 2]}}}, "set.x.choose.0"),
        (Training, {"training": {"augment": {"smear": True}}}, "training.augment.smear"),
        (Training, {"evaluation": {"label_fractions": [0.1, True]}}, "evaluation.label_fractions.1"),
    ],
)
def test_a_boolean_is_no_number(model: type[BaseModel], values: dict[str, Any], key: str) -> None:
    with pytest.raises(UserError, match=rf"^here: {key}: input should be a valid number, not (True|False)$"):
        parse(model, values, "here")


def test_booleans_stay_where_they_are_meant() -> None:
    assert parse(JetSettings, {"generator_jets": False}, "here").generator_jets is False
    settings = {"HadronLevel:Decay": True, "list": [True, 1.5]}
    view = parse(ViewConfig, {"from": "shower", "set": settings}, "here")
    assert view.cut == "shower"
    assert view.set == settings
    assert [type(value) for value in (view.set["HadronLevel:Decay"], *view.set["list"])] == [bool, bool, float]


def test_numbers_that_json_writes_without_a_point_are_numbers(tmp_path: Path) -> None:
    """The workflow hands its config on as JSON, where 4.0e-6 is 4e-06: once views had the text '4e-06' as a setting."""
    values = {"tiny": 4.0e-6, "huge": -2e30, "word": "12e", "version": "1e"}
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert read_yaml(tmp_path / "config.json") == values
