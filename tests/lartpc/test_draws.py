"""Draws in compiled code are those of the key scheme."""

import numpy as np

from resim.keys import stream
from resim.lartpc.transport.draws import draws_of, exponential, isotropic, normal, uniform


def test_they_are_the_streams() -> None:
    draws = stream(1, "muon", "deposits")
    mine = draws_of(draws.key, 7)
    drawn = [uniform(mine) for _ in range(11)]
    assert drawn == draws.uniform(np.array([7]), np.array([11]), 1)[:, 0].tolist()


def test_distributions() -> None:
    mine = draws_of(stream(1, "muon", "deposits").key, 0)
    normals = np.array([normal(mine) for _ in range(20_000)])
    assert abs(normals.mean()) < 0.03
    assert abs(normals.std() - 1) < 0.02
    assert abs(np.mean([exponential(mine) for _ in range(20_000)]) - 1) < 0.03
    directions = np.array([isotropic(mine) for _ in range(20_000)])
    assert np.allclose(np.linalg.norm(directions, axis=1), 1)
    assert np.all(np.abs(directions.mean(axis=0)) < 0.02)
    assert np.allclose((directions**2).mean(axis=0), 1 / 3, atol=0.02)
