"""Pictures of images: what is in the frame, and what is told."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from resim.display import _figure, draw_object
from resim.store import Column, ObjectTable, Schema, ViewTable, open_dataset, write_manifest, write_part

START, DIRECTION = np.array([20.0, 10.0, 630.0]), np.array([0.6, 0.0, 0.8])
TRUTH = {
    "pdg": np.array([211], dtype=np.int32),
    "kinetic_energy": np.array([612.3]),
    **{f"vertex_{axis}": START[[i]] for i, axis in enumerate("xyz")},
    **{f"direction_{axis}": DIRECTION[[i]] for i, axis in enumerate("xyz")},
}
CONFIG = {"chain": {"charge": {"geometry": "ndlar"}}}


def _track(length: float = 40.0) -> NDArray[np.float32]:
    """Give voxels (n, 5) of a track of 20 ke a voxel."""
    places = START + np.arange(0, length, 0.38)[:, None] * DIRECTION
    places = (np.unique(np.floor(places / 0.38), axis=0) + 0.5) * 0.38
    return np.column_stack([places, np.full((len(places), 2), 20.0)]).astype(np.float32)


def _with_blip(image: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """Add a voxel 250 cm away that has a share of the charge."""
    blip = image[:1].copy()
    blip[0, 0] -= 250 // 0.38 * 0.38
    blip[0, 4] = share * image[:, 4].sum()
    return np.concatenate([blip, image])


def _folder(folder: Path, images: dict[str, NDArray[np.float32]], unit: str = "ke", **changes: Any) -> Path:
    """Write a data set of one object; views without voxels have it not."""
    truth = changes.pop("truth", TRUTH)
    zero = np.zeros(1, dtype=np.int64)
    columns = {"object": zero, "event": zero, "split": zero.astype(np.int8), "weight": np.ones(1), **truth}
    schema = Schema(
        (Column("charge", unit, "sum"),),
        (*(Column(axis, "cm", axis) for axis in "xyz"), Column("adc", "", "counts"), Column("charge", unit, "charge")),
    )
    views = {}
    for name, image in images.items():
        there = np.array([len(image) > 0])
        total = np.where(there, image[:, 4].sum(), np.nan)[:, None].astype(np.float32)
        origin = {"from": None, "set": {}, "replica": 0, "splits": ["train"]}
        views[name] = ViewTable(there, total, np.array([0, len(image)]), image, origin)
    attributes = {
        "sample": "pion", "lane": "lartpc", "first": 0, "stop": 1, "block_size": 1, "seed": 0, "cost": [],
        "recipes": dict.fromkeys(views, "x"), "splits": ["train", "validation", "test"], "config": CONFIG,
    } | changes  # fmt: skip
    kept = {name: value for name, value in attributes.items() if value is not None}
    described = ObjectTable(columns, tuple(Column(name, "", name) for name in columns))
    write_manifest(folder, [write_part(folder, described, views, schema, kept).path])
    return folder


def _picture(folder: Path) -> Figure:
    part = open_dataset(folder).parts[0]
    return _figure(part, 0, [name for name in part.views if part.view(name).present[0]], "pion, object 0")


def _panels(figure: Figure) -> list[Any]:
    return [axis for axis in figure.axes if axis.axison and axis.get_label() != "<colorbar>"]


def test_a_blip_far_away_does_not_set_the_frame_and_is_told(tmp_path: Path) -> None:
    above, side = _panels(_picture(_folder(tmp_path, {"nominal": _with_blip(_track(), 0.015)})))
    for axis, low in ((above, START[[2, 0]]), (side, START[[2, 1]])):
        limits = np.array([axis.get_xlim(), axis.get_ylim()])
        assert np.ptp(limits, axis=1) == pytest.approx(np.ptp(limits[0]))  # equal scales
        assert np.ptp(limits[0]) < 60
        assert (limits[:, 0] < low).all()
        assert (limits[:, 1] > low).all()
    z, x = above.collections[-1].get_offsets().T
    inside = (z < above.get_xlim()[1]) & (x > above.get_ylim()[0]) & (x < above.get_ylim()[1])
    assert (~inside).sum() == 1
    assert any(f"{len(z)} voxels, 1 outside" in text.get_text() for text in above.texts)


def test_what_has_much_of_the_charge_is_in_the_frame(tmp_path: Path) -> None:
    above, _ = _panels(_picture(_folder(tmp_path, {"nominal": _with_blip(_track(), 0.1)})))
    assert np.ptp(above.get_xlim()) > 250
    assert any("0 outside" in text.get_text() for text in above.texts)


def test_the_title_and_the_colour_bar_tell_what_and_how_much(tmp_path: Path) -> None:
    figure = _picture(_folder(tmp_path, {"nominal": _track()}))
    title = figure.get_suptitle()
    assert title == "π⁺, 612 MeV kinetic, direction x +0.60, y +0.00, z +0.80   (pion, object 0)"
    (bar,) = (axis for axis in figure.axes if axis.get_label() == "<colorbar>")
    assert bar.get_xlabel() == "charge of a voxel (ke)"
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["where the particle starts, and its direction", "anode", "cathode", "nothing drifts here"]
    assert [axis.get_ylabel() for axis in _panels(figure)] == ["x, drift (cm)", "y, up (cm)"]


def test_the_detector_is_where_the_geometry_has_it(tmp_path: Path) -> None:
    """ND-LAr: modules each 102.1 cm in x, anodes 50.4 cm from their middles, cathodes there."""
    above, side = _panels(_picture(_folder(tmp_path, {"nominal": _track()})))
    anodes, cathodes = (
        {round(float(line[0, 1]), 3) for line in lines.get_segments()}
        for lines in above.collections
        if isinstance(lines, LineCollection)
    )
    middles = 102.1 * np.arange(-3, 4)
    assert sorted(anodes) == pytest.approx(sorted([*(middles - 50.4), *(middles + 50.4)]))
    assert sorted(cathodes) == pytest.approx(middles)
    volumes = [patch for patch in side.patches if isinstance(patch, Rectangle)]
    assert len(volumes) == 5
    assert {round(v.get_height(), 3) for v in volumes} == {304.0}  # 800 pixels of 0.38 cm


def test_views_stand_beside_each_other_in_one_frame(tmp_path: Path) -> None:
    shifted = _track()
    shifted[:, 0] += np.float32(3.8)
    figure = _picture(_folder(tmp_path, {"nominal": _track(), "none": _track()[:0], "thrown": shifted}))
    panels = _panels(figure)
    assert [axis.get_title() for axis in panels] == ["nominal", "thrown", "", ""]
    assert len({(axis.get_xlim(), axis.get_ylim()) for axis in panels[:2]}) == 1


def test_published_images_are_drawn_without_what_they_do_not_tell(tmp_path: Path) -> None:
    truth = {name: TRUTH[name] for name in ("pdg", "vertex_x", "vertex_y", "vertex_z")}
    images = {"nominal": _track()}
    folder = _folder(tmp_path / "data", images, unit="photoelectrons", truth=truth, config=None)
    figure = _picture(folder)
    assert figure.get_suptitle() == "pion, object 0"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["vertex"]
    assert any(axis.get_xlabel() == "charge of a voxel (photoelectrons)" for axis in figure.axes)
    draw_object(open_dataset(folder), 0, tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("voxels", [1, 2])
def test_images_of_a_voxel_or_two_are_drawn_and_the_file_is_the_same_each_time(voxels: int, tmp_path: Path) -> None:
    folder = _folder(tmp_path / "data", {"nominal": _track()[:voxels]})
    for name in ("a.svg", "b.svg"):
        draw_object(open_dataset(folder), None, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
