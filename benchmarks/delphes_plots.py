"""Plots of our detector beside Delphes: lines are ours, points are Delphes's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import mplhep
import numpy as np

from benchmarks.response import (
    GUN_ETA,
    GUN_PT,
    TRACK_ETA,
    TRACK_PT,
    Quantity,
    Row,
    Truth,
    Window,
    inside,
    matched_jets,
    name_of,
    pulls,
    tracks_of,
)
from resim.jets.states import F8, Candidates

if TYPE_CHECKING:
    from benchmarks.delphes import Shipped

_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
}
_COLOURS = ("#3f6fb5", "#d1683c", "#4d9a5b")
_MARKERS = ("o", "s", "^")
_PT_BINS: tuple[Window, ...] = ((0.1, 0.4), (0.4, 0.75), (0.75, 1), (1, 10), (10, 100))
_ETA_EDGES = np.arange(0, 2.76, 0.25)
_NAMES = {"qcd": "QCD", "hbb": "HZ, H → bb"}
_FLOW = {"EFlowTrack": "tracks", "EFlowPhoton": "photons", "EFlowNeutralHadron": "neutral hadrons"}


def draw(out: Path, comparisons: Mapping[str, Sequence[Row]], shipped: Mapping[str, Shipped]) -> None:
    """Draw all figures into a folder."""
    tables = {name: {row.quantity: row for row in rows} for name, rows in comparisons.items()}
    with plt.style.context(_STYLE):
        _save(out / "delphes-tracks.png", (_efficiency_pt, _efficiency_eta, _resolution), tables, shipped)
        _save(out / "delphes-calorimeters.png", (_response, _width, _flow), tables, shipped)
        _save(out / "delphes-jets.png", (_jet_response, _jet_mass, _soft_drop, _pulls), tables, shipped)


def _save(path: Path, panels: Sequence[Any], tables: Any, shipped: Any) -> None:
    figure, axes = plt.subplots(1, len(panels), figsize=(3.9 * len(panels), 3.5), layout="constrained")
    for axis, panel in zip(axes, panels, strict=True):
        panel(axis, tables, shipped)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _lines_and_points(axis: Any, at: F8, rows: Sequence[Row], style: int, label: str, dashed: bool = False) -> None:
    """Draw ours as a line, Delphes as points with the error of the difference."""
    colour = _COLOURS[style]
    axis.plot(at, [row.ours for row in rows], "--" if dashed else "-", color=colour, lw=1.3)
    points = {"fmt": _MARKERS[style], "ms": 4.5, "color": colour, "mfc": "white" if dashed else colour}
    axis.errorbar(at, [row.delphes for row in rows], [row.error for row in rows], **points, label=label)


def _legend(axis: Any, **where: Any) -> None:
    axis.plot([], [], "-", color="grey", label="line: ours")
    axis.errorbar([], [], [], fmt="o", ms=4.5, color="grey", label="points: Delphes")
    axis.legend(**where)


# --- tracks ------------------------------------------------------------------------------------------------------


def _efficiency_pt(axis: Any, tables: Any, _: Any) -> None:
    """Efficiency of charged hadrons in bins of pT, by |η| of the momentum and of the exit."""
    table = tables["qcd, 500"]
    groups = (("tracking efficiency, charged_hadron", "|η|"), ("tracking efficiency, outer eta", "|η| at exit"))
    for group, eta_name in groups:
        for style, eta_bin in enumerate(((0, 1.5), (1.5, 2.5))):
            wheres = {pt_bin: f"{name_of(pt_bin, 'pT')}, {name_of(eta_bin, '|η|')}" for pt_bin in _PT_BINS}
            cells = {pt_bin: Quantity(group, where, "fraction") for pt_bin, where in wheres.items()}
            known = {np.sqrt(low * high): table[cell] for (low, high), cell in cells.items() if cell in table}
            at, rows = np.array(list(known)), list(known.values())
            _lines_and_points(axis, at, rows, style, name_of(eta_bin, eta_name), dashed=eta_name != "|η|")
    axis.set(xscale="log", xlabel="pT (GeV)", ylabel="efficiency", ylim=(0, 1.02), title="charged hadrons, QCD")
    _legend(axis, loc="lower right")


def _efficiency_eta(axis: Any, _: Any, shipped: Mapping[str, Shipped]) -> None:
    """Efficiency of charged hadrons in bins of |η|, shipped events of both samples."""
    for style, window in enumerate(((1.0, 100.0), (0.5, 0.75), (0.1, 0.5))):
        found, expected, mine, n = (np.zeros(len(_ETA_EDGES) - 1) for _ in range(4))
        for events in shipped.values():
            n += (all_ := _counts(events.truth, window))
            found += _counts(events.truth, window, events.delphes)
            mine += sum(_counts(events.truth, window, flow) for flow, _ in events.ours)
            expected += len(events.ours) * all_
        centre = (_ETA_EDGES[1:] + _ETA_EDGES[:-1]) / 2
        share = found / n
        error = np.sqrt(np.maximum(share * (1 - share), 1 / n) / n)
        axis.stairs(mine / expected, _ETA_EDGES, color=_COLOURS[style], lw=1.3)
        label = f"{window[0]:g} < pT < {window[1]:g} GeV"
        axis.errorbar(centre, share, error, fmt=_MARKERS[style], ms=4.5, color=_COLOURS[style], label=label)
    axis.set(xlabel="|η| of the momentum", ylabel="efficiency", ylim=(0, 1.35), title="charged hadrons, 200 events")
    _legend(axis, loc="upper right", ncols=2)


def _counts(truth: Truth, window: Window, flow: Candidates | None = None) -> F8:
    """Count charged hadrons in bins of |η|, all or those with a track."""
    mine = truth.species["charged_hadron"] & truth.central & inside(truth.pt, window)
    if flow is not None:
        found = np.zeros(len(mine), dtype=bool)
        found[tracks_of(truth, flow.candidates)[0]] = True
        mine = mine & found
    return np.histogram(np.abs(truth.eta[mine]), _ETA_EDGES)[0].astype(np.float64)


def _resolution(axis: Any, tables: Any, _: Any) -> None:
    """Resolution of pT against pT, particle gun."""
    for style, species in enumerate(("charged_hadron", "electron", "muon")):
        for eta_bin in TRACK_ETA:
            wheres = [f"pT ≈ {pt}, {name_of(eta_bin, '|η|')}" for pt in TRACK_PT]
            rows = [tables["gun"][Quantity(f"track pT, {species}", where, "sigma68")] for where in wheres]
            label = species.replace("_", " ") if eta_bin == TRACK_ETA[0] else ""
            _lines_and_points(axis, np.array([1.0, 10.0, 100.0]), rows, style, label)
    axis.set(xscale="log", yscale="log", ylim=(0.007, 2.5), xlabel="pT (GeV)")
    axis.set(ylabel="half of the central 68 % of pT / true pT", title="tracks, particle gun")
    axis.text(1, 0.0075, "of each kind, upwards: |η| < 0.5, < 1.5, < 2.5", fontsize=7.5)
    _legend(axis, loc="upper left", ncols=2)


# --- calorimeters ------------------------------------------------------------------------------------------------


def _calorimeter(axis: Any, tables: Any, statistic: str) -> None:
    for style, group in enumerate(("ECAL response, photon", "HCAL response, K0L")):
        for eta_bin in GUN_ETA:
            quantities = [Quantity(group, f"pT = {pt:.0f}, {name_of(eta_bin, '|η|')}", statistic) for pt in GUN_PT]
            label = f"{group.replace(' response', '')}, {name_of(eta_bin, '|η|')}"
            rows = [tables["gun"][quantity] for quantity in quantities]
            _lines_and_points(axis, np.array(GUN_PT), rows, style, label, dashed=eta_bin != GUN_ETA[0])


def _response(axis: Any, tables: Any, _: Any) -> None:
    _calorimeter(axis, tables, "mean")
    axis.axhline(1, color="grey", lw=0.7)
    axis.set(
        xscale="log", xlabel="pT (GeV)", ylabel="mean of E seen / true E, where seen", title="response, particle gun"
    )
    _legend(axis, loc="upper right")


def _width(axis: Any, tables: Any, _: Any) -> None:
    _calorimeter(axis, tables, "sigma68")
    axis.set(xscale="log", yscale="log", xlabel="pT (GeV)", ylabel="half of the central 68 % of E seen / true E")
    axis.set_title("resolution, particle gun")


def _flow(axis: Any, tables: Any, _: Any) -> None:
    """Numbers and summed pT of candidates, ours over Delphes's."""
    cells = [
        (f"{name}, {text}", Quantity("e-flow", branch + suffix, statistic))
        for branch, name in _FLOW.items()
        for suffix, statistic, text in (("", "number", "number"), (", pT", "sum", "Σ pT"))
    ]
    for style, sample in enumerate(("qcd", "hbb")):
        rows = [tables[f"{sample}, 500"][quantity] for _, quantity in cells]
        ratio, error = (
            [x / row.delphes for x, row in zip(xs, rows, strict=True)]
            for xs in ([row.ours for row in rows], [row.error for row in rows])
        )
        at = np.arange(len(cells)) - 0.15 + 0.3 * style
        points = {"fmt": _MARKERS[style], "ms": 4.5, "color": _COLOURS[style], "label": _NAMES[sample]}
        axis.errorbar(ratio, at, xerr=error, **points)
    axis.axvspan(0.95, 1.05, color="0.93", zorder=0)
    axis.axvline(1, color="grey", lw=0.7)
    axis.set_yticks(range(len(cells)), [name for name, _ in cells])
    axis.set(xlim=(0.93, 1.07), ylim=(len(cells) - 0.5, -1.4), xlabel="ours / Delphes (grey: 5 %)")
    axis.set_title("energy flow of 500 events")
    axis.legend(loc="upper right")


# --- jets --------------------------------------------------------------------------------------------------------


def _jet_histogram(axis: Any, shipped: Mapping[str, Shipped], name: str, edges: F8) -> None:
    for style, (sample, events) in enumerate(shipped.items()):
        ours = [np.histogram(matched_jets(events.truth, flow)[name], edges)[0] for flow, _ in events.ours]
        delphes = np.histogram(matched_jets(events.truth, events.delphes)[name], edges)[0]
        colour = _COLOURS[style]
        mplhep.histplot(np.mean(ours, axis=0), edges, ax=axis, color=colour, lw=1.3, yerr=False)
        centre, scatter = (edges[1:] + edges[:-1]) / 2, np.maximum(np.std(ours, axis=0), 0.3)
        seen = delphes > 0
        points = {"fmt": _MARKERS[style], "ms": 4, "color": colour, "label": _NAMES[sample]}
        axis.errorbar(centre[seen], delphes[seen], scatter[seen], **points)
    axis.set(ylabel="jets", ylim=(0, None))
    _legend(axis)


def _jet_response(axis: Any, _: Any, shipped: Mapping[str, Shipped]) -> None:
    _jet_histogram(axis, shipped, "pT response", np.linspace(0.78, 1.22, 23))
    axis.set(xlabel="pT / generator's pT", title="jets, pT > 300 GeV, 100 events each")


def _jet_mass(axis: Any, _: Any, shipped: Mapping[str, Shipped]) -> None:
    _jet_histogram(axis, shipped, "mass ratio", np.linspace(0.4, 1.4, 21))
    axis.set(xlabel="mass / generator's mass", title="mass")


def _soft_drop(axis: Any, _: Any, shipped: Mapping[str, Shipped]) -> None:
    _jet_histogram(axis, shipped, "soft-drop mass", np.linspace(0, 180, 19))
    axis.set(xlabel="soft-drop mass (GeV)", title="soft-drop mass")


def _pulls(axis: Any, tables: Mapping[str, Mapping[Quantity, Row]], _: Any) -> None:
    """All differences over their errors, beside the Gaussian that they follow if the detectors are alike."""
    found = pulls([row for name in ("gun", "qcd, 500", "hbb, 500") for row in tables[name].values()])
    edges = np.linspace(-4, 4, 25)
    axis.hist(np.clip(found, -4, 4), edges, color="0.8", label=f"{len(found)} numbers")
    x = np.linspace(-4, 4, 200)
    gaussian = len(found) * (edges[1] - edges[0]) * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    axis.plot(x, gaussian, color=_COLOURS[0], label="unit Gaussian")
    text = f"mean {found.mean():+.2f}\nrms {np.sqrt((found**2).mean()):.2f}"
    axis.text(0.02, 0.98, text, transform=axis.transAxes, va="top", fontsize=8)
    axis.set(xlabel="(ours − Delphes) / error", ylabel="numbers", title="all comparisons")
    axis.legend(loc="upper right")
