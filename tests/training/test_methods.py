"""Methods of the config: kinds, changes of sections, scans, and what each is told."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from resim.errors import UserError
from training.config import Config, TrainingConfig, load
from training.methods import KINDS, one_a_value

ROOT = Path(__file__).parents[2]
SCAN = {"kind": "both", "pretrain": {"loss": "supcon_out", "alpha": [0, 0.25, 1]}}


def _training(methods: Any, **sections: Any) -> TrainingConfig:
    return TrainingConfig.model_validate({"methods": methods} | sections)


def test_a_name_that_is_a_kind_is_its_kind() -> None:
    training = _training({name: {} for name in KINDS} | {"mine": {"kind": "dann"}})
    assert {name: method.kind for name, method in training.methods.items()} == {k: k for k in KINDS} | {"mine": "dann"}


def test_changes_take_the_place_of_fields_and_leave_the_others() -> None:
    changes = {"pretrain": {"epochs": 3}, "views": ["nominal", "fsr_mur_2"], "encoder": {"layers": 1}}
    training = _training({"resim": changes, "generic": {}}, pretrain={"epochs": 7, "batch": 9})
    told = training.of("resim")
    assert (told.pretrain.epochs, told.pretrain.batch, told.encoder.layers) == (3, 9, 1)
    assert told.views == ["nominal", "fsr_mur_2"]
    assert training.of("generic") == training.model_copy(update={"methods": {"generic": training.methods["generic"]}})
    assert told.of("resim") == told


def test_a_list_where_one_value_belongs_is_a_method_each() -> None:
    training = _training({"supcon": SCAN, "resim": {}})
    names = ["supcon_alpha_0", "supcon_alpha_0.25", "supcon_alpha_1", "resim"]
    assert list(training.methods) == names
    assert [training.of(name).pretrain.alpha for name in names] == [0, 0.25, 1, 0]
    assert {training.kind(name).augmented for name in names[:3]} == {True}
    two = _training({"both": {"pretrain": {"epochs": [1, 2]}, "encoder": {"size": ["small", "base"]}}})
    assert list(two.methods) == [f"both_epochs_{n}_size_{size}" for n in (1, 2) for size in ("small", "base")]


def test_any_number_and_boolean_can_be_scanned() -> None:
    rates = yaml.safe_load("[0.00001, 1e-3, 0.5]")  # YAML 1.1: the second is a word
    methods = {"resim": {"optimiser": {"learning_rate": rates}}, "both": {"encoder": {"recompute": [True, False]}}}
    training = _training(methods)
    names = [f"resim_learning_rate_{rate}" for rate in ("1e-05", "1e-3", "0.5")]
    assert list(training.methods) == [*names, "both_recompute_true", "both_recompute_false"]
    assert [training.of(name).optimiser.learning_rate for name in names] == [1e-5, 1e-3, 0.5]
    assert [training.of(f"both_recompute_{word}").encoder.recompute for word in ("true", "false")] == [True, False]
    odd = {"a": {"kind": "resim", "pretrain": {"x": [-1, 1e16]}}}
    assert [name for name, _ in one_a_value("a", odd["a"])] == ["a_x_-1", "a_x_1e16"]


def test_the_config_as_it_is_kept_is_the_same_config() -> None:
    config = Config(training=_training({"supcon": SCAN, "dann": {"views": ["nominal", "shower_seed"]}}))
    assert Config.model_validate(config.model_dump(mode="json")) == config
    assert Config.model_validate_json(config.of("dann").model_dump_json()) == config.of("dann")


def test_what_one_method_is_told_depends_on_no_other() -> None:
    alone = _training({"resim": {}}).settings_of("resim")
    others = {"supcon": SCAN, "supervised": {"supervised": {"steps": 3}}, "resim": {}}
    assert _training(others, seeds=9, supervised={"steps": 2}, dann={"weight": 3}).settings_of("resim") == alone
    assert _training(others, trainer={"logger": ["tensorboard"]}).settings_of("resim") == alone
    assert _training(others, loader={"workers": 3, "memory_mb": 0}).settings_of("resim") == alone
    for changed in ({"pretrain": {"epochs": 3}}, {"pairs": {"shared_by": 2}}, {"kind": "both"}):
        assert _training({"resim": changed}).settings_of("resim") != alone


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_is_told_what_it_reads_alone(name: str) -> None:
    told = _training({name: {}}).settings_of(name)
    assert told["kind"] == name
    assert ("augment" in told) == (name in ("generic", "both", "supervised_generic", "supervised_both"))
    assert ("views" in told) == (name not in ("generic", "supervised", "supervised_generic"))
    assert ("pretrain" in told) == (name in ("resim", "generic", "both"))
    assert ("dann" in told) == (name == "dann")


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ("{a: {kind: magic}}", r"training.methods.a.kind: input should be 'resim', .* or 'dann', not 'magic'"),
        ("{a: {}}", r"training.methods.a.kind: input should be 'resim', 'generic', .*, not 'a'"),
        ("{A: {kind: resim}}", r"training.methods.A: string should match pattern '\^\[a-z\]\[a-z0-9_.-\]\*\$'"),
        ("[resim]", r"training.methods: input should be a valid dictionary, not \['resim'\]"),
        ("{}", r"training.methods: dictionary should have at least 1 item"),
        ("{both: 3}", r"training.methods.both: input should be a valid dictionary"),
        ("{both: {pretrain: {alpha: 2}}}", r"training.methods.both.pretrain.alpha: .*less than or equal to 1, not 2$"),
        ("{both: {pretrain: {alpha: [2]}}}", r"training.methods.both_alpha_2.pretrain.alpha: .* equal to 1, not 2$"),
        ("{both: {pretrain: {epochs: true}}}", r"training.methods.both.pretrain.epochs: .*valid number, not True"),
        ("{both: {pretrain: {alpha: 0.5}}}", r"training.methods.both.pretrain: alpha 0.5 needs loss supcon_in or"),
        ("{both: {pretrain: {epoch: 1}}}", r"unknown key 'training.methods.both.pretrain.epoch'; .*: epochs, batch,"),
        (
            "{both: {trainer: {}}}",
            r"unknown key 'training.methods.both.trainer'; allowed here: kind, tasks, views, pairs",
        ),
        (
            "{both: {pairs: {weights: {x: 1}}}}",
            r"training.methods.both: pairs.weights: 'x' is not among training.views",
        ),
        ("{both: {views: [nominal, late]}}", r"training.methods.both.views: 'late' has role evaluation"),
        ("{both: {pretrain: {alpha: []}}}", r"training.methods: both.pretrain.alpha: is an empty list.*; give one, or"),
        (
            "{both: {pretrain: {loss: [ntxent, 'a b']}}}",
            r"training.methods: both.pretrain.loss: 'a b' cannot be .* name.*; write a method",
        ),
        (
            "{both: {views: [nominal, a], encoder: {size: ['']}}}",
            r"training.methods: both.encoder.size: '' cannot be part of",
        ),
        ("{both: {encoder: {size: [[small]]}}}", r"training.methods: both.encoder.size: \['small'\] cannot be part of"),
        (
            "{both: {encoder: {size: [2026-01-01]}}}",
            r"training.methods.both_size_2026-01-01.encoder.size: input should",
        ),
        (
            "{both: {pretrain: {batch: [2, 3]}}, both_batch_3: {kind: resim}}",
            r"training.methods: two methods have the name 'both_batch_3'; rename one",
        ),
    ],
)
def test_a_mistake_in_a_method_names_its_place(tmp_path: Path, methods: str, message: str) -> None:
    views = "views: {nominal: {}, late: {role: evaluation}}\n"
    (tmp_path / "c.yaml").write_text(views + f"training: {{methods: {methods}}}\n")
    with pytest.raises(UserError, match=r"c.yaml: " + message) as caught:
        load(tmp_path / "c.yaml")
    assert "\n" not in str(caught.value)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(UserError, match=r"'magic' is none of training.methods; allowed: resim, both"):
        _training({"resim": {}, "both": {}}).of("magic")


def test_the_methods_that_the_projects_config_offers_in_comments_can_be_had() -> None:
    lines = (ROOT / "config.yaml").read_text().split("  methods:")[1].split("\n  views:")[0].splitlines()[1:]
    uncommented = [line.replace("    # ", "    ", 1) if line.startswith("    # ") else line for line in lines]
    offered = [line for line in uncommented if not line.startswith("    More")]
    training = _training(yaml.safe_load("\n".join(offered)))
    told = {name: training.of(name) for name in training.methods}
    assert {method.kind for method in training.methods.values()} == set(KINDS) - {"supervised_both"}
    assert [told[f"supcon_alpha_{a}"].pretrain.alpha for a in ("0", "0.25", "0.5", "0.75", "1")] == [
        0,
        0.25,
        0.5,
        0.75,
        1,
    ]
    assert (told["rs3l"].optimiser.name, told["rs3l"].optimiser.schedule) == ("adam", "step")
    assert (told["rs3l"].encoder.kind, told["rs3l"].pretrain.batch) == ("rs3l", 200)


def test_a_method_may_do_some_of_the_tasks_and_null_takes_one_away() -> None:
    tasks = {"h_qcd": {"classes": ["qcd", "hbb"]}, "w_qcd": {"classes": ["qcd", "wqq"]}}
    methods = {"resim": {}, "generic": None, "dann": {"tasks": ["h_qcd"]}}
    config = TrainingConfig.model_validate({"tasks": tasks, "methods": methods})
    assert list(config.methods) == ["resim", "dann"]
    assert [list(config.of(name).tasks) for name in config.methods] == [["h_qcd", "w_qcd"], ["h_qcd"]]
    mistakes = {"top": "'top' is none of training.tasks", "w_qcd": "must begin with the main task, h_qcd"}
    for wrong, message in mistakes.items():
        with pytest.raises(ValidationError, match=message):
            TrainingConfig.model_validate({"tasks": tasks, "methods": {"dann": {"tasks": [wrong]}}})
