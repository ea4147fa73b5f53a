"""Mistakes in what the config says of engines: one line that names the place; and what a good one plans."""

from typing import Any

import pytest
import yaml

from resim.config import Config, filled
from resim.errors import UserError
from resim.plan import check_config, plan_views
from resim.simulate import Simulation
from resim.typed import parse
from tests.conftest import ROOT, small_config

LHE = {"command": "run {input} {output}", "input": "lhe", "output": "hepmc3"}
WHOLE = {"command": "run {first} {output}", "input": "none", "output": "hepmc3"}
DELPHES = {"command": "run {input} {output}", "input": "hepmc3", "output": "delphes_root"}


def config(**views: Any) -> dict[str, Any]:
    values = small_config(engines={"showers": LHE, "whole": WHOLE, "delphes": DELPHES})
    values["views"] = {name: values["views"][name] for name in ("nominal", "shower_seed", "redetected")} | views
    return values


def checked(values: dict[str, Any]) -> Config:
    found = parse(Config, values, "my.yaml")
    check_config(found, "my.yaml")
    return found


def path(found: Config, view: str, sample: str | None = None) -> list[tuple[str, str]]:
    steps = next(v.path for v in plan_views(found, sample) if v.name == view)
    return [(dict(step.settings)["engine"] if step.stage == "engine" else step.stage, step.view) for step in steps]


ENGINES = [
    ({"command": "run {input}"}, r"engines.showers: command: lacks \{output\}, which says where it is; put it into"),
    ({"command": "run {output}"}, r"command: lacks \{input\}"),
    ({"command": "x {input} {output} {sead}"}, r"command: there is no \{sead\} here; allowed: \{input\}, \{output\}, "),
    ({"command": "x {input} {output} {scratch}"}, r"there is no \{scratch\} here"),
    ({"prepare": "x"}, r"prepare: lacks \{scratch\}"),
    ({"prepare": "x {scratch} {first}"}, r"prepare: there is no \{first\} here; allowed: \{scratch\}, \{seed\}"),
    ({"output": "delphes_root"}, r"no engine makes delphes_root of lhe; allowed: lhe to hepmc3, hepmc3 to delphes_ro"),
    ({"input": "none"}, r"there is no \{input\} here"),
    ({"minutes": 0}, r"engines.showers.minutes: .*greater than 0"),
    ({"may_lose": 1}, r"engines.showers.may_lose: .*less than 1"),
    ({"numbers": "none"}, r"engines.showers.numbers: .*'event' or 'order'"),
    ({"comand": "x"}, r"unknown key 'engines.showers.comand'; allowed here: command, input, output"),
]


@pytest.mark.parametrize(("change", "message"), ENGINES, ids=[str(c) for c, _ in ENGINES])
def test_mistakes_in_an_engine(change: dict[str, Any], message: str) -> None:
    values = config()
    values["engines"]["showers"] = LHE | change
    with pytest.raises(UserError, match=message) as caught:
        checked(values)
    assert "\n" not in str(caught.value)


VIEWS: list[tuple[dict[str, Any], str]] = [
    ({"x": {"from": "shower", "engine": "sherp"}}, r"views.x.engine: there is no engine 'sherp'; engines: showers, wh"),
    ({"x": {"from": "shower", "engine": "whole"}}, r"views.x.engine: 'whole' has input none; give one of input lhe"),
    ({"x": {"engine": "showers"}}, r"view 'x' has no `from`"),
    (
        {"x": {"from": "hadronization", "engine": "showers"}},
        r"my.yaml: views.x.from: the engine 'showers' takes lhe and stands in for shower, had.*; cut at 'shower'",
    ),
    ({"x": {"from": "shower", "engine": "delphes"}}, r"'delphes' takes hepmc3 and stands in for detector; cut at 'det"),
    (
        {"x": {"from": "shower", "engine": "showers", "set": {"TimeShower:renormMultFac": 2.0}}},
        r"views.x.set: 'TimeShower:renormMultFac' acts on 'shower', for which an engine stands in here",
    ),
    (
        {"x": {"from": "shower", "engine": "showers"}, "y": {"from": "decays", "base": "x"}},
        r"views.y.from: an engine of 'x' stands in for 'decays'; allowed: shower, pileup, detector, jets",
    ),
    (
        {
            "x": {"from": "detector", "engine": "delphes"},
            "y": {"from": "shower", "base": "x", "engine": "showers"},
        },
        r"views.y: runs 2 engines of its own; make two views",
    ),
]


@pytest.mark.parametrize(("views", "message"), VIEWS, ids=[m[:40] for _, m in VIEWS])
def test_mistakes_in_a_view(views: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        checked(config(**views))


def test_mistakes_in_a_sample() -> None:
    for sample, message in (
        ({"engine": "whol"}, r"samples.new.engine: there is no engine 'whol'"),
        ({"engine": "showers"}, r"samples.new.engine: 'showers' has input lhe; give one of input none"),
        ({"engine": "whole", "process": "qcd"}, r"samples.new: has engine beside process, lhe or set"),
    ):
        values = config()
        values["samples"]["new"] = {"events": 10, **sample}
        with pytest.raises(UserError, match=message):
            checked(values)


def test_an_engine_stands_in_for_its_stages_and_no_others() -> None:
    found = checked(
        config(
            herwig={"from": "shower", "engine": "showers", "set": {"ecal.stochastic": 0.2}},
            both={"from": "detector", "base": "herwig", "engine": "delphes"},
            again={"from": "jets", "base": "both"},
        )
    )
    own = [(stage, "herwig") for stage in ("pileup", "detector", "jets")]
    assert path(found, "herwig") == [("showers", "herwig"), *own]
    assert path(found, "both") == [("showers", "herwig"), ("pileup", "herwig"), ("delphes", "both"), ("jets", "both")]
    assert path(found, "again")[2:] == [("delphes", "both"), ("jets", "again")]
    steps = next(view.path for view in plan_views(found) if view.name == "herwig")
    assert dict(steps[2].settings)["ecal.stochastic"] == 0.2
    assert list(Simulation(found, "qcd").engine_steps) == ["herwig", "both"]


def test_a_sample_of_an_engine_has_the_views_that_are_cut_behind_it() -> None:
    values = config(
        herwig={"from": "shower", "engine": "showers"},
        derived={"from": "detector", "base": "herwig"},
        delphes={"from": "detector", "engine": "delphes"},
    )
    values["samples"]["new"] = {"events": 10, "engine": "whole", "role": "evaluation"}
    found = checked(values)
    assert [view.name for view in Simulation(found, "new").all_views] == ["nominal", "redetected", "delphes"]
    assert path(found, "nominal", "new") == [
        ("whole", "nominal"),
        *((s, "nominal") for s in ("pileup", "detector", "jets")),
    ]
    assert path(found, "delphes", "new")[2:] == [("delphes", "delphes"), ("jets", "delphes")]
    assert len(Simulation(found, "qcd").all_views) == 6


@pytest.mark.parametrize(
    ("change", "same"),
    [({"command": "run -x {input} {output}"}, False), ({"numbers": "order"}, False), ({"minutes": 5}, True)],
    ids=["command", "numbers", "minutes"],
)
def test_a_recipe_changes_with_what_the_engine_does(change: dict[str, Any], same: bool) -> None:
    values = config(herwig={"from": "shower", "engine": "showers"})
    before = Simulation(checked(values), "qcd")
    values["engines"]["showers"] = LHE | change
    after = Simulation(checked(values), "qcd")
    recipes = [{view.name: s.recipe(view) for view in s.all_views} for s in (before, after)]
    assert (recipes[0]["herwig"] == recipes[1]["herwig"]) is same
    assert (before.engine_recipe("herwig") == after.engine_recipe("herwig")) is same
    assert recipes[0]["redetected"] == recipes[1]["redetected"]


def test_what_goes_out_does_not_depend_on_what_comes_behind_the_engine() -> None:
    values = config(herwig={"from": "shower", "engine": "showers"})
    before = Simulation(checked(values), "qcd")
    values["views"]["herwig"]["set"] = {"radius": 0.4}
    after = Simulation(checked(values), "qcd")
    assert before.engine_recipe("herwig") == after.engine_recipe("herwig")


def test_placeholders_are_quoted_and_the_shells_braces_are_left_alone() -> None:
    command = filled("x ${HOME} ${A:-b} {input} > {output}", {"input": "a b;rm $c", "output": "o"})
    assert command == "x ${HOME} ${A:-b} 'a b;rm $c' > o"


def test_shipped_engines_are_good_with_the_shipped_config() -> None:
    """As Snakemake lays one file over the other; with the lines that wait for programs that are not everywhere."""
    text = (ROOT / "workflow/config/engines.yaml").read_text()
    head, _, rest = text.partition("# views:\n")
    shipped = yaml.safe_load(head + "views:\n" + rest.replace("#   ", "  "))
    values = yaml.safe_load((ROOT / "config.yaml").read_text())
    for section in ("engines", "samples", "views"):
        values[section] = values.get(section, {}) | shipped[section]
    found = checked(values)
    assert set(found.engines) == {"pythia_standalone", "herwig7", "sherpa_qcd", "sherpa_hbb", "delphes"}
    assert {view.engine for view in found.views.values()} == {None, "pythia_standalone", "herwig7", "delphes"}
    assert all((ROOT / str(engine.env)).is_file() for engine in found.engines.values())
    assert all(found.samples[name].role == "evaluation" for name in ("qcd_sherpa", "hbb_sherpa"))
