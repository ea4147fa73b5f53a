"""HepMC3 written and read again: to the bit, plain and compressed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from resim.interop.hepmc import read_hepmc, write_hepmc
from resim.jets.states import Hadrons, Ragged
from resim.ragged import row_of
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
