import json
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from resim.errors import UserError
from training.config import Config, load
from training.lanes import JETS

ROOT = Path(__file__).parents[2]


def _leaves(model: type[BaseModel], prefix: str = "") -> dict[str, object]:
    leaves: dict[str, object] = {}
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            leaves |= _leaves(kind, f"{prefix}{name}.")
        else:
            leaves[prefix + name] = field
    return leaves


def _keys(section: dict[str, object], leaves: set[str], prefix: str = "") -> set[str]:
    keys: set[str] = set()
    for name, value in section.items():
        inner = isinstance(value, dict) and prefix + name not in leaves
        keys |= _keys(value, leaves, f"{prefix}{name}.") if inner else {prefix + name}  # type: ignore[arg-type]
    return keys


def test_the_projects_config_spells_out_every_default() -> None:
    """Of the lane that it is for: what others read is theirs to spell out."""
    content = yaml.safe_load((ROOT / "config.yaml").read_text())
    foreign = tuple(f"training.{name}.{field}" for name, fields in JETS.foreign.items() for field in fields)
    leaves = {leaf for leaf in _leaves(Config) if not leaf.startswith(foreign)}
    assert _keys({name: content[name] for name in Config.model_fields}, leaves) == leaves
    assert load(ROOT / "config.yaml") == Config()


def test_shipped_schema_is_the_models() -> None:
    """`resim-train schema > workflow/schemas/training.schema.json` mends it."""
    shipped = json.loads((ROOT / "workflow/schemas/training.schema.json").read_text())
    assert shipped == Config.model_json_schema()


def test_every_field_is_described() -> None:
    undescribed = [key for key, field in _leaves(Config).items() if not getattr(field, "description", None)]
    assert undescribed == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {epoch: 3}", r"c.yaml: unknown key 'training.epoch'; allowed here: seed, seeds, threads"),
        ("training: {pretrain: {epochs: 0}}", r"c.yaml: training.pretrain.epochs: .*greater than or equal to 1, not 0"),
        (
            "training: {methods: {magic: {}}}",
            r"training.methods.magic.kind: input should be 'resim', 'generic', 'both'",
        ),
        ("training: {encoder: {width: 10, heads: 4}}", r"training.encoder: width 10 is not a multiple of heads 4"),
        ("evaluation: {label_fractions: [2]}", r"evaluation.label_fractions.0: .*less than or equal to 1, not 2"),
        ("training: {views: [nominal, nominal]}", r"c.yaml: training.views: 'nominal' stands twice; take one away"),
        ("training: {samples: [qcd, hbb, qcd]}", r"training.samples: 'qcd' stands twice"),
        ("training: {trainer: {logger: [csv, csv]}}", r"training.trainer.logger: 'csv' stands twice"),
        ("training: {methods: {dann: {tasks: [h_qcd, h_qcd]}}}", r"training.methods.dann.tasks: 'h_qcd' stands twice"),
        ("training: {methods: {both: {views: [a, b, a]}}}", r"training.methods.both.views: 'a' stands twice"),
        ("evaluation: {label_fractions: [0.1, 0.10, 1.0]}", r"evaluation.label_fractions: 0.1 stands twice"),
        ("evaluation: {heads: [mlp, linear, mlp]}", r"evaluation.heads: 'mlp' stands twice"),
        (
            "evaluation: {pt_auc: [0.6, 0.4]}",
            r"evaluation.pt_auc: must be two rising numbers from 0 to 1.*\[0.6, 0.4\]",
        ),
        ("evaluation: {test_sets: {new: {}}}", r"evaluation.test_sets.new: dictionary should have at least 1 item"),
        ("training: {encoder: {kind: rs3l, size: large}}", r"training.encoder: kind rs3l .* leave size, width, layers"),
        ("- a list", r"c.yaml: holds no mapping"),
        ("training: [", r"c.yaml, line 1: "),
    ],
    ids=[
        *("unknown", "range", "choice", "consistency", "element"),
        *("views twice", "samples twice", "loggers twice", "tasks twice", "a method's views twice"),
        *("fractions twice", "heads twice", "falling limits", "empty test set", "shape of rs3l"),
        *("no mapping", "no yaml"),
    ],
)
def test_a_mistake_names_file_key_and_what_is_allowed(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        load(tmp_path / "c.yaml")


SAMPLES = "samples: {qcd: {}, hbb: {}, hbb_new: {role: evaluation}}\nviews: {nominal: {}}\n"


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (
            "{}",
            r"c.yaml: samples.hbb_new: has role evaluation and is in no test set; say under evaluation.test_sets wh",
        ),
        ("{new: {hbb: qcd}}", r"c.yaml: evaluation.test_sets.new.hbb: 'qcd' is no sample with role ev.*: hbb_new$"),
        (
            "{new: {hbc: hbb_new}}",
            r"evaluation.test_sets.new: 'hbc' is no sample that is trained on; allowed: qcd, hbb",
        ),
        ("{new: {hbb_new: hbb_new}}", r"'hbb_new' is no sample that is trained on; allowed: qcd, hbb"),
        ("{nominal: {hbb: hbb_new}}", r"evaluation.test_sets.nominal: a view has this name; rename one of the two"),
    ],
    ids=["idle", "trained on", "unknown", "itself", "name"],
)
def test_a_test_set_is_of_held_out_samples_in_place_of_others(tmp_path: Path, sets: str, message: str) -> None:
    (tmp_path / "c.yaml").write_text(SAMPLES + f"evaluation: {{test_sets: {sets}}}\n")
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path / "c.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        "tasks: {x: {classes: [qcd, hbb_new]}}",
        "samples: [qcd, hbb_new]",
        "views: [nominal, late]",
        "views: [nominal, often_2]",
    ],
)
def test_what_is_held_out_is_refused_by_training(tmp_path: Path, key: str) -> None:
    views = "views: {nominal: {}, late: {role: evaluation}, often: {role: evaluation, replicas: 2}}\n"
    views += "evaluation: {test_sets: {new: {hbb: hbb_new}}}\n"
    (tmp_path / "c.yaml").write_text(SAMPLES.partition("views")[0] + views + f"training: {{{key}}}\n")
    with pytest.raises(UserError, match=r"has role evaluation: it is held out from all training; take it out, or chan"):
        load(tmp_path / "c.yaml")


def test_sections_of_the_simulation_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("lane: jets\nviews: {nominal: {}}\n")
    assert load(tmp_path / "c.yaml") == Config()
