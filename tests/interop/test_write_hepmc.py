"""HepMC3 written and read again: to the bit, plain and compressed."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from resim.config import Engine
from resim.errors import UserError
from resim.interop.hepmc import read_hepmc, write_hepmc
from resim.jets.external import read_incoming
from resim.jets.states import Hadrons
from resim.ragged import Ragged, row_of
from tests.jets.events import ENERGY, nominal

N = 6


def events() -> Hadrons:
    """Give some events of H Z, numbered 7, 10, 13 ..."""
    hadrons = nominal("hbb")[1].take(np.arange(N))
    numbers = 7 + 3 * np.arange(N)
    return replace(hadrons, event=numbers, hard=replace(hadrons.hard, event=numbers))


def in_order(rows: Ragged) -> list[tuple[float, ...]]:
    """Give the rows of each event sorted: HepMC keeps no order of particles."""
    names = sorted(rows.columns)
    return sorted(zip(row_of(rows.offsets).tolist(), *(rows[name].tolist() for name in names), strict=True))


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_what_is_written_comes_back_to_the_bit(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"events.hepmc3{suffix}"
    expected = events()
    write_hepmc([expected.take(np.arange(2)), expected.take(np.arange(2, N))], path, ENERGY)
    pieces = list(read_hepmc(path, batch=4))
    assert [len(piece.event) for piece in pieces] == [4, 2]
    found = Hadrons.join(pieces)
    assert found.event.tolist() == [7, 10, 13, 16, 19, 22]
    for table in ("particles", "heavy"):
        assert in_order(getattr(found, table)) == in_order(getattr(expected, table))
        types = {name: column.dtype for name, column in getattr(expected, table).columns.items()}
        assert {name: column.dtype for name, column in getattr(found, table).columns.items()} == types
    for name in ("weight", "scale", "alpha_qcd", "alpha_qed", "process"):
        assert np.array_equal(getattr(found.hard, name), getattr(expected.hard, name)), name
    for name in ("id", "status", "mother1", "px", "py", "pz", "e", "m"):
        assert np.array_equal(found.hard.partons[name], expected.hard.partons[name]), name


def test_the_same_events_give_the_same_bytes(tmp_path: Path) -> None:
    for suffix in ("", ".gz", ".zst"):
        paths = [tmp_path / f"{name}.hepmc3{suffix}" for name in ("one", "two")]
        for path in paths:
            write_hepmc(events(), path, ENERGY)
        assert paths[0].read_bytes() == paths[1].read_bytes()
    sizes = [(tmp_path / f"one.hepmc3{suffix}").stat().st_size for suffix in ("", ".gz", ".zst")]
    assert max(sizes[1:]) < sizes[0] / 2


def test_pile_up_goes_into_the_file(tmp_path: Path) -> None:
    hadrons = events()
    over = hadrons.particles.take(np.arange(N)[::-1])
    write_hepmc(replace(hadrons, pileup=over), tmp_path / "e.hepmc3", ENERGY)
    (found,) = read_hepmc(tmp_path / "e.hepmc3")
    assert np.array_equal(np.diff(found.particles.offsets), np.diff(hadrons.particles.offsets) + np.diff(over.offsets))
    assert in_order(found.particles) == in_order(hadrons.particles.beside(over))


def test_other_readers_see_whole_vertices(tmp_path: Path) -> None:
    """Particles come from beams and decays, as readers of the field want it: no vertex without anything coming in."""
    import pyhepmc

    write_hepmc(events(), tmp_path / "e.hepmc3", ENERGY)
    with pyhepmc.open(tmp_path / "e.hepmc3") as file:
        for event in file:
            assert [p.pid for p in event.beams] == [2212, 2212]
            assert all(vertex.particles_in and vertex.particles_out for vertex in event.vertices)
            away = [p for p in event.particles if p.status == 1 and any(p.production_vertex.position)]
            assert len(away) > 50
            assert {p.production_vertex.particles_in[0].pid for p in away} == {90}


def outcome(path: Path) -> str | None:
    """Read a file as an engine's; give the line that tells what is wrong."""
    engine = Engine(command="make --out {output} --seed {seed}", input="none", output="hepmc3")
    try:
        read_incoming(path, engine, events().event)
    except UserError as error:
        return one_line(error, path)
    return None


def one_line(error: UserError, path: Path) -> str:
    """Give what tells a mistake, which is one line and names the file."""
    assert str(path) in str(error)
    assert "\n" not in str(error)
    return str(error)


def in_event_13(line: str, column: int, word: str, text: str) -> str:
    """Put a word into the first line of event 13 that a pattern finds."""
    start = text.index("\nE 13 ")
    found = re.compile(line, re.M).search(text, start)
    assert found
    words = found[0].split(" ")
    words[column] = word
    return text[: found.start()] + " ".join(words) + text[found.end() :]


_HARD, _STABLE = r"^P \d+ -?\d+ 25 .* 22$", r"^P \d+ -?\d+ 211 .* 1$"
_WEIGHT = r"^W .*$"
NUMBERS = {
    "nan in the hard process": (_HARD, 4, "nan", "event 13 holds a number that is not finite, or none"),
    "infinite in the hard process": (_HARD, 4, "1e999", "event 13 holds a number that is not finite; mend the engine"),
    "nan in a particle": (_STABLE, 7, "nan", "event 13 holds a number that is not finite, or none"),
    "a word in a particle": (_STABLE, 4, "abc", "event 13 holds a number that is not finite, or none"),
    "two points": (_STABLE, 4, "1.2.3", "event 13 holds a number that is not finite, or none"),
    "nan as weight": (_WEIGHT, 1, "nan", "event 13 holds a number that is not finite, or none"),
    "infinite weight": (_WEIGHT, 1, "inf", "event 13 holds a number that is not finite, or none"),
    "a word as weight": (_WEIGHT, 1, "abc", "event 13 holds a number that is not finite, or none"),
    "too large a weight": (_WEIGHT, 1, "1e999", "event 13 |in event 2 "),
    "a vertex": (r"^V .*@ .*$", 5, "nan", "event 13 holds a number that is not finite, or none"),
    "coupling": (r"^A 0 alphaQCD .*$", 3, "foo", "event 13 has the alphaQCD 'foo', not a number of up to 2147483647"),
    "scale": (r"^A 0 event_scale .*$", 3, "inf", "event 13 has the event_scale 'inf', not a number"),
    "process": (r"^A 0 signal_process_id .*$", 3, "99999999999", "event 13 has the signal_process_id '99999999999'"),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers_that_are_not_finite_or_none_are_refused(case: str, tmp_path: Path) -> None:
    """HepMC's reader takes what is no number for 0, and such a weight for 1."""
    line, column, word, message = NUMBERS[case]
    path = tmp_path / "e.hepmc3"
    write_hepmc(events(), path, ENERGY)
    assert outcome(path) is None
    path.write_text(in_event_13(line, column, word, path.read_text()))
    assert re.search(message, outcome(path) or "accepted")


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_flipped_bits_of_a_compressed_file_are_told(suffix: str, tmp_path: Path) -> None:
    whole = tmp_path / f"e.hepmc3{suffix}"
    write_hepmc(events().take(np.arange(1)), whole, ENERGY)
    raw, draws = whole.read_bytes(), np.random.Generator(np.random.Philox(5))
    places = [*range(32), *draws.integers(0, len(raw), 100).tolist()]
    told = []
    for i, place in enumerate(places):
        damaged = bytearray(raw)
        damaged[place] ^= 1 << i % 8
        path = tmp_path / f"{i}.hepmc3{suffix}"
        path.write_bytes(damaged)
        told.append(outcome_of_one(path))
    assert told.count(None) <= 8  # bits of the header that mean nothing, such as those of the time


def outcome_of_one(path: Path) -> str | None:
    """Read a file of the first event; None where it is as it was."""
    try:
        (found,) = read_hepmc(path)
    except UserError as error:
        return one_line(error, path)
    assert in_order(found.particles) == in_order(events().take(np.arange(1)).particles)
    return None


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_junk_is_told(suffix: str, tmp_path: Path) -> None:
    plain, path = tmp_path / "plain.hepmc3", tmp_path / f"junk.hepmc3{suffix}"
    write_hepmc(events(), plain, ENERGY)
    for content in (b"", b"junk" * 1000, bytes(range(256)) * 9, plain.read_bytes() if suffix else b"\0"):
        path.write_bytes(content)
        assert re.search(r"is not HepMC3 ASCII|cannot be read \(", outcome(path) or "accepted")


def test_flipped_bits_of_a_plain_file_never_end_in_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "e.hepmc3"
    write_hepmc(events().take(np.arange(1)), path, ENERGY)
    raw, draws = path.read_bytes(), np.random.Generator(np.random.Philox(7))
    for place in draws.integers(0, len(raw), 50).tolist() + draws.integers(0, 600, 50).tolist():
        damaged = bytearray(raw)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        outcome(path)
