"""Whole data sets, gone through part by part as Dask's tasks: what memory must hold is a part for each worker."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from resim.distributed import compute, task
from resim.errors import UserError
from resim.interop.exchange import whole_dataset
from resim.simulate import part_ranges
from resim.store import Dataset, Place, dataset_digest, open_dataset, open_part, part_name, validate_part
from resim.store.dataset import check_agreement
from resim.store.files import link_tree, sync
from resim.store.rechunking import write_range
from resim.store.statistics import Tree, part_moments, quantities, table

Advance = Callable[[int], None]
"""Told of events that are done."""


def merge(
    folders: Sequence[Path], out: Path, advance: Advance, scheduler: str | None = None, workers: int | None = None
) -> None:
    """Make one data set of several of the same recipes; their parts are taken over as they are.

    Parameters
    ----------
    folders
        Data sets; no event is in two of them.
    out
        New, or empty. Files are linked, or copied where they cannot be, and every part is read and checked.
    scheduler, workers
        As of `distributed.compute`.

    Raises
    ------
    UserError
        If they do not fit together, a part is damaged, or `out` cannot be written.
    """
    parts = sorted((part for folder in folders for part in open_dataset(folder).parts), key=lambda part: part.first)
    check_agreement(parts)
    with whole_dataset(out) as new:
        made = {part.path: new / part_name(part.first, part.stop) for part in parts}
        tasks = {str(source): task(_take_over, _anywhere(source), target) for source, target in made.items()}
        compute(tasks, scheduler, workers, lambda _, events: advance(events))
        if dataset_digest([open_part(target) for target in made.values()]) != dataset_digest(parts):
            raise UserError(f"{out}: what was merged is not what was read here; workers must see the same files")


def _anywhere(place: Place) -> Place:
    """Name a place so that workers find it, whose own folders are others."""
    return place.absolute() if isinstance(place, Path) else place


def _take_over(source: Path, target: Path) -> int:
    """Take over a part, and read it all to check it; give the number of its events."""
    link_tree(source, target)
    problems = validate_part(target)
    if problems:
        raise UserError(f"{source}: {problems[0].array}: {problems[0].what}; make the part again before merging it")
    sync([target, *target.glob("**/*")])
    part = open_part(target)
    return part.stop - part.first


def rechunk(
    folder: Path, out: Path, size: int, advance: Advance, scheduler: str | None = None, workers: int | None = None
) -> None:
    """Write a data set again in parts of `size` events; gaps between its parts stay.

    Raises
    ------
    UserError
        If `size` is not whole blocks, something in the data set is damaged, or `out` cannot be written.
    """
    dataset = open_dataset(folder)
    spans = _spans(dataset, size)
    with whole_dataset(out) as new:
        tasks = {part_name(*span): task(_write, _places(dataset, *span), *span, new) for span in spans}
        compute(tasks, scheduler, workers, lambda _, events: advance(events))
        found = dataset_digest([open_part(new / name) for name in tasks])
        if found != dataset.manifest.digest:
            raise UserError(f"{folder}: its content is not what its digests say; `resim validate` tells where")


def _spans(dataset: Dataset, size: int) -> list[tuple[int, int]]:
    """Cut each stretch of events without a gap into parts."""
    gaps, parts = dataset.manifest.gaps, dataset.parts
    starts, stops = [parts[0].first, *(stop for _, stop in gaps)], [*(first for first, _ in gaps), parts[-1].stop]
    block_size = parts[0].attributes["block_size"]
    stretches = zip(starts, stops, strict=True)
    return [span for first, stop in stretches for span in part_ranges(first, stop, size, block_size)]


def _places(dataset: Dataset, first: int, stop: int) -> list[Place]:
    """Tell where the parts lie that hold these events."""
    parts = dataset.parts
    start, end = bisect_right(parts, first, key=lambda p: p.stop), bisect_left(parts, stop, key=lambda p: p.first)
    return [_anywhere(part.place) for part in parts[start:end]]


def _write(places: Sequence[Place], first: int, stop: int, out: Path) -> int:
    write_range([open_part(place) for place in places], first, stop, out)
    return stop - first


def stats(
    folder: Path, advance: Advance, scheduler: str | None = None, workers: int | None = None
) -> list[dict[str, Any]]:
    """Give count, mean, standard deviation, least and greatest of every column of every view.

    Numbers are the same to the bit for any parts and workers.

    Returns
    -------
    list of dict
        A row a column: `view`, `array`, `column`, `unit`, `count`, `mean`, `std`, `min`, `max`.
    """
    dataset, tree = open_dataset(folder), Tree()

    def join(_: str, result: tuple[Tree, int]) -> None:
        tree.join(result[0])
        advance(result[1])

    tasks = {str(part.place): task(_measure, _anywhere(part.place)) for part in dataset.parts}
    compute(tasks, scheduler, workers, join)
    return table(quantities(dataset.parts[0]), tree.root())


def _measure(place: Place) -> tuple[Tree, int]:
    part = open_part(place)
    return part_moments(part), part.stop - part.first
