"""How outputs and scores move with the size of a change of one setting."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from training.plots.common import colours, method_handles, most_labels, name_above, row_of, shift_of
from training.results import Comparison

_LOGARITHMIC = 4.0  # where the largest value is this many times the smallest: factors, as of scales
_NOTHING = "No setting of the simulation is changed to several values, each by a view of its own."


def similarity_against_shift(comparison: Comparison) -> Figure:
    """Draw cosine similarity with nominal, and the distance of scores, over the value of each changed setting.

    Lines go through the views. Nominal itself is no point of them: views differ from it by their draws, too. Bars are
    the standard deviation over training seeds.
    """
    settings = list(comparison.shifts)
    if not settings:
        figure = Figure(figsize=(9, 2))
        figure.text(0.5, 0.5, _NOTHING, ha="center", va="center")
        return figure
    figure = Figure(figsize=(max(8.0, 5.4 * len(settings)), 8))
    panels = figure.subplots(2, len(settings), sharex="col", squeeze=False)
    for (upper, lower), setting in zip(panels.T, settings, strict=True):
        _column(upper, lower, comparison, setting)
    panels[0, 0].set_ylabel("cosine similarity of encoder\noutputs, view and nominal")
    panels[1, 0].set_ylabel(shift_of(comparison.benefits)[1])
    itself = Line2D([], [], color="black", marker="o", mfc="none", ls="none", label="nominal itself")
    handles = [*method_handles(comparison), itself]
    told = f"Test split, {most_labels(comparison):.0%} of the labels; bars: standard deviation over training seeds"
    name_above(figure, handles, told)
    return figure


def _column(upper: Axes, lower: Axes, comparison: Comparison, setting: str) -> None:
    values = dict(comparison.shifts[setting])
    lowest, highest = min(values.values()), max(values.values())
    if lowest > 0 and highest >= _LOGARITHMIC * lowest:
        lower.set_xscale("log", base=2)
        lower.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    nominal = values.pop("nominal", None)
    if nominal is not None:
        for panel, same in ((upper, 1.0), (lower, 0.0)):
            panel.plot(nominal, same, color="black", marker="o", mfc="none", ls="none", clip_on=False, zorder=5)
    name, _ = shift_of(comparison.benefits)
    for method, summary in comparison.methods.items():
        moved = {v: row_of(comparison.benefits, method, v, most_labels(comparison)).figures[name] for v in values}
        similar = {view: summary.cosine[view].positive for view in values if view in summary.cosine}
        for panel, found in ((upper, similar), (lower, moved)):
            panel.errorbar(
                [values[view] for view in found],
                [each.mean for each in found.values()],
                yerr=[each.spread or 0.0 for each in found.values()],
                color=colours(comparison)[method],
                marker="o",
                markersize=5,
                capsize=3,
            )
    lower.set(xlabel=setting)
    lower.set_ylim(bottom=0)
