"""Pile-up: inelastic collisions of the same bunch crossing, laid over an event from a pool made beforehand. GeV, mm.

The number of collisions is Poisson; each is an event of the pool, turned about the beam by a random angle and moved
along it. Vertices spread as in Delphes's CMS card with pile-up (53 mm along the beam, 160 ps in time). The hard
collision stays at the origin.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from numba import njit
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from scipy.special import pdtr, pdtrik
from tqdm import tqdm

from resim.ending import unbroken
from resim.errors import UserError
from resim.jets.pythia import initialise, make
from resim.jets.records import read_hadrons
from resim.jets.states import F8, I8, NEUTRINOS, Hadrons, HardEvents
from resim.keys import Stream, block_seed, to_normal
from resim.ragged import Ragged, offsets_of, row_of
from resim.store.files import locked, remove, replace_folder, storage_errors, sync

FORMAT, VERSION = "resim-pool", 2
BLOCK = 500  # events a seed
_ETA_MAX = 5.3  # from 10 sigma behind the middle it still passes a calorimeter that ends, 3 m off, at 5.0


class PileupSettings(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """How many collisions are laid over an event, and where they lie."""

    mu: float = Field(0.0, ge=0, le=1000, description="mean number of collisions; 0 is none")
    vertex_z: float = Field(
        53.0, ge=0, le=100, description="spread of the vertices along the beam (one sigma), mm; the pool is cut for it"
    )
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
    words = [VERSION, BLOCK, version("pythia8mc"), list(settings.items()), events, seed]
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
    if path.exists():
        there = _attributes(path)
        if there.get("format") != FORMAT:
            raise _no_pool(path)
        if there.get("recipe") == wanted:
            return
    temporary = path.with_name(f".{path.name}.tmp")
    busy = f"{path}: another process is making this pool; wait for it or stop it, then run the command again"
    with storage_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(f".{path.name}.lock"), busy):
            for leftover in (temporary, temporary.with_name(f"{temporary.name}-old")):  # of one that was killed
                remove(leftover)
            pythia = initialise(make(settings.items()), settings.items())
            blocks = [_block(pythia, seed, b) for b in tqdm(range(events // BLOCK), desc="pile-up pool", disable=None)]
            try:
                _write(temporary, Ragged.join(blocks), wanted)
                replace_folder(temporary, path)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise


@unbroken()
def _write(folder: Path, particles: Ragged, wanted: str) -> None:
    group = zarr.open_group(str(folder), mode="w")
    for name, values in {"offsets": particles.offsets, **particles.columns}.items():
        group.create_array(name, data=values, chunks=(max(1, min(len(values), 1 << 20)),))
    group.attrs.update({"format": FORMAT, "version": VERSION, "recipe": wanted, "digest": _digest(particles)})
    sync([folder, *folder.glob("**/*")])


def _block(pythia: Any, seed: int, block: int) -> Ragged:
    """Generate a block of collisions: what can reach a detector."""
    pythia.rndm.init(block_seed(seed, "pile-up", block))
    batch = pythia.nextBatch(BLOCK, "none")  # what Pythia gives up on is left out
    made, hadrons = read_hadrons([batch], HardEvents.unknown(np.arange(BLOCK)), pythia)
    particles = hadrons.particles
    pt = np.hypot(particles["px"], particles["py"])
    keep = (np.abs(particles["pz"]) < pt * np.sinh(_ETA_MAX)) & ~np.isin(np.abs(particles["id"]), NEUTRINOS)
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
        raise _no_pool(path) from error


def _no_pool(path: Path) -> UserError:
    return UserError(f"{path}: is no pool of pile-up; make one with `resim pool` elsewhere, or remove it")


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


def to_poisson(uniform_n: NDArray[np.float64], mean: float) -> NDArray[np.int64]:
    """Turn uniform numbers into Poisson's: the least k with P(X <= k) >= u. `scipy.stats` takes 0.6 s to import."""
    if mean == 0:
        return np.zeros(len(uniform_n), dtype=np.int64)
    k = np.ceil(pdtrik(uniform_n, mean))  # good to rounding, so the one below may be it
    below = np.maximum(k - 1, 0)
    return np.where(pdtr(below, mean) >= uniform_n, below, k).astype(np.int64)


def overlay(hadrons: Hadrons, settings: PileupSettings, pool: Pool, stream: Stream) -> Hadrons:
    """Lay collisions over the events: fills `Hadrons.pileup`. The hard collision is as it was."""
    one = np.ones(len(hadrons.event), dtype=np.int64)
    number = to_poisson(stream.child("number").uniform(hadrons.event, one, 1)[:, 0], settings.mu)
    draws = stream.child("collisions").uniform(hadrons.event, number, 4)
    turn = 2 * np.pi * draws[:, 1]
    along, late = settings.vertex_z * to_normal(draws[:, 2]), settings.vertex_t * to_normal(draws[:, 3])
    collisions = _Collisions((draws[:, 0] * len(pool)).astype(np.int64), np.cos(turn), np.sin(turn), along, late)
    table = _Table(**{name: pool.particles[name] for name in _KEPT})
    offsets, columns = _move(collisions, pool.particles.offsets, table)
    return replace(hadrons, pileup=Ragged(offsets[offsets_of(number)], dict(zip(_LAID, columns, strict=True))))


class _Collisions(NamedTuple):
    """Collisions to be laid over, (c,) each: place in the pool, turn about the beam, shift along it (mm), in time."""

    chosen: I8
    cos: F8
    sin: F8
    along: F8
    late: F8


class _Table(NamedTuple):
    """The columns of a pool."""

    id: NDArray[np.int32]
    charge: NDArray[np.int8]
    px: NDArray[np.float32]
    py: NDArray[np.float32]
    pz: NDArray[np.float32]
    m: NDArray[np.float32]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    z: NDArray[np.float32]
    t: NDArray[np.float32]


_KEPT = _Table._fields
_LAID = ("px", "py", "pz", "e", "m", "x", "y", "z", "t", "id", "charge")


@njit(cache=True)
def _move(c: _Collisions, starts: I8, pool: _Table) -> tuple[I8, tuple[NDArray[Any], ...]]:
    """Turn and shift collisions of the pool: gives offsets by collision, and the columns `_LAID` of their particles."""
    offsets = np.zeros(len(c.chosen) + 1, dtype=np.int64)
    for k, chosen in enumerate(c.chosen):
        offsets[k + 1] = offsets[k] + starts[chosen + 1] - starts[chosen]
    n = offsets[-1]
    px, py, pz, e, m = np.empty(n), np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    x, y, z, t = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    kind, charge = np.empty(n, dtype=np.int32), np.empty(n, dtype=np.int8)
    for k, chosen in enumerate(c.chosen):
        for i in range(offsets[k], offsets[k + 1]):
            j = starts[chosen] + i - offsets[k]
            ax, ay, bx, by = float(pool.px[j]), float(pool.py[j]), float(pool.x[j]), float(pool.y[j])
            px[i], py[i], pz[i], m[i] = (
                ax * c.cos[k] - ay * c.sin[k],
                ax * c.sin[k] + ay * c.cos[k],
                pool.pz[j],
                pool.m[j],
            )
            e[i] = math.sqrt(px[i] * px[i] + py[i] * py[i] + pz[i] * pz[i] + m[i] * m[i])
            x[i], y[i] = bx * c.cos[k] - by * c.sin[k], bx * c.sin[k] + by * c.cos[k]
            z[i], t[i] = pool.z[j] + c.along[k], pool.t[j] + c.late[k]
            kind[i], charge[i] = pool.id[j], pool.charge[j]
    return offsets, (px, py, pz, e, m, x, y, z, t, kind, charge)
