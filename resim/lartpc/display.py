"""An image of a LArTPC, drift against beam, as one panel of a picture."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from resim.display import Panels
from resim.store import Part, ViewTable

_CHARGE = LogNorm(5, 200)  # ke of a voxel: from the threshold to where the counts end
_MARGIN = 3.0  # cm


class ImagePanels(Panels):
    """Voxels seen from above: the drift upwards, the beam to the right, coloured by charge."""

    subtitle = "from above; colour: charge of a voxel, 5 to 200 ke"

    def __init__(self, part: Part, row: int) -> None:
        objects = part.objects()
        self._vertex = float(objects["vertex_z"][row]), float(objects["vertex_x"][row])
        corners = [corner for name in part.views for corner in _corners(part.view(name).read(slice(row, row + 1)))]
        places = np.array([np.array(self._vertex), *corners])
        low, high = places.min(axis=0), places.max(axis=0)
        half = np.max(high - low) / 2 + _MARGIN
        self._middle, self._half = (low + high) / 2, half

    def draw(self, axis: Axes, table: ViewTable, features: dict[str, NDArray[Any]], columns: dict[str, float]) -> None:
        """Draw the image as one view has it."""
        order = np.argsort(features["charge"])
        z, x, charge = (features[name][order] for name in ("z", "x", "charge"))
        axis.scatter(z, x, c=charge, s=4, marker="s", lw=0, norm=_CHARGE, cmap="viridis")
        axis.plot(*self._vertex, "r+", ms=9)
        (z, x), half = self._middle, self._half
        axis.set(xlim=(z - half, z + half), ylim=(x - half, x + half), aspect="equal", xlabel="z (cm)", ylabel="x (cm)")
        text = f"{len(table.constituents)} voxels\n{columns['charge']:.0f} ke"
        axis.text(0.03, 0.97, text, transform=axis.transAxes, va="top", fontsize=8)

    def legend(self) -> list[Line2D]:
        """Explain the mark."""
        return [Line2D([], [], marker="+", ls="", ms=9, color="r", label="where the particle starts")]


def _corners(table: ViewTable) -> list[NDArray[np.float64]]:
    """Give the corners of an image, (z, x); none of an empty one."""
    if not len(table.constituents):
        return []
    places = table.constituents[:, [2, 0]].astype(np.float64)
    return [places.min(axis=0), places.max(axis=0)]
