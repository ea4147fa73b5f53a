"""A picture of what an encoder makes of test objects, in two dimensions, and of how far views move them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from itertools import cycle, product
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from resim.errors import UserError
from training.data.fetch import Store
from training.data.plan import Rows
from training.evaluate import embed, test_rows
from training.keys import generator, uniform_by_id
from training.pretrain import Trained

_OBJECTS, _FOLLOWED = 2000, 12
_POINTS = 100  # about so many are drawn of those that are followed: of many views fewer objects can be told apart
_CROWD = 500  # points that are drawn small
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442", "#555555")  # Okabe-Ito, grey
_MARKERS = "sD^v<>PXpHdh*"  # of views; nominal has a disc
_FILLS = ("full", "none", "left", "bottom")  # where there are more views than markers
Float = NDArray[np.float64]


@dataclass(frozen=True)
class Embedding:
    """Test objects of all samples, spread evenly, in two dimensions."""

    axes: tuple[str, str]
    """What they are called."""
    points: Float
    """(n, 2) in nominal."""
    sample: NDArray[np.int64]
    """(n,) place in `samples`."""
    samples: tuple[str, ...]
    followed: NDArray[np.int64]
    """(k,) places of a few objects."""
    moved: Mapping[str, Float]
    """View -> (k, 2) where they are there; NaN where they are not."""


def embedded(trained: Trained, store: Store, seed: int, *, umap: bool = False) -> Embedding:
    """Run the encoder over test objects and flatten what it gives, by PCA or UMAP, both fitted in nominal.

    Raises
    ------
    UserError
        If UMAP is asked for and not installed, or there are too few test objects.
    """
    rows = test_rows(store)
    count = min(_OBJECTS, len(rows))
    rows = rows[np.arange(count) * len(rows) // count]
    index, fit = store.index, _umap if umap else _pca

    def outputs(view: str, rows: Rows) -> NDArray[np.float32]:
        return embed(trained.encoder, trained.normalisation, store, view, rows)

    axes, points, flatten = fit(outputs("nominal", rows), seed)
    followed = _followed(store, rows, seed)
    moved = {}
    for view in (view for view in store.views if view != "nominal" and "test" in store.splits_of(view)):
        there = index.present[view][rows[followed]]
        moved[view] = np.full((len(followed), 2), np.nan)
        if there.any():
            moved[view][there] = flatten(outputs(view, rows[followed][there]))
    return Embedding(axes, points, index.sample[rows], index.samples, followed, moved)


def _followed(store: Store, rows: Rows, seed: int) -> NDArray[np.int64]:
    """Choose a few of the rows by key, the same number of each sample as far as it goes; ascending."""
    index, chosen = store.index, list[NDArray[np.int64]]()
    wanted = min(_FOLLOWED, max(len(index.samples), _POINTS // len(store.views)))
    for number, (name, places, members) in enumerate(index.by_sample(rows)):
        share = (wanted + number) // len(index.samples)
        order = np.argsort(uniform_by_id(index.object[members], 1, seed, "embedding", name)[:, 0])
        chosen.append(places[order[:share]])
    return np.sort(np.concatenate(chosen))


_Fitted = tuple[tuple[str, str], Float, Callable[[NDArray[np.float32]], Float]]


def _pca(features_nD: NDArray[np.float32], _: int) -> _Fitted:
    pca = PCA(2, svd_solver="full").fit(features_nD.astype(np.float64))
    first, second = (
        f"component {i} ({share:.0%} of variance)" for i, share in enumerate(pca.explained_variance_ratio_, 1)
    )
    return (first, second), pca.transform(features_nD), pca.transform


def _umap(features_nD: NDArray[np.float32], seed: int) -> _Fitted:
    if find_spec("umap") is None:
        raise UserError("--umap: umap-learn is not installed; `pip install umap-learn`, or leave --umap out for PCA")
    state = int(generator(seed, "umap").integers(2**32))
    reducer: Any = import_module("umap").UMAP(random_state=state, n_jobs=1).fit(features_nD)  # one thread: same numbers
    return ("UMAP 1", "UMAP 2"), reducer.embedding_, reducer.transform


def draw(embedding: Embedding, title: str) -> Figure:
    """Draw all objects by sample, and beside them how far views move a few."""
    figure = Figure(figsize=(12, 6), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    for number in range(len(embedding.samples)):
        x, y = embedding.points[embedding.sample == number].T
        left.scatter(
            x, y, s=6 if len(embedding.points) > _CROWD else 20, color=_COLOURS[number % len(_COLOURS)], alpha=0.5, lw=0
        )
    _views_panel(right, embedding)
    for panel in (left, right):
        panel.set_xlabel(embedding.axes[0])
        panel.legend(handles=_samples_of(embedding) if panel is left else _views_of(embedding), **_ABOVE)
    left.set_ylabel(embedding.axes[1])
    figure.suptitle(
        f"{title}: {len(embedding.points)} test objects in nominal; right: {len(embedding.followed)} in all views"
    )
    return figure


_ABOVE: dict[str, Any] = {"ncols": 4, "loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "frameon": False}


def _views_panel(panel: Axes, embedding: Embedding) -> None:
    """Draw an object's views around it, over all others in grey."""
    x, y = embedding.points.T
    panel.scatter(x, y, s=4, color="0.88", lw=0)
    for place, at in enumerate(embedding.followed):
        colour = _COLOURS[embedding.sample[at] % len(_COLOURS)]
        nominal = embedding.points[at]
        for look, points in zip(_looks(embedding).values(), embedding.moved.values(), strict=True):
            panel.plot(*zip(nominal, points[place], strict=True), color=colour, lw=0.7, zorder=2)
            edge: dict[str, Any] = (
                {"mec": colour, "mew": 1.2} if look["fillstyle"] == "none" else {"mec": "black", "mew": 0.4}
            )
            panel.plot(*points[place], color=colour, ms=5, mfcalt="white", **edge, **look, zorder=3)
        panel.plot(*nominal, "o", color=colour, ms=11, mec="black", zorder=4)


def _looks(embedding: Embedding) -> dict[str, dict[str, Any]]:
    """Give each view a marker, and where there are not enough of them a filling."""
    looks = [{"marker": marker, "fillstyle": fill} for fill, marker in product(_FILLS, _MARKERS)]
    return dict(zip(embedding.moved, cycle(looks), strict=False))


def _samples_of(embedding: Embedding) -> list[Line2D]:
    return [
        Line2D([], [], color=_COLOURS[number % len(_COLOURS)], marker="o", ls="none", label=name)
        for number, name in enumerate(embedding.samples)
    ]


def _views_of(embedding: Embedding) -> list[Line2D]:
    nominal = Line2D([], [], color="black", marker="o", ms=9, ls="none", label="nominal")
    views = _looks(embedding).items()
    return [nominal, *(Line2D([], [], color="black", ms=6, mfcalt="white", **k, ls="none", label=v) for v, k in views)]
