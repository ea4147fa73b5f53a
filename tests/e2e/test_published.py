"""Samples whose data set exists: the workflow from stores and from published files, up to the comparison."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from resim.cli import app
from resim.config import Config
from resim.errors import UserError
from resim.interop.rs3l import export_rs3l
from resim.plan import check_config, check_workflow, choose_views
from resim.published import import_options
from resim.simulate import Simulation, simulate_part
from resim.store import open_dataset, validate, write_manifest
from resim.typed import parse
from tests.conftest import small_config
from training.config import parse_sections

pytest.importorskip("torch")
from tests.e2e.runs import resim, snakemake
from tests.e2e.test_workflow import _config, _write
from tests.interop.test_rs3l import OURS, published, read, write
from tests.interop.test_sparse import write_cubes, write_images
from tests.lanes import JETS

SAMPLES = ("qcd", "hbb")
VIEWS = ("nominal", "shower_seed", "fsr_mur_2")
VERSION_1 = Path(__file__).parents[1] / "store/version-1"
Source = dict[str, Any]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Simulate sixty events of each sample, in two parts."""
    folder, found = tmp_path_factory.mktemp("stores"), {}
    for sample in SAMPLES:
        simulation = Simulation(Config.model_validate(small_config()), sample)
        views = choose_views(simulation.all_views, VIEWS)
        found[sample] = folder / sample
        ranges = ((0, 40), (40, 60))
        write_manifest(found[sample], [simulate_part(simulation, *r, found[sample], views).path for r in ranges])
    return found


@pytest.fixture(scope="module")
def merged(stores: dict[str, Path]) -> Path:
    """Make a file as the authors do: both classes mixed, each parton in one pair, nothing of ours beside the layout."""
    pieces = []
    for folder in stores.values():
        export_rs3l(open_dataset(folder), folder.with_suffix(".h5"))
        rows = read(folder.with_suffix(".h5"))
        _, parton = np.unique(rows["parton_features"][0::2], axis=0, return_inverse=True)
        order = np.lexsort((rows["vartype"][1::2], parton))
        _, first, pairs = np.unique(parton[order], return_index=True, return_counts=True)
        pieces.append(published(rows, order[first + np.arange(len(first)) % pairs]))
    joined = {name: np.concatenate([piece[name] for piece in pieces]) for name in OURS}
    shuffled = np.random.Generator(np.random.Philox(1)).permutation(len(joined["vartype"]) // 2)
    return write(stores["qcd"].parent / "merged.h5", published(joined, shuffled))


def config(sources: dict[str, Source], views: tuple[str, ...] = VIEWS) -> dict[str, Any]:
    """Give the config of a short run; nothing but the samples and the views that are trained on is changed."""
    values = _config(JETS, samples={name: {"source": source} for name, source in sources.items()})
    values["training"] |= {"methods": {"resim": {}}, "views": list(views)}
    return values


def run(folder: Path, values: dict[str, Any]) -> Path:
    _write(folder, values)
    done = snakemake(folder, "--cores", "2", "--scheduler", "greedy")
    logs = "\n".join(log.read_text()[-2000:] for log in (folder / "results/logs").rglob("*.log") if log.stat().st_size)
    assert done.returncode == 0, done.stderr[-3000:] + logs
    return folder


@pytest.fixture(scope="module")
def from_stores(stores: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources: dict[str, Source] = {name: {"store": str(folder)} for name, folder in stores.items()}
    return run(tmp_path_factory.mktemp("from_stores"), config(sources))


def rs3l_config(merged: Path) -> dict[str, Any]:
    sources = {name: {"rs3l": [str(merged)], "truth_label": label} for label, name in enumerate(SAMPLES)}
    return config(sources, ("nominal", "shower_seed", "fsr_mur_sqrt2"))


@pytest.fixture(scope="module")
def from_files(merged: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    values = rs3l_config(merged)
    values["training"]["methods"]["supervised"] = {}
    return run(tmp_path_factory.mktemp("from_files"), values)


def comparison(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results/comparison.json").read_text())
    return found


def pictures(folder: Path) -> list[str]:
    found = sorted((folder / "results/plots").glob("*.png"))
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in found)
    return [path.stem for path in found]


OBJECTS = ["object-hbb", "object-qcd"]
COMPARED = ["cost_by_stage", "label_efficiency", "robustness", "robustness_cost", "roc", "shift", "training_curves"]
ALL_PICTURES = sorted([*COMPARED, "embedding-resim", *OBJECTS])


def test_stores_are_compared_without_simulation_and_where_they_lie(from_stores: Path, stores: dict[str, Path]) -> None:
    assert pictures(from_stores) == ALL_PICTURES
    assert not (from_stores / "results/logs/simulate").exists()
    assert set(comparison(from_stores)["views"]) == set(VIEWS)
    for name, folder in stores.items():
        here = from_stores / "results/data" / name
        assert [path.name for path in here.iterdir()] == ["manifest.json"]
        assert validate(here) == []
        assert resim("digest", here) == resim("digest", folder)
        assert comparison(from_stores)["provenance"]["data"][name] == open_dataset(folder).manifest.digest["digest"]


def test_a_store_brings_its_prices(from_stores: Path) -> None:
    found = comparison(from_stores)
    assert all(view["cpu_ms_per_event"] > 0 and "jets" in view["stages"] for view in found["views"].values())
    assert found["methods"]["resim"]["price"]["views_cpu_s"] > 0
    assert not any("unknown" in flag for flag in found["flags"])


def test_the_workflow_never_touches_a_store(from_stores: Path, stores: dict[str, Path]) -> None:
    """Nothing new, nothing gone, nothing changed, not even when the workflow makes all of its own anew."""

    def files() -> dict[Path, tuple[int, int]]:
        found = {path: path.stat() for folder in stores.values() for path in folder.rglob("*")}
        return {path: (stat.st_mtime_ns, stat.st_size) for path, stat in found.items()}

    before = files()
    assert snakemake(from_stores, "views", "--forceall", "--cores", "2").returncode == 0
    assert snakemake(from_stores, "views", "--delete-all-output", "--cores", "1").returncode == 0
    assert not (from_stores / "results/data/qcd/manifest.json").exists()
    assert files() == before
    assert all(validate(folder) == [] for folder in stores.values())


def test_published_files_are_imported_and_compared(from_files: Path, merged: Path) -> None:
    assert pictures(from_files) == ALL_PICTURES
    with h5py.File(merged) as file:
        labels = file["truth_label"][0::2]
    for label, name in enumerate(SAMPLES):
        assert validate(from_files / "results/data" / name) == []
        dataset = open_dataset(from_files / "results/data" / name)
        assert dataset.n_objects == np.sum(labels == label)
        assert set(dataset.objects()["split"]) == {0, 1, 2}
    assert set(comparison(from_files)["methods"]) == {"resim", "supervised"}


def test_what_was_published_without_costs_has_no_price(from_files: Path) -> None:
    found = comparison(from_files)
    for view in found["views"].values():
        assert [view[key] for key in ("cpu_s", "wall_s", "cpu_ms_per_event", "relative_to_nominal")] == [None] * 4
        assert view["stages"] == {}
    prices = {name: method["price"] for name, method in found["methods"].items()}
    assert (prices["resim"]["views_cpu_s"], prices["resim"]["total_cpu_s"]) == (None, None)
    assert prices["supervised"]["views_cpu_s"] == 0
    assert prices["supervised"]["total_cpu_s"] >= prices["supervised"]["training_cpu_s"] > 0
    unknown = "the price of nominal, shower_seed, fsr_mur_sqrt2 is unknown: a data set came without records"
    assert any(flag.startswith(unknown) for flag in found["flags"])
    with (from_files / "results/plots/table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["price (CPU s)"] for row in rows if row["method"] == "resim"} == {"unknown"}
    assert all(float(row["price (CPU s)"]) > 0 for row in rows if row["method"] == "supervised")


def test_an_import_is_done_again_when_its_options_change_and_not_before(from_files: Path, merged: Path) -> None:
    assert "Nothing to be done" in snakemake(from_files, "--dry-run").stdout
    before = {name: open_dataset(from_files / "results/data" / name).manifest for name in SAMPLES}
    written = (from_files / "results/imported/hbb/manifest.json").stat().st_mtime_ns
    values = rs3l_config(merged)
    values["samples"]["qcd"]["source"]["swap_leptons"] = True
    _write(from_files, values)
    assert snakemake(from_files, "views", "--cores", "2").returncode == 0
    after = {name: open_dataset(from_files / "results/data" / name).manifest for name in SAMPLES}
    assert [name for name in SAMPLES if after[name].digest != before[name].digest] == ["qcd"]
    assert (from_files / "results/imported/hbb/manifest.json").stat().st_mtime_ns == written


def test_a_manifest_behind_a_link_finds_parts_elsewhere(stores: dict[str, Path], tmp_path: Path) -> None:
    """On clusters `results` is a link to a large disk: `..` out of it leads to where the folder really lies."""
    (tmp_path / "far/away/disk").mkdir(parents=True)
    (tmp_path / "results").symlink_to(tmp_path / "far/away/disk")
    resim("manifest", tmp_path / "results/qcd", stores["qcd"])
    assert validate(tmp_path / "results/qcd") == []
    assert open_dataset(tmp_path / "results/qcd").manifest.digest == open_dataset(stores["qcd"]).manifest.digest


def test_a_published_sample_is_not_simulated(stores: dict[str, Path], tmp_path: Path) -> None:
    sources: dict[str, Source] = {name: {"store": str(folder)} for name, folder in stores.items()}
    path = _write(tmp_path, config(sources))
    with pytest.raises(UserError, match=r"--sample qcd: has a source in .*, so there is nothing to simulate"):
        _cli("simulate", "--config", path, "--sample", "qcd", "--out", tmp_path / "x")


def _cli(*words: object) -> None:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception:
        raise result.exception


Change = Callable[[dict[str, Any], dict[str, Path]], Any]


def _source(**source: Any) -> Change:
    def change(values: dict[str, Any], _: dict[str, Path]) -> None:
        values["samples"]["qcd"]["source"] = source

    return change


def _sample(**more: Any) -> Change:
    def change(values: dict[str, Any], _: dict[str, Path]) -> None:
        values["samples"]["qcd"] |= more

    return change


def _stored(name: str, **more: Any) -> Change:
    def change(values: dict[str, Any], stores: dict[str, Path]) -> None:
        values["samples"]["qcd"]["source"] = {"store": str(stores[name]), **more}

    return change


def _lane(values: dict[str, Any], stores: dict[str, Path]) -> None:
    """Name a store that the first version of the format wrote; it says no lane."""
    folder = stores["qcd"].with_name("old")
    write_manifest(folder, [VERSION_1 / "part-00000000-00000030"])
    values["samples"]["qcd"]["source"] = {"store": str(folder)}


def _file(name: str, **more: Any) -> Change:
    def change(values: dict[str, Any], stores: dict[str, Path]) -> None:
        values["samples"]["qcd"]["source"] = {"rs3l": [str(stores["qcd"].with_name(name))], **more}

    return change


def _view(name: str) -> Change:
    return lambda values, _: values["training"]["views"].append(name)


def _for_the_test_split(values: dict[str, Any], _: dict[str, Path]) -> None:
    values["samples"]["qcd"] = {"events": 40, "process": "qcd"}
    values["views"]["redetected"] = {"from": "detector", "splits": ["test"]}
    values["training"]["views"] = ["nominal", "redetected"]


LHE = "tests/interop/data/hbb.lhe.gz"
ENGINE = {"command": "make {output}", "input": "none", "output": "hepmc3"}
MISTAKES: dict[str, tuple[Change, str]] = {
    "no folder": (_source(store="nowhere"), r"samples.qcd.source: nowhere: is no data set \(it has no manifest.json\)"),
    "other sample": (_stored("hbb"), r"samples.qcd.source: .*hbb: holds the sample 'hbb', not 'qcd'; name the sample"),
    "other lane": (_lane, r"samples.qcd.source: .*old: is of the lane None, not 'jets'; give another store"),
    "no file": (_file("none.h5"), r"samples.qcd.source: .*none.h5: cannot be read as HDF5"),
    "no HDF5": (_file("text.h5"), r"samples.qcd.source: .*text.h5: cannot be read as HDF5"),
    "two sources": (_stored("qcd", rs3l=["x.h5"]), r"samples.qcd.source: give one of store, rs3l, images, cubes"),
    "no source": (_source(truth_label=1), r"samples.qcd.source: give one of store, rs3l, images, cubes"),
    "label 2": (_file("merged.h5", truth_label=2), r"samples.qcd.source.truth_label: input should be 0 or 1, not 2"),
    "idle option": (_stored("qcd", swap_leptons=True), r"swap_leptons acts on rs3l, and store is given; remove"),
    "process, too": (_sample(process="qcd"), r"samples.qcd: has a source, so process would not act; keep one of"),
    "events, too": (_sample(events=40), r"samples.qcd: has a source, so events would not act; keep one of the two"),
    "neither": (lambda v, _: v["samples"].update(qcd={"process": "qcd"}), r"samples.qcd: events is missing: give"),
    "unknown key": (_stored("qcd", labels=1), r"unknown key 'samples.qcd.source.labels'; allowed here: store, rs3l"),
    "view": (_view("redetected"), r"training.views: 'redetected' is not in the data set of samples.qcd; it has nomin"),
    "view of the test split": (
        _for_the_test_split,
        r"training.views: 'redetected' is made for test alone; add train to its `splits`, or take it out$",
    ),
    "task": (
        lambda v, _: v["training"].update(tasks={"h": {"classes": ["qcd", "hcc"]}}),
        r"training.tasks.h: 'hcc' is no sample to train on; allowed: qcd, hbb$",
    ),
    "held-out file": (
        lambda v, _: v["samples"].update(
            {n: {"events": 40, "lhe": LHE, "role": r} for n, r in (("a", "any"), ("b", "evaluation"))}
        ),
        r"samples.b and samples.a read the same hbb.lhe.gz, and the former is held out; give one of them another$",
    ),
    "view of files": (
        _file("merged.h5"),
        r"training.views: 'fsr_mur_2' is not in the data set of samples.qcd; its layout knows nominal, shower",
    ),
    "engine beside": (
        lambda v, _: (v.update(engines={"w": ENGINE}), v["samples"].update(qcd={"events": 40, "engine": "w"})),
        r"training.views: 'shower_seed' is not in the data set of samples.qcd; it has nominal, redetected$",
    ),
    "simulated beside": (
        lambda v, _: (
            v["samples"].update(qcd={"events": 40, "process": "qcd"}),
            v["training"].update(views=["nominal", "shower_seed"]),
        ),
        r"samples.qcd and samples.hbb have different views: only one has fsr_mur_2, redetected, rehadronized; they are",
    ),
}  # fmt: skip


def _checked(values: dict[str, Any]) -> None:
    found = parse(Config, values, "my.yaml")
    check_config(found, "my.yaml")
    check_workflow(found, values["training"]["views"], Path("results"), "my.yaml")
    parse_sections(values, "my.yaml")


@pytest.mark.usefixtures("merged")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told_in_one_line(mistake: str, stores: dict[str, Path]) -> None:
    change, message = MISTAKES[mistake]
    stores["qcd"].with_name("text.h5").write_text("pt eta phi\n")
    values = config({name: {"store": str(folder)} for name, folder in stores.items()})
    _checked(values)
    change(values, stores)
    with pytest.raises(UserError, match=message) as caught:
        _checked(values)
    assert str(caught.value).startswith("my.yaml: ")
    assert "\n" not in str(caught.value)


def test_codes_may_mean_other_views_and_own_exports_name_theirs(stores: dict[str, Path], merged: Path) -> None:
    values = config({name: {"rs3l": [str(merged)], "vartypes": {1: "fsr_mur_2"}} for name in SAMPLES})
    _checked(values)
    values = config({name: {"rs3l": [str(folder.with_suffix(".h5"))]} for name, folder in stores.items()})
    _checked(values)
    values["training"]["views"].append("herwig")
    with pytest.raises(UserError, match=r"'herwig' is not in .*; it has nominal, shower_seed, fsr_mur_2$"):
        _checked(values)


def test_a_source_within_the_results_is_refused_before_anything_runs(stores: dict[str, Path], tmp_path: Path) -> None:
    """The workflow removes its outputs before it makes them: it would remove the manifest that it is to read."""
    write_manifest(tmp_path / "results/data/qcd", [part.path for part in open_dataset(stores["qcd"]).parts])
    (tmp_path / "linked").symlink_to("results")
    values = config({"qcd": {"store": "linked/data/qcd"}, "hbb": {"store": str(stores["hbb"])}})
    _write(tmp_path, values)
    done = snakemake(tmp_path, "views", "--cores", "1")
    told = "config: samples.qcd.source: linked/data/qcd: lies in results/, where the workflow replaces files; move it"
    assert done.returncode == 1
    assert told in done.stdout + done.stderr
    assert validate(tmp_path / "results/data/qcd") == []


def test_published_images_of_the_other_lane_are_imported_by_the_workflow(tmp_path: Path) -> None:
    """Folders of both sets, with their options, become data sets of the config's samples; again when a file comes."""
    write_images(tmp_path / "throws", ("muon",), 4)
    write_cubes(tmp_path / "cubes", ("muon",), 4)
    throws = ["throws/nominal/all/muon", "throws/electronics_throw2"]
    sources = {
        "thrown": {"images": throws, "views": {"electronics_throw_2": "other"}},
        "cubes": {"cubes": ["cubes/muon"], "crosstalk": {"nominal": 0.0, "other": 0.75}},
    }
    values: dict[str, Any] = {"lane": "lartpc", "views": {"nominal": {}}}
    values["samples"] = {name: {"source": source} for name, source in sources.items()}
    values["training"] = {
        "tasks": {"set": {"classes": list(sources)}},
        "views": ["nominal", "other"],
        "encoder": {"kind": "convnext"},
    }
    _write(tmp_path, values)
    for events in (4, 5):
        done = snakemake(tmp_path, "views", "--cores", "1", "--scheduler", "greedy")
        assert done.returncode == 0, done.stderr[-3000:]
        found = {name: open_dataset(tmp_path / "results/data" / name) for name in sources}
        assert [dataset.views for dataset in found.values()] == [("nominal", "other")] * 2
        assert len(found["cubes"].objects()["event"]) == events
        shutil.copy(tmp_path / "cubes/muon/event3.pt", tmp_path / "cubes/muon/event4.pt")


def test_a_held_out_sample_of_published_files_is_test_alone(merged: Path, tmp_path: Path) -> None:
    values = rs3l_config(merged)
    values["samples"]["other"] = {"source": {"rs3l": [str(merged)]}, "role": "evaluation"}
    options = import_options(parse(Config, values, "my.yaml"), "other")
    _cli("import", "rs3l", merged, "--out", tmp_path / "other", *options)
    assert set(open_dataset(tmp_path / "other").objects()["split"]) == {2}
