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


def check_sources(config: Config, trained_on: Sequence[str], results: Path, where: str) -> None:
    """Check what the workflow asks of the data sets that exist.

    Parameters
    ----------
    trained_on
        `training.views`.
    results
        Folder that the workflow writes and removes in.

    Raises
    ------
    UserError
        If one lies in `results`, lacks a view that is trained on, or two samples have different views.
    """
    for name, sample in config.samples.items():
        for path in _paths(sample.source):
            if path.resolve().is_relative_to(results.resolve()):
                why = f"lies in {results}/, where the workflow replaces files; move it elsewhere"
                raise UserError(f"{where}: samples.{name}.source: {path}: {why}")
    learned = {name: sample for name, sample in config.samples.items() if sample.role != "evaluation"}
    known: dict[str, tuple[str, ...]] = {}
    for name, sample in learned.items():
        views, certain = _views(config, name)
        missing = [view for view in (NOMINAL, *trained_on) if view not in views]
        if missing and (sample.source or sample.engine):
            has = f"it has {', '.join(views)}" if certain else f"its layout knows {', '.join(views)} (see vartypes)"
            raise UserError(f"{where}: training.views: {missing[0]!r} is not in the data set of samples.{name}; {has}")
        known |= {name: views} if certain else {}
    _check_same(known, where)


def _paths(source: Source | None) -> list[Path]:
    return [] if source is None else [Path(path) for path in (source.store, *(source.rs3l or ())) if path is not None]


def _views(config: Config, name: str) -> tuple[tuple[str, ...], bool]:
    """Name the views that a sample has; where an engine makes its events, none that is cut within that engine."""
    from resim.plan import plan_views

    source = config.samples[name].source
    if source is not None:
        return _source_views(source)
    return tuple(view.name for view in plan_views(config, name)), True


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
