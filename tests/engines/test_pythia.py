"""The stand-alone Pythia job: Les Houches events in, HepMC3 out."""

import gzip
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engines.runs import digest, final_charge, final_sum, is_hadron_of, read, run, statuses, write_les_houches

N = 6
STABLE = ["--setting", "ParticleDecays:limitTau0=on", "--setting", "ParticleDecays:tau0Max=10"]


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hard") / "hard.lhe"
    write_les_houches(path, N)
    return path


def generate(output: Path, hard: Path, *arguments: str) -> Path:
    done = run(sys.executable, "pythia", "--input", hard, "--output", output, "--seed", "1", *STABLE, *arguments)
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="module")
def events(hard: Path) -> list[Any]:
    return read(generate(hard.with_name("events.hepmc3"), hard, "--first", "40"))


def test_events_are_whole_and_numbered_by_their_order(events: list[Any]) -> None:
    assert [event.event_number for event in events] == list(range(40, 40 + N))
    for event in events:
        np.testing.assert_allclose(final_sum(event), [0, 0, 0, 13000], atol=1e-3)
        assert final_charge(event) == 2


def test_record_has_the_hard_process_and_the_decays(events: list[Any]) -> None:
    for event in events:
        count = statuses(event)
        assert (count[4], count[21], count[23]) == (2, 2, 2)
        assert min(count[1], count[2]) > 50
        assert all(particle.end_vertex for particle in event.particles if particle.status == 2)
        assert not any(is_hadron_of(p.pid, 5) for p in event.particles if p.status == 1)
    ids = {abs(particle.pid) for event in events for particle in event.particles if particle.status == 1}
    assert {310, 130, 211, 321} <= ids
    assert 111 not in ids


def test_hard_partons_are_those_of_the_input_with_its_scale(events: list[Any], hard: Path) -> None:
    blocks = [block.split("\n")[1:] for block in hard.read_text().split("<event>")[1:]]
    for event, lines in zip(events, blocks, strict=True):
        rows = [[float(word) for word in line.split()] for line in lines[:5]]
        partons = sorted((p.status, p.pid, p.momentum.pz) for p in event.particles if p.status in (21, 23))
        expected = sorted((21 if row[1] == -1 else 23, row[0], row[8]) for row in rows[1:])
        np.testing.assert_allclose(partons, expected, rtol=1e-3)
        np.testing.assert_allclose(float(event.attributes["event_scale"].astype(float)), rows[0][3], rtol=1e-6)
        assert event.cross_section.xsec() == 1


def test_particles_after_a_flight_lie_where_their_mother_decayed(events: list[Any]) -> None:
    decays = [p for event in events for p in event.particles if p.status == 2 and is_hadron_of(p.pid, 4)]
    flights = [np.array(p.end_vertex.position) - np.array(p.production_vertex.position) for p in decays]
    far = [(p, flight) for p, flight in zip(decays, flights, strict=True) if flight[3] > 0.01]
    assert far
    for particle, flight in far:
        np.testing.assert_allclose(
            flight[:3] / flight[3], np.array(particle.momentum)[:3] / particle.momentum.e, atol=2e-3
        )


def test_an_event_depends_on_its_number_and_the_seed_alone(hard: Path, tmp_path: Path) -> None:
    """The third event alone, from another file, comes out as it did among the others."""
    whole = generate(tmp_path / "whole.hepmc3", hard)
    again = generate(tmp_path / "again.hepmc3.gz", hard)
    assert gzip.decompress(again.read_bytes()) == whole.read_bytes()
    head, *blocks = hard.read_text().split("<event>")
    alone = tmp_path / "alone.lhe.gz"
    with gzip.open(alone, "wt") as file:
        file.write(f"{head}<event>{blocks[2]}</LesHouchesEvents>\n")
    (event,) = read(generate(tmp_path / "alone.hepmc3", alone, "--first", "2"))
    assert event == read(whole)[2]
    (other,) = read(generate(tmp_path / "other.hepmc3", alone, "--first", "3"))
    assert len(other.particles) != len(event.particles)
    assert digest(generate(tmp_path / "same.hepmc3.gz", hard)) == digest(again)


def test_numbers_in_comments_win(tmp_path: Path) -> None:
    write_les_houches(tmp_path / "hard.lhe", 2, comments=True)
    assert [e.event_number for e in read(generate(tmp_path / "out.hepmc3", tmp_path / "hard.lhe"))] == [100, 99]


def test_settings_act(hard: Path, tmp_path: Path) -> None:
    plain = read(generate(tmp_path / "plain.hepmc3", hard))
    bare = read(generate(tmp_path / "bare.hepmc3", hard, "--setting", "PartonLevel:MPI=off"))
    assert sum(len(e.particles) for e in bare) < 0.7 * sum(len(e.particles) for e in plain)


@pytest.mark.parametrize(
    ("damage", "arguments", "message"),
    [
        (lambda text: text[: text.rindex("</event>")], [], "ends early, after 5 whole events"),
        (lambda text: text.replace("</LesHouchesEvents>", ""), [], "ends early, after 6 whole events"),
        (lambda text: text, ["--setting", "StringZ:aLun=1"], "Pythia refuses it"),
        (lambda text: text, ["--setting", "Beams:eCM=7000"], "leave it out"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(
    hard: Path, tmp_path: Path, damage: Any, arguments: list[str], message: str
) -> None:
    (tmp_path / "hard.lhe").write_text(damage(hard.read_text()))
    output = tmp_path / "out.hepmc3"
    done = run(
        sys.executable, "pythia", "--input", tmp_path / "hard.lhe", "--output", output, "--seed", "1", *arguments
    )
    assert done.returncode == 1
    assert message in done.stderr.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["hard.lhe"]


def test_damaged_gzip_is_told(hard: Path, tmp_path: Path) -> None:
    packed = gzip.compress(hard.read_bytes())
    (tmp_path / "hard.lhe.gz").write_bytes(packed[: len(packed) // 2])
    output = tmp_path / "out.hepmc3"
    done = run(sys.executable, "pythia", "--input", tmp_path / "hard.lhe.gz", "--output", output, "--seed", "1")
    assert done.returncode == 1
    assert "cannot be read after" in done.stderr
