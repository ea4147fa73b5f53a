"""A picture of one jet in all its views."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from resim.errors import UserError
from resim.jets.clustering import JetSettings
from resim.jets.geometry import wrapped
from resim.store import Dataset, Part, StoredView

COLUMNS = 4
KINDS = {
    "is_charged_hadron": ("charged hadron", "#1f77b4"),
    "is_neutral_hadron": ("neutral hadron", "#7f7f7f"),
    "is_photon": ("photon", "#ff7f0e"),
    "is_electron": ("electron", "#2ca02c"),
    "is_muon": ("muon", "#d62728"),
}
SUFFIXES = (".png", ".svg", ".pdf")


def draw_object(dataset: Dataset, identity: int | None, out: Path) -> None:
    """Draw the constituents of one object in the eta-phi plane, a panel a view, area by pT.

    Without an `identity`, the first of the objects that are present in most views.

    Raises
    ------
    UserError
        If the data set has no such object, or the picture's name has no known ending.
    """
    if out.suffix not in SUFFIXES:
        raise UserError(f"--out {out}: a picture must end in {', '.join(SUFFIXES)}")
    part, row = _find(dataset, identity) if identity is not None else _most_present(dataset)
    views = [name for name in part.views if part.view(name).present[row]]
    centre = _centre(part, row)
    # A salt of its own, and no date: the same picture is the same file.
    with mpl.rc_context({"svg.hashsalt": "resim"}), _picture(out) as temporary:
        figure = _figure(part, row, views, centre, f"{dataset.sample}, object {part.objects()['object'][row]}")
        figure.savefig(temporary, dpi=110, metadata={"Date": None} if out.suffix == ".svg" else None)


@contextmanager
def _picture(out: Path) -> Iterator[Path]:
    """Give a temporary name of the same ending, and rename when whole."""
    temporary = out.with_name(f".{out.stem}-{os.getpid()}{out.suffix}")
    try:
        yield temporary
        temporary.replace(out)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror}); choose another place") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _find(dataset: Dataset, identity: int) -> tuple[Part, int]:
    for part in dataset.parts:
        ids = part.objects()["object"]
        row = int(np.searchsorted(ids, identity))
        if row < len(ids) and ids[row] == identity:
            return part, row
    ids = np.concatenate([part.objects()["object"] for part in dataset.parts])
    shown = f"for example {', '.join(str(i) for i in ids[:3])}" if len(ids) else "it holds none"
    raise UserError(f"--object {identity}: not in this data set; ids are 8 x event + slot, {shown}")


def _most_present(dataset: Dataset) -> tuple[Part, int]:
    counts = [sum(part.view(name).present.astype(int) for name in part.views) for part in dataset.parts]
    best = max((int(np.max(count, initial=0)) for count in counts), default=0)
    if best == 0:
        raise UserError("the data set has no object in any view, so there is nothing to draw")
    index = next(i for i, count in enumerate(counts) if np.max(count, initial=0) == best)
    return dataset.parts[index], int(np.argmax(counts[index]))


def _centre(part: Part, row: int) -> tuple[float, float]:
    """Give the direction of the hard parton: common to all views."""
    objects = part.objects()
    return float(objects["parton_eta"][row]), float(objects["parton_phi"][row])


def _figure(part: Part, row: int, views: list[str], centre: tuple[float, float], title: str) -> Figure:
    rows = max(1, -(-len(views) // COLUMNS))
    figure = Figure(figsize=(3.1 * COLUMNS, 3.4 * rows + 1.1), layout="constrained")
    axes = figure.subplots(rows, COLUMNS, squeeze=False, sharex=True, sharey=True).ravel()
    for axis, name in zip(axes, views, strict=False):
        _panel(axis, part.view(name), row, centre, name)
    for axis in axes[len(views) :]:
        axis.set_axis_off()
    for axis in axes[max(0, len(views) - COLUMNS) : len(views)]:  # an empty place below would leave them unlabelled
        axis.tick_params(labelbottom=True)
        axis.set_xlabel(r"$\Delta\eta$")
    handles = [_key(colour, label) for label, colour in KINDS.values()] + [axes[0].lines[0]]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(KINDS) + 1, frameon=False, fontsize=9)
    figure.suptitle(f"{title} (disc area: $p_T$)")
    return figure


def _radius(part: Part) -> float:
    """Give the radius that the jets of the nominal chain were found with; published files do not say it."""
    chain = part.attributes.get("config", {}).get("chain", {})
    return float(chain.get("jets", {}).get("radius", JetSettings().radius))


def _key(colour: str, label: str) -> Line2D:
    """Make a legend entry of one size for all kinds; the scatter's own have the size of their first constituent."""
    return Line2D([], [], marker="o", ls="", ms=7, mew=0, color=colour, alpha=0.55, label=label)


def _panel(axis: Axes, view: StoredView, row: int, centre: tuple[float, float], name: str) -> None:
    table = view.read(slice(row, row + 1))
    names = [column.name for column in view.constituent_columns]
    features = {n: table.constituents[:, i] for i, n in enumerate(names)}
    jet = dict(zip(view.column_names, table.columns[0], strict=True))
    _scatter(axis, features, centre)
    jet_centre = (jet["eta"] - centre[0], wrapped(jet["phi"] - centre[1]))
    axis.add_patch(mpl.patches.Circle(jet_centre, _radius(view.part), fill=False, lw=0.8, color="0.6"))
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
    axis.label_outer()
    axis.set_title(name, fontsize=10, fontweight="bold")
    text = f"$p_T$ {jet['pt']:.0f} GeV\n$m_{{SD}}$ {jet['softdrop_mass']:.0f} GeV\n{len(table.constituents)} const."
    axis.text(0.03, 0.97, text, transform=axis.transAxes, va="top", fontsize=8)


def _scatter(axis: Axes, features: dict[str, NDArray[Any]], centre: tuple[float, float]) -> None:
    """Put a disc for each constituent, its area proportional to pT."""
    x, y = features["eta"] - centre[0], wrapped(features["phi"] - centre[1])
    for flag, (_, colour) in KINDS.items():
        of = features[flag] > 0
        axis.scatter(x[of], y[of], s=3 * features["pt"][of], color=colour, alpha=0.55, lw=0)
