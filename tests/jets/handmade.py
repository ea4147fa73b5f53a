"""Events made by hand, for the stages behind the generator."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from resim.jets.states import Candidates, Hadrons, HardEvents
from resim.ragged import Ragged, offsets_of

SPECIES = {
    11: (-1, 0.000511),
    12: (0, 0.0),
    13: (-1, 0.10566),
    22: (0, 0.0),
    130: (0, 0.49761),
    211: (1, 0.13957),
    310: (0, 0.49761),
    2112: (0, 0.93957),
    2212: (1, 0.93827),
    3122: (0, 1.11568),
}
"""PDG id -> charge, mass in GeV."""

TRACK_ERROR = 0.02
"""Of d0 and dz of charged candidates, mm."""

HARD_INTEGERS = ("id", "status", "mother1", "mother2", "col", "acol")
HARD_NUMBERS = ("px", "py", "pz", "e", "m", "tau", "spin")

Particle = tuple[Any, ...]
"""id, pT, eta, phi and, if not 0, the production vertex x, y, z."""


def momenta(pt: Any, eta: Any, phi: Any, mass: Any) -> dict[str, np.ndarray]:
    px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    return {"px": px, "py": py, "pz": pz, "e": np.sqrt(px**2 + py**2 + pz**2 + mass**2)}


def hard_events(tables: Sequence[Sequence[tuple[Any, ...]]], first: int = 0) -> HardEvents:
    """Make hard processes of rows (id, status, mother1, pT, eta, phi, m)."""
    flat = np.array([row for table in tables for row in table], dtype=float).reshape(-1, 7)
    zero = np.zeros(len(flat))
    columns: dict[str, Any] = {name: zero.astype(np.int32) for name in HARD_INTEGERS}
    columns |= dict.fromkeys(HARD_NUMBERS, zero)
    columns |= dict(zip(("id", "status", "mother1"), flat[:, :3].astype(np.int32).T, strict=True))
    columns |= momenta(*flat[:, 3:].T) | {"m": flat[:, 6]}
    n, ones = len(tables), np.ones(len(tables))
    offsets = offsets_of(np.array([len(table) for table in tables], dtype=np.int64))
    process = np.full(n, 111, dtype=np.int32)
    return HardEvents(np.arange(first, first + n), process, ones, 400 * ones, ones, ones, Ragged(offsets, columns))


def heavy_hadrons(tables: Sequence[Sequence[tuple[float, ...]]]) -> Ragged:
    """Make heavy hadrons of rows (flavour, pT, eta, phi)."""
    flat = np.array([row for table in tables for row in table], dtype=float).reshape(-1, 4)
    flavour = flat[:, 0].astype(np.int8)
    columns = {"id": (100 * flavour + 11).astype(np.int32), "flavour": flavour} | momenta(*flat[:, 1:].T, flavour)
    return Ragged(offsets_of(np.array([len(table) for table in tables], dtype=np.int64)), columns)


def hadrons_of(events: Sequence[Sequence[Particle]], first: int = 0) -> Hadrons:
    rows = np.array([[*p, 0, 0, 0][:7] for event in events for p in event], dtype=float).reshape(-1, 7)
    particle = rows[:, 0].astype(np.int32)
    charge = np.array([SPECIES[abs(i)][0] * np.sign(i) for i in particle.tolist()], dtype=np.int8)
    mass = np.array([SPECIES[abs(i)][1] for i in particle.tolist()])
    columns = {"id": particle, "charge": charge, "m": mass} | momenta(*rows[:, 1:4].T, mass)
    columns |= dict(zip(("x", "y", "z"), rows[:, 4:].T.copy(), strict=True)) | {"t": np.zeros(len(rows))}
    offsets = offsets_of(np.array([len(event) for event in events], dtype=np.int64))
    return _hadrons(hard_events([[] for _ in events], first), Ragged(offsets, columns))


def _hadrons(
    hard: HardEvents, particles: Ragged, heavy: Sequence[Sequence[tuple[float, ...]]] | None = None
) -> Hadrons:
    splitting = np.zeros(int(hard.partons.offsets[-1]), dtype=np.int8)
    return Hadrons(hard.event, hard, particles, heavy_hadrons(heavy or [[] for _ in hard.event]), splitting)


def random_particles(seed: int, n: int, eta_max: float = 2.4) -> list[Particle]:
    """Draw particles of all species, pT from 0.2 to about 50 GeV, some from displaced vertices."""
    rng = np.random.Generator(np.random.Philox(seed))
    species = rng.choice([*SPECIES, -211, -211, 211, 22, -11, -13], n)
    pt, eta, phi = 0.2 + rng.exponential(8, n), rng.uniform(-eta_max, eta_max, n), rng.uniform(-np.pi, np.pi, n)
    vertex = rng.normal(0, 3, (n, 3)) * (rng.random(n) < 0.2)[:, None]
    return [(*row[:4], *row[4]) for row in zip(species, pt, eta, phi, vertex, strict=True)]


def candidates_of(
    events: Sequence[Sequence[tuple[Any, ...]]],
    hard: HardEvents | None = None,
    heavy: Sequence[Sequence[tuple[float, ...]]] | None = None,
    particles: Sequence[Sequence[Particle]] | None = None,
) -> Candidates:
    """Make massless candidates of rows (kind, charge, pT, eta, phi, d0, dz); leptons are identified."""
    flat = np.array([row for event in events for row in event], dtype=float).reshape(-1, 7)
    columns: dict[str, Any] = momenta(*flat[:, 2:5].T, 0.0)
    columns |= {"charge": flat[:, 1].astype(np.int8), "kind": flat[:, 0].astype(np.int8)}
    columns |= {"d0": flat[:, 5], "dz": flat[:, 6], "identified": columns["kind"] >= 3}
    columns |= dict.fromkeys(("d0_error", "dz_error"), np.where(columns["charge"] != 0, TRACK_ERROR, 0.0))
    nothing: list[list[Any]] = [[] for _ in events]
    hard = hard or hard_events(nothing)
    offsets = offsets_of(np.array([len(event) for event in events], dtype=np.int64))
    stable = hadrons_of(particles or nothing).particles
    return Candidates(_hadrons(hard, stable, heavy), Ragged(offsets, columns))
