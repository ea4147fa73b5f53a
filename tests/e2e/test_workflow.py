"""The workflow, run by Snakemake on a small config of each lane: what `make demo` and `make demo-lartpc` give, and what
happens when things change.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from resim.store import open_dataset, validate
from tests.conftest import ROOT
from tests.e2e.runs import Done, resim, snakemake
from tests.lanes import CASES, JETS, LARTPC, LaneCase

pytest.importorskip("torch")
pytestmark = pytest.mark.timeout(900)  # the first run of a checkout compiles
SIMULATED = ["views"]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> LaneCase:
    return request.param


# Jobs take seconds each: what is the same for both lanes is tried on one; test_simulate.py and test_cli.py hold it for
# both without a workflow.
of_jets = pytest.mark.parametrize("case", [JETS], ids=["jets"], scope="module", indirect=True)
ENCODERS = {"jets": {"width": 16, "layers": 1, "heads": 2}, "lartpc": {"kind": "convnext", "constituents": 64}}


def _config(case: LaneCase, **changes: Any) -> dict[str, Any]:
    values = case.config(**changes)
    values["views"] = case.only(*case.cheap)
    values["training"] = {
        "seeds": 1,
        "tasks": {"main": {"classes": list(case.samples)}},
        "methods": {"both": {}, "supervised": {}},
        "views": list(case.cheap),
        "encoder": ENCODERS[case.name],
        "pretrain": {"epochs": 2, "batch": 16},
        "supervised": {"steps": 4},
    }
    values["evaluation"] = {"label_fractions": [1.0], "bootstrap": 20}
    return values


def _write(folder: Path, values: dict[str, Any]) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def finished(case: LaneCase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run everything once, on four cores."""
    folder = tmp_path_factory.mktemp("workflow")
    config = _write(folder, _config(case))
    # Compiles the loops once (a minute or two of a fresh checkout), or all jobs that start together would.
    resim("simulate", "--config", config, "--sample", case.samples[0], "--events", "0:10", "--out", folder / "first")
    done = snakemake(folder, "--cores", "4", "--scheduler", "greedy")
    logs = "\n".join(log.read_text()[-2000:] for log in (folder / "results/logs").rglob("*.log") if log.stat().st_size)
    assert done.returncode == 0, done.stderr[-3000:] + logs
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """Give a copy of the finished run, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "run", copy_function=shutil.copy2))


def _data(folder: Path) -> list[Path]:
    return sorted(path.parent for path in (folder / "results/data").glob("*/manifest.json"))


def _digests(folder: Path) -> list[str]:
    assert len(_data(folder)) == 2
    return [resim("digest", path) for path in _data(folder)]


def _jobs(done: Done) -> dict[str, int]:
    """Read the job counts of a dry run."""
    counts = {}
    for line in done.stdout.splitlines():
        words = line.split()
        if len(words) == 2 and words[1].isdigit() and words[0] not in ("total", "jobid:"):
            counts[words[0]] = int(words[1])
    return counts


def test_everything_is_there(case: LaneCase, finished: Path) -> None:
    comparison = json.loads((finished / "results/comparison.json").read_text())
    assert set(comparison["methods"]) == {"both", "supervised"}
    compared = ("roc", "robustness", "label_efficiency", "shift", "robustness_cost", "cost_by_stage", "training_curves")
    for name in (*compared, *(f"object-{sample}" for sample in case.samples)):
        assert (finished / f"results/plots/{name}.png").read_bytes().startswith(b"\x89PNG")
    assert {row["view"] for row in comparison["benefits"]} == set(case.cheap)
    for folder in _data(finished):
        assert validate(folder) == []


def test_the_report_is_self_contained(case: LaneCase, folder: Path) -> None:
    done = snakemake(folder, "--report", "results/report.html")
    assert done.returncode == 0, done.stderr
    page = (folder / "results/report.html").read_text()
    assert "robustness_cost.png" in page
    assert {"jets": "One jet in all its views", "lartpc": "One image in all its views"}[case.name] in page
    assert '<script src="http' not in page


def test_a_second_run_does_nothing(finished: Path) -> None:
    done = snakemake(finished, "--dry-run")
    assert "Nothing to be done" in done.stdout
    assert _jobs(done) == {}


def test_a_method_that_is_added_or_changed_trains_no_other(case: LaneCase, folder: Path) -> None:
    values = _config(case)
    values["training"]["methods"] |= {"generic": {}, "supervised": {"supervised": {"steps": 5}}}
    _write(folder, values)
    jobs = _jobs(snakemake(folder, "--dry-run"))
    assert jobs == {"pretrain": 1, "supervised": 1, "evaluate": 2, "embedding": 1, "compare": 1, "all": 1}


@of_jets
def test_digest_does_not_depend_on_cores_and_part_size(case: LaneCase, finished: Path, tmp_path: Path) -> None:
    _write(tmp_path, _config(case, events_per_part=40))
    done = snakemake(tmp_path, *SIMULATED, "--cores", "1")
    assert done.returncode == 0, done.stderr[-3000:]
    sample = case.samples[0]
    assert len(open_dataset(tmp_path / "results/data" / sample).parts) == 1
    assert len(open_dataset(finished / "results/data" / sample).parts) == 2
    assert _digests(tmp_path) == _digests(finished)


@of_jets
def test_a_deleted_part_is_made_again_the_same(case: LaneCase, finished: Path, folder: Path) -> None:
    before = _digests(finished)
    shutil.rmtree(folder / "results/data" / case.samples[0] / "part-00000020-00000040")
    assert _jobs(snakemake(folder, *SIMULATED, "--dry-run"))["simulate"] == 1
    assert snakemake(folder, *SIMULATED, "--cores", "2").returncode == 0
    assert _digests(folder) == before


def _inodes(folder: Path, view: str) -> set[int]:
    views = (folder / "results/data").glob(f"*/part-*/data.zarr/views/{view}")
    return {file.stat().st_ino for view in views for file in view.rglob("*") if file.is_file()}


@of_jets
def test_a_changed_view_is_made_again_and_the_others_are_left_alone(case: LaneCase, folder: Path) -> None:
    before = {name: _inodes(folder, name) for name in case.cheap}
    values = _config(case)
    values["views"][case.last] = {"from": case.cut, "set": case.change}
    _write(folder, values)
    assert snakemake(folder, *SIMULATED, "--cores", "2").returncode == 0
    after = {name: _inodes(folder, name) for name in case.cheap}
    assert [name for name in case.cheap if after[name] != before[name]] == [case.last]
    assert not after[case.last] & before[case.last]
    assert all(validate(path) == [] for path in _data(folder))


def test_more_events_make_only_the_new_parts(case: LaneCase, folder: Path) -> None:
    values = _config(case)
    values["samples"][case.samples[0]]["events"] = 60
    _write(folder, values)
    assert _jobs(snakemake(folder, *SIMULATED, "--dry-run"))["simulate"] == 1


MISTAKES = [
    (
        JETS,
        {"from": "shower", "set": {"TimeShower:renormMultFak": 1}},
        "views.odd.set: Pythia refuses 'TimeShower:renormMultFak = 1'; did you mean",
    ),
    (
        LARTPC,
        {"from": "charge", "set": {"feild": 0.4}},
        "views.odd.set: unknown key 'feild'; allowed here: geometry, fie",
    ),
]


@pytest.mark.parametrize(("case", "view", "message"), MISTAKES, ids=["jets", "lartpc"])
def test_a_mistake_in_the_config_is_told_before_anything_runs(
    case: LaneCase, view: dict[str, Any], message: str, tmp_path: Path
) -> None:
    values = _config(case)
    values["views"]["odd"] = view
    _write(tmp_path, values)
    done = snakemake(tmp_path, "--cores", "1")
    assert done.returncode == 1
    assert message in done.stdout + done.stderr
    assert not (tmp_path / "results").exists()


def test_a_mistake_in_the_training_section_too(tmp_path: Path) -> None:
    values = _config(JETS)
    values["training"]["epoch"] = 3
    _write(tmp_path, values)
    done = snakemake(tmp_path, "--cores", "1")
    assert "unknown key" in done.stdout + done.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("profile", ["slurm", "generic"])
def test_a_profile_lists_the_jobs_with_their_resources(profile: str, tmp_path: Path) -> None:
    _write(tmp_path, _config(JETS))
    done = snakemake(tmp_path, "--dry-run", "--profile", str(ROOT / "workflow/profiles" / profile))
    told = done.stdout + done.stderr
    assert "Simulating qcd, events 0:20, in all views (1 thread, 1204 MB, 30 min)" in told
    assert _jobs(done)["simulate"] == 4


def test_larger_parts_ask_for_more(tmp_path: Path) -> None:
    """At 4 views, 20 events are 80 images and 2,000 events 8,000."""
    config = _config(JETS) | {"events_per_part": 2000}
    config["samples"] = {name: {**sample, "events": 2000} for name, sample in config["samples"].items()}
    _write(tmp_path, config)
    done = snakemake(tmp_path, "--dry-run")
    assert "Simulating qcd, events 0:2000, in all views (1 thread, 1600 MB, 43 min)" in done.stdout + done.stderr
