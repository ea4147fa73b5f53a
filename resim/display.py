"""A picture of one object in all its views: one panel a view, or one above the other, drawn by the object's lane."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from resim.errors import UserError
from resim.store import Dataset, Part, StoredView, ViewTable

COLUMNS = 4
SUFFIXES = (".png", ".svg", ".pdf")


class Panels(ABC):
    """How a lane draws an object; made for one of them, so that all panels show the same piece of the world."""

    projections: ClassVar[int] = 1
    """Panels of a view, one above the other."""

    @abstractmethod
    def __init__(self, part: Part, row: int) -> None:
        """Look at what is common to all views of an object."""

    @abstractmethod
    def title(self, name: str) -> str:
        """Say what the picture shows, of an object of this name."""

    @abstractmethod
    def draw(
        self, axes: Sequence[Axes], table: ViewTable, features: dict[str, NDArray[Any]], columns: dict[str, float]
    ) -> None:
        """Draw the object as one view has it, in each projection, and label the axes."""

    @abstractmethod
    def legend(self) -> list[Line2D | Patch]:
        """Explain colours and marks."""

    @abstractmethod
    def colour_bar(self, figure: Figure, axes: Sequence[Axes]) -> None:
        """Explain colours that stand for numbers, if there are some."""


def _panels(part: Part, row: int) -> Panels:
    """Choose the panels of the data's lane."""
    if part.attributes["lane"] == "jets":
        from resim.jets.display import JetPanels

        return JetPanels(part, row)
    from resim.lartpc.display import ImagePanels

    return ImagePanels(part, row)


def draw_object(dataset: Dataset, identity: int | None, out: Path) -> None:
    """Draw one object, a panel a view.

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
    # A salt of its own, and no date: the same picture is the same file.
    with mpl.rc_context({"svg.hashsalt": "resim"}), _picture(out) as temporary:
        figure = _figure(part, row, views, f"{dataset.sample}, object {part.objects()['object'][row]}")
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


def _figure(part: Part, row: int, views: list[str], title: str) -> Figure:
    panels = _panels(part, row)
    rows, deep = max(1, -(-len(views) // COLUMNS)), panels.projections
    figure = Figure(figsize=(3.1 * COLUMNS, rows * (0.6 + 2.8 * deep) + 1.1), layout="constrained")
    grid = figure.subplots(rows * deep, COLUMNS, squeeze=False, sharex=True, sharey="row")
    axes = grid.reshape(rows, deep, COLUMNS).swapaxes(1, 2).reshape(-1, deep)  # (places, projections)
    for place, name in zip(axes, views, strict=False):
        _panel(list(place), panels, part.view(name), row)
    for axis in axes[len(views) :].ravel():
        axis.set_axis_off()
    for axis in axes[max(0, len(views) - COLUMNS) : len(views), -1]:  # an empty place below would leave them unlabelled
        axis.tick_params(labelbottom=True)
        axis.set_xlabel(axes[len(views) - 1, -1].get_xlabel())
    if handles := panels.legend():
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    panels.colour_bar(figure, list(axes.ravel()))
    figure.suptitle(panels.title(title))
    return figure


def _panel(axes: Sequence[Axes], panels: Panels, view: StoredView, row: int) -> None:
    table = view.read(slice(row, row + 1))
    features = {column.name: table.constituents[:, i] for i, column in enumerate(view.constituent_columns)}
    panels.draw(axes, table, features, dict(zip(view.column_names, table.columns[0].tolist(), strict=True)))
    for axis in axes:
        axis.label_outer()
    axes[0].set_title(view.name, fontsize=10, fontweight="bold")
