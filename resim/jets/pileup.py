"""Pile-up: inelastic collisions of the same bunch crossing, laid over an event from a pool made beforehand. GeV, mm.

The number of collisions is Poisson; each is an event of the pool, turned about the beam by a random angle and moved
along it. Vertices spread as in Delphes's CMS card with pile-up (53 mm along the beam, 160 ps in time). The hard
collision stays at the origin.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from pydantic import BaseModel, Field
from scipy.stats import poisson
from tqdm import tqdm

from resim.errors import UserError
from resim.jets.pythia import initialise, make
from resim.jets.records import read_hadrons
from resim.jets.states import Hadrons, HardEvents, Ragged
from resim.keys import Stream, block_seed, to_normal
from resim.ragged import offsets_of, row_of

FORMAT, VERSION = "resim-pool", 1
BLOCK = 500  # events a seed
_ETA_MAX = 6.0  # what goes further forward misses every calorimeter
_NEUTRINOS = (12, 14, 16)
_KEPT = ("id", "charge", "px", "py", "pz", "m", "x", "y", "z", "t")


class PileupSettings(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """How many collisions are laid over an event, and where they lie."""

    mu: float = Field(0.0, ge=0, le=1000, description="mean number of collisions; 0 is none")
    vertex_z: float = Field(53.0, ge=0, description="spread of the vertices along the beam (one sigma), mm")
    vertex_t: float = Field(48.0, ge=0, description="their spread in time (one sigma), mm/c; 48 mm/c are 160 ps")


class Pool:
    """Stable particles of inelastic collisions, in memory: columns as in `Hadrons.particles`."""

    def __init__(self, particles: Ragged) -> None:
        self.particles = particles

    def __len__(self) -> int:
        """Give the number of collisions."""
        return len(self.particles)


def recipe(settings: Mapping[str, Any], events: int, seed: int) -> str:
    """Digest all that a pool's numbers depend on."""
    words = [VERSION, BLOCK, list(settings.items()), events, seed]
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:32]


def make_pool(path: Path, settings: Mapping[str, Any], events: int, seed: int) -> None:
    """Generate inelastic collisions and write them, whole or not at all.

    Parameters
    ----------
    settings
        Pythia settings: process, tune, decays.
    events
        Number of collisions, whole blocks of 500.

    Raises
    ------
    UserError
        If Pythia refuses the settings, or the folder cannot be written.
    """
    wanted = recipe(settings, events, seed)
    if path.exists() and _attributes(path).get("recipe") == wanted:
        return
    pythia = initialise(make(settings.items()), settings.items())
    blocks = [_block(pythia, seed, b) for b in tqdm(range(events // BLOCK), desc="pile-up pool", disable=None)]
    particles = Ragged.join(blocks)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        group = zarr.open_group(str(temporary), mode="w")
        for name, values in {"offsets": particles.offsets, **particles.columns}.items():
            group.create_array(name, data=values, chunks=(max(1, min(len(values), 1 << 20)),))
        group.attrs.update({"format": FORMAT, "version": VERSION, "recipe": wanted, "digest": _digest(particles)})
        shutil.rmtree(path, ignore_errors=True)
        temporary.rename(path)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another --out or make room") from error


def _block(pythia: Any, seed: int, block: int) -> Ragged:
    """Generate a block of collisions: what can reach a detector."""
    pythia.rndm.init(block_seed(seed, "pile-up", block))
    batch = pythia.nextBatch(BLOCK, "none")  # what Pythia gives up on is left out
    made, hadrons = read_hadrons([batch], HardEvents.unknown(np.arange(BLOCK)), pythia)
    particles = hadrons.particles
    pt = np.hypot(particles["px"], particles["py"])
    keep = (np.abs(particles["pz"]) < pt * np.sinh(_ETA_MAX)) & ~np.isin(np.abs(particles["id"]), _NEUTRINOS)
    row = row_of(particles.offsets)[keep]
    columns = {name: _small(particles[name][keep]) for name in _KEPT}
    return Ragged(offsets_of(np.bincount(row, minlength=len(made))), columns)


def _small(values: Any) -> Any:
    """Halve the size of floating-point columns: seven digits are more than any detector sees."""
    return values.astype(np.float32) if values.dtype.kind == "f" else values


def _digest(particles: Ragged) -> str:
    digest = hashlib.sha256(particles.offsets.tobytes())
    for name in _KEPT:
        digest.update(particles[name].tobytes())
    return digest.hexdigest()


def _attributes(path: Path) -> dict[str, Any]:
    try:
        return dict(zarr.open_group(str(path), mode="r").attrs)
    except Exception as error:  # zarr raises what it likes for a folder that is no group
        raise UserError(f"{path}: is no pool of pile-up; make one with `resim pool`, or remove it") from error


@lru_cache(maxsize=2)
def read_pool(path: Path, wanted: str) -> Pool:
    """Read a pool.

    Raises
    ------
    UserError
        If there is none, it is damaged, or it is not the one that the config describes.
    """
    if not path.exists():
        raise UserError(f"{path}: no pool of pile-up here; make it with `resim pool --out {path}`")
    attributes = _attributes(path)
    if (attributes.get("format"), attributes.get("version"), attributes.get("recipe")) != (FORMAT, VERSION, wanted):
        raise UserError(f"{path}: is not the pool that the config describes; make it again with `resim pool`")
    try:
        group = zarr.open_group(str(path), mode="r")
        columns = {name: np.asarray(group[name]) for name in ("offsets", *_KEPT)}
        particles = Ragged(columns.pop("offsets"), columns)
        whole = _digest(particles) == attributes["digest"]
    except Exception:  # noqa: BLE001 - whatever a damaged array raises on reading
        whole = False
    if not whole:
        raise UserError(f"{path}: the pool is damaged; remove it and make it again with `resim pool`")
    return Pool(particles)


def overlay(hadrons: Hadrons, settings: PileupSettings, pool: Pool, stream: Stream) -> Hadrons:
    """Lay collisions over the events: fills `Hadrons.pileup`. The hard collision is as it was."""
    one = np.ones(len(hadrons.event), dtype=np.int64)
    number = poisson.ppf(stream.child("number").uniform(hadrons.event, one, 1)[:, 0], settings.mu).astype(np.int64)
    draws = stream.child("collisions").uniform(hadrons.event, number, 4)
    chosen = (draws[:, 0] * len(pool)).astype(np.int64)
    taken = pool.particles.take(chosen)
    collision = row_of(taken.offsets)
    columns = {name: _large(taken[name]) for name in _KEPT}
    turn = (2 * np.pi * draws[:, 1])[collision]
    for x, y in (("px", "py"), ("x", "y")):
        columns[x], columns[y] = (
            columns[x] * np.cos(turn) - columns[y] * np.sin(turn),
            columns[x] * np.sin(turn) + columns[y] * np.cos(turn),
        )
    columns["z"] = columns["z"] + (settings.vertex_z * to_normal(draws[:, 2]))[collision]
    columns["t"] = columns["t"] + (settings.vertex_t * to_normal(draws[:, 3]))[collision]
    columns["e"] = np.sqrt(columns["px"] ** 2 + columns["py"] ** 2 + columns["pz"] ** 2 + columns["m"] ** 2)
    return replace(hadrons, pileup=Ragged(taken.offsets[offsets_of(number)], columns))


def _large(values: Any) -> Any:
    return values.astype(np.float64) if values.dtype.kind == "f" else values
