"""Drift volumes and pixels are those of the published layouts (larnd-sim: ndlar-module.yaml, module0.yaml)."""

import numpy as np
import pytest

from resim.errors import UserError
from resim.lartpc.geometry import geometry


def test_near_detector() -> None:
    ndlar = geometry("ndlar")
    assert len(ndlar.anode) == 70
    assert ndlar.pixels == 70 * 256 * 800
    assert np.allclose(ndlar.high[:, 0] - ndlar.low[:, 0], 50.4)
    assert np.allclose(ndlar.low[:, 1], -148.613)
    assert np.allclose(ndlar.high[:, 1], 155.387)
    assert np.allclose(ndlar.high[:, 2] - ndlar.low[:, 2], 97.28)
    assert ndlar.ticks == 3200
    assert ndlar.anode.min() == pytest.approx(-306.3 - 50.4)


def test_module0() -> None:
    module0 = geometry("module0")
    assert module0.anode.tolist() == [30.58975, -30.58975]
    assert np.allclose(module0.high[:, 0] - module0.low[:, 0], 30.431)
    assert np.allclose([module0.low[0, 1:], module0.high[0, 1:]], [[-62.076, -31.038], [62.076, 31.038]])
    assert module0.ticks == 2000


def test_pixel_ids_are_larnd_sims() -> None:
    plane, y, z = geometry("module0").place(np.array([13325]))
    assert plane == 0
    assert (z[0], y[0]) == pytest.approx((-19.7313, -19.7313), abs=1e-4)


@pytest.mark.parametrize("name", ["ndlar", "module0"])
def test_pixels_are_numbered_and_found(name: str) -> None:
    layout = geometry(name)
    planes, last = len(layout.anode), layout.pixels - 1
    wanted = np.array([0, 1, layout.columns, layout.columns * layout.rows, last])
    plane, y, z = layout.place(wanted)
    column = np.floor((z - layout.low[plane, 2]) / layout.pitch).astype(int)
    row = np.floor((y - layout.low[plane, 1]) / layout.pitch).astype(int)
    assert layout.pixel(plane, column, row).tolist() == wanted.tolist()
    assert (plane[-1], column[-1], row[-1]) == (planes - 1, layout.columns - 1, layout.rows - 1)


def test_unknown_geometry() -> None:
    with pytest.raises(UserError, match=r"no geometry 'icarus'; take one of ndlar, module0"):
        geometry("icarus")
