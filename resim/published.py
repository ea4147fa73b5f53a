"""Samples whose data set exists already: what can be checked, and told, before anything runs."""

from collections.abc import Sequence
from pathlib import Path

from resim.chain import NOMINAL
from resim.config import SPLITS, Config, Source
from resim.errors import UserError
from resim.store import open_part, read_manifest


def check_source(config: Config, name: str, where: str) -> None:
    """Check that the data set of a sample is there and is what the sample says.

    Raises
    ------
    UserError
        If a folder or file is missing or of another format, or a store holds another sample or lane.
    """
    source = config.samples[name].source
    assert source is not None  # by the caller
    try:
        _source_views(source)
        if source.store is not None:
            _check_store(Path(source.store), name, config.lane)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _check_store(folder: Path, name: str, lane: str) -> None:
    manifest = read_manifest(folder)
    if manifest.sample != name:
        raise UserError(f"{folder}: holds the sample {manifest.sample!r}, not {name!r}; name the sample so")
    found = open_part(folder / manifest.parts[0].name).attributes.get("lane")
    if found != lane:
        raise UserError(f"{folder}: is of the lane {found!r}, not {lane!r}; give another store, or change `lane`")


def _source_views(source: Source) -> tuple[tuple[str, ...], bool]:
    """Name the views that a data set may have, and tell whether it has them all; of published files, rows tell."""
    if source.store is not None:
        return read_manifest(source.store).views, True
    from resim.interop.rs3l import possible_views

    found = [possible_views(Path(path), source.vartypes) for path in source.rs3l or ()]
    return found[0]


def check_workflow(config: Config, trained_on: Sequence[str], signal: str, results: Path, where: str) -> None:
    """Check what training needs of the samples, before anything runs.

    Parameters
    ----------
    trained_on, signal
        `training.views` and `training.signal`.
    results
        Folder that the workflow writes and removes in.

    Raises
    ------
    UserError
        If a data set lies in `results`, a sample lacks a view that is trained on, or has none of its train split, two
        samples have different views, the signal is no sample, or held-out events are trained on in another sample.
    """
    for name, sample in config.samples.items():
        for path in _paths(sample.source):
            if path.resolve().is_relative_to(results.resolve()):
                why = f"lies in {results}/, where the workflow replaces files; move it elsewhere"
                raise UserError(f"{where}: samples.{name}.source: {path}: {why}")
    learned = [name for name, sample in config.samples.items() if sample.role != "evaluation"]
    if signal not in learned:
        raise UserError(f"{where}: training.signal: {signal!r} is no sample to train on; allowed: {', '.join(learned)}")
    _check_held_out(config, where)
    known = {name: _views(config, name, trained_on, where) for name in learned}
    _check_same({name: views for name, views in known.items() if views}, where)


def _check_held_out(config: Config, where: str) -> None:
    """Refuse a file of hard processes that is held out in one sample, and not in another."""
    roles: dict[Path, dict[str, str]] = {}
    for name, sample in config.samples.items():
        if sample.lhe is not None:
            roles.setdefault(Path(sample.lhe).resolve(), {})[sample.role] = name
    for path, names in roles.items():
        if "evaluation" in names and len(names) > 1:
            held, other = names.pop("evaluation"), next(iter(names.values()))
            why = f"samples.{held} and samples.{other} read the same {path.name}"
            raise UserError(f"{where}: {why}, and the former is held out; give one of them another")


def _paths(source: Source | None) -> list[Path]:
    return [] if source is None else [Path(path) for path in (source.store, *(source.rs3l or ())) if path is not None]


def _views(config: Config, name: str, trained_on: Sequence[str], where: str) -> tuple[str, ...]:
    """Give the views of a sample, none where only its rows can tell; those that are trained on must be among them.

    Where an engine makes its events, a sample has no view that is cut within that engine.
    """
    from resim.plan import plan_views

    sample = config.samples[name]
    if sample.source is not None:
        views, certain = _source_views(sample.source)
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


def import_options(config: Config, name: str) -> list[str]:
    """Give the options of `resim import rs3l` that a sample asks for; events are split as simulated ones are."""
    sample = config.samples[name]
    source = sample.source
    assert source is not None  # by the caller
    shares = [0, 0, 1] if sample.role == "evaluation" else [getattr(config.splits, split) for split in SPLITS]
    options = {
        "--sample": name,
        "--seed": config.seed,
        "--splits": ",".join(map(str, shares)),
        "--block-size": config.block_size,
        "--events-per-part": config.events_per_part,
        "--truth-label": source.truth_label,
        "--vartypes": ",".join(f"{code}={view}" for code, view in source.vartypes.items()) or None,
    }
    words = [str(word) for option, value in options.items() if value is not None for word in (option, value)]
    return [*words, *(["--swap-leptons"] if source.swap_leptons else [])]
