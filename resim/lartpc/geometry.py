"""Where the argon is read out: drift volumes, anodes, pixels. cm, µs; x is the drift, y up, z the beam.

Each module has two drift volumes with a cathode between them. A drift volume and its anode have one number, the plane:
2 m for the volume of module m (x slowest, then z) at larger x, 2 m + 1 for the other. Between modules nothing drifts.
"""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, Field

from resim.errors import UserError
from resim.lartpc.states import F8, I8
from resim.typed import parse, read_yaml

TICK = 0.1  # µs, the clock of the pixels (LArPix at 10 MHz) and the step of all waveforms
MARGIN = 0.02  # cm, by which larnd-sim widens each volume when it asks where a segment lies
DEFAULT = "ndlar"
AROUND = 100.0  # cm of argon on all sides of the drift volumes, where nothing else is asked for
_FILE = Path(__file__).with_name("geometries.yaml")


class Layout(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """A regular array of modules."""

    pitch: float = Field(gt=0, description="distance of the pixels, cm")
    columns: int = Field(ge=1, description="pixels of an anode along the beam")
    rows: int = Field(ge=1, description="pixels of an anode upwards")
    anode: float = Field(gt=0, description="distance of the anodes from the middle of the module, cm")
    cathode: float = Field(ge=0, description="distance of the cathode's faces from the middle of the module, cm")
    x: tuple[float, ...] = Field(min_length=1, description="middles of the modules along the drift, cm")
    y: tuple[float, ...] = Field(min_length=1, max_length=1, description="their middle upwards, cm")
    z: tuple[float, ...] = Field(min_length=1, description="their middles along the beam, cm")
    window: float = Field(gt=0, description="readout after the event's time, µs")


class Geometry(NamedTuple):
    """A detector as arrays over its p planes; a named tuple, so that compiled code can take it."""

    low: F8
    """(p, 3) lower corners of the drift volumes."""
    high: F8
    """(p, 3) upper corners."""
    anode: F8
    """(p,) x of the anodes."""
    away: F8
    """(p,) +1 where x grows from the anode into the argon, else -1."""
    pitch: float
    columns: int
    rows: int
    ticks: int
    """Ticks of the readout window."""

    def pixel(self, plane: I8, column: I8, row: I8) -> I8:
        """Give the numbers of pixels: column (along the beam) fastest, then row (upwards), then plane, as larnd-sim."""
        return column + self.columns * (row + self.rows * plane)

    def place(self, pixel: I8) -> tuple[I8, F8, F8]:
        """Give plane, and y and z of the centre, of pixels."""
        column, row = pixel % self.columns, pixel // self.columns % self.rows
        plane = pixel // (self.columns * self.rows)
        y = self.low[plane, 1] + (row + 0.5) * self.pitch
        z = self.low[plane, 2] + (column + 0.5) * self.pitch
        return plane, y, z

    @property
    def pixels(self) -> int:
        """Give the number of all pixels."""
        return len(self.anode) * self.rows * self.columns

    def argon(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Give the box of liquid argon, middle and half sides: that round all drift volumes, and `AROUND`."""
        low, high = self.low.min(axis=0) - AROUND, self.high.max(axis=0) + AROUND
        middle, half = np.round((low + high) / 2, 6), np.round((high - low) / 2, 6)
        return tuple(middle.tolist()), tuple(half.tolist())


@lru_cache
def geometry(name: str) -> Geometry:
    """Give a detector by its name in geometries.yaml.

    Raises
    ------
    UserError
        If there is none of that name.
    """
    layouts = read_yaml(_FILE)
    if name not in layouts:
        raise UserError(f"there is no geometry {name!r}; take one of {', '.join(layouts)}")
    return built(parse(Layout, layouts[name], f"{_FILE.name}: {name}"))


def built(layout: Layout) -> Geometry:
    """Lay out the planes of a detector."""
    half_y, half_z = layout.rows * layout.pitch / 2, layout.columns * layout.pitch / 2
    modules = np.array([(x, y, z) for x in layout.x for y in layout.y for z in layout.z])
    middle = np.repeat(modules, 2, axis=0)
    side = np.tile([1.0, -1.0], len(modules))
    anode = middle[:, 0] + side * layout.anode
    cathode = middle[:, 0] + side * layout.cathode
    low, high = middle.copy(), middle.copy()
    low[:, 0], high[:, 0] = np.minimum(anode, cathode), np.maximum(anode, cathode)
    low[:, 1:] -= half_y, half_z
    high[:, 1:] += half_y, half_z
    ticks = round(layout.window / TICK)
    return Geometry(low, high, anode, -side, layout.pitch, layout.columns, layout.rows, ticks)
