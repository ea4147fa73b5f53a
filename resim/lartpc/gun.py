"""The particle gun: one primary an event. MeV, cm."""

import math
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, Field, model_validator

from resim.keys import Stream
from resim.lartpc.states import I8, Primaries
from resim.typed import read_yaml

LIBRARY = Path(__file__).with_name("particles.yaml")

_CODES = {"e-": 11, "e+": -11, "gamma": 22, "mu-": 13, "mu+": -13, "pi-": -211, "pi+": 211, "proton": 2212}
_EITHER = {"mu": (13, -13), "pi": (-211, 211)}

Triple = tuple[float, float, float]


class GunSettings(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """What is shot, from where, and which way."""

    particle: Literal["e-", "e+", "gamma", "mu-", "mu+", "pi-", "pi+", "proton", "mu", "pi"] = Field(
        description="particle; mu and pi: either charge, drawn"
    )
    kinetic_energy: tuple[float, float] = Field(description="range of the kinetic energy, uniform, MeV; 0.01..10000")
    centre: Triple = Field((0.0, 0.0, 650.0), description="centre of the box of vertices, cm")
    half_size: Triple = Field((50.0, 50.0, 50.0), description="half its sides, cm; 0: a plane, a line or a point")
    direction: Literal["isotropic", "beam"] = Field("isotropic", description="all directions, or a cone about +z")
    opening_angle: float = Field(10.0, ge=0, le=180, description="half the opening angle of the cone (beam), degrees")

    @model_validator(mode="after")
    def _check(self) -> Self:
        low, high = self.kinetic_energy
        if not 0.01 <= low <= high <= 10000:
            raise ValueError(f"kinetic_energy must be [low, high] with 0.01 <= low <= high <= 10000, got {[low, high]}")
        if min(self.half_size) < 0:
            raise ValueError(f"half_size must not be negative, got {list(self.half_size)}")
        return self


def library() -> dict[str, dict[str, Any]]:
    """Read the particles that ship with the package, by name."""
    return read_yaml(LIBRARY)


def shoot(settings: GunSettings, stream: Stream, events: I8) -> Primaries:
    """Draw the primaries of some events."""
    u = stream.uniform(events, np.ones(len(events), dtype=np.int64), 7)
    low, high = settings.kinetic_energy
    narrow = math.cos(math.radians(settings.opening_angle)) if settings.direction == "beam" else -1.0
    cosine, azimuth = 1 - (1 - narrow) * u[:, 4], 2 * np.pi * u[:, 5]
    sine = np.sqrt(np.maximum(1 - cosine**2, 0))
    codes = np.array(_EITHER.get(settings.particle) or [_CODES[settings.particle]] * 2, dtype=np.int32)
    return Primaries(
        event=np.asarray(events, dtype=np.int64),
        pdg=codes[(u[:, 6] >= 0.5).astype(np.int64)],
        kinetic_energy=low + (high - low) * u[:, 0],
        vertex=np.array(settings.centre) + np.array(settings.half_size) * (2 * u[:, 1:4] - 1),
        direction=np.column_stack([sine * np.cos(azimuth), sine * np.sin(azimuth), cosine]),
    )
