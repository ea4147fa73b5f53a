"""Chains of stages, interventions, and the tree of views that they make. Knows no physics."""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from resim.cost import Meter
from resim.keys import Stream, stream

NOMINAL = "nominal"

Settings = tuple[tuple[str, Any], ...]
"""Settings of a stage: hashable, so that equal runs can be recognised. In the order of the config, because an engine
may care (Pythia: `25:onMode = off` before `25:onIfMatch`)."""


_STEPS = 8


class Draw(NamedTuple):
    """A setting that is drawn anew for each event.

    Engines fix their settings when they start, so most stages take one of a few values, the `options`; a stage that
    takes a number for each event is given any in the range, unless the config asks for a few.
    """

    kind: str
    """choose, uniform, or log_uniform."""
    given: tuple[float, ...]
    """The values to choose from, or the ends of the range."""
    steps: int | None = None
    """Into how many steps a range is cut, whose middles are drawn; None leaves it to the stage."""

    @property
    def options(self) -> tuple[float, ...]:
        """A few values."""
        if self.kind == "choose":
            return self.given
        steps = self.steps or _STEPS
        return tuple(self._between((np.arange(steps) + 0.5) / steps).tolist())

    @property
    def extremes(self) -> tuple[float, ...]:
        """The values between which, or out of which, a stage is given one that takes a number for each event."""
        return self.given if self.steps is None else self.options

    @property
    def middle(self) -> float:
        """The middle of the range, or the median of the values."""
        return float(np.median(self.given) if self.kind == "choose" else self._between(np.array(0.5)))

    def values(self, uniform: NDArray[np.float64], by_event: bool) -> NDArray[np.float64]:
        """Turn uniforms in [0, 1) into values: out of `options`, or any where the stage takes one for each event."""
        if by_event and self.steps is None and self.kind != "choose":
            return self._between(uniform)
        return np.array(self.options, dtype=np.float64)[(uniform * len(self.options)).astype(np.int64)]

    def _between(self, share: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.kind == "uniform":
            return self.given[0] + (self.given[1] - self.given[0]) * share
        low, high = np.log(self.given)
        return np.exp(low + (high - low) * share)


@runtime_checkable
class Range(Protocol):
    """What a config says in place of a value that is drawn."""

    def draw(self) -> Draw:
        """Give the values to draw from."""


def settings_of(values: Mapping[str, Any]) -> Settings:
    """Freeze settings: lists become tuples, ranges become draws."""
    return tuple((name, _frozen(value)) for name, value in values.items())


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_frozen(v) for v in value)
    return value.draw() if isinstance(value, Range) else value


class State(Protocol):
    """What a stage hands on: any columns, with the ids of the events that are in it."""

    @property
    def event(self) -> NDArray[np.int64]:
        """Ids of the events, ascending, (n,)."""

    def take(self, rows: NDArray[Any]) -> Self:
        """Select events by index or mask."""

    @classmethod
    def join(cls, pieces: Sequence[Self]) -> Self:
        """Put pieces (at least one) behind each other."""


class Stage(Protocol):
    """One step of a chain. An event that the stage cannot make is left out of the state that it returns."""

    def run(self, state: Any, settings: Settings, stream: Stream) -> Any:
        """Turn the state of a block into the next; the draws of an event come from `stream` alone."""


class FusedStage(Protocol):
    """A stage whose engine runs the following stages in the same call."""

    def run_fused(
        self, state: Any, steps: Sequence["Step"], streams: Sequence[Stream], keep: Sequence[bool]
    ) -> list[Any]:
        """Run consecutive stages: gives the state after each, None unless `keep`; the last is always kept.

        Events that are lost on the way are in none of the states.
        """


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

    def uniforms(self, name: str, events: NDArray[np.int64], seed: int, sample: str) -> NDArray[np.float64]:
        """Draw a uniform for each event, for a setting of this run alone, (n,)."""
        return self.stream(seed, sample).child(f"draw {name}").uniform(events, np.ones_like(events), 1)[:, 0]


@dataclass(frozen=True)
class View:
    """A named path through the stages, for the events of some splits."""

    name: str
    cut: str | None
    """The stage that it cuts before; None for nominal."""
    base: str
    """The view that it is, up to its cut."""
    changes: Settings
    replica: int
    path: tuple[Step, ...]
    splits: tuple[str, ...]


@dataclass
class Node:
    """A stage run, and what follows from it."""

    step: Step
    owner: str
    """The view that pays for the run: the one whose key it draws from, whoever else needs it."""
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
                node = Node(step, view.name if step.view == view.path[-1].view else step.view)
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
    continuation: Callable[[Step], tuple[Step, ...]]
    """The steps that the engine of a step runs in the same call, in their order; none for most."""
    lost: Callable[[View, NDArray[np.int64], str], None]
    """Told of events that a stage could not make, for each view that misses them."""
    has: Callable[[Step], bool] = lambda step: False
    """Whether the states after a step were kept earlier."""
    restore: Callable[[Step, State], Any] = lambda step, state: state
    """Gives the state after such a step, for the events of the state before it."""
    to_keep: Container[Step] = ()
    """Steps whose states are kept now."""
    keep: Callable[[Step, Any], None] = lambda step, state: None
    """Told of the states after these."""
    by_event: Container[str] = ()
    """Stages that take an array, a number for each event, for a setting that is drawn."""
    option: int | None = None
    """Take this of the values of every draw (modulo their number) instead of what the events draw."""


def walk(nodes: Sequence[Node], state: State, context: Walk) -> Iterator[tuple[View, Any]]:
    """Run every node once, depth first, and yield each view with its last state."""
    for node in nodes:
        yield from _descend(node, _of_splits(state, node.splits, context), context)


def _of_splits(state: Any, splits: frozenset[str], context: Walk) -> Any:
    """Select the events of some splits."""
    return _take(state, np.flatnonzero(context.in_splits(state.event, splits)))


def _take(state: Any, rows: NDArray[np.int64]) -> Any:
    """Select events in their order; where that is all of them the state itself, for what it has derived is shared."""
    return state if len(rows) == len(state.event) else state.take(rows)


def _descend(node: Node, state: State, context: Walk) -> Iterator[tuple[View, Any]]:
    """Run a node, with those below it that its engine runs in the same call, and what follows from each."""
    steps = (node.step, *context.continuation(node.step))
    nodes: list[Node | None] = [node]
    for step in steps[1:]:
        nodes.append(next((child for child in (nodes[-1].children if nodes[-1] else ()) if child.step == step), None))
    forks = [
        [child for child in current.children if child is not following] if current else []
        for current, following in zip(nodes, [*nodes[1:], None], strict=True)
    ]
    if (len(nodes) == 1 or nodes[1] is None) and context.has(node.step):
        with context.meter.measure(f"restore {node.step.stage}", _first_owner(node), events=len(state.event)):
            before = context.restore(node.step, state)
        _report_losses(node, state, before, context, node.step.stage)
        yield from walk(forks[0], before, context)
        if not node.children:
            yield from _leaves(node, before, context)
        return
    kept = [step in context.to_keep for step in steps]
    wanted = [bool(fork) or keep for fork, keep in zip(forks, kept, strict=True)]
    states = _metered(node, steps, state, wanted, context)
    for step, after, keep in zip(steps, states, kept, strict=True):
        if keep:
            context.keep(step, after)
    for current, fork, after in zip(nodes, forks, states, strict=True):
        yield from walk(fork, after, context)
        if current is not None and not current.children:
            yield from _leaves(current, after, context)


def _leaves(node: Node, state: Any, context: Walk) -> Iterator[tuple[View, Any]]:
    """Yield the views that end with a run."""
    mine = _of_splits(state, node.splits, context)
    yield from ((view, mine) for view in node.leaves)


def _first_owner(node: Node) -> str:
    """Name the view that pays for what is brought back: the first that goes on from there."""
    return node.children[0].owner if node.children else node.owner


def _metered(node: Node, steps: Sequence[Step], state: State, keep: Sequence[bool], context: Walk) -> list[Any]:
    stage = "+".join(step.stage for step in steps)
    with context.meter.measure(stage, node.owner, events=len(state.event)):
        after = _run(steps, state, keep, context)
    _report_losses(node, state, after[-1], context, stage)
    return after


def _run(steps: Sequence[Step], state: State, keep: Sequence[bool], context: Walk) -> list[Any]:
    """Run steps, once for every combination of values that its events drew; give the states in the events' order."""
    pieces = []
    for rows, concrete in _drawn(steps, state.event, context):
        streams = [step.stream(context.seed, context.sample) for step in concrete]
        chosen, first = _take(state, rows), concrete[0]
        if len(concrete) > 1:
            pieces.append(context.fused[first.stage].run_fused(chosen, concrete, streams, keep))
        else:
            pieces.append([context.stages[first.stage].run(chosen, first.settings, streams[0])])
    return pieces[0] if len(pieces) == 1 else [joined(states) for states in zip(*pieces, strict=True)]


def joined(states: Sequence[Any]) -> Any:
    """Put states of different events together, in the order of the events; None where there are none."""
    if states[0] is None:
        return None
    joined = states[0].join(states)
    return joined.take(np.argsort(joined.event, kind="stable"))


def _drawn(
    steps: Sequence[Step], events: NDArray[np.int64], context: Walk
) -> Iterator[tuple[NDArray[np.int64], Sequence[Step]]]:
    """Split events by the values that they drew: gives their rows, and the steps with these values set."""
    steps = [_with_arrays(step, events, context) if step.stage in context.by_event else step for step in steps]
    draws = [(step, name, draw) for step in steps for name, draw in draws_of(step.settings).items()]
    if not draws or not len(events):
        yield np.arange(len(events)), [replace(step, settings=first_values(step.settings)) for step in steps]
        return
    if context.option is None:
        drawn = [step.uniforms(name, events, context.seed, context.sample) for step, name, _ in draws]
        chosen = [(u * len(draw.options)).astype(np.int64) for u, (_, _, draw) in zip(drawn, draws, strict=True)]
    else:
        chosen = [np.full(len(events), context.option % len(draw.options)) for _, _, draw in draws]
    groups, group = np.unique(np.array(chosen), axis=1, return_inverse=True)
    for i, places in enumerate(groups.T.tolist()):
        values = [(step, name, draw.options[k]) for (step, name, draw), k in zip(draws, places, strict=True)]
        yield np.flatnonzero(group == i), [_set(step, {n: v for s, n, v in values if s is step}) for step in steps]


def _with_arrays(step: Step, events: NDArray[np.int64], context: Walk) -> Step:
    """Put in place of each draw the events' numbers, (n,)."""
    draws = draws_of(step.settings)
    uniforms = {name: step.uniforms(name, events, context.seed, context.sample) for name in draws}
    return _set(step, {name: draw.values(uniforms[name], by_event=True) for name, draw in draws.items()})


def _set(step: Step, values: Mapping[str, Any]) -> Step:
    return replace(step, settings=tuple((name, values.get(name, value)) for name, value in step.settings))


def first_values(settings: Settings) -> Settings:
    """Put the first of its values in place of each draw."""
    return tuple((name, value.options[0] if isinstance(value, Draw) else value) for name, value in settings)


def middle_values(settings: Settings) -> Settings:
    """Put the middle of its values in place of each draw."""
    return tuple((name, value.middle if isinstance(value, Draw) else value) for name, value in settings)


def draws_of(settings: Settings) -> dict[str, Draw]:
    """Give the settings that are drawn."""
    return {name: value for name, value in settings if isinstance(value, Draw)}


def drawn_values(
    view: View, events: NDArray[np.int64], seed: int, sample: str, by_event: Container[str] = ()
) -> dict[str, NDArray[np.float64]]:
    """Tell what each event drew for the settings of a view that are drawn: name -> (n,), in whatever order they stand."""
    return {
        name: draw.values(step.uniforms(name, events, seed, sample), step.stage in by_event)
        for step in view.path
        for name, draw in sorted(draws_of(step.settings).items())
    }


def _report_losses(node: Node, before: Any, after: Any, context: Walk, stage: str) -> None:
    lost = np.setdiff1d(before.event, after.event)
    if len(lost):
        for view in node.leaves:
            context.lost(view, lost, stage)
