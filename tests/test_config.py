import json
from typing import Any

import numpy as np
import pytest
import yaml

from resim.config import Config, load_config
from resim.errors import UserError
from resim.jets.lane import hard_settings, processes
from resim.plan import check_config, plan_views
from resim.simulate import Simulation, part_ranges
from resim.typed import parse
from tests.conftest import ROOT, small_config
from training.config import parse_sections


def test_shipped_config_is_good() -> None:
    check_config(load_config(ROOT / "config.yaml"), "config.yaml")


def test_shipped_schema_is_the_models() -> None:
    """`resim schema > workflow/schemas/config.schema.json` mends it."""
    shipped = json.loads((ROOT / "workflow/schemas/config.schema.json").read_text())
    assert shipped == Config.model_json_schema()


def _set(values: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    *parents, last = path.split("/")
    place = values
    for word in parents:
        place = place.setdefault(word, {})
    place[last] = value
    return values


def _shower(**changes: Any) -> dict[str, Any]:
    return {"from": "shower", "set": {name.replace("__", ":"): value for name, value in changes.items()}}


MISTAKES = [
    ("sede", 1, r"unknown key 'sede'; allowed here: lane, seed, block_size"),
    (
        "samples/qcd/event",
        1,
        r"unknown key 'samples.qcd.event'; allowed here: events, process, lhe, edep, engine, role",
    ),
    (
        "views/redetected/form",
        "x",
        r"unknown key 'views.redetected.form'; allowed here: from, base, engine, set, replicas, splits",
    ),
    ("seed", "abc", r"seed: .*integer.*not 'abc'"),
    ("lane", "tracks", r"lane: .*'jets'.*not 'tracks'"),
    ("block_size", 0, r"block_size: .*greater than or equal to 1, not 0"),
    ("events_per_part", 25, r"events_per_part = 25 is not whole blocks of 10 events; use 20 or 30"),
    ("samples/qcd/events", 5, r"samples.qcd.events = 5 is not whole blocks of 10 events; use 10,"),
    ("splits/train", 0.9, r"splits: train \+ validation \+ test must be 1"),
    ("views/nominal", {"from": "jets"}, r"views: there must be a view `nominal: \{\}`"),
    ("views/odd", {}, r"view 'odd' has no `from`"),
    ("views/Bad Name", {"from": "jets"}, r"views.Bad Name: .*match pattern"),
    (
        "views/x",
        {"from": "tracker"},
        r"views.x.from: there is no stage 'tracker'.*shower, hadronization, decays, pileup, detector, jets",
    ),
    ("views/x", {"from": "hard"}, r"views.x.from: there is no stage 'hard' to cut before"),
    ("views/x", _shower(TimeShower__renormMultFact=2), r"views.x.set: Pythia refuses 'TimeShower:renormMultFact = 2'"),
    ("views/x", _shower(TimeShower__renormMultFact=2), r"did you mean TimeShower:renormMultFac"),
    (
        "views/x",
        _shower(TimeShower__renormMultFac="high"),
        r"'TimeShower:renormMultFac = high'; give a number from 0.1 to 10",
    ),
    (
        "views/x",
        _shower(timeshower__ptmin=1),
        r"'timeshower:ptmin' must be written as Pythia writes it, 'TimeShower:pTmin'",
    ),
    ("views/x", _shower(TimeShower__QCDshower="onn"), r"Pythia refuses 'TimeShower:QCDshower = onn'; give on or off"),
    ("views/x", _shower(TimeShower__alphaSorder=1.5), r"'TimeShower:alphaSorder = 1.5'; give a whole number from 0 to"),
    ("views/x", _shower(Merging__doKTMerging=True), r"'Merging:doKTMerging' is set by the project itself"),
    (
        "views/x",
        _shower(HardQCD__all=True),
        r"'HardQCD:all' acts on the stage 'hard', upstream of the cut",
    ),
    (
        "views/x",
        _shower(magnetick_field=2),
        r"'magnetick_field = 2'; .*for those of the detector or the jets, `from",
    ),
    (
        "chain/hard/TimeShower:pTmin",
        2,
        r"chain.hard: 'TimeShower:pTmin' does not act on the stage 'hard'; it belongs",
    ),
    ("chain/shower", {"111:mayDecay": False}, r"chain.shower: '111:mayDecay' does not act on the stage 'shower'"),
    ("chain/hard/Beams:idB", -2212, r"chain.hard: 'Beams:idB' is set by the project itself"),
    ("samples/hbb/set/25:m0", "heavy", r"samples.hbb.set: Pythia refuses '25:m0 = heavy'; write ID:property = value"),
    (
        "views/x",
        _shower(PartonShowers__model=9),
        r"Pythia refuses 'PartonShowers:model = 9'; give a whole number",
    ),
    (
        "samples/hbb/set/25:onMood",
        True,
        r"samples.hbb.set: Pythia refuses '25:onMood = on'; write ID:property = value",
    ),
    (
        "views/x",
        {**_shower(TimeShower__pTmin=1), "from": "hadronization"},
        r"acts on the stage 'shower', upstream of the",
    ),
    ("views/x", {**_shower(TimeShower__pTmin=1), "from": "hadronization"}, r"use `from: shower`, or remove the line"),
    (
        "views/x",
        {"from": "hadronization", "set": {"Ropewalk:RopeHadronization": True}},
        r"views.x: Ropewalk:RopeHadronization does nothing without the vertices.*set `PartonVertex:setVertex: on` in",
    ),
    (
        "views/x",
        {"from": "detector", "set": {"hcal.dead": [[0.0, 0.5, 0.0, 0.5], [0.0, 0.01, 0.0, 0.01]]}},
        r"views.x.set: hcal.dead: \[0.0, 0.01, 0.0, 0.01\] has no centre of a cell in it; make it larger",
    ),
    ("views/x", _shower(Random__seed=5), r"'Random:seed' is set by the project itself"),
    ("views/x", {"from": "detector", "set": {"ecall.x": 1}}, r"views.x.set: unknown key 'ecall'; allowed here: "),
    (
        "views/x",
        {"from": "detector", "set": {"ecal": 1, "ecal.noise": 2}},
        r"'ecal.noise' goes into 'ecal', which has a",
    ),
    ("views/x", {"from": "jets", "set": {"radius": -1}}, r"views.x.set: radius: .*greater than 0"),
    (
        "samples/qcd/set/HardQCD:al",
        True,
        r"samples.qcd.set: Pythia refuses 'HardQCD:al = on'; did you mean .*HardQCD:",
    ),
    ("chain/showr", {}, r"chain.showr: no such stage; the lane 'jets' has hard, shower"),
    (
        "samples/qcd",
        {"events": 100, "lhe": "no.lhe"},
        r"samples.qcd.lhe: there is no file no.lhe; give one that exists",
    ),
    ("chain/pileup", {"vertex_z": 5000}, r"chain.pileup: vertex_z: input should be less than or equal to 100"),
    (
        "samples/qcd/process",
        "qcdd",
        r"samples.qcd.process: there is no 'qcdd'; the library has qcd, .*t_bqq",
    ),
    (
        "samples/qcd",
        {"events": 10},
        r"samples.qcd: has neither process, set nor lhe; give one, `resim proc",
    ),
    (
        "views/x",
        _shower(TimeShower__renormMultFac=[1, 2]),
        r"Pythia refuses 'TimeShower:renormMultFac = \{1,2\}'; give",
    ),
    ("chain/hard", {}, r"samples.qcd.set: Beams:eCM \(GeV\) is missing"),
]


@pytest.mark.parametrize(("path", "value", "message"), MISTAKES, ids=[f"{p}={str(v)[:40]}" for p, v, _ in MISTAKES])
def test_mistakes_are_one_line_that_names_the_place(path: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        check_config(parse(Config, _set(small_config(), path, value), "my.yaml"), "my.yaml")
    assert str(caught.value).startswith("my.yaml: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' stands twice"),
        ("a: [1", "line 2: expected"),
        ("- 1", "holds no mapping"),
        (None, "cannot be read"),
    ],
    ids=["twice", "broken", "list", "missing"],
)
def test_files_that_are_no_config(text: str | None, message: str, tmp_path: Any) -> None:
    path = tmp_path / "c.yaml"
    if text is not None:
        path.write_text(text + "\n")
    with pytest.raises(UserError, match=message):
        load_config(path)


def test_replicas_become_views_and_the_first_is_the_single_one() -> None:
    """Asking for more replicas must not change the data that there are."""
    one = plan_views(parse(Config, small_config(), "x"))
    values = small_config()
    values["views"]["shower_seed"]["replicas"] = 3
    three = {view.name: view for view in plan_views(parse(Config, values, "x"))}
    assert {"shower_seed_1", "shower_seed_2", "shower_seed_3"} <= set(three)
    single = next(view for view in one if view.name == "shower_seed")
    assert three["shower_seed_1"].path == single.path
    assert three["shower_seed_2"].path != single.path


def test_replica_names_must_not_hit_other_views() -> None:
    values = small_config()
    values["views"] |= {"a": {"from": "jets", "replicas": 2}, "a_1": {"from": "jets"}}
    with pytest.raises(UserError, match="views: replicas of 'a' would be named a_1, as another view is; rename one"):
        parse(Config, values, "x")


def test_a_changed_setting_acts_on_its_stage_and_nothing_upstream() -> None:
    values = small_config()
    values["views"]["both"] = {"from": "shower", "set": {"TimeShower:renormMultFac": 2.0, "StringZ:aLund": 0.5}}
    view = next(v for v in plan_views(parse(Config, values, "x")) if v.name == "both")
    changed = {step.stage: dict(step.settings) for step in view.path}
    assert changed["shower"] == {"TimeShower:renormMultFac": 2.0}
    assert changed["hadronization"] == {**values["chain"]["hadronization"], "StringZ:aLund": 0.5}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((0, 100, 30, 20), "--shard-size = 30 is not whole blocks of 20 events; use 20 or 40"),
        ((0, 90, 20, 20), r"--events \(stop\) = 90 is not whole blocks"),
        ((10, 90, 20, 20), r"--events \(first\) = 10 is not whole blocks of 20 events; use 20"),
        ((5, 5, 20, 20), "empty or negative"),
    ],
)
def test_ranges_that_cut_blocks(args: tuple[int, int, int, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        part_ranges(*args)


def test_ranges_cover_without_overlap() -> None:
    assert part_ranges(20, 110, 40, 10) == [(20, 60), (60, 100), (100, 110)]


def test_yaml_survives_a_round_trip() -> None:
    values = small_config()
    assert parse(Config, yaml.safe_load(yaml.safe_dump(values, sort_keys=False)), "x") == parse(Config, values, "x")


def test_every_process_of_the_library_can_be_a_sample() -> None:
    values = small_config()
    values["samples"] = {name: {"events": 10, "process": name} for name in processes()}
    check_config(parse(Config, values, "test"), "test")


def test_hard_settings_of_a_sample_lie_over_its_process_and_these_over_the_chain() -> None:
    values = small_config()
    values["samples"]["hbb"]["set"] = {"25:m0": 130.0, "PhaseSpace:bias2SelectionPow": 4.0}
    found = hard_settings(parse(Config, values, "test"), "hbb")
    assert found["25:m0"] == 130.0
    assert found["PhaseSpace:bias2SelectionPow"] == 4.0
    assert found["25:onIfMatch"] == "5 -5"
    assert found["Beams:eCM"] == 13000.0


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "views/x",
            {"from": "shower", "base": "y"},
            r"x.base: 'y' is no view that it can start from; allowed: nominal, shower_seed",
        ),
        (
            "views/x",
            {"from": "detector", "base": "vincia"},
            r"x: its base 'vincia' has role evaluation; give it `role:",
        ),
        ("views/x", {"from": "shower", "base": "x"}, r"x.base: 'x' is no view that it can start from"),
        (
            "views/x",
            {"from": "shower", "role": "evaluation", "splits": ["train"]},
            r"made for the test split alone; leave",
        ),
        (
            "views/x",
            _shower(TimeShower__renormMultFac={"log_uniform": [4, 1]}),
            r"log_uniform must rise and be positive",
        ),
        (
            "views/x",
            _shower(TimeShower__renormMultFac={"uniform": [0, 1], "choose": [1, 2]}),
            r"one of uniform, log_unif",
        ),
        (
            "views/x",
            _shower(TimeShower__renormMultFac={"gauss": [0, 1]}),
            r"unknown key .*gauss'; allowed here: uniform",
        ),
        (
            "views/x",
            _shower(TimeShower__renormMultFac={"uniform": [-9, 0]}),
            r"Pythia refuses 'TimeShower:renormMultFac =",
        ),
        ("views/x", {"from": "pileup", "set": {"mu": -1}}, r"views.x.set: mu: .*greater than or equal to 0"),
        (
            "samples/qcd/set",
            {"25:m0": {"choose": [120, 130]}},
            r"samples.qcd.set: '25:m0' cannot be drawn, all views",
        ),
    ],
)
def test_mistakes_in_bases_roles_and_draws(path: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_config(parse(Config, _set(small_config(), path, value), "test"), "test")


def test_views_of_another_config_file_may_stand_before_their_bases() -> None:
    values = small_config()
    later = values["views"]
    values["views"] = {"x": {"from": "detector", "base": "shower_seed"}, "y": {"from": "shower"}, **later}
    names = list(parse(Config, values, "test").views)
    assert names == ["nominal", "y", *(name for name in later if name != "nominal"), "x"]


def test_a_view_for_evaluation_is_made_for_the_test_split_alone_and_never_trained_on() -> None:
    values = small_config()
    vincia = next(view for view in plan_views(parse(Config, values, "test")) if view.name == "vincia")
    assert vincia.splits == ("test",)
    values["training"]["views"].append("vincia")
    with pytest.raises(
        UserError, match=r"training.views: 'vincia' has role evaluation: it is held out from all training"
    ):
        parse_sections(values, "test")
    values = small_config()
    values["samples"]["hbb"]["role"] = "evaluation"
    with pytest.raises(UserError, match=r"training.tasks.h_qcd: 'hbb' has role evaluation: it is held out"):
        parse_sections(values, "test")
    assert set(Simulation(parse(Config, values, "test"), "hbb").split_of(np.arange(50))) == {2}


def test_settings_go_to_the_stage_they_act_on() -> None:
    values = small_config()
    settings = {
        "TimeShower:renormMultFac": 2.0,
        "StringZ:aLund": 0.7,
        "ParticleDecays:mixB": False,
        "mu": 0,
        "n2_beta": 2.0,
    }
    values["views"]["mixed"] = {
        "from": "shower",
        "set": settings | {"ecal.scale": 1.02, "card": "atlas", "radius": 1000.0},
    }
    path = {step.stage: dict(step.settings) for step in plan_views(parse(Config, values, "test"))[-1].path}
    assert path["shower"]["TimeShower:renormMultFac"] == 2.0
    assert path["hadronization"]["StringZ:aLund"] == 0.7
    assert path["decays"]["ParticleDecays:mixB"] is False
    assert path["pileup"] == {"mu": 0}
    assert path["detector"] == {"ecal.scale": 1.02, "card": "atlas", "radius": 1000.0}
    assert path["jets"] == {"n2_beta": 2.0}
