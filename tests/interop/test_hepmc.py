"""HepMC3 files: what Pythia made comes back, and files that are not whole are told from those that are."""

import gzip
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyhepmc
import pytest
from numpy.typing import NDArray

from benchmarks.delphes import generate, read_reference, require_same
from resim.errors import UserError
from resim.interop.hepmc import read_hepmc
from resim.jets.clustering import JetSettings
from resim.jets.pythia import initialise, make
from resim.jets.records import read_hadrons
from resim.jets.states import Hadrons
from resim.jets.truth import object_table
from resim.ragged import row_of
from tests.interop.reference import reference
from tests.jets.handmade import hard_events

N = 4
SETTINGS: dict[str, Any] = {
    "Beams:eCM": 13000.0,
    "HiggsSM:ffbar2HZ": True,
    "25:onMode": False,
    "25:onIfAny": 5,
    "23:onMode": False,
    "23:onIfAny": "12 14 16",
    "PhaseSpace:pTHatMin": 400.0,
    "ParticleDecays:limitTau0": True,
}


@cache
def pythia_events() -> tuple[Any, Hadrons]:
    """Run Pythia: its records, and what our own reader makes of them."""
    pythia = initialise(make(SETTINGS.items()), SETTINGS.items())
    records = pythia.nextBatch(N, "none")
    return records["prt"], read_hadrons([records], hard_events([[] for _ in range(N)]), pythia)[1]


def hepmc_event(record: Any, number: int) -> Any:
    """Turn a record into HepMC's event with the codes of Pythia's converter: 1 final, 2 decayed, 4 beam, or its own.

    One vertex a mother, in their order; what Pythia lists before its mother (initial-state radiation) has none here.
    """
    column = {n: ak.to_numpy(record[n])[1:] for n in ("id", "status", "mother1", "m")}
    momenta, places = (_vectors(record[name]) for name in ("p", "vProd"))
    code = np.abs(column["status"])
    kinds = [column["status"] > 0, code == 12, code > 80]
    status = np.select(kinds, [1, 4, 2], code)
    event = pyhepmc.GenEvent(pyhepmc.Units.GEV, pyhepmc.Units.MM)
    event.event_number = number
    rows = zip(momenta, column["id"].tolist(), status.tolist(), column["m"].tolist(), strict=True)
    particles = []
    for momentum, particle, kind, mass in rows:
        particles.append(pyhepmc.GenParticle(momentum, particle, kind))
        particles[-1].generated_mass = mass
    mother = np.where(column["mother1"] <= np.arange(len(code)), column["mother1"], 0) - 1
    for first in np.unique(mother[mother >= 0]).tolist():
        daughters = np.flatnonzero(mother == first).tolist()
        vertex = pyhepmc.GenVertex(places[daughters[0]])
        vertex.add_particle_in(particles[first])
        for daughter in daughters:
            vertex.add_particle_out(particles[daughter])
        event.add_vertex(vertex)
    return event


def _vectors(vectors: Any) -> list[list[float]]:
    columns = [ak.to_numpy(ak.fill_none(vectors[n], 0.0))[1:] for n in ("px", "py", "pz", "e")]
    rows: list[list[float]] = np.column_stack(columns).tolist()
    return rows


def write(path: Path, events: Sequence[Any]) -> Path:
    with pyhepmc.open(path, "w") as file:
        for event in events:
            file.write(event)
    return path


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """Give a file of four events, ids 3 to 6."""
    return write(tmp_path / "whole.hepmc3", [hepmc_event(record, 3 + i) for i, record in enumerate(pythia_events()[0])])


def read(path: Path, batch: int = 1000) -> Hadrons:
    (hadrons,) = read_hepmc(path, batch)
    return hadrons


def in_order(rows: Any, name: str) -> NDArray[Any]:
    """Give a column sorted within each event: HepMC keeps no order of particles."""
    order = np.lexsort((rows["px"], rows["pz"], row_of(rows.offsets)))
    column: NDArray[Any] = rows[name][order]
    return column


@pytest.mark.parametrize("table", ["particles", "heavy"])
def test_what_pythia_made_comes_back(whole: Path, table: str) -> None:
    expected, found = getattr(pythia_events()[1], table), getattr(read(whole), table)
    assert np.array_equal(found.offsets, expected.offsets)
    for name, column in expected.columns.items():
        assert found[name].dtype == column.dtype, name
        np.testing.assert_allclose(in_order(found, name), in_order(expected, name), rtol=1e-9, atol=1e-9, err_msg=name)


def test_the_hard_process_comes_back(whole: Path) -> None:
    """The Higgs boson is an object: it is hard, and its own b quarks are found below it."""
    records = pythia_events()[0]
    higgs = records[(records["id"] == 25) & (records["status"] == -22)]
    hadrons = read(whole)
    objects = object_table(hadrons.hard, JetSettings(object_pt_min=100, object_eta_max=10))
    assert objects["event"].tolist() == [3, 4, 5, 6]
    assert objects["parton_id"].tolist() == [25] * N
    pt = np.hypot(*(ak.to_numpy(ak.flatten(higgs["p"][n])) for n in ("px", "py")))
    np.testing.assert_allclose(objects["parton_pt"], pt, rtol=1e-12)


def test_units_of_the_file_are_converted(whole: Path, tmp_path: Path) -> None:
    events = [hepmc_event(record, 3 + i) for i, record in enumerate(pythia_events()[0])]
    for event in events:
        event.set_units(pyhepmc.Units.MEV, pyhepmc.Units.CM)
    path = write(tmp_path / "other.hepmc3", events)
    assert "U MEV CM" in path.read_text()
    found, expected = read(path).particles, read(whole).particles
    for name in expected.columns:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_batches_and_compression_change_nothing(whole: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed.hepmc3.gz"
    packed.write_bytes(gzip.compress(whole.read_bytes()))
    pieces = list(read_hepmc(packed, batch=3))
    assert [piece.event.tolist() for piece in pieces] == [[3, 4, 5], [6]]
    together = read(whole)
    for name, column in together.particles.columns.items():
        assert np.array_equal(np.concatenate([piece.particles[name] for piece in pieces]), column), name


def test_a_vertex_without_a_position_lies_where_the_one_before_it_does(tmp_path: Path) -> None:
    """B0 -> D*- pi+ at 2 mm, D*- -> D0bar pi- with no position of its own."""
    parents = np.array([[0, 0], [1, 1], [1, 1], [2, 2], [2, 2]], dtype=np.int32)
    zero = np.zeros(5)
    event = pyhepmc.GenEvent()
    x = np.array([0, 2.0, 2.0, 0, 0])
    pz = np.array([50.0, 40, 10, 30, 10])
    ids = np.array([511, -413, 211, -421, -211], dtype=np.int32)
    status = np.array([2, 2, 1, 1, 1], dtype=np.int32)
    event.from_hepevt(0, zero, zero, pz, pz + 1, zero, ids, status, parents, vx=x, vy=zero, vz=zero, vt=zero)
    hadrons = read(write(tmp_path / "chain.hepmc3", [event]))
    assert hadrons.particles["x"].tolist() == [2, 2, 2]
    assert sorted(hadrons.heavy["id"].tolist()) == [-421, 511]
    assert hadrons.hard.partons.offsets.tolist() == [0, 0]


def _cut(text: str) -> str:
    return text[: int(len(text) * 0.8)]


def _cut_between(text: str) -> str:
    return text[: text.rindex("\nE ") + 1]


DAMAGED = {
    "not_hepmc": (lambda text: "hello\n" + text[200:], r"is not HepMC3 ASCII; write it with"),
    "empty": (lambda _: "", r"is not HepMC3 ASCII"),
    "cut": (_cut, r"is cut or damaged in event 2 of the file \(counted from 0\); copy it again"),
    "cut_between_events": (_cut_between, r"has 1 starts and 0 ends of its listing of 3 events, expected one of each"),
    "twice": (lambda text: text * 2, r"has 2 starts and 2 ends of its listing of 8 events"),
    "no_units": (lambda text: text.replace("U GEV MM\n", ""), r"names no units; each event needs a line such as"),
    "no_units_once": (lambda text: text[::-1].replace("\nMM VEG U", "", 1)[::-1], r"names units in 3 of 4 events"),
    "odd_units": (lambda text: text.replace("U GEV MM", "U TEV MM"), r"names no units"),
    "damaged_line": (
        lambda text: text.replace("\nP 20 ", "\nP x ", 1),
        r"event 3 holds a number that is not finite, or none \('P x .*; mend what writes it, or leave",
    ),
    "ids_fall": (lambda text: text.replace("\nE 5 ", "\nE 4 "), r"event 4 comes after event 4; ids must rise"),
    "negative_id": (lambda text: text.replace("\nE 3 ", "\nE -3 "), r"event -3 comes first; ids must rise, from 0 on"),
    "unknown": (
        lambda text: re.sub(r"^(P \d+ -?\d+) 211 ", r"\1 9999999 ", text, flags=re.M),
        r"stable particle with PDG id 9999999",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_file_that_is_not_whole_is_refused_in_one_line(whole: Path, case: str) -> None:
    damage, message = DAMAGED[case]
    whole.write_text(damage(whole.read_text()))
    with pytest.raises(UserError, match=message) as error:
        list(read_hepmc(whole))
    assert str(whole) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_compressed_file_that_ends_early_is_refused(whole: Path, tmp_path: Path) -> None:
    packed = gzip.compress(whole.read_bytes())
    path = tmp_path / "packed.hepmc3.gz"
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(UserError, match=r"packed.hepmc3.gz: .*event \d of the file.*copy it again"):
        list(read_hepmc(path))
    path.write_bytes(whole.read_bytes())
    with pytest.raises(UserError, match=r"cannot be read \(Not a gzipped file.*copy it again"):
        list(read_hepmc(path))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none.hepmc3: no such file; give a HepMC3 ASCII file"):
        list(read_hepmc(tmp_path / "none.hepmc3"))


def test_the_reference_files_hold_what_pythia_makes_of_its_settings() -> None:
    """A file that was read keeps its vertices in another order than their ids: vertices came from other particles."""
    folder = reference()
    made = generate(read_reference(folder)["samples"]["hbb"], 20)
    require_same(made, next(read_hepmc(folder / "hbb.hepmc3.gz", 20)), "hbb")
