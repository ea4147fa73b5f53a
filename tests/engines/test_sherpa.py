"""Sherpa as an engine: runs where an interpreter with Sherpa is named by RESIM_SHERPA_PYTHON (`make test-sherpa`)."""

import json
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from resim.store import open_dataset, validate
from tests.conftest import ROOT, small_config
from tests.engines.runs import (
    ENGINES,
    console,
    digest,
    final_charge,
    final_sum,
    is_hadron_of,
    read,
    run,
    snakemake,
    statuses,
)

CARD = ENGINES / "sherpa" / "hbb.yaml"  # integrated in half a minute; dijets take two
N = 12


@pytest.fixture(scope="module")
def python() -> str:
    name = os.environ.get("RESIM_SHERPA_PYTHON")
    if not name:
        pytest.skip(
            "no Sherpa here: `make test-sherpa` installs it and runs these, or set RESIM_SHERPA_PYTHON=DIR/bin/python"
        )
    return name


@pytest.fixture(scope="module")
def integration(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sherpa")
    done = run(python, "sherpa", *arguments(folder / "none.hepmc3", folder / "integration", "0:0"))
    assert done.returncode == 0, done.stderr
    assert read(folder / "none.hepmc3") == []
    return folder / "integration"


def arguments(output: Path, integration: Path, events: str, card: Path = CARD) -> list[str | Path]:
    return ["--card", card, "--events", events, "--seed", "7", "--output", output, "--integration", integration]


def generate(python: str, integration: Path, output: Path, events: str) -> list[Any]:
    done = run(python, "sherpa", *arguments(output, integration, events))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return read(output)


@pytest.fixture(scope="module")
def events(python: str, integration: Path) -> list[Any]:
    return generate(python, integration, integration.with_name("events.hepmc3.gz"), f"0:{N}")


def test_events_are_whole_and_have_their_numbers(events: list[Any]) -> None:
    assert [event.event_number for event in events] == list(range(N))
    for event in events:
        np.testing.assert_allclose(final_sum(event), [0, 0, 0, 13000], atol=0.01)
        assert round(final_charge(event), 6) == 2


def test_each_vertex_conserves_momentum(events: list[Any]) -> None:
    for vertex in (vertex for event in events for vertex in event.vertices):
        into, out = (
            np.sum([np.array(p.momentum) for p in particles], axis=0)
            for particles in (vertex.particles_in, vertex.particles_out)
        )
        np.testing.assert_allclose(into, out, atol=0.01)


def test_hard_process_has_the_codes_of_pythia(events: list[Any]) -> None:
    for event in events:
        count = statuses(event)
        assert (count[4], count[21], count[22], count[23]) == (2, 2, 2, 4)
        higgs, z = (next(p for p in event.particles if (p.status, p.pid) == (22, pid)) for pid in (25, 23))
        assert sorted(p.pid for p in higgs.end_vertex.particles_out) == [-5, 5]
        assert {abs(p.pid) for p in z.end_vertex.particles_out} <= {12, 14, 16}
        assert 400 <= np.hypot(higgs.momentum.px, higgs.momentum.py) < 1001
        assert event.attributes["event_scale"].astype(float) > 100


def test_weights_undo_the_flattened_spectrum(events: list[Any]) -> None:
    """The weight over its normalisation is the inverse of what the card multiplies the spectrum by."""
    assert events[0].weight_names == ["Weight", "WeightNormalisation", "NTrials"]
    higgs = [next(p for p in event.particles if (p.status, p.pid) == (22, 25)).momentum for event in events]
    pt = np.array([np.hypot(p.px, p.py) for p in higgs])
    weight = np.array([event.weights[0] for event in events])
    norm = np.array([event.weights[1] for event in events])
    # 10 %: the masses of H and Z are smeared after the weight was found
    np.testing.assert_allclose(weight / norm * (pt / 400) ** 4.5, 1, rtol=0.1)


def test_b_hadrons_decay_where_they_flew_to(events: list[Any]) -> None:
    n_heavy = Counter[int]()
    for event in events:
        for particle in event.particles:
            if is_hadron_of(particle.pid, 5):
                assert particle.status == 2
                products = particle.end_vertex.particles_out
                n_heavy[event.event_number] += not any(is_hadron_of(p.pid, 5) for p in products)
                flight = np.array(particle.end_vertex.position) - np.array(particle.production_vertex.position)
                if flight[3] > 0.01:
                    direction = np.array(particle.momentum)[:3] / particle.momentum.e
                    np.testing.assert_allclose(flight[:3] / flight[3], direction, atol=0.02)
    assert set(n_heavy) == set(range(N))
    assert all(n >= 2 and n % 2 == 0 for n in n_heavy.values())


def test_long_lived_particles_are_left_for_the_detector(events: list[Any]) -> None:
    final = {abs(p.pid) for event in events for p in event.particles if p.status == 1}
    assert {310, 130, 211, 321, 3122} <= final
    assert not final & {111, 113, 411, 421, 15, 311}


def test_an_event_depends_on_its_number_and_the_seed_alone(
    python: str, integration: Path, events: list[Any], tmp_path: Path
) -> None:
    """The last events alone come out as they did after the others, to the bit; so does the file, made again."""
    late = generate(python, integration, tmp_path / "late.hepmc3", f"{N - 3}:{N}")
    for alone, among in zip(late, events[-3:], strict=True):
        assert alone.particles == among.particles
        assert [v.position for v in alone.vertices] == [v.position for v in among.vertices]
        assert list(alone.weights) == list(among.weights)
    generate(python, integration, tmp_path / "again.hepmc3", f"{N - 3}:{N}")
    assert digest(tmp_path / "again.hepmc3") == digest(tmp_path / "late.hepmc3")


def test_another_card_with_the_same_integration_is_refused(python: str, integration: Path, tmp_path: Path) -> None:
    card = tmp_path / "other.yaml"
    card.write_text(CARD.read_text().replace("400, 1000", "450, 1000"))
    done = run(python, "sherpa", *arguments(tmp_path / "out.hepmc3", integration, "0:1", card))
    assert done.returncode == 1
    assert "was made with another card" in done.stderr
    assert not (tmp_path / "out.hepmc3").exists()


def test_a_card_that_sherpa_refuses_leaves_nothing(python: str, tmp_path: Path) -> None:
    card = tmp_path / "bad.yaml"
    card.write_text(CARD.read_text().replace("93 93 -> 25 23", "93 93 -> 99 99"))
    done = run(python, "sherpa", *arguments(tmp_path / "out.hepmc3", tmp_path / "integration", "0:1", card))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("bad.yaml: Sherpa failed; it says above why")
    assert list(tmp_path.iterdir()) == [card]


@pytest.mark.parametrize("events_given", ["5", "5:3", "a:b", "-1:2"])
def test_a_range_that_is_none_is_refused(python: str, tmp_path: Path, events_given: str) -> None:
    done = run(python, "sherpa", *arguments(tmp_path / "out.hepmc3", tmp_path / "integration", events_given))
    assert done.returncode == 2
    assert "FIRST:STOP" in done.stderr


# --- what it leaves behind ----------------------------------------------------------------------------------------


def start(python: str, folder: Path, integration: Path, events: str) -> subprocess.Popen[bytes]:
    """Start a run with a temporary directory of its own."""
    (folder / "tmp").mkdir()
    words = [python, ENGINES / "sherpa/generate.py", *arguments(folder / "out.hepmc3", integration, events)]
    environment = {**os.environ, "TMPDIR": str(folder / "tmp")}
    return subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_it_leaves_nothing_in_the_temporary_directory(python: str, integration: Path, tmp_path: Path) -> None:
    assert start(python, tmp_path, integration, "0:1").wait(120) == 0
    assert list((tmp_path / "tmp").iterdir()) == []


SIGNS = {"integrating": ".integration-*/*", "starting": "tmp/sherpa-*/Results.zip", "generating": ".out.hepmc3.part"}


@pytest.mark.parametrize("part", SIGNS)
def test_it_leaves_nothing_where_it_is_stopped(part: str, python: str, integration: Path, tmp_path: Path) -> None:
    kept = tmp_path / "integration" if part == "integrating" else integration
    process = start(python, tmp_path, kept, "0:100000")
    while not any(file.stat().st_size for file in tmp_path.glob(SIGNS[part])):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == [tmp_path / "tmp"]
    assert list((tmp_path / "tmp").iterdir()) == []


# --- the whole way ------------------------------------------------------------------------------------------------


def config() -> dict[str, Any]:
    """Give a small run of the shipped config with the shipped engine; hbb alone, for dijets integrate for minutes."""
    shipped = yaml.safe_load((ROOT / "workflow/config/engines.yaml").read_text())
    values = small_config(engines={"sherpa_hbb": shipped["engines"]["sherpa_hbb"]})
    values["samples"]["hbb_sherpa"] = shipped["samples"]["hbb_sherpa"] | {"events": 20}
    values["views"] = {name: values["views"][name] for name in ("nominal", "shower_seed", "redetected")}
    values["training"] = {
        "seeds": 1,
        "methods": {"both": {}, "supervised": {}},
        "views": ["nominal", "shower_seed", "redetected"],
        "encoder": {"width": 16, "layers": 1, "heads": 2},
        "pretrain": {"epochs": 2, "batch": 16},
        "supervised": {"steps": 4},
    }
    sets = {"sherpa": {"hbb": shipped["evaluation"]["test_sets"]["sherpa"]["hbb"]}}
    values["evaluation"] = {"label_fractions": [1.0], "bootstrap": 20, "test_sets": sets}
    return values


@pytest.fixture(scope="module")
def workflow(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run everything: engine, HepMC3, part, training, judgement on the held-out sample, comparison."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("workflow")
    (folder / "workflow").symlink_to(ROOT / "workflow")
    (folder / "tmp").mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(config(), sort_keys=False))
    given = {"RESIM_SHERPA_PYTHON": str(Path(python).absolute()), "TMPDIR": str(folder / "tmp")}
    done = snakemake(folder, "--cores", "2", **given)
    logs = "\n".join(log.read_text()[-2000:] for log in (folder / "results/logs").rglob("*.log") if log.stat().st_size)
    assert done.returncode == 0, done.stderr[-3000:] + logs
    return folder


def result(path: Path) -> Any:
    return json.loads(path.read_text())


def test_the_workflow_makes_a_sample_of_it(workflow: Path) -> None:
    data = workflow / "results/data/hbb_sherpa"
    assert validate(data) == []
    (part,) = open_dataset(data).parts
    assert set(part.objects()["split"]) == {2}
    assert part.views == ("nominal", "redetected")
    mass = part.view("nominal").column("mass")[part.view("nominal").present]
    assert len(mass) > 10
    assert 80 < np.median(mass) < 140
    cost = [r for r in part.attributes["cost"] if (r["stage"], r["view"]) == ("engine", "nominal")]
    assert cost[0]["cpu_s"] > 2
    assert not list((workflow / "tmp").glob("sherpa-*"))


@pytest.mark.parametrize("method", ["both", "supervised"])
def test_the_workflow_judges_on_it_and_trains_without_it(workflow: Path, method: str) -> None:
    found = result(workflow / f"results/evaluation/{method}/seed-0.json")
    rows = {row["view"]: row for row in found["rows"] if row["weighting"] == "flat"}
    assert set(rows) == {"nominal", "shower_seed", "redetected", "sherpa"}
    assert set(found["provenance"]["data"]) == {"qcd", "hbb"}
    assert set(found["provenance"]["held_out"]) == {"hbb_sherpa"}
    assert rows["sherpa"]["objects"]["qcd"] == rows["nominal"]["objects"]["qcd"]
    objects = open_dataset(workflow / "results/data/hbb_sherpa").parts[0].view("nominal").present.sum()
    assert rows["sherpa"]["objects"]["hbb"] == objects
    assert rows["sherpa"]["figures"]["background_efficiency_change"]["value"] == 0
    dry = snakemake(workflow, "--dry-run", "--printshellcmds", "--forceall").stdout
    training = [line for line in dry.splitlines() if "resim-train pretrain" in line or "resim-train supervised" in line]
    assert len(training) == 2
    assert not any("sherpa" in line for line in training)


def test_the_comparison_has_it_beside_the_views(workflow: Path) -> None:
    comparison = result(workflow / "results/comparison.json")
    assert comparison["test_sets"]["sherpa"]["hbb"]["stand_in"] == "hbb_sherpa"
    assert {row["method"] for row in comparison["benefits"] if row["view"] == "sherpa"} == {"both", "supervised"}
    assert ",sherpa," in (workflow / "results/plots/table.csv").read_text()
    assert all((workflow / f"results/plots/{name}.png").stat().st_size for name in ("roc", "robustness_cost"))


def test_training_on_it_is_refused_before_anything_runs(workflow: Path, tmp_path: Path) -> None:
    values = config()
    values["training"]["tasks"] = {"h": {"classes": ["qcd", "hbb_sherpa"]}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    done = snakemake(tmp_path, "--cores", "1")
    why = "training.tasks.h: 'hbb_sherpa' has role evaluation: it is held out from all training; take it out"
    assert why in done.stdout + done.stderr
    assert not (tmp_path / "results").exists()
    given = ["--config", str(workflow / "results/config.json"), "--seed-index", "0", "--out", str(tmp_path / "x.pt")]
    data = [f"--data={name}={workflow / 'results/data' / name}" for name in ("qcd", "hbb", "hbb_sherpa")]
    told = subprocess.run([*console("training"), "supervised", *given, *data], capture_output=True, text=True)
    assert told.returncode == 2
    assert "holds the test split alone, as samples with role evaluation do; nothing is trained on it" in told.stderr
    assert not (tmp_path / "x.pt").exists()
