"""The particle gun."""

from typing import Any

import numpy as np

from resim.keys import stream
from resim.lartpc.gun import GunSettings, library, shoot
from resim.lartpc.states import Primaries

EVENTS = np.arange(4000, dtype=np.int64)
DRAWS = stream(1, "muon", "gun")


def shot(**values: Any) -> Primaries:
    return shoot(GunSettings(**{"particle": "e-", "kinetic_energy": (50, 1000), **values}), DRAWS, EVENTS)


def test_kinetic_energy_is_uniform() -> None:
    energy = shot().kinetic_energy
    assert np.all((energy >= 50) & (energy < 1000))
    assert np.allclose(np.quantile(energy, [0.25, 0.5, 0.75]), [287.5, 525, 762.5], atol=30)


def test_vertices_fill_the_box() -> None:
    vertex = shot(centre=(1, 2, 3), half_size=(10, 0, 20)).vertex
    assert np.all(np.abs(vertex - [1, 2, 3]) <= [10, 0, 20])
    assert np.allclose(vertex.std(axis=0), np.array([10, 0, 20]) / np.sqrt(3), rtol=0.05)


def test_isotropic() -> None:
    direction = shot().direction
    assert np.allclose(np.linalg.norm(direction, axis=1), 1)
    assert np.all(np.abs(direction.mean(axis=0)) < 0.05)
    assert np.allclose((direction**2).mean(axis=0), 1 / 3, atol=0.02)


def test_beam_stays_in_its_cone() -> None:
    """Uniform in solid angle: half of the directions lie within 1 - cos of half the cone's."""
    cosine = shot(direction="beam", opening_angle=20).direction[:, 2]
    edge = 1 - np.cos(np.radians(20))
    assert np.all(1 - cosine <= edge * (1 + 1e-9))
    assert abs(np.mean(1 - cosine < edge / 2) - 0.5) < 0.03


def test_either_charge() -> None:
    codes, numbers = np.unique(shot(particle="mu").pdg, return_counts=True)
    assert codes.tolist() == [-13, 13]
    assert np.all(np.abs(numbers - 2000) < 150)
    assert set(shot(particle="proton").pdg.tolist()) == {2212}


def test_an_event_alone_is_the_same() -> None:
    settings = GunSettings(particle="pi", kinetic_energy=(50, 1000))
    some = np.array([17, 3], dtype=np.int64)
    alone, block = shoot(settings, DRAWS, some), shoot(settings, DRAWS, EVENTS).take(some)
    for name in ("pdg", "kinetic_energy", "vertex", "direction"):
        assert np.array_equal(getattr(alone, name), getattr(block, name))


def test_library() -> None:
    assert list(library()) == ["electron", "gamma", "muon", "pion", "proton"]
    for name, values in library().items():
        assert GunSettings(**values).kinetic_energy == (50, 400 if name == "proton" else 1000)
