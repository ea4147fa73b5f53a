"""A jet in the eta-phi plane, as one panel of a picture."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from resim.display import Panels
from resim.jets.clustering import JetSettings
from resim.jets.geometry import wrapped
from resim.store import Part, ViewTable

KINDS = {
    "is_charged_hadron": ("charged hadron", "#1f77b4"),
    "is_neutral_hadron": ("neutral hadron", "#7f7f7f"),
    "is_photon": ("photon", "#ff7f0e"),
    "is_electron": ("electron", "#2ca02c"),
    "is_muon": ("muon", "#d62728"),
}


class JetPanels(Panels):
    """Constituents about the hard parton, area by pT."""

    def __init__(self, part: Part, row: int) -> None:
        objects = part.objects()
        self._centre = float(objects["parton_eta"][row]), float(objects["parton_phi"][row])
        self._radius = _radius(part)

    def title(self, name: str) -> str:
        """Say what discs mean."""
        return f"{name} (disc area: $p_T$)"

    def draw(
        self, axes: Sequence[Axes], table: ViewTable, features: dict[str, NDArray[Any]], jet: dict[str, float]
    ) -> None:
        """Draw the jet as one view has it."""
        (axis,) = axes
        _scatter(axis, features, self._centre)
        jet_centre = (jet["eta"] - self._centre[0], wrapped(jet["phi"] - self._centre[1]))
        axis.add_patch(mpl.patches.Circle(jet_centre, self._radius, fill=False, lw=0.8, color="0.6"))
        axis.plot(0, 0, "k+", ms=9, label="hard parton")
        axis.set(
            xlim=(-1.15, 1.15),
            ylim=(-1.15, 1.15),
            xticks=(-1, 0, 1),
            yticks=(-1, 0, 1),
            aspect="equal",
            xlabel=r"$\Delta\eta$",
            ylabel=r"$\Delta\phi$",
        )
        text = f"$p_T$ {jet['pt']:.0f} GeV\n$m_{{SD}}$ {jet['softdrop_mass']:.0f} GeV\n{len(table.constituents)} const."
        axis.text(0.03, 0.97, text, transform=axis.transAxes, va="top", fontsize=8)

    def legend(self) -> list[Line2D | Patch]:
        """Explain colours and marks; entries are of one size, a scatter's own would have their first constituent's."""
        discs: list[Line2D | Patch] = [
            Line2D([], [], marker="o", ls="", ms=7, mew=0, color=colour, alpha=0.55, label=label)
            for label, colour in KINDS.values()
        ]
        return [*discs, Line2D([], [], marker="+", ls="", ms=9, color="k", label="hard parton")]

    def colour_bar(self, figure: Figure, axes: Sequence[Axes]) -> None:
        """Explain nothing: colours are kinds of particles."""


def _radius(part: Part) -> float:
    """Give the radius that the jets of the nominal chain were found with; published files do not say it."""
    chain = part.attributes.get("config", {}).get("chain", {})
    return float(chain.get("jets", {}).get("radius", JetSettings().radius))


def _scatter(axis: Axes, features: dict[str, NDArray[Any]], centre: tuple[float, float]) -> None:
    """Put a disc for each constituent, its area proportional to pT."""
    x, y = features["eta"] - centre[0], wrapped(features["phi"] - centre[1])
    for flag, (_, colour) in KINDS.items():
        of = features[flag] > 0
        axis.scatter(x[of], y[of], s=3 * features["pt"][of], color=colour, alpha=0.55, lw=0)
