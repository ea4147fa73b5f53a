"""Toy data sets: jets drawn from a few lines of NumPy, written through `resim.store` like real ones."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from resim.store import Column, ObjectTable, Schema, ViewTable, write_manifest, write_part
from training.data.jets import ETA, FEATURES, PHI, PT, E, completed
from training.keys import generator

VIEWS = ("nominal", "shower_seed", "fsr_mur_2", "fsr_mur_half", "rehadronized", "redetected", "vincia")
HELD_OUT = "vincia"
CUTS = dict.fromkeys(VIEWS, "shower") | {"nominal": None, "rehadronized": "hadronization", "redetected": "detector"}
CHANGES = {
    "fsr_mur_2": {"TimeShower:renormMultFac": 4.0},
    "fsr_mur_half": {"TimeShower:renormMultFac": 0.25},
    "vincia": {"PartonShowers:model": 2},
}
ATTRIBUTES: dict[str, object] = {}  # of parts, beside the others
SPLITS = ("train", "validation", "test")
BLOCK = 20
SCHEMA = Schema(
    tuple(Column(name, "", name) for name in ("pt", "eta", "phi", "e", "mass", "softdrop_mass", "n2")),
    tuple(Column(name, "", name) for name in FEATURES),
)


def toy_jets(n: int, draws: np.random.Generator, *, two_prongs: bool, width: int = 40) -> NDArray[np.float32]:
    """Draw jets (n, width, 15), by falling pT, zero-padded: one prong or two of equal pT, 0.4 apart."""
    counts = draws.integers(5, width + 1, n)
    shares = draws.dirichlet(np.full(width, 0.5), n) * (np.arange(width) < counts[:, None])
    x = np.zeros((n, width, len(FEATURES)))
    x[:, :, PT] = np.sort(shares / shares.sum(axis=1, keepdims=True))[:, ::-1] * draws.uniform(400, 900, (n, 1))
    x[x[:, :, PT] < 0.5] = 0  # GeV; a detector sees nothing softer
    spread = 0.15 / np.sqrt(1 + x[:, :, PT])
    prong = 0.4 * (np.arange(width) % 2) * two_prongs
    angle = draws.uniform(0, 2 * np.pi, (n, 1))
    x[:, :, ETA] = draws.normal(size=(n, 1)) + prong * np.cos(angle) + spread * draws.normal(size=(n, width))
    x[:, :, PHI] = draws.uniform(-3, 3, (n, 1)) + prong * np.sin(angle) + spread * draws.normal(size=(n, width))
    x[:, :, PHI] = (x[:, :, PHI] + np.pi) % (2 * np.pi) - np.pi
    x[:, :, E] = np.hypot(x[:, :, PT] * np.cosh(x[:, :, ETA]), 0.14)
    kind = draws.integers(0, 5, (n, width))
    x[:, :, 10:] = np.eye(5)[kind]
    x[:, :, 6] = np.isin(kind, (1, 2, 3)) * draws.choice([-1, 1], (n, width))
    x[:, :, 7:9] = draws.normal(0, 0.05, (n, width, 2)) * np.abs(x[:, :, 6:7])
    x[x[:, :, PT] <= 0] = 0
    return completed(x.astype(np.float32))


def _table(jets: NDArray[np.float32], present: NDArray[np.bool_], view: str, splits: list[str]) -> ViewTable:
    jets = jets * present[:, None, None]
    filled = jets[:, :, PT] > 0
    columns = np.full((len(jets), len(SCHEMA.view_columns)), np.nan, dtype=np.float32)
    columns[:, 0] = jets[:, :, PT].sum(axis=1)
    columns[:, 1:] = 1
    columns[~present] = np.nan
    offsets = np.concatenate([[0], np.cumsum(filled.sum(axis=1))]).astype(np.int64)
    origin = {"from": CUTS[view], "set": CHANGES.get(view, {}), "replica": 0, "splits": splits}
    return ViewTable(present, columns, offsets, jets[filled], origin)


def write_toy(
    folder: Path, sample: str, events: int, per_part: int, *, held_out: bool = False, smeared: float = 0.005
) -> Path:
    """Write a data set of one object an event; every block is drawn by itself, whatever part it falls in.

    A held-out one is all test, and has nominal alone. The n-th view after nominal has n times `smeared` more noise in
    eta.
    """
    names = VIEWS[:1] if held_out else VIEWS
    blocks = [_block(sample, first, smeared) for first in range(0, events, BLOCK)]
    in_part = per_part // BLOCK
    parts = []
    for number in range(0, len(blocks), in_part):
        members = blocks[number : number + in_part]
        ids = np.arange(number * BLOCK, (number + len(members)) * BLOCK)
        split = np.concatenate([b["split"] for b in members]).astype(np.int8)
        split = np.full_like(split, SPLITS.index("test")) if held_out else split
        columns = {"object": 8 * ids, "event": ids, "split": split, "weight": 1 / (1.0 + ids % 7)}
        objects = ObjectTable(columns, tuple(Column(name, "", name) for name in columns))
        views = {v: _view(members, v, ids, split) for v in names}
        cost = [
            {"stage": stage, "view": v, "cpu_s": 0.01 * len(ids), "events": len(ids), "bytes_written": 1000}
            for v in names
            for stage in ("shower", "detector")
        ]
        attributes = {
            "sample": sample, "lane": "jets", "first": int(ids[0]), "stop": int(ids[-1]) + 1, "block_size": BLOCK,
            "recipes": dict.fromkeys(names, "toy"), "splits": list(SPLITS), "seed": 0, "cost": cost, **ATTRIBUTES,
        }  # fmt: skip
        parts.append(write_part(folder, objects, views, SCHEMA, attributes).path)
    write_manifest(folder, parts)
    return folder


def _block(sample: str, first: int, smeared: float) -> dict[str, NDArray[np.float32]]:
    draws = generator("toy", sample, first)
    jets = toy_jets(BLOCK, draws, two_prongs=sample.startswith("hbb"))
    block = {"split": draws.choice(3, BLOCK, p=(0.5, 0.1, 0.4))}
    for place, view in enumerate(VIEWS):
        moved = jets.copy()
        moved[:, :, ETA] += smeared * place * draws.normal(size=jets.shape[:2])
        moved[:, :, E] = np.hypot(moved[:, :, PT] * np.cosh(moved[:, :, ETA]), 0.14)
        moved[jets[:, :, PT] <= 0] = 0
        block[view] = completed(moved)
    return block


def _view(
    blocks: list[dict[str, NDArray[np.float32]]], view: str, ids: NDArray[np.int64], split: NDArray[np.int8]
) -> ViewTable:
    jets = np.concatenate([block[view] for block in blocks])
    present = ids % 17 != VIEWS.index(view) + 3  # a few are missing, others in each view
    if view == HELD_OUT:
        return _table(jets, present & (split == SPLITS.index("test")), view, ["test"])
    return _table(jets, present, view, [])


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, int], dict[str, Path]]:
    """Give a maker of toy data: (events a sample, events a part) -> sample -> folder; made once."""
    made: dict[tuple[int, int], dict[str, Path]] = {}

    def make(events: int, per_part: int) -> dict[str, Path]:
        if (events, per_part) not in made:
            base = tmp_path_factory.mktemp(f"toy-{events}-{per_part}")
            folders = {s: write_toy(base / s, s, events, per_part) for s in ("qcd", "hbb")}
            made[events, per_part] = folders
        return made[events, per_part]

    return make
