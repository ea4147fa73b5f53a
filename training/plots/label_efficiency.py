"""How good each task is solved with how many labels."""

from itertools import product

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from training.plots.common import colours, method_handles, name_above, quality_of
from training.results import OWN_HEAD, Comparison

_ACROSS = 3  # panels in a row
_MARKERS = ("o", "^", "s")  # of heads
_LABELLED = "--"
_SLOT = 1.25  # the factor between the outermost of what has as many labels


def label_efficiency(comparison: Comparison) -> Figure:
    """Draw a panel for each task: its figure of merit on nominal over the number of labels, by method and head."""
    tasks = list(comparison.tasks)
    across = min(_ACROSS, len(tasks))
    down = -(-len(tasks) // across)
    figure = Figure(figsize=(max(7.0, 5.2 * across), 4.4 * down + 1.2))
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for panel, task in zip(panels, tasks, strict=False):
        _panel(panel, comparison, task)
    for panel in panels[len(tasks) :]:
        panel.remove()
    handles = method_handles(comparison)
    heads = {head: marker for head, marker in markers(comparison).items() if head != OWN_HEAD}
    if len(heads) > 1:
        handles += [Line2D([], [], color="black", marker=m, ls="none", label=f"head {h}") for h, m in heads.items()]
    told = "Nominal, test split, flat weights; bars: 95 % over seeds and test events"
    if any(summary.pretraining_labels for summary in comparison.methods.values()):
        told += "\nDashed: the pretraining has seen labels already, which the axis does not count"
    name_above(figure, handles, told)
    return figure


def markers(comparison: Comparison) -> dict[str, str]:
    """Give each head its marker, by the order of the config; a network without one has the first's."""
    heads = [head for head in dict.fromkeys(row.head for row in comparison.benefits) if head != OWN_HEAD]
    return {OWN_HEAD: _MARKERS[0], **dict(zip(heads, _MARKERS, strict=False))}


def _panel(panel: Axes, comparison: Comparison, task: str) -> None:
    rows = [b for b in comparison.benefits if (b.task, b.view, b.weighting) == (task, "nominal", "flat")]
    name, label = quality_of(rows)
    known = {(row.method, row.head) for row in rows}
    lines = [pair for pair in product(comparison.methods, markers(comparison)) if pair in known]
    for place, (method, head) in enumerate(lines):
        line = sorted((b for b in rows if (b.method, b.head) == (method, head)), key=lambda row: row.n_labels)
        found = [row.figures[name] for row in line]
        panel.errorbar(
            [row.n_labels * _SLOT ** ((place + 0.5) / len(lines) - 0.5) for row in line],
            [value.mean for value in found],
            yerr=[[value.mean - value.low for value in found], [value.high - value.mean for value in found]],
            color=colours(comparison)[method],
            ls=_LABELLED if comparison.methods[method].pretraining_labels else "-",
            marker=markers(comparison)[head],
            markersize=5,
            lw=1.6,
            elinewidth=1,
            capsize=2,
        )
    panel.set(xscale="log", xlabel="labels", ylabel=label)
    panel.set_title(task, fontsize=14)
