"""`resim chain`: stages, views, and the engines that stand in for stages."""

from resim.config import Config
from resim.describe import describe
from resim.simulate import Simulation
from resim.typed import parse
from tests.conftest import small_config

ENGINES = {
    "herwig": {"command": "h {input} {output}", "input": "lhe", "output": "hepmc3"},
    "sherpa": {"command": "s {output}", "input": "none", "output": "hepmc3"},
    "delphes": {"command": "d {input} {output}", "input": "hepmc3", "output": "delphes_root"},
}
VIEWS = {
    "nominal": {},
    "shower_seed": {"from": "shower"},
    "alone": {"from": "shower", "engine": "herwig", "replicas": 2},
    "louder": {"from": "detector", "base": "nominal", "set": {"ecal.scale": 1.1}},
    "smeared": {"from": "detector", "engine": "delphes", "set": {"radius": 0.4}},
    "wide": {"from": "jets", "base": "smeared", "set": {"radius": 1.0}},
}
SAMPLES = {"qcd": {"events": 40, "process": "qcd"}, "other": {"events": 40, "engine": "sherpa"}}


def described(sample: str) -> tuple[list[str], dict[str, list[str]]]:
    """Give the lines of the tree, and the cells of each view's row behind its name."""
    config = parse(Config, small_config(engines=ENGINES, views=VIEWS, samples=SAMPLES), "test")
    _, drawn, table = describe(Simulation(config, sample)).split("\n\n")
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in table.splitlines()]
    return drawn.splitlines(), {name: cells for name, *cells in rows}


def test_engines_stand_in_the_tree_where_they_stand_in_for_stages() -> None:
    drawn, _ = described("qcd")
    assert drawn == [
        "hard",
        "├─ shower > hadronization > decays > pileup [nominal]",
        "│  ├─ detector > jets [nominal]: nominal",
        "│  ├─ detector > jets [louder]: louder",
        "│  └─ engine delphes (for detector) [smeared]",
        "│     ├─ jets [smeared]: smeared",
        "│     └─ jets [wide]: wide",
        "├─ shower > hadronization > decays > pileup > detector > jets [shower_seed]: shower_seed",
        "├─ engine herwig (for shower, hadronization, decays) > pileup > detector > jets [alone_1]: alone_1",
        "└─ engine herwig (for shower, hadronization, decays) > pileup > detector > jets [alone_2]: alone_2",
    ]


def test_rows_tell_what_an_engine_runs_and_changes() -> None:
    _, rows = described("qcd")
    runs, shared, changes, _ = rows["alone_2"]
    assert runs == "engine herwig (for shower, hadronization, decays) > pileup > detector > jets"
    assert (shared, changes) == ("nominal up to hard", "engine = herwig")
    assert rows["smeared"][:3] == [
        "engine delphes (for detector) > jets",
        "nominal up to pileup",
        "engine = delphes, radius = 0.4",
    ]
    assert rows["wide"][:3] == ["jets", "smeared up to detector", "radius = 1.0"]
    assert rows["shower_seed"][2] == "random numbers"


def test_an_engine_that_makes_the_sample_makes_its_hard_processes() -> None:
    drawn, rows = described("other")
    assert drawn[:2] == [
        "hard (by engine sherpa)",
        "└─ engine sherpa (for shower, hadronization, decays) > pileup [nominal]",
    ]
    assert list(rows) == ["view", "nominal", "louder", "smeared", "wide"]
    assert rows["nominal"][0] == "everything"
