"""From a config to paths: which view runs what, with which settings, and whether that can be."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resim.chain import NOMINAL, Step, View, draws_of, settings_of
from resim.config import SPLITS, Config, replica_names
from resim.engines import STAGE, engine_step, kind_of
from resim.errors import UserError
from resim.lane import Lane
from resim.published import check_source, source_paths, source_views


def lane_of(name: str) -> type[Lane]:
    """Give a lane; its engines are loaded now, and those of others never."""
    if name == "jets":
        from resim.jets.lane import JetsLane

        return JetsLane
    from resim.lartpc.lane import LArTPCLane

    return LArTPCLane


def check_config(config: Config, where: str) -> None:
    """Check what needs the engines: every setting of every stage, sample and view.

    Raises
    ------
    UserError
        In one line, for the first mistake.
    """
    lane = lane_of(config.lane)
    _check_chain(lane, config.chain, where)
    if config.checkpoint not in (None, lane.kept):
        raise UserError(f"{where}: checkpoint: {config.checkpoint!r} cannot be kept; give {lane.kept} or null")
    if "pileup" in config.model_fields_set and "pileup" not in lane.stages:
        raise UserError(f"{where}: pileup: the lane {lane.name!r} has no stage for it; remove the section")
    if config.engines and not lane.replaced:
        raise UserError(f"{where}: engines: the lane {lane.name!r} has no stage for them; remove them")
    for name, sample in config.samples.items():
        if sample.source is not None:
            check_source(config, name, f"{where}: samples.{name}.source")
            continue
        _check_values(lane, lane.stages[0], sample.set, f"{where}: samples.{name}.set")
        lane.check_sample(config, name, f"{where}: samples.{name}")
    for name, view in config.views.items():
        if view.cut is not None:
            _check_view(lane, view.cut, dict(view.set), f"{where}: views.{name}")
    _check_paths(lane, config, where)


def _check_chain(lane: type[Lane], chain: Mapping[str, Mapping[str, Any]], where: str) -> None:
    for stage in chain:
        if stage not in lane.stages:
            raise UserError(
                f"{where}: chain.{stage}: no such stage; the lane {lane.name!r} has {', '.join(lane.stages)}"
            )
    for stage, settings in lane.completed(chain, where).items():
        _check_values(lane, stage, settings, f"{where}: chain.{stage}")


def _check_values(lane: type[Lane], stage: str, settings: Mapping[str, Any], where: str) -> None:
    """Check the settings of a stage, those that are drawn with each of their values."""
    frozen = settings_of(settings)
    draws = draws_of(frozen)
    if stage == lane.stages[0] and draws:
        raise UserError(f"{where}: {min(draws)!r} cannot be drawn, all views share the stage {stage!r}; give a number")
    fixed = [name for name in draws if name not in lane.by_event.get(stage, draws)]
    if fixed:
        allowed = ", ".join(lane.by_event[stage])
        raise UserError(f"{where}: {fixed[0]!r} cannot be drawn event by event; of {stage!r}: {allowed}")
    tried = {name: draw.extremes if stage in lane.by_event else draw.options for name, draw in draws.items()}
    plain = dict(frozen) | {name: values[0] for name, values in tried.items()}
    for changed in ({}, *({name: value} for name, values in tried.items() for value in values[1:])):
        lane.check(stage, plain | changed, where)


def _check_view(lane: type[Lane], cut: str, changes: dict[str, Any], where: str) -> None:
    if cut not in lane.stages[1:]:
        allowed = ", ".join(lane.stages[1:])
        raise UserError(f"{where}.from: there is no stage {cut!r} to cut before; allowed: {allowed}")
    common = [name for name in changes if name in lane.common]
    if common:
        raise UserError(f"{where}.set: {common[0]!r} says which objects there are, for all views; set it in `chain`")
    _routed(lane, cut, changes, f"{where}.set")


def _check_paths(lane: type[Lane], config: Config, where: str) -> None:
    """Check that each view has a path, what it sets there, and what its stages need of each other."""
    paths = {view.name: view.path for view in plan_views(config)}
    for name, view in config.views.items():
        label = replica_names(name, view.replicas)[0]
        if view.cut is None:
            chosen = {setting for settings in config.chain.values() for setting in settings}
            lane.check_path(paths[label], chosen, f"{where}: chain")
            continue
        _check_cut(lane, config, name, paths[view.base], paths.get(label, ()), f"{where}: views.{name}")
        settings = {step.stage: dict(step.settings) for step in paths[label]}
        for stage in _routed(lane, view.cut, dict(view.set), where):
            _check_values(lane, stage, settings[stage], f"{where}: views.{name}.set")
        lane.check_path(paths[label], view.set.keys(), f"{where}: views.{name}")


def _check_cut(
    lane: type[Lane], config: Config, name: str, before: Sequence[Step], path: Sequence[Step], where: str
) -> None:
    """Check that no engine stands where a view is cut from the path `before`, or in for a stage that it sets."""
    view = config.views[name]
    if view.cut is None or not _can_cut(lane, before, view.cut):
        allowed = ", ".join(covered(lane, step)[0] for step in before)
        raise UserError(f"{where}.from: an engine of {view.base!r} stands in for {view.cut!r}; allowed: {allowed}")
    kind = (config.engines[view.engine].input, config.engines[view.engine].output) if view.engine else None
    if kind and lane.replaced[kind][0] != view.cut:
        words = f"{view.engine!r} takes {kind[0]} and stands in for {', '.join(lane.replaced[kind])}"
        raise UserError(f"{where}.from: the engine {words}; cut at {lane.replaced[kind][0]!r}")
    own = [step for step in path if step.stage == STAGE and step.view == name]
    if len(own) > 1:
        raise UserError(f"{where}: runs {len(own)} engines of its own; make two views, one the base of the other")
    there = {step.stage for step in path}
    for stage, settings in _routed(lane, view.cut, dict(view.set), f"{where}.set").items():
        if stage not in there:
            raise UserError(f"{where}.set: {min(settings)!r} acts on {stage!r}, for which an engine stands in here")


def covered(lane: type[Lane] | Lane, step: Step) -> tuple[str, ...]:
    """Give the stages that a step is, or stands in for."""
    return lane.replaced[kind_of(step)] if step.stage == STAGE else (step.stage,)


def _can_cut(lane: type[Lane], path: Sequence[Step], cut: str) -> bool:
    """Tell whether a path can be cut before a stage: not within an engine, nor before one that makes whole events."""
    steps = [step for step in path if step.stage != STAGE or kind_of(step)[0] != "none"]
    return any(covered(lane, step)[0] == cut for step in steps)


def _put_in(lane: type[Lane], path: Sequence[Step], engine: Step) -> tuple[Step, ...]:
    """Put an engine in place of the steps that it stands in for."""
    replaced = covered(lane, engine)
    there = [engine if covered(lane, step)[0] == replaced[0] else step for step in path]
    return tuple(step for step in there if step is engine or covered(lane, step)[0] not in replaced)


def _routed(lane: type[Lane], cut: str, changes: dict[str, Any], where: str) -> dict[str, dict[str, Any]]:
    """Sort the changes of a view by stage, and refuse those that lie upstream of its cut."""
    routed: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        stage = lane.route(cut, name)
        if lane.stages.index(stage) < lane.stages.index(cut):
            upstream = f"acts on the stage {stage!r}, upstream of the cut before {cut!r}"
            raise UserError(f"{where}: {name!r} {upstream}; use `from: {stage}`, or remove the line")
        routed.setdefault(stage, {})[name] = value
    return routed


def plan_views(config: Config, sample: str | None = None) -> list[View]:
    """Resolve the views of a config into paths; replicas become views of their own.

    Up to its cut a view is its base, nominal if it names none; from there on it has the settings of its base, changed.
    Where an engine makes the whole events of the sample, views that are cut within it are left out.
    """
    lane = lane_of(config.lane)
    chain = lane.completed(config.chain)
    nominal = tuple(Step(stage, settings_of(chain.get(stage, {})), NOMINAL) for stage in lane.stages[1:])
    source = config.samples[sample].engine if sample else None
    if source:
        nominal = _put_in(lane, nominal, engine_step(source, config.engines[source], NOMINAL, 0))
    paths = {NOMINAL: nominal}
    views = []
    for name, wanted in config.views.items():
        if wanted.cut and not _can_cut(lane, paths.get(wanted.base, ()), wanted.cut):
            continue
        changes = _routed(lane, wanted.cut, dict(wanted.set), f"views.{name}.set") if wanted.cut else {}
        for replica, label in enumerate(replica_names(name, wanted.replicas)):
            path = paths[wanted.base]
            if wanted.cut:
                cut = next(i for i, step in enumerate(path) if covered(lane, step)[0] == wanted.cut)
                again = tuple(_changed(step, changes.get(step.stage, {}), name, replica) for step in path[cut:])
                if wanted.engine:
                    again = _put_in(
                        lane, again, engine_step(wanted.engine, config.engines[wanted.engine], name, replica)
                    )
                path = (*path[:cut], *again)
            paths[label] = path
            views.append(View(label, wanted.cut, wanted.base, settings_of(wanted.set), replica, path, wanted.made_for))
    return views


def _changed(step: Step, changes: dict[str, Any], view: str, replica: int) -> Step:
    """Give a step with some settings changed, that draws from the key of a view."""
    return Step(step.stage, tuple({**dict(step.settings), **dict(settings_of(changes))}.items()), view, replica)


def choose_views(views: Sequence[View], names: Sequence[str] | None) -> list[View]:
    """Pick views by name, in the config's order.

    Raises
    ------
    UserError
        For a name that the config does not have.
    """
    known = [view.name for view in views]
    for name in names or ():
        if name not in known:
            raise UserError(f"--views: no view {name!r} in the config; it has {', '.join(known)}")
    return [view for view in views if names is None or view.name in names]


def check_workflow(config: Config, trained_on: Sequence[str], results: Path, where: str) -> None:
    """Check what training needs of the samples, before anything runs.

    Parameters
    ----------
    trained_on
        `training.views`; none where the config has no `training`.
    results
        Folder that the workflow writes and removes in.

    Raises
    ------
    UserError
        If a data set lies in `results`, a sample lacks a view that is trained on, or has none of its train split, two
        samples have different views, or held-out events are trained on in another sample.
    """
    for name, sample in config.samples.items():
        for path in source_paths(sample.source):
            if path.resolve().is_relative_to(results.resolve()):
                why = f"lies in {results}/, where the workflow replaces files; move it elsewhere"
                raise UserError(f"{where}: samples.{name}.source: {path}: {why}")
    learned = [name for name, sample in config.samples.items() if sample.role != "evaluation"]
    _check_held_out(config, where)
    known = {name: _views_of(config, name, trained_on, where) for name in learned}
    _check_same({name: views for name, views in known.items() if views}, where)


def _check_held_out(config: Config, where: str) -> None:
    """Refuse a file of events that is held out in one sample, and not in another."""
    roles: dict[Path, dict[str, str]] = {}
    for name, sample in config.samples.items():
        for file in (*([sample.lhe] if sample.lhe else []), *(sample.edep or ())):
            roles.setdefault(Path(file).resolve(), {})[sample.role] = name
    for path, names in roles.items():
        if "evaluation" in names and len(names) > 1:
            held, other = names.pop("evaluation"), next(iter(names.values()))
            why = f"samples.{held} and samples.{other} read the same {path.name}"
            raise UserError(f"{where}: {why}, and the former is held out; give one of them another")


def _views_of(config: Config, name: str, trained_on: Sequence[str], where: str) -> tuple[str, ...]:
    """Give the views of a sample, none where only its rows can tell; those that are trained on must be among them.

    Where an engine makes its events, a sample has no view that is cut within that engine.
    """
    sample = config.samples[name]
    if sample.source is not None:
        views, certain = source_views(sample.source)
        splits: dict[str, tuple[str, ...]] = dict.fromkeys(views, SPLITS)
    else:
        splits = {view.name: view.splits for view in plan_views(config, name)}
        views, certain = tuple(splits), True
    for view in (NOMINAL, *trained_on):
        if view not in views:
            has = f"it has {', '.join(views)}" if certain else f"its layout knows {', '.join(views)} (see vartypes)"
            raise UserError(f"{where}: training.views: {view!r} is not in the data set of samples.{name}; {has}")
        if "train" not in splits[view]:
            why = f"{view!r} is made for {', '.join(splits[view])} alone"
            raise UserError(f"{where}: training.views: {why}; add train to its `splits`, or take it out")
    return views if certain else ()


def _check_same(views: dict[str, tuple[str, ...]], where: str) -> None:
    for name, found in views.items():
        first, expected = next(iter(views.items()))
        different = sorted(set(found) ^ set(expected))
        if different:
            raise UserError(
                f"{where}: samples.{first} and samples.{name} have different views: only one has "
                f"{', '.join(different)}; they are trained on together, so give both the same"
            )
