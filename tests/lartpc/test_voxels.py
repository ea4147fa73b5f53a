"""Hits become cells where the charge was, with the nominal velocity."""

import numpy as np
import pytest

from resim.keys import stream
from resim.lartpc.charge import ChargeSettings, charge
from resim.lartpc.geometry import geometry
from resim.lartpc.pixels import PixelSettings, pixels
from resim.lartpc.readout import ReadoutSettings, readout
from resim.lartpc.states import HIT_COLUMNS, Hits, Images
from resim.lartpc.voxels import (
    IMAGE_COLUMNS,
    VOXEL_FEATURES,
    VoxelSettings,
    image_columns,
    nominal,
    positions,
    voxels,
)
from resim.ragged import Ragged, offsets_of
from tests.lartpc.handmade import Segment, deposits, segment, track

LAYOUT = geometry("ndlar")
STREAM = stream(1, "muon", "readout")
ELECTRONICS = ReadoutSettings()
SPOT = 30 * LAYOUT.rows * LAYOUT.columns + 400 * LAYOUT.columns + 128  # a pixel of plane 30
NAMES = [name for name, _, _ in IMAGE_COLUMNS]


def imaged(events: list[list[Segment]], card: VoxelSettings | None = None, **changes: float) -> Images:
    state = charge(deposits(events), ChargeSettings(**changes), {}, STREAM)
    hits = readout(pixels(state, PixelSettings(), LAYOUT, STREAM), ELECTRONICS, {}, LAYOUT, STREAM)
    return voxels(hits, card or VoxelSettings(), LAYOUT)


def hits_of(events: list[list[tuple[int, float, float]]]) -> Hits:
    """Make hits: pixel, time (µs), counts."""
    source = charge(deposits([[] for _ in events]), ChargeSettings(), {}, STREAM)
    rows = np.array([hit for event in events for hit in event]).reshape(-1, 3)
    columns = {name: rows[:, i].astype(dtype) for i, (name, dtype) in enumerate(HIT_COLUMNS.items())}
    return Hits(source.event, source, Ragged(offsets_of(np.array([len(e) for e in events], dtype=np.int64)), columns))


def test_nominal_velocity() -> None:
    assert nominal(ChargeSettings(), ELECTRONICS)["velocity"] == pytest.approx(0.159645, rel=1e-5)


def test_a_hit_lies_in_its_cell() -> None:
    hits = hits_of([[(SPOT, 100.0, 120.0)]])
    image = voxels(hits, VoxelSettings(), LAYOUT).voxels
    there = [float(values[0]) for values in positions(hits, VoxelSettings(), LAYOUT)]
    assert there[0] == pytest.approx(50.4 - 15.9645, abs=1e-3)
    assert there[1:] == pytest.approx([-148.613 + 400.5 * 0.38, 462.36 - 48.64 + 128.5 * 0.38])
    assert all(abs(image[axis][0] - value) <= 0.19 + 1e-4 for axis, value in zip("xyz", there, strict=True))
    assert image["charge"][0] == pytest.approx((120 / 256 * 1012 + 288 - 580) / 4, rel=1e-6)


def test_hits_of_one_cell() -> None:
    """Counts of a sum stand on one pedestal, so that they turn into the summed charge."""
    hits = hits_of([[(SPOT, 100.0, 120.0), (SPOT, 100.1, 90.0), (SPOT, 150.0, 100.0)]])
    summed = voxels(hits, VoxelSettings(), LAYOUT).voxels
    first = voxels(hits, VoxelSettings(merge="first"), LAYOUT).voxels
    assert len(summed["x"]) == len(first["x"]) == 2
    alone = ELECTRONICS.charge(np.array([120.0, 90.0, 100.0]))
    assert summed["charge"].tolist() == pytest.approx([alone[2], alone[0] + alone[1]], rel=1e-5)
    assert summed["adc"].tolist() == pytest.approx([100, 120 + 90 - ELECTRONICS.pedestal], rel=1e-6)
    assert first["adc"].tolist() == [100, 120]


def test_size_of_the_cells() -> None:
    hits = hits_of([[(SPOT, 100.0, 120.0), (SPOT + 1, 100.0, 90.0)]])
    coarse = voxels(hits, VoxelSettings(size=5.0), LAYOUT).voxels
    assert len(coarse["x"]) == 1
    assert coarse["x"][0] % 5 == pytest.approx(2.5)


def test_cells_rise() -> None:
    image = imaged([track((10, 0, 462), (1, 2, 3), 20.0), track((30, 0, 462), (-1, 2, -3), 20.0)])
    for row in range(2):
        part = image.voxels.take(np.array([row]))
        cells = list(zip(*(part[axis].tolist() for axis in "xyz"), strict=True))
        assert len(cells) > 20
        assert cells == sorted(set(cells))


def test_a_track_is_found_where_it_was() -> None:
    image = imaged([track((10, 0, 462), (1, 2, 3), 20.0)])
    x, y, z = (image.voxels[axis] for axis in "xyz")
    step = (z - 462) / 3
    assert np.abs(y - 2 * step).max() < 1.0
    assert np.abs(np.median(x - 10 - step)) < 0.3
    charge_seen = image.voxels["charge"].sum() * 1000
    assert 0.75 < charge_seen / image.source.source.clouds["electrons"].sum() < 1.02


@pytest.mark.parametrize(("field", "scale"), [(0.55, 0.954), (0.45, 1.055)])
def test_another_field_stretches_the_image(field: float, scale: float) -> None:
    """Along the drift by v_nominal / v: 0.1596 / 0.1673 and 0.1596 / 0.1513."""
    ends = [track((5, 0, 462), (0, 1, 1), 3.0), track((45, 0, 462), (0, 1, 1), 3.0)]

    def distance(**changes: float) -> float:
        table = image_columns(imaged(ends, **changes))[:, NAMES.index("x_mean")]
        return float(table[1] - table[0])

    assert distance(field=field) / distance() == pytest.approx(scale, abs=0.01)


def test_columns_of_images() -> None:
    events = [
        track((10, 0, 462), (1, 2, 3), 10.0),
        [],
        [segment((20, 0, 462), energy=1.0)],
        track((45, 0, 462), (1, 0, 0), 12.0),  # through the gap between the anodes of two modules, 50.4 to 51.7 cm
    ]
    table = image_columns(imaged(events))
    assert table.dtype == np.float32
    assert table.shape == (4, len(IMAGE_COLUMNS))
    value = dict(zip(NAMES, table.T, strict=True))
    assert value["n_voxels"][1] == value["charge"][1] == 0
    assert np.isnan([value[name][1] for name in ("charge_max", "x_mean", "z_extent", "active")]).all()
    assert value["n_voxels"][0] > 10
    assert value["deposited"][0] == pytest.approx(21.0, rel=1e-5)
    assert value["contained"].tolist() == [1, 1, 1, 0]
    assert value["active"][3] == pytest.approx(10.7 / 12, abs=0.02)
    assert value["z_extent"][0] == pytest.approx(10 * 3 / np.sqrt(14), abs=1.0)


def test_one_voxel() -> None:
    image = voxels(hits_of([[(SPOT, 100.0, 120.0)]]), VoxelSettings(), LAYOUT)
    value = dict(zip(NAMES, image_columns(image)[0], strict=True))
    assert value["n_voxels"] == value["n_hits"] == 1
    assert value["x_extent"] == value["y_extent"] == value["z_extent"] == 0
    assert value["x_mean"] == image.voxels["x"][0]


def test_no_events_and_no_hits() -> None:
    assert image_columns(imaged([])).shape == (0, len(IMAGE_COLUMNS))
    assert len(imaged([[], []]).voxels["x"]) == 0


def test_features_are_the_columns() -> None:
    image = voxels(hits_of([[(SPOT, 100.0, 120.0)]]), VoxelSettings(), LAYOUT)
    assert [name for name, _, _ in VOXEL_FEATURES] == list(image.voxels.columns)


def test_events_alone_and_in_blocks_are_the_same_bits() -> None:
    events = [track((10, 0, 462), (1, 2, 3), 6.0), [], track((-20, 30, 470), (1, -1, 0.3), 4.0)]
    whole = imaged(events)
    for row, event in enumerate(events):
        state = charge(deposits([event], first=row), ChargeSettings(), {}, STREAM)
        hits = readout(pixels(state, PixelSettings(), LAYOUT, STREAM), ELECTRONICS, {}, LAYOUT, STREAM)
        alone, mine = voxels(hits, VoxelSettings(), LAYOUT), whole.take(np.array([row]))
        assert all(np.array_equal(alone.voxels[name], mine.voxels[name]) for name in alone.voxels.columns)
        assert np.array_equal(image_columns(alone), image_columns(mine), equal_nan=True)
