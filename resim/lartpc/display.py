"""An image of a LArTPC, as one panel of a picture: seen from above, and from the side."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from resim.display import Panels
from resim.grid import edge
from resim.lartpc.charge import ChargeSettings
from resim.lartpc.geometry import Geometry, geometry
from resim.lartpc.voxels import VOXEL_FEATURES
from resim.store import Part, StoredView, ViewTable

SYMBOLS = {11: "e⁻", -11: "e⁺", 22: "γ", 13: "µ⁻", -13: "µ⁺", -211: "π⁻", 211: "π⁺", 2212: "p"}
Vector = NDArray[np.float64]

_SHOWN = 0.98  # share of the charge that the frame holds, along each axis
_MARGIN = 1.0, 0.05  # round it: cm, and share of its width
_KE = 5.0, 100.0  # where colours begin and end, in ke: from the threshold to what one voxel in a thousand exceeds
_TICKS = (5, 10, 20, 50, 100)
_Z, _ACROSS = 2, (0, 1)  # to the right in all projections; upwards, one in each
_ARROW, _SEEN = 0.15, 0.06  # its length as a share of the frame, and from which one on it is drawn
_PANEL = 180.0  # points, about the width of a panel
_COLOURS = "viridis_r"
_ANODE, _CATHODE, _OUTSIDE, _START = "#1f77b4", "#d62728", "0.88", "#ff00c8"


class ImagePanels(Panels):
    """Voxels coloured by charge, the drift (above) and the height (below) over the beam's direction."""

    projections = len(_ACROSS)

    def __init__(self, part: Part, row: int) -> None:
        self._objects = {name: values[row] for name, values in part.objects().items()}
        self._start, self._direction = self._vector("vertex"), self._vector("direction")
        views = [part.view(name) for name in part.views]
        images = [view.read(slice(row, row + 1)).constituents for view in views if view.present[row]]
        self._middle, self._half, self._tail = _frame(images, self._start, self._direction)
        voxels = np.concatenate([np.empty((0, len(VOXEL_FEATURES)), np.float32), *images])  # none where all are empty
        self._size = edge(voxels[:, :3])
        self._unit, self._norm = _colours(views[0], voxels)
        self._geometry = _geometry_of(part)

    def title(self, name: str) -> str:
        """Say what was shot: the particle, its kinetic energy and direction."""
        if "kinetic_energy" not in self._objects:
            return name
        pdg = int(self._objects["pdg"])
        told = f"{SYMBOLS.get(pdg, f'PDG {pdg}')}, {self._objects['kinetic_energy']:.0f} MeV kinetic"
        if self._direction is not None:
            x, y, z = self._direction
            told += f", direction x {x:+.2f}, y {y:+.2f}, z {z:+.2f}".replace("-", "−")
        return f"{told}   ({name})"

    def draw(
        self, axes: Sequence[Axes], table: ViewTable, features: dict[str, NDArray[Any]], columns: dict[str, float]
    ) -> None:
        """Draw the image as one view has it."""
        places = np.column_stack([features[name] for name in "xyz"])
        for axis, across in zip(axes, _ACROSS, strict=True):
            half, pair = self._half, (_Z, across)
            self._draw_detector(axis, across)
            self._draw_voxels(axis, places[:, pair], features["charge"])
            self._draw_start(axis, pair)
            limits = [(self._middle[i] - half, self._middle[i] + half) for i in pair]
            axis.set(xlim=limits[0], ylim=limits[1], aspect="equal", xlabel="z, beam (cm)")
            axis.set_ylabel(("x, drift (cm)", "y, up (cm)")[across])
        outside = int((np.abs(places - self._middle) > self._half).any(axis=1).sum())
        text = f"{len(places)} voxels, {outside} outside\n{columns['charge']:,.0f} {self._unit}"
        box = {"facecolor": "w", "alpha": 0.75, "lw": 0, "pad": 1.5}  # over the detector, under the data
        axes[0].text(0.03, 0.97, text, transform=axes[0].transAxes, va="top", fontsize=8, bbox=box, zorder=1.5)

    def _draw_detector(self, axis: Axes, across: int) -> None:
        """Draw the drift volumes, and from above their anodes and cathodes."""
        if self._geometry is None:
            return
        axis.set_facecolor(_OUTSIDE)
        low, high = self._geometry.low, self._geometry.high
        for z, other, wide, tall in np.unique(
            np.column_stack([low[:, (_Z, across)], (high - low)[:, (_Z, across)]]), axis=0
        ):
            axis.add_patch(Rectangle((z, other), wide, tall, facecolor="w", edgecolor="0.6", lw=0.5, zorder=0))
        if across == 0:
            away = np.where(self._geometry.away > 0, high[:, 0], low[:, 0])
            for places, colour in ((self._geometry.anode, _ANODE), (away, _CATHODE)):
                ends = np.stack([np.column_stack([z, places]) for z in (low[:, _Z], high[:, _Z])], axis=1)
                axis.add_collection(LineCollection(list(ends), colors=colour, lw=1.2, zorder=1), autolim=False)

    def _draw_voxels(self, axis: Axes, places: NDArray[Any], charge: NDArray[Any]) -> None:
        """Draw squares of the voxels' size where that can be seen, the highest charge on top."""
        order = np.argsort(charge)
        side = max(np.nan_to_num(self._size) * _PANEL / (2 * self._half), 1.5)
        z, across = places[order].T
        axis.scatter(z, across, c=charge[order], s=side**2, marker="s", lw=0, norm=self._norm, cmap=_COLOURS)

    def _draw_start(self, axis: Axes, pair: tuple[int, int]) -> None:
        """Mark where the particle starts, by an arrow that ends there and comes from where it would have come."""
        if self._start is None:
            return
        z, across = self._start[list(pair)]
        axis.plot(z, across, "+", color=_START, ms=7, mew=1.2, zorder=4)
        if self._tail is None:
            return
        tail = self._tail[list(pair)]
        if np.hypot(*(tail - (z, across))) > _SEEN * 2 * self._half:  # along the line of sight there is but a head
            arrow = {"arrowstyle": "-|>", "color": _START, "lw": 1, "shrinkA": 0, "shrinkB": 3, "mutation_scale": 8}
            axis.annotate("", (z, across), tuple(tail), arrowprops=arrow, zorder=4)

    def legend(self) -> list[Line2D | Patch]:
        """Explain marks and lines."""
        handles: list[Line2D | Patch] = []
        if self._start is not None:
            label = "where the particle starts, and its direction" if self._direction is not None else "vertex"
            handles.append(Line2D([], [], marker="+", ls="", ms=8, color=_START, label=label))
        if self._geometry is not None:
            handles.append(Line2D([], [], color=_ANODE, label="anode"))
            handles.append(Line2D([], [], color=_CATHODE, label="cathode"))
            handles.append(Patch(facecolor=_OUTSIDE, edgecolor="0.6", label="nothing drifts here"))
        return handles

    def colour_bar(self, figure: Figure, axes: Sequence[Axes]) -> None:
        """Explain the colours."""
        mapped = ScalarMappable(self._norm, _COLOURS)
        bar = figure.colorbar(mapped, ax=axes, location="bottom", shrink=0.5, aspect=50, pad=0.01, extend="max")
        if self._unit == "ke":
            bar.set_ticks(_TICKS, labels=[str(tick) for tick in _TICKS])
            bar.ax.minorticks_off()
        bar.set_label(f"charge of a voxel ({self._unit})")

    def _vector(self, name: str) -> Vector | None:
        """Give three columns of the object, if the data set has them."""
        columns = [f"{name}_{axis}" for axis in "xyz"]
        if not all(column in self._objects for column in columns):
            return None
        return np.array([self._objects[column] for column in columns], dtype=np.float64)


def _frame(
    images: Sequence[NDArray[Any]], start: Vector | None, direction: Vector | None
) -> tuple[Vector, float, Vector | None]:
    """Give middle and half width (cm) of a cube with most of the charge of all images, and with the arrow; its tail."""
    corners = [corner for image in images for corner in _corners(image)] + ([] if start is None else [start])
    wide = float(np.max(np.ptp(corners, axis=0))) + _MARGIN[0]
    tail = None if start is None or direction is None else start - _ARROW * wide * direction
    corners += [] if tail is None else [tail]
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    return (low + high) / 2, float(np.max(high - low)) / 2 + _MARGIN[0] + _MARGIN[1] * wide, tail


def _corners(image: NDArray[Any]) -> NDArray[np.float64]:
    """Give two corners (2, 3) of a box: along each axis the shortest way that holds most of the charge."""
    return np.array([_shortest(image[:, axis], np.maximum(image[:, 4], 0)) for axis in range(3)]).T


def _shortest(places: NDArray[Any], charge: NDArray[Any]) -> tuple[float, float]:
    order = np.argsort(places, kind="stable")
    x, summed = places[order].astype(np.float64), np.cumsum(charge[order], dtype=np.float64)
    before = summed - charge[order]
    last = np.searchsorted(summed, before + _SHOWN * summed[-1])
    first = np.flatnonzero(last < len(x))
    best = first[np.argmin(x[last[first]] - x[first])] if len(first) else 0
    return x[best], x[min(last[best], len(x) - 1)]


def _colours(view: StoredView, voxels: NDArray[Any]) -> tuple[str, LogNorm]:
    """Give the unit of the charge, and the scale of its colours."""
    unit = next(column.unit for column in view.constituent_columns if column.name == "charge")
    if unit == "ke":
        return unit, LogNorm(*_KE)
    charge = voxels[:, 4]
    return unit, LogNorm(*np.quantile(charge[charge > 0], (0.01, 0.99)) if (charge > 0).any() else _KE)


def _geometry_of(part: Part) -> Geometry | None:
    """Give the detector of the nominal chain; published images do not say it."""
    if "config" not in part.attributes:
        return None
    chain = part.attributes["config"].get("chain", {})
    return geometry(chain.get("charge", {}).get("geometry", ChargeSettings().geometry))
