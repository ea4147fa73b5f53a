"""The chain of a config in words: its stages, the tree of its views, and what each view runs again and shares."""

from collections.abc import Iterator, Sequence

from resim.chain import Draw, Node, View, tree
from resim.simulate import Simulation


def describe(simulation: Simulation) -> str:
    """Draw the tree of views, and list them.

    A line of the tree is a stage run; in brackets stands the view that pays for it, at the end the views that it gives.
    """
    lane, views = simulation.lane, simulation.all_views
    lines = [f"{simulation.sample}: {' > '.join(lane.stages)}", "", lane.stages[0]]
    lines += _branches(tree(views), "")
    lines.append("")
    rows = [("view", "runs again", "shares with", "changes", "splits"), *(_row(view, lane.stages) for view in views)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def _branches(nodes: Sequence[Node], indent: str) -> Iterator[str]:
    for i, node in enumerate(nodes):
        last = i == len(nodes) - 1
        run = [node]
        while len(run[-1].children) == 1 and run[-1].children[0].owner == node.owner:
            run.append(run[-1].children[0])
        leaves = "" if run[-1].children else f": {', '.join(view.name for view in run[-1].leaves)}"
        yield f"{indent}{'└─' if last else '├─'} {' > '.join(n.step.stage for n in run)} [{node.owner}]{leaves}"
        yield from _branches(run[-1].children, indent + ("   " if last else "│  "))


def _row(view: View, stages: Sequence[str]) -> tuple[str, ...]:
    if view.cut is None:
        return view.name, "everything", "-", "-", ", ".join(view.splits)
    again = stages[stages.index(view.cut) :]
    shared = f"{view.base} up to {stages[stages.index(view.cut) - 1]}"
    changes = ", ".join(f"{name} = {_value(value)}" for name, value in view.changes) or "random numbers"
    return view.name, " > ".join(again), shared, changes, ", ".join(view.splits)


def _value(value: object) -> str:
    if isinstance(value, Draw):
        return f"{value.kind} of {len(value.options)} values, {min(value.options):.3g} to {max(value.options):.3g}"
    return str(value)
