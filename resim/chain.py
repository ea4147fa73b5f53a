"""Chains of stages, interventions, and the tree of views that they make. Knows no physics."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from resim.cost import Meter
from resim.keys import Stream, stream

NOMINAL = "nominal"

Settings = tuple[tuple[str, Any], ...]
"""Settings of a stage: hashable, so that equal runs can be recognised. In the order of the config, because an engine
may care (Pythia: `25:onMode = off` before `25:onIfMatch`)."""


def settings_of(values: Mapping[str, Any]) -> Settings:
    """Freeze settings: lists become tuples."""
    return tuple((name, _frozen(value)) for name, value in values.items())


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value


class State(Protocol):
    """What a stage hands on: any columns, with the ids of the events that are in it."""

    @property
    def event(self) -> NDArray[np.int64]:
        """Ids of the events, ascending, (n,)."""

    def take(self, rows: NDArray[Any]) -> Self:
        """Select events by index or mask."""


class Stage(Protocol):
    """One step of a chain. An event that the stage cannot make is left out of the state that it returns."""

    def run(self, state: Any, settings: Settings, stream: Stream) -> Any:
        """Turn the state of a block into the next; the draws of an event come from `stream` alone."""


class FusedStage(Protocol):
    """A stage whose engine runs the following stage in the same call."""

    def run_fused(
        self, state: Any, first: "Step", second: "Step", streams: tuple[Stream, Stream], keep: bool
    ) -> tuple[Any, Any]:
        """Run this stage and the next; the first result is None unless `keep`."""


@dataclass(frozen=True)
class Step:
    """One stage run on the path of a view. Equal steps after equal paths are the same run."""

    stage: str
    settings: Settings
    view: str
    """The view whose key the run draws from: `nominal` upstream of a cut."""
    replica: int = 0

    def stream(self, seed: int, sample: str) -> Stream:
        """Name the stream of this run."""
        return stream(seed, sample, self.stage, self.view, self.replica)


@dataclass(frozen=True)
class View:
    """A named path through the stages, for the events of some splits."""

    name: str
    cut: str | None
    """The stage that it cuts before; None for nominal."""
    changes: Settings
    replica: int
    path: tuple[Step, ...]
    splits: tuple[str, ...]


@dataclass
class Node:
    """A stage run, and what follows from it."""

    step: Step
    owner: str
    """The view that pays for the run: nominal for what is shared upstream of a cut, whoever needs it."""
    leaves: list[View] = field(default_factory=list)
    """All views that pass through, in the order of the config."""
    children: list["Node"] = field(default_factory=list)

    @property
    def splits(self) -> frozenset[str]:
        """The splits for which the run is needed."""
        return frozenset(name for view in self.leaves for name in view.splits)


def tree(views: Sequence[View]) -> list[Node]:
    """Merge the paths of the views: runs that agree up to a stage become one node."""
    roots: list[Node] = []
    for view in views:
        siblings = roots
        for step in view.path:
            node = next((n for n in siblings if n.step == step), None)
            if node is None:
                node = Node(step, NOMINAL if step.view == NOMINAL else view.name)
                siblings.append(node)
            node.leaves.append(view)
            siblings = node.children
    return roots


@dataclass(frozen=True)
class Walk:
    """What a walk needs to know beside the tree."""

    stages: Mapping[str, Stage]
    fused: Mapping[str, FusedStage]
    seed: int
    sample: str
    in_splits: Callable[[NDArray[np.int64], frozenset[str]], NDArray[np.bool_]]
    """Which of these events belong to these splits."""
    meter: Meter
    successor: Callable[[Step], Step | None]
    """The fused continuation of a step, for stages whose engine runs the next stage too."""
    lost: Callable[[View, NDArray[np.int64], str], None]
    """Told of events that a stage could not make, for each view that misses them."""


def walk(nodes: Sequence[Node], state: State, context: Walk) -> Iterator[tuple[View, Any]]:
    """Run every node once, depth first, and yield each view with its last state."""
    for node in nodes:
        wanted = state.take(context.in_splits(state.event, node.splits))
        yield from _descend(node, wanted, context)


def _descend(node: Node, state: State, context: Walk) -> Iterator[tuple[View, Any]]:
    second = context.successor(node.step)
    if second is None:
        after = _metered(node, node.step, state, context)
        yield from _continue(node, after, context)
        return
    child = next((n for n in node.children if n.step == second), None)
    others = [n for n in node.children if n is not child]
    after, beyond = _metered_fused(node, second, state, bool(others), context)
    if child is not None:
        yield from _continue(child, beyond.take(context.in_splits(beyond.event, child.splits)), context)
    if others:
        yield from walk(others, after, context)


def _continue(node: Node, after: Any, context: Walk) -> Iterator[tuple[View, Any]]:
    """Go on below a node that has been run, or yield its views at the end of the chain."""
    if node.children:
        yield from walk(node.children, after, context)
        return
    for view in node.leaves:
        yield view, after


def _metered(node: Node, step: Step, state: Any, context: Walk) -> Any:
    with context.meter.measure(step.stage, node.owner, events=len(state.event)):
        after = context.stages[step.stage].run(state, step.settings, step.stream(context.seed, context.sample))
    _report_losses(node, state, after, context, step.stage)
    return after


def _metered_fused(node: Node, second: Step, state: Any, keep: bool, context: Walk) -> tuple[Any, Any]:
    stage = context.fused[node.step.stage]
    streams = (node.step.stream(context.seed, context.sample), second.stream(context.seed, context.sample))
    with context.meter.measure(f"{node.step.stage}+{second.stage}", node.owner, events=len(state.event)):
        after, beyond = stage.run_fused(state, node.step, second, streams, keep)
    _report_losses(node, state, beyond, context, f"{node.step.stage}+{second.stage}")
    return after, beyond


def _report_losses(node: Node, before: Any, after: Any, context: Walk, stage: str) -> None:
    lost = np.setdiff1d(before.event, after.event)
    if len(lost):
        for view in node.leaves:
            context.lost(view, lost, stage)
