"""The chain of a config in words: its stages, the tree of its views, and what each view runs again and shares."""

from collections.abc import Iterator, Sequence

from resim.chain import Draw, Node, Step, View, tree
from resim.engines import STAGE
from resim.plan import covered
from resim.simulate import Simulation


def describe(simulation: Simulation) -> str:
    """Draw the tree of views, and list them.

    A line of the tree is a stage run, or an engine with the stages that it stands in for; in brackets stands the view
    that pays for it, at the end the views that it gives.
    """
    lane, views = simulation.lane, simulation.all_views
    whole = simulation.config.samples[simulation.sample].engine
    root = f"{lane.stages[0]} (by engine {whole})" if whole else lane.stages[0]
    lines = [f"{simulation.sample}: {' > '.join(lane.stages)}", "", root]
    lines += _branches(simulation, tree(views), "")
    lines.append("")
    rows = [("view", "runs again", "shares with", "changes", "splits"), *(_row(simulation, view) for view in views)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def _branches(simulation: Simulation, nodes: Sequence[Node], indent: str) -> Iterator[str]:
    for i, node in enumerate(nodes):
        last = i == len(nodes) - 1
        run = [node]
        while len(run[-1].children) == 1 and run[-1].children[0].owner == node.owner:
            run.append(run[-1].children[0])
        leaves = "" if run[-1].children else f": {', '.join(view.name for view in run[-1].leaves)}"
        runs = " > ".join(_label(simulation, n.step) for n in run)
        yield f"{indent}{'└─' if last else '├─'} {runs} [{node.owner}]{leaves}"
        yield from _branches(simulation, run[-1].children, indent + ("   " if last else "│  "))


def _label(simulation: Simulation, step: Step) -> str:
    if step.stage != STAGE:
        return step.stage
    return f"engine {dict(step.settings)['engine']} (for {', '.join(covered(simulation.lane, step))})"


def _row(simulation: Simulation, view: View) -> tuple[str, ...]:
    if view.cut is None:
        return view.name, "everything", "-", "-", ", ".join(view.splits)
    lane = simulation.lane
    place = lane.stages.index(view.cut)
    again = [step for step in view.path if lane.stages.index(covered(lane, step)[0]) >= place]
    runs, shared = " > ".join(_label(simulation, step) for step in again), f"{view.base} up to {lane.stages[place - 1]}"
    engine = simulation.engine_steps.get(view.name)
    words = [f"engine = {dict(engine.settings)['engine']}"] if engine else []
    words += [f"{name} = {_value(value)}" for name, value in view.changes]
    return view.name, runs, shared, ", ".join(words) or "random numbers", ", ".join(view.splits)


def _value(value: object) -> str:
    if isinstance(value, Draw):
        how = f"{value.steps} values" if value.steps else "values"
        return f"{value.kind} of {how}, {min(value.given):.3g} to {max(value.given):.3g}"
    return str(value)
