"""From paths to parts: walk the tree of views for each block, write, and make again."""

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resim.chain import (
    NOMINAL,
    Draw,
    Node,
    Settings,
    Step,
    View,
    Walk,
    drawn_values,
    draws_of,
    first_values,
    settings_of,
    tree,
    walk,
)
from resim.config import MAX_EVENTS, SPLITS, Config, check_whole_blocks
from resim.cost import START, CostRecord, Meter, from_json, to_json
from resim.engines import STAGE, Job, kind_of, read_beside
from resim.errors import OtherVersion, UserError
from resim.keys import uniform_of_event
from resim.lane import Lane
from resim.plan import covered, lane_of, plan_views
from resim.ragged import offsets_of
from resim.store import (
    EXTRAS,
    Checkpoint,
    Column,
    Extra,
    ObjectTable,
    Part,
    ViewTable,
    digest_checkpoint,
    join,
    open_part,
    part_digests,
    part_name,
    remove_leftovers,
    write_part,
)
from resim.typed import parse

_COMMON_COLUMNS = (
    Column("object", "", "id, 8 x event + slot"),
    Column("event", "", "event id"),
    Column("split", "", "0 train, 1 validation, 2 test"),
    Column("weight", "", "relative weight of the event; of a hard process, undoes the flattening of the spectrum"),
)


@dataclass(frozen=True)
class Simulation:
    """A sample of a config, ready to be made block by block."""

    config: Config
    sample: str
    pool: Path | None = None
    """Where the pool of pile-up lies, if any view has some."""
    incoming: Mapping[str, Path] = field(default_factory=dict)
    """What engines gave, by the view that they make (of one part)."""

    @cached_property
    def lane(self) -> Lane:
        """The lane, bound to the sample."""
        return lane_of(self.config.lane)(self.config, self.sample, self.pool)

    @cached_property
    def all_views(self) -> list[View]:
        """Every view of the config."""
        return plan_views(self.config, self.sample)

    @cached_property
    def engine_steps(self) -> dict[str, Step]:
        """The engine that each view runs by itself: view -> step."""
        steps = [(view, step) for view in self.all_views for step in view.path if step.stage == STAGE]
        return {view.name: step for view, step in steps if (step.view, step.replica) == _key(view)}

    def engine_recipe(self, name: str) -> str:
        """Digest all that what an engine gives for a view depends on."""
        view = next(view for view in self.all_views if view.name == name)
        path = view.path[: view.path.index(self.engine_steps[name]) + 1]
        words = [(*self._resolved(s.stage, s.settings), s.view, s.replica) for s in path]
        pool = self.lane.pool_recipe(replace(view, path=path))
        shares = self.config.splits.model_dump()
        sent = sorted(self.splits_of(self.engine_steps[name]))
        return _digest({**self._root_words, "path": words, "pileup": pool, "splits": sent, "split_shares": shares})

    def splits_of(self, step: Step) -> frozenset[str]:
        """Give the splits for which a step is run."""
        return frozenset(name for view in self.all_views if step in view.path for name in view.splits)

    def sent(self, name: str, first: int, stop: int) -> NDArray[np.int64]:
        """Give the events that go out to the engine of a view."""
        events = np.arange(first, stop, dtype=np.int64)
        return events[_splits_of_part(self, first, stop)(events, self.splits_of(self.engine_steps[name]))]

    def job(self, name: str, first: int, stop: int) -> Job:
        """Describe the run of a view's engine for a part."""
        step = self.engine_steps[name]
        engine = dict(step.settings)["engine"]
        draws, n = step.stream(self.config.seed, self.sample), len(self.sent(name, first, stop))
        settings, recipe = self.config.engines[engine], self.engine_recipe(name)
        return Job(engine, settings, recipe, draws, self.sample, name, first, stop, n)

    def recipe(self, view: View) -> str:
        """Digest all that the numbers of a view depend on."""
        last = self.lane.stages[-1]
        words = {
            "pileup": self.lane.pool_recipe(view),
            "objects": self._resolved(last, settings_of(self.config.chain.get(last, {}))),
            "path": [(*self._resolved(s.stage, s.settings), s.view, s.replica) for s in view.path],
            "split_shares": self.config.splits.model_dump(),
            "role": self.config.samples[self.sample].role,
            "splits": view.splits,
        }
        return _digest({**self._root_words, **words})

    @cached_property
    def recipes(self) -> dict[str, str]:
        """The recipe of every view of the config."""
        return {view.name: self.recipe(view) for view in self.all_views}

    @cached_property
    def root_recipe(self) -> str:
        """Digest all that the first stage, which all views share, depends on."""
        return _digest(self._root_words)

    @cached_property
    def kept_step(self) -> Step | None:
        """The step of nominal whose states can be kept; an engine that makes whole events has none."""
        nominal = next(view for view in self.all_views if view.name == NOMINAL)
        return next((step for step in nominal.path if step.stage == self.lane.kept), None)

    @cached_property
    def checkpoint_recipes(self) -> dict[str, str]:
        """Digest, by stage, all that the states depend on that are kept in a part."""
        recipes = {self.lane.stages[0]: self.root_recipe}
        if self.config.checkpoint is not None and self.kept_step is not None:
            path = next(view for view in self.all_views if view.name == NOMINAL).path
            upstream = path[: path.index(self.kept_step) + 1]
            words = {**self._root_words, "path": [self._resolved(s.stage, s.settings) for s in upstream]}
            recipes[self.lane.kept] = _digest(words)
        return recipes

    @property
    def _root_words(self) -> dict[str, Any]:
        return {
            "lane": self.lane.name,
            "seed": self.config.seed,
            "block_size": self.config.block_size,
            "sample": self.sample,
            self.lane.stages[0]: self._resolved(self.lane.stages[0], settings_of(self.lane.root_settings)),
            **({"engine": self._source_words} if self.config.samples[self.sample].engine else {}),
            "software": self.lane.software(),
            "source": self.lane.source_digest,
        }

    @property
    def _source_words(self) -> tuple[Any, ...]:
        """Give what whole events that an engine makes depend on."""
        step = plan_views(self.config, self.sample)[0].path[0]
        return self._resolved(step.stage, step.settings)

    def _resolved(self, stage: str, settings: Settings) -> tuple[Any, ...]:
        """Give all that the numbers of a stage depend on, but the key."""
        return stage, self.lane.resolved(stage, first_values(settings)), draws_of(settings)

    def split_of(self, events: NDArray[np.int64]) -> NDArray[np.int8]:
        """Tell the split of each event: 0 train, 1 validation, 2 test."""
        if self.config.samples[self.sample].role == "evaluation":
            return np.full(len(events), SPLITS.index("test"), dtype=np.int8)
        shares = [getattr(self.config.splits, name) for name in SPLITS]
        u = uniform_of_event(self.config.seed, self.sample, "split", events)
        return np.searchsorted(np.cumsum(shares)[:-1], u, side="right").astype(np.int8)

    def continuation(self, step: Step) -> tuple[Step, ...]:
        """Give the steps that the engine of a step runs in the same call."""
        return self._continuations.get(step, ())

    @cached_property
    def _continuations(self) -> dict[Step, tuple[Step, ...]]:
        found: dict[Step, tuple[Step, ...]] = {}
        for view in self.all_views:
            # what a view shares with its base goes on as in the base
            mine = [step for step in view.path if (step.view, step.replica) == _key(view)]
            own = [step for step in mine if step.stage in self.lane.fused]
            found |= {step: tuple(own[i + 1 :]) for i, step in enumerate(own)}
        return found


def _key(view: View) -> tuple[str, int]:
    return view.path[-1].view, view.path[-1].replica


def _digest(words: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()[:32]


@dataclass
class _Rows:
    """The rows of one view, block by block."""

    present: list[NDArray[np.bool_]]
    columns: list[NDArray[np.float32]]
    counts: list[NDArray[np.int64]]
    constituents: list[NDArray[np.float32]]
    extras: list[dict[str, dict[str, NDArray[np.float64]]]]
    """Kind -> name -> values of the objects."""

    def table(self, attributes: dict[str, Any]) -> ViewTable:
        """Join the blocks."""
        extras = {kind: _extra(kind, [block[kind] for block in self.extras]) for kind in EXTRAS if self.extras[0][kind]}
        return ViewTable(
            np.concatenate(self.present),
            np.concatenate(self.columns),
            offsets_of(np.concatenate(self.counts)),
            np.concatenate(self.constituents),
            attributes,
            extras,
        )


def _extra(kind: str, blocks: Sequence[dict[str, NDArray[np.float64]]]) -> Extra:
    meaning = {"drawn": "what the event drew for this setting", "weights": "weight of the event with this variation"}
    values = [np.concatenate([block[name] for block in blocks]) for name in blocks[0]]
    return Extra(np.stack(values, axis=1), tuple(Column(name, "", meaning[kind]) for name in blocks[0]))


def _silent(events: int) -> None:
    """Report no progress."""


def simulate_part(
    simulation: Simulation,
    first: int,
    stop: int,
    out: Path,
    views: Sequence[View],
    progress: Callable[[int], None] = _silent,
    scratch: Path | None = None,
) -> Part:
    """Make one part, or only those of the asked views that are not there yet in this recipe, from its checkpoint.

    Views of the config that are there and good stay, asked for or not; others than the config's go.

    Parameters
    ----------
    first, stop
        Event range, whole blocks.
    out
        Folder of the data set.
    progress
        Called with the number of events done, block by block.
    scratch
        A folder on a disk of this machine, where it is written before it goes to `out` in one go.

    Returns
    -------
    Part
        Whole, in its final place.
    """
    root = simulation.lane.stages[0]
    old = _existing(out / part_name(first, stop), simulation.sample)
    if old and not _frame_is_intact(old, root):
        views, old = [view for view in simulation.all_views if view in views or view.name in old.views], None
    kept = _still_good(old, simulation.recipes) if old else []
    asked = {view.name for view in views}
    recipes = {name: recipe for name, recipe in simulation.recipes.items() if name in asked or name in kept}
    stored = _stored(old, simulation.checkpoint_recipes) if old else {}
    missing = [view for view in views if view.name not in kept]
    if old and root in stored and not missing and set(old.views) == set(recipes):
        progress(stop - first)
        remove_leftovers(old.path)
        return old
    made = _make(simulation, first, stop, missing, stored, progress)
    costs, failed = made.costs, made.failed
    if old:
        new = [cost for cost in made.costs if cost.view not in kept or cost.stage == root]  # not what only ran again
        costs = [*new, *_costs_of(old, kept, root, root in stored)]
        failed = made.failed | {name: lost for name, lost in old.attributes["failed"].items() if name in kept}
    attributes = part_attributes(simulation, first, stop, recipes) | {"cost": to_json(costs), "failed": failed}
    return write_part(
        out,
        made.objects,
        made.views,
        simulation.lane.schema,
        attributes,
        checkpoints=made.checkpoints,
        keep=old,
        keep_views=kept,
        keep_checkpoints=[stage for stage in stored if stage not in made.checkpoints],
        scratch=scratch,
    )


def _existing(path: Path, sample: str) -> Part | None:
    """Open a part that is there; one that is broken is made anew.

    Raises
    ------
    UserError
        If it is of another sample, or of a version of the format that this program does not know: not ours to replace.
    """
    try:
        part = open_part(path) if path.exists() else None
    except OtherVersion:
        raise
    except UserError:
        return None
    if part and part.attributes["sample"] != sample:
        raise UserError(f"{path}: holds the sample {part.attributes['sample']!r}, not {sample!r}; choose another --out")
    return part


def _frame_is_intact(part: Part, root: str) -> bool:
    """Tell whether what is neither a view's nor of the root's states is as it was written, to the bit."""
    stages = [f"checkpoints/{stage}" for stage in part.checkpoints if stage != root]
    return part.has_intact_groups() and all(map(part.is_intact, ["objects", *stages]))


def _still_good(part: Part, recipes: dict[str, str]) -> list[str]:
    """Name the stored views whose recipe is the one wanted and whose content is what was written."""
    same = [name for name, recipe in recipes.items() if part.attributes["recipes"].get(name) == recipe]
    if not same:
        return []
    try:
        found = part_digests(part, views=same, checkpoints=())
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - whatever a damaged part raises on reading, it is made anew
        return []
    if found["objects"] != part.digest["objects"]:
        return []
    good = [name for name in same if found["views"][name] == part.digest["views"][name]]
    return [name for name in good if part.is_intact(f"views/{name}")]


def _stored(part: Part, recipes: dict[str, str]) -> dict[str, Checkpoint]:
    """Read the checkpoints that are of the wanted recipes and what was written."""
    found = {}
    for stage, recipe in recipes.items():
        if stage not in part.checkpoints or part.attributes.get("checkpoint_recipes", {}).get(stage) != recipe:
            continue
        try:
            stored = part.checkpoint(stage)
            intact = digest_checkpoint(stored, part.attributes) == part.digest["checkpoints"][stage]
        except Exception:  # noqa: BLE001 - as above
            continue
        if intact and part.is_intact(f"checkpoints/{stage}"):
            found[stage] = stored
    return found


def _costs_of(part: Part, views: Sequence[str], root: str, with_root: bool) -> list[CostRecord]:
    """Give what was paid for some views, and for the first stage, which is recorded under nominal, or not for it."""
    records = from_json(part.attributes["cost"])
    return [r for r in records if (with_root if r.stage == root else r.view in views) and r.view != START]


@dataclass(frozen=True)
class _Made:
    """What a part is written from, beside what is kept of an older one."""

    objects: ObjectTable
    views: dict[str, ViewTable]
    checkpoints: dict[str, Checkpoint]
    """Stage -> states, of those that were made or wanted."""
    costs: list[CostRecord]
    failed: dict[str, list[list[Any]]]


def _splits_of_part(simulation: Simulation, first: int, stop: int) -> Callable[..., NDArray[np.bool_]]:
    """Give a function that marks the part's events that fall in some splits; drawing them anew at each node is slow."""
    codes = simulation.split_of(np.arange(first, stop, dtype=np.int64))

    def in_splits(events: NDArray[np.int64], splits: frozenset[str]) -> NDArray[np.bool_]:
        return np.isin(codes[events - first], [SPLITS.index(name) for name in splits])

    return in_splits


def _make(
    simulation: Simulation,
    first: int,
    stop: int,
    views: Sequence[View],
    stored: Mapping[str, Checkpoint],
    progress: Callable[[int], None],
) -> _Made:
    meter = Meter()
    failed: dict[str, list[list[Any]]] = {view.name: [] for view in views}

    in_splits = _splits_of_part(simulation, first, stop)

    def lost(view: View, events: NDArray[np.int64], stage: str) -> None:
        mine = events[in_splits(events, frozenset(view.splits))]
        failed[view.name].extend([int(event), stage] for event in mine)

    lane, config = simulation.lane, simulation.config
    root = lane.stages[0]
    context = replace(_quiet_walk(simulation, in_splits, meter), lost=lost)
    kept: list[Checkpoint] = []
    context = _with_kept(context, simulation, stored.get(lane.kept), views, kept)
    nodes = tree(views)
    _receive(simulation, views, root not in stored, first, stop, meter)
    source = _restored(simulation, stored[root]) if root in stored else _generated(simulation, meter, first)
    _warm_up(nodes, _one_of_all(source(first // config.block_size), views, in_splits), context)
    checkpoints: list[Checkpoint] = []
    tables: list[dict[str, NDArray[Any]]] = []
    rows = {view.name: _Rows([], [], [], [], []) for view in views}
    size = simulation.config.block_size
    for block in range(first // size, stop // size):
        state = source(block)
        checkpoints.append(lane.checkpoint(state))
        tables.append(_block(simulation, nodes, state, context, rows))
        progress(size)
    columns = {name: np.concatenate([t[name] for t in tables]) for name in tables[0]}
    common = {column.name: column for column in _COMMON_COLUMNS}
    descriptions = tuple(common.get(name) or lane.object_column(name) for name in columns)
    objects = ObjectTable(columns, descriptions)
    made = {v.name: rows[v.name].table(_view_attributes(v)) for v in views}
    made_checkpoints = {root: join(checkpoints)} | ({lane.kept: join(kept)} if kept else {})
    return _Made(objects, made, made_checkpoints, list(meter.records), failed)


def _with_kept(
    context: Walk, simulation: Simulation, stored: Checkpoint | None, views: Sequence[View], kept: list[Checkpoint]
) -> Walk:
    """Let the walk take nominal's states from a checkpoint, or put them into `kept` if the config says so."""
    step, lane = simulation.kept_step, simulation.lane

    def restore(asked: Step, before: Any) -> Any:
        assert stored is not None  # asked for only where `has` says so
        return lane.bring_back(stored, before, asked.settings)

    if step is None:
        return context
    if stored is not None:
        return replace(context, has=lambda asked: asked == step, restore=restore)
    # where nominal is not made, some events' states may not be
    if simulation.config.checkpoint is not None and any(view.name == NOMINAL for view in views):
        return replace(context, to_keep=(step,), keep=lambda _, state: kept.append(lane.keep(state)))
    return context


def _receive(
    simulation: Simulation, views: Sequence[View], with_root: bool, first: int, stop: int, meter: Meter
) -> None:
    """Read what engines gave for the events of a part, and enter what they took."""
    steps = {step for view in views for step in view.path}
    for name, step in simulation.engine_steps.items():
        if step not in steps and not (with_root and name == NOMINAL):
            continue
        job = simulation.job(name, first, stop)
        if name not in simulation.incoming:
            raise UserError(
                f"view {name!r}: is made by the engine {job.name!r}; give what it made with --incoming {name}=FILE"
            )
        path = simulation.incoming[name]
        for record in read_beside(path, job.recipe, name):
            meter.record(replace(record, events=0))  # they are counted where they go on
        with meter.measure(STAGE, name, events=0):
            simulation.lane.receive(job.stream, path, job.engine, simulation.sent(name, first, stop))


def outgoing(simulation: Simulation, name: str, first: int, stop: int) -> Any:
    """Make what goes out to the engine of a view, for a range of whole blocks.

    Returns
    -------
    The state that the engine starts from, for the events of the splits that need it.

    Raises
    ------
    UserError
        If the engine takes nothing, or starts from what another engine gives and that is not given.
    """
    step = simulation.engine_steps[name]
    view = next(view for view in simulation.all_views if view.name == name)
    path = view.path[: view.path.index(step)]
    if kind_of(step)[0] == "none":
        raise UserError(f"--view {name}: its engine takes nothing; run it without --input")
    meter = Meter()
    before = [replace(view, path=path, splits=tuple(simulation.splits_of(step)))] if path else []
    _receive(simulation, before, True, first, stop, meter)
    context = _quiet_walk(simulation, _splits_of_part(simulation, first, stop), meter)
    source = _generated(simulation, meter, first)
    states = []
    for block in range(first // simulation.config.block_size, stop // simulation.config.block_size):
        state = source(block)
        states += [last for _, last in walk(tree(before), state, context)] if path else [state]
    joined = states[0].join(states)
    return joined.take(np.isin(joined.event, simulation.sent(name, first, stop)))


def empty_views(simulation: Simulation, part: Part) -> list[str]:
    """Name the views in which a part has no object at all, though it has events of their splits."""
    events, in_splits = np.arange(part.first, part.stop), _splits_of_part(simulation, part.first, part.stop)
    absent = [view for view in simulation.all_views if part.digest["n_present"].get(view.name) == 0]
    return [view.name for view in absent if in_splits(events, frozenset(view.splits)).any()]


def simulation_of(part: Part, pool: Path | None = None) -> Simulation:
    """Make the sample of a stored part ready again, from the config that it carries.

    Raises
    ------
    UserError
        If it carries none, being imported, or one that this version of the program does not take.
    """
    if "config" not in part.attributes:
        raise UserError(
            f"{part.path}: was imported without a config; its events cannot be made again from hard processes"
        )
    try:
        config = parse(Config, part.attributes["config"], "config")
    except UserError as error:
        commit = part.attributes["commit"]
        raise UserError(f"{part.path}: is of another version of this program ({error}); use commit {commit}") from error
    return Simulation(config, part.attributes["sample"], pool)


def states_before(simulation: Simulation, part: Part, name: str, stage: str) -> Iterator[Any]:
    """Make again what a stage started from when a stored view was made: a state a block, of the view's splits.

    It goes on from the checkpoints of the part, where they are good.

    Raises
    ------
    UserError
        If an engine stands upstream, or this program would not make the view as it is stored.
    """
    view = next(view for view in simulation.all_views if view.name == name)
    _require_same(simulation, part, view)
    lane = simulation.lane
    path = view.path[: next(i for i, step in enumerate(view.path) if stage in covered(lane, step))]
    engines = [dict(step.settings)["engine"] for step in path if step.stage == STAGE]
    if engines:
        there = f"the engine {engines[0]!r} made its events, and the data set does not keep them"
        raise UserError(f"view {name!r}: {there}; take what the engine gave, or another view")
    wanted, stored, meter = [replace(view, path=path)], _stored(part, simulation.checkpoint_recipes), Meter()
    context = _quiet_walk(simulation, _splits_of_part(simulation, part.first, part.stop), meter)
    root = lane.stages[0]
    if lane.kept in stored:
        context = _with_kept(context, simulation, stored[lane.kept], wanted, [])
    source = _restored(simulation, stored[root]) if root in stored else _generated(simulation, meter, part.first)
    size = simulation.config.block_size
    for block in range(part.first // size, part.stop // size):
        yield from (last for _, last in walk(tree(wanted), source(block), context))


def _require_same(simulation: Simulation, part: Part, view: View) -> None:
    """Refuse a stored view of another recipe than it would have now."""
    attributes, software = part.attributes, simulation.lane.software()
    if attributes["recipes"][view.name] == simulation.recipe(view):
        return
    others = [f"{name} {v}" for name, v in attributes["software"].items() if software.get(name) != v]
    made = f"made with {', '.join(others)}" if others else f"made by other code (commit {attributes['commit']})"
    remedy = "use what it was made with, or simulate it again"
    raise UserError(
        f"{part.path}: view {view.name!r} was imported or {made}, so its events may come out different; {remedy}"
    )


def _quiet_walk(simulation: Simulation, in_splits: Callable[..., NDArray[np.bool_]], meter: Meter) -> Walk:
    """Give what a walk of a part needs to know; of lost events nobody is told."""
    lane, seed = simulation.lane, simulation.config.seed
    return Walk(
        lane.runs,
        lane.fused_runs,
        seed,
        simulation.sample,
        in_splits,
        meter,
        simulation.continuation,
        lambda *_: None,
        by_event=lane.by_event,
    )


def _generated(simulation: Simulation, meter: Meter, first: int) -> Callable[[int], Any]:
    """Give a function that makes the state that all views of a block start from, and is ready to."""
    root = simulation.lane.stages[0]
    with meter.measure(root, START):
        simulation.lane.source(first // simulation.config.block_size)

    @lru_cache(maxsize=1)
    def generate(block: int) -> Any:
        with meter.measure(root, NOMINAL, events=simulation.config.block_size):
            return simulation.lane.source(block)

    return generate


def _restored(simulation: Simulation, stored: Checkpoint) -> Callable[[int], Any]:
    """Give a function that takes that state out of a checkpoint."""
    whole = simulation.lane.restore(stored)
    blocks = whole.event // simulation.config.block_size
    return lambda block: whole.take(blocks == block)


def _one_of_all(state: Any, views: Sequence[View], in_splits: Callable[..., NDArray[np.bool_]]) -> Any:
    """Give an event that all views have, if there is one: an engine was only given those of its view's splits."""
    common = frozenset(SPLITS).intersection(*(view.splits for view in views))
    return state.take(np.append(np.flatnonzero(in_splits(state.event, common)), 0)[:1])


def _warm_up(nodes: Sequence[Node], state: Any, context: Walk) -> None:
    """Start every engine that the tree needs, on one event.

    Initialising Pythia and compiling loops takes seconds in each process: it is recorded by stage under `START`, for
    in a view's price it would depend on the size of the parts.
    """
    meter = Meter()
    everything = replace(
        context,
        meter=meter,
        in_splits=lambda events, _: np.ones(len(events), dtype=bool),
        lost=lambda *_: None,
        keep=lambda *_: None,
    )
    for option in range(_most_options(nodes)):
        for _ in walk(nodes, state, replace(everything, option=option)):
            pass
    for record in meter.records:
        context.meter.record(replace(record, view=START, events=0))


def _most_options(nodes: Sequence[Node]) -> int:
    """Give the largest number of values that any setting is drawn from."""
    here = [len(draw.options) for node in nodes for draw in draws_of(node.step.settings).values()]
    return max([1, *here, *(_most_options(node.children) for node in nodes)])


def _block(
    simulation: Simulation, nodes: Sequence[Node], state: Any, context: Walk, rows: dict[str, _Rows]
) -> dict[str, NDArray[Any]]:
    """Make one block from the state that all views start from: its object table, and its rows of every view."""
    table = simulation.lane.objects(state)
    table["split"] = simulation.split_of(table["event"])
    for view, last in walk(nodes, state, context):
        with context.meter.measure("rows", view.name, events=len(last.event)) as measured:
            measured.objects = len(table["object"])
            _place(simulation.lane.rows(last), table["object"], rows[view.name])
            rows[view.name].extras.append(_extras(simulation, view, last, table["event"]))
    return table


def _extras(
    simulation: Simulation, view: View, last: Any, events: NDArray[np.int64]
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Give what the events of the objects drew, and their weights, NaN for events that did not come this far."""
    there = np.isin(events, last.event)
    weights = {}
    for name, values in last.weights.items():
        weights[name] = np.full(len(events), np.nan)
        weights[name][there] = values[np.searchsorted(last.event, events[there])]
    return {
        "drawn": drawn_values(view, events, simulation.config.seed, simulation.sample, simulation.lane.by_event),
        "weights": weights,
    }


def _place(found: Any, wanted: NDArray[np.int64], rows: _Rows) -> None:
    """Put the jets that a view has into the rows of the data set."""
    present = np.isin(wanted, found.object)
    chosen = np.searchsorted(found.object, wanted[present])
    columns = np.full((len(wanted), found.columns.shape[1]), np.nan, dtype=np.float32)
    columns[present] = found.columns[chosen]
    jets = found.constituents.take(chosen)
    counts = np.zeros(len(wanted), dtype=np.int64)
    counts[present] = np.diff(jets.offsets)
    rows.present.append(present)
    rows.columns.append(columns)
    rows.counts.append(counts)
    rows.constituents.append(jets["features"])


def _view_attributes(view: View) -> dict[str, Any]:
    changes = {name: value._asdict() if isinstance(value, Draw) else value for name, value in view.changes}
    engine = next((dict(step.settings)["engine"] for step in view.path if step.stage == STAGE), None)
    origin = {"from": view.cut, "base": view.base, "set": changes} | ({"engine": engine} if engine else {})
    return origin | {"replica": view.replica, "splits": list(view.splits)}


def part_attributes(simulation: Simulation, first: int, stop: int, recipes: dict[str, str]) -> dict[str, Any]:
    """Say of a part what it is and how it was made, with the recipes of its views."""
    config = simulation.config
    return {
        "sample": simulation.sample,
        "lane": simulation.lane.name,
        "first": first,
        "stop": stop,
        "block_size": config.block_size,
        "seed": config.seed,
        "config": config.model_dump(mode="json", by_alias=True, exclude={"training", "evaluation"}),
        "recipes": recipes,
        "checkpoint_recipes": simulation.checkpoint_recipes,
        "software": simulation.lane.software(),
        "commit": _commit(),
        "splits": list(SPLITS),
    }


def _commit() -> str:
    """Name the commit of the code, or "unknown" outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def part_ranges(first: int, stop: int, size: int, block_size: int) -> list[tuple[int, int]]:
    """Cut an event range into parts.

    Raises
    ------
    UserError
        Where the range or the size is not whole blocks.
    """
    if not 0 <= first < stop:
        raise UserError(f"--events {first}:{stop}: empty or negative; give FIRST:STOP with 0 <= FIRST < STOP")
    if stop > MAX_EVENTS:
        raise UserError(f"--events {first}:{stop}: a sample has {MAX_EVENTS} events at most; give a range of these")
    try:
        for what, value in (("--events (first)", first), ("--events (stop)", stop), ("--shard-size", size)):
            check_whole_blocks(what, value, block_size)
    except ValueError as error:
        raise UserError(str(error)) from error
    return [(start, min(start + size, stop)) for start in range(first, stop, size)]
