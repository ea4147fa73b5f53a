"""The edge of voxels, told from their places."""

import numpy as np
import pytest

from resim.grid import edge


def _places(size: float, n: int = 300, far: float = 900.0) -> np.ndarray:
    """Give middles of cells of a piece of track, as they are stored: in single precision, far from 0."""
    cells = np.floor(np.column_stack([np.arange(n) * step for step in (1.0, 0.3, 0.02)]) + far / size)
    return ((cells + 0.5) * size).astype(np.float32)


@pytest.mark.parametrize("size", [0.38, 0.4434, 1.0, 0.05])
@pytest.mark.parametrize("n", [2, 300])
def test_the_edge_is_told_from_places_in_single_precision(size: float, n: int) -> None:
    assert edge(_places(size, n)) == pytest.approx(size, rel=2e-5 if n > 2 else 3e-3)


def test_gaps_do_no_harm() -> None:
    places = _places(0.38)
    blip = places[:1] + np.float32(0.38 * 700)
    assert edge(np.concatenate([places[::3], places[1:2], blip])) == pytest.approx(0.38, rel=2e-5)


def test_places_on_no_common_grid_have_no_edge() -> None:
    draws = np.random.default_rng(1)
    for places in (
        np.concatenate([_places(0.38), _places(0.4434)]),
        draws.normal(size=(50, 3)),
        _places(0.38) + 0.1 * draws.normal(size=(300, 3)),
        _places(0.38, 1),
        np.zeros((0, 3), np.float32),
    ):
        assert np.isnan(edge(places))
