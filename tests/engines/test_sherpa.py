"""Sherpa as an engine: runs where an interpreter with Sherpa is named by RESIM_SHERPA_PYTHON."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engines.runs import ENGINES, digest, final_charge, final_sum, is_hadron_of, read, run, statuses

CARD = ENGINES / "sherpa" / "hbb.yaml"  # integrated in half a minute; dijets take two
N = 12


@pytest.fixture(scope="module")
def python() -> str:
    name = os.environ.get("RESIM_SHERPA_PYTHON")
    if not name:
        pytest.skip(
            "no Sherpa here: python3.12 -m venv DIR && DIR/bin/pip install sherpa-mc==3.0.3b2 pyhepmc==2.16.1, "
            "then set RESIM_SHERPA_PYTHON=DIR/bin/python"
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
