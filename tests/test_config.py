import json
from typing import Any

import numpy as np
import pytest
import yaml

from resim.config import Config, load_config
from resim.errors import UserError
from resim.jets.lane import hard_settings
from resim.lartpc.lane import gun_settings
from resim.plan import check_config, lane_of, plan_views
from resim.simulate import Simulation, part_ranges
from resim.typed import parse
from tests.conftest import ROOT, small_config
from training.config import parse_sections


@pytest.mark.parametrize("name", ["config.yaml", "workflow/config/lartpc.yaml"])
def test_shipped_config_is_good(name: str) -> None:
    check_config(load_config(ROOT / name), name)


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
    ("views/x", _shower(magnetick_field=2), r"unknown key 'magnetick_field'; .*; did you mean magnetic_field\?"),
    ("views/x", _shower(nothing_like_it=2), r"'nothing_like_it = 2'; .*for those of the detector or the jets, `from"),
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


def _cut(stage: str, **changes: Any) -> dict[str, Any]:
    return {"from": stage, "set": changes}


# Of a lane whose settings are all its own, and may be drawn as numbers of any size.
LARTPC_MISTAKES = [
    (
        "samples/proton/process",
        "protn",
        r"samples.proton.process: there is no 'protn'; the library has electron, gamma",
    ),
    ("samples/proton/set", {"particle": "kaon"}, r"samples.proton.set: particle: input should be 'e-', .*, not 'kaon'"),
    (
        "samples/proton/set",
        {"kinetic_energy": [50, 20000]},
        r"samples.proton.set: kinetic_energy must be \[low, high\] with 0.01 <= low <= high <= 10000, got \[50.0, 2000",
    ),
    ("samples/proton/set", {"kinetic_energy": [500, 50]}, r"samples.proton.set: kinetic_energy must be \[low, high\]"),
    (
        "samples/proton/set",
        {"kinetic_enrgy": [5, 6]},
        r"unknown key 'kinetic_enrgy'; .*; did you mean kinetic_energy\?$",
    ),
    (
        "samples/proton/set",
        {"kinetic_energy": {"uniform": [5, 6]}},
        r"cannot be drawn, all views share the stage 'gun'",
    ),
    ("samples/proton", {"events": 40}, r"samples.proton: says of no particle; give process, `resim processes` lists"),
    (
        "samples/proton",
        {"events": 40, "set": {"particle": "e-"}},
        r"samples.proton.set: kinetic_energy: field required",
    ),
    ("samples/proton/lhe", "x.lhe", r"samples.proton.lhe: is for the lane jets; give process, set or edep"),
    (
        "samples/proton",
        {"source": {"rs3l": ["a.h5"]}},
        r"samples.proton.source: rs3l: is of the lane 'jets'; change `lane`",
    ),
    ("chain/gun/centr", [0, 0, 0], r"chain.gun: unknown key 'centr'; allowed here: .*; did you mean centre\?$"),
    ("chain/gun/half_size", [-1, 0, 0], r"chain.gun: half_size must not be negative, got \[-1.0, 0.0, 0.0\]"),
    (
        "chain/shower",
        {},
        r"chain.shower: no such stage; the lane 'lartpc' has gun, deposits, charge, pixels, readout, vo",
    ),
    (
        "chain/charge/geometry",
        "ndlr",
        r"chain.charge: geometry: there is no geometry 'ndlr'; take one of ndlar, module0",
    ),
    ("chain/charge/field", -0.5, r"chain.charge: field: input should be greater than or equal to 0.01, not -0.5"),
    (
        "chain/charge/feild",
        0.5,
        r"chain.charge: unknown key 'feild'; allowed here: geometry, field, .*; did you mean fiel",
    ),
    ("chain/readout/max_hits", 10**12, r"chain.readout: max_hits: input should be less than or equal to 10000"),
    ("chain/voxels/size", 1e-300, r"chain.voxels: size: input should be greater than or equal to 0.01"),
    ("checkpoint", "shower", r"checkpoint: 'shower' cannot be kept; give deposits or null"),
    ("pileup", {"events": 500}, r"pileup: the lane 'lartpc' has no stage for it; remove the section"),
    (
        "engines",
        {"h": {"command": "h {input} {output}", "input": "lhe", "output": "hepmc3"}},
        r"engines: the lane 'lartpc' has no stage for them; remove them",
    ),
    (
        "views/x",
        {"from": "gun"},
        r"views.x.from: there is no stage 'gun' to cut before; allowed: deposits, charge, pixel",
    ),
    (
        "views/x",
        _cut("charge", geometry="module0"),
        r"views.x.set: 'geometry' says which objects there are, for all vie",
    ),
    (
        "views/x",
        _cut("readout", field=0.4),
        r"'field' acts on the stage 'charge', upstream of the cut before 'readout'",
    ),
    ("views/x", _cut("charge", treshold=3000), r"views.x.set: unknown key 'treshold'; .*; did you mean threshold\?$"),
    (
        "views/x",
        _cut("charge", lifetime="long"),
        r"views.x.set: lifetime: input should be a valid number, .*not 'long'",
    ),
    ("views/x", _cut("charge", recombination="brix"), r"recombination: input should be 'birks' or 'box', not 'brix'"),
    ("views/x", _cut("readout", v_ref=100), r"views.x.set: v_ref 100.0 must be above v_cm 288.0"),
    (
        "views/x",
        _cut("charge", field={"uniform": [-1, 1]}),
        r"views.x.set: field: input should be greater than or equal to 0.01, not -1",
    ),
    # The middles of eight steps are all above zero, but any number in the range is drawn.
    (
        "views/x",
        _cut("charge", lifetime={"uniform": [-10, 5000]}),
        r"lifetime: input should be greater than or equal to 1, not -10",
    ),
    (
        "views/x",
        _cut("charge", field={"uniform": [0.4, 5.1]}),
        r"field: input should be less than or equal to 5, not 5.1",
    ),
    (
        "views/x",
        _cut("charge", field={"choose": [0.5, -0.5]}),
        r"views.x.set: field: input should be greater than or equal to 0.01",
    ),
    (
        "views/x",
        _cut("charge", density={"uniform": [1, 2]}),
        r"'density' cannot be drawn event by event; of 'charge': fi",
    ),
    (
        "views/x",
        _cut("readout", hold={"choose": [1, 2]}),
        r"'hold' cannot be drawn event by event; of 'readout': thresh",
    ),
    (
        "views/x",
        _cut("deposits", step={"uniform": [-0.1, 0.2]}),
        r"views.x.set: step: input should be greater than or eq",
    ),
]
ALL_MISTAKES = [("jets", *mistake) for mistake in MISTAKES] + [("lartpc", *mistake) for mistake in LARTPC_MISTAKES]


@pytest.mark.parametrize(
    ("lane", "path", "value", "message"), ALL_MISTAKES, ids=[f"{n}-{p}={str(v)[:40]}" for n, p, v, _ in ALL_MISTAKES]
)
def test_mistakes_are_one_line_that_names_the_place(lane: str, path: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        check_config(parse(Config, _set(small_config(lane), path, value), "my.yaml"), "my.yaml")
    assert str(caught.value).startswith("my.yaml: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' stands twice"),
        ("a: [1", "line 2: expected"),
        ("a: 1\n[b, c]: 2", "line 2: a key is a list or a mapping, and must be a word"),
        (
            "a: 1\nb: 2026-13-01",
            "line 2: '2026-13-01' is no timestamp; put it in quotes if it is a word; mend that line",
        ),
        ("a: !!bool maybe", "line 1: 'maybe' is no bool"),
        ("a: !!timestamp now", "line 1: 'now' is no timestamp"),
        (f"seed: {'9' * 5000}", "line 1: '9{40}' is no int"),
        (f"a: {'[' * 3000}{']' * 3000}", "nested too deep"),
        ("- 1", "holds no mapping"),
        (None, "cannot be read"),
    ],
    ids=["twice", "broken", "no key", "no date", "no truth", "no time", "too long", "deep", "list", "missing"],
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


@pytest.mark.parametrize("lane", ["jets", "lartpc"])
def test_yaml_survives_a_round_trip(lane: str) -> None:
    values = small_config(lane)
    assert parse(Config, yaml.safe_load(yaml.safe_dump(values, sort_keys=False)), "x") == parse(Config, values, "x")


@pytest.mark.parametrize("lane", ["jets", "lartpc"])
def test_every_process_of_the_library_can_be_a_sample(lane: str) -> None:
    values = small_config(lane)
    values["samples"] = {name: {"events": 10, "process": name} for name in lane_of(lane).library()}
    check_config(parse(Config, values, "test"), "test")


def test_hard_settings_of_a_sample_lie_over_its_process_and_these_over_the_chain() -> None:
    values = small_config()
    values["samples"]["hbb"]["set"] = {"25:m0": 130.0, "PhaseSpace:bias2SelectionPow": 4.0}
    found = hard_settings(parse(Config, values, "test"), "hbb")
    assert found["25:m0"] == 130.0
    assert found["PhaseSpace:bias2SelectionPow"] == 4.0
    assert found["25:onIfMatch"] == "5 -5"
    assert found["Beams:eCM"] == 13000.0


def test_the_gun_of_a_sample_lies_over_its_particle_and_this_over_the_chain() -> None:
    values = small_config("lartpc")
    values["chain"]["gun"] |= {"kinetic_energy": [1, 2], "direction": "beam"}
    values["samples"]["proton"]["set"] = {"half_size": [0, 0, 0]}
    found = gun_settings(parse(Config, values, "test"), "proton")
    assert found == {
        "particle": "proton",
        "kinetic_energy": [50, 400],
        "centre": [0.0, 3.4, 650.0],
        "half_size": [0, 0, 0],
        "direction": "beam",
    }


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


def test_settings_of_the_second_lane_go_to_the_stage_that_has_them() -> None:
    values = small_config("lartpc")
    settings = {"step": 0.2, "field": 0.45, "delay": -5.0, "gain": {"uniform": [3.9, 4.1]}, "calibration.gain": 3.9}
    values["views"]["mixed"] = {"from": "deposits", "set": settings}
    path = {step.stage: dict(step.settings) for step in plan_views(parse(Config, values, "test"))[-1].path}
    assert path["deposits"]["step"] == 0.2
    assert path["charge"] == values["chain"]["charge"] | {"field": 0.45}
    assert path["pixels"] == {"delay": -5.0}
    assert set(path["readout"]) == {"gain"}
    assert path["voxels"]["calibration.gain"] == 3.9
    assert not settings.keys() & path["voxels"].keys() - {"calibration.gain"}
