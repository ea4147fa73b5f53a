"""Samples whose data set exists already: what can be checked, and told, before anything runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resim.config import SPLITS, Config, Source
from resim.errors import UserError
from resim.store import open_part, read_manifest

_LANES = {"rs3l": "jets", "images": "lartpc", "cubes": "lartpc"}


def check_source(config: Config, name: str, where: str) -> None:
    """Check that the data set of a sample is there and is what the sample says.

    Raises
    ------
    UserError
        If a folder or file is missing or of another format, or what is there is of another sample or lane.
    """
    source = config.samples[name].source
    assert source is not None  # by the caller
    try:
        if source.kind in _LANES and _LANES[source.kind] != config.lane:
            raise UserError(f"{source.kind}: is of the lane {_LANES[source.kind]!r}; change `lane`")
        if source.store is not None:
            _check_store(Path(source.store), name, config.lane)
        source_views(source)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _check_store(folder: Path, name: str, lane: str) -> None:
    manifest = read_manifest(folder)
    if manifest.sample != name:
        raise UserError(f"{folder}: holds the sample {manifest.sample!r}, not {name!r}; name the sample so")
    found = open_part(folder / manifest.parts[0].name).attributes.get("lane")
    if found != lane:
        raise UserError(f"{folder}: is of the lane {found!r}, not {lane!r}; give another store, or change `lane`")


def source_views(source: Source) -> tuple[tuple[str, ...], bool]:
    """Name the views that a data set may have, and tell whether it has them all; of RS3L's files, rows tell."""
    if source.store is not None:
        return read_manifest(source.store).views, True
    if source.kind == "rs3l":
        from resim.interop.rs3l import possible_views

        found = [possible_views(Path(path), source.vartypes) for path in source.files]
        return found[0]
    from resim.interop.sparse import open_layout

    layout = open_layout(source.kind, source.files, source.particle, source.views, source.crosstalk)
    return tuple(layout.views), True


def source_paths(source: Source | None) -> list[Path]:
    """Give the folders and files of a source, if there is one."""
    return [] if source is None else [Path(path) for path in (source.store, *source.files) if path is not None]


def import_options(config: Config, name: str) -> list[str]:
    """Give the options of `resim import` that a sample asks for; events are split as simulated ones are."""
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
        "--vartypes": _assignments(source.vartypes),
        "--particle": source.particle,
        "--views": _assignments(source.views),
        "--crosstalk": _assignments(source.crosstalk),
    }
    words = [str(word) for option, value in options.items() if value is not None for word in (option, value)]
    return [*words, *(["--swap-leptons"] if source.swap_leptons else [])]


def _assignments(words: Mapping[Any, Any]) -> str | None:
    return ",".join(f"{first}={second}" for first, second in words.items()) or None
