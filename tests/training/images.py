"""Toy data sets of the lane lartpc: sparse images whose shape is that of a particle, drawn in a few lines of NumPy."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resim.store import Column, ObjectTable, Schema, ViewTable, write_manifest, write_part
from tests.training.conftest import SPLITS
from training.data.voxels import FEATURES
from training.keys import generator

SAMPLES = ("electron", "gamma", "muon", "pion", "proton")
VIEWS = ("nominal", "field_low", "lifetime_low", "thrown")
HELD_OUT = "thrown"
SETTINGS = {"field_low": {"field": 0.45}, "lifetime_low": {"lifetime": 500.0}, "thrown": {"field": 0.4}}
GRID = 0.38  # cm
SCHEMA = Schema((Column("n_voxels", "", "voxels"),), tuple(Column(name, "", name) for name in FEATURES))
_SHAPES = {  # steps of a track, width, charge (ke), pieces
    "electron": (14, 2.0, 6.0, 1),
    "gamma": (14, 2.0, 6.0, 2),
    "muon": (45, 0.3, 8.0, 1),
    "pion": (14, 0.3, 12.0, 2),
    "proton": (7, 0.3, 40.0, 1),
}


def toy_image(kind: str, draws: np.random.Generator) -> NDArray[np.float32]:
    """Draw voxels (n, 5), by rising place, on the grid: straight pieces one after another, or showers apart."""
    steps, width, charge, pieces = _SHAPES[kind]
    at, cells = draws.integers(-100, 100, 3).astype(float), []
    for _ in range(pieces):
        direction = draws.normal(size=3)
        direction /= np.linalg.norm(direction)
        along = at + np.linspace(0, steps, 2 * steps)[:, None] * direction
        cells.append(along + width * draws.normal(size=along.shape))
        at = along[-1] + (12 * direction if kind == "gamma" else 0)
    place = (np.unique(np.floor(np.concatenate(cells)), axis=0) + 0.5) * GRID
    ke = charge * draws.uniform(0.7, 1.3, len(place))
    return np.column_stack([place, np.round(73.9 + ke / 0.988), ke]).astype(np.float32)


def padded(images: list[NDArray[np.float32]], width: int) -> NDArray[np.float32]:
    """Put images into an array (B, width, 5)."""
    array = np.zeros((len(images), width, len(FEATURES)), dtype=np.float32)
    for row, image in zip(array, images, strict=True):
        row[: len(image)] = image[:width]
    return array


def write_images(folder: Path, sample: str, events: int, lane: str = "lartpc") -> Path:
    """Write a data set of one part, an image an event; the first has one voxel, and a few are absent in some view."""
    draws, ids = generator("images", sample), np.arange(events)
    images = [toy_image(sample, draws) for _ in ids]
    images[0] = images[0][:1]
    split = np.array([0, 2, 0, 2, 1], dtype=np.int8)[ids % 5]
    columns = {"object": 8 * ids, "event": ids, "split": split, "weight": np.ones(events)}
    objects = ObjectTable(columns, tuple(Column(name, "", name) for name in columns))
    views = {view: _view(images, view, split, draws) for view in VIEWS}
    cost = [{"stage": "drift", "view": v, "cpu_s": 0.01 * events, "events": events, "bytes_written": 9} for v in VIEWS]
    attributes = {
        "sample": sample, "lane": lane, "first": 0, "stop": events, "block_size": events, "seed": 0, "cost": cost,
        "recipes": dict.fromkeys(VIEWS, "toy"), "splits": list(SPLITS),
    }  # fmt: skip
    write_manifest(folder, [write_part(folder, objects, views, SCHEMA, attributes).path])
    return folder


def _view(
    images: list[NDArray[np.float32]], view: str, split: NDArray[np.int8], draws: np.random.Generator
) -> ViewTable:
    number = VIEWS.index(view)
    present = np.arange(len(images)) % 13 != number + 3
    present &= (view != HELD_OUT) | (split == SPLITS.index("test"))
    here = [image.copy() if there else image[:0] for image, there in zip(images, present, strict=True)]
    for image in here:
        image[:, 0] *= 1 + 0.02 * number  # the drift velocity is another
        image[:, 4] *= (1 - 0.1 * number) * draws.uniform(0.95, 1.05, len(image))
    offsets = np.concatenate([[0], np.cumsum([len(image) for image in here])]).astype(np.int64)
    columns = np.where(present, np.diff(offsets), np.nan)[:, None].astype(np.float32)
    splits = ["test"] if view == HELD_OUT else []
    origin = {"from": "charge" if number else None, "set": SETTINGS.get(view, {}), "replica": 0, "splits": splits}
    return ViewTable(present, columns, offsets, np.concatenate(here), origin)
