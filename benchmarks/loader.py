"""The loader by itself, and training fed by it against the same training from tensors in memory.

The trainings train the same network on batches of re-simulated pairs:

`memory`     every batch ready as tensors: it pays neither reading nor padding nor scaling
`cached`     the config as it stands: objects that fit into `training.loader.memory_mb` are kept after the first read
`streaming`  the parts are read anew every epoch, as they must be with more data than memory
`shared`     the same, and neighbours that are read together share their pair of views (`training.pairs.shared_by`)

Repeats alternate, so that a busy machine slows all, and ratios are taken repeat by repeat.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from resim.store import Place
from training.cli import data_folders
from training.config import LoaderConfig, TrainingConfig, load
from training.data.jets import PT
from training.data.loader import Batch, Loader
from training.data.make import bucketed
from training.encoders import make_encoder
from training.encoders.transformer import head
from training.fit import be_deterministic
from training.keys import torch_generator
from training.losses import objective
from training.meter import Clock, Meter
from training.pretrain import contrastive_loader, open_store

_EPOCHS = 3  # the first of them reads what is kept


def loader_ratio(folders: Mapping[str, Place], settings: TrainingConfig, repeats: int = 3) -> dict[str, Any]:
    """Measure the loader by itself, trainings of a few epochs in all ways, several times in turn, and the padding.

    Returns
    -------
    dict
        By way: `objects_per_s` of the loader by itself, also with two workers and of augmented pairs, and of the
        training that it feeds. `ratio_to_memory`: medians of the ratios of throughputs (1 is as fast as memory), from
        opening the data on, the first read included; `..._from_first_batch`: the same without what comes before the
        first batch, once a training: opening, measuring the scales, and the first load, which may be a whole epoch's;
        `..._cpu`: of CPU seconds from there, what is left when no core is free for reading. `waits`: share of the time
        in which the training waited for a batch, after its first. `start_cpu_s`: CPU seconds before the first batch.
        `augment_us_per_object`: CPU time of augmenting both jets of a pair. `same_loss`: whether all ways that read the
        same pairs gave the same losses, to the bit. `padding`: below. Objects and epochs.
    """
    settings = settings.model_copy(update={"pretrain": settings.pretrain.model_copy(update={"epochs": _EPOCHS})})
    be_deterministic(settings.threads)
    make = {name: partial(_loader, folders, _changed(settings, way)) for name, way in _WAYS.items()}
    loader = make["streaming"]()
    ready = list(loader.batches(range(_EPOCHS)))  # also warms the page cache, for the program is compared
    train(settings, loader, ready[:2])  # the network's first steps, which are slow
    feeds: dict[str, Callable[[], Iterable[Batch]]] = {"memory": lambda: ready}
    feeds |= {name: partial(_fed, make[name]) for name in ("cached", "streaming", "shared")}
    runs: dict[str, list[_Run]] = {name: [] for name in feeds}
    for name in list(feeds) * repeats:
        runs[name].append(train(settings, loader, feeds[name]()))
    objects, augmented = sum(len(batch.rows) for batch in ready), _loader(folders, settings, "both")
    alone = {name: _speed(made()) for name, made in make.items()} | {"augmented": _speed(augmented)}
    return {
        "objects_per_s": {"alone": alone, "trained": _medians(runs, lambda run: round(objects / run["whole_s"]))},
        "ratio_to_memory": _ratios(runs, "whole_s"),
        "ratio_to_memory_from_first_batch": _ratios(runs, "wall_s"),
        "ratio_to_memory_cpu": _ratios(runs, "cpu_s"),
        "waits": _medians(runs, lambda run: round(run["waits"], 4)),
        "start_cpu_s": _medians(runs, lambda run: round(run["start_cpu_s"], 2)),
        "augment_us_per_object": round(2e6 * augmented.meter.cpu_s["augment"] / augmented.meter.objects["augment"], 1),
        "same_loss": len({tuple(run["losses"]) for n, found in runs.items() if n != "shared" for run in found}) == 1,
        "objects": len(loader.rows),
        "epochs": _EPOCHS,
        "padding": padding(folders, settings),
    }


_WAYS: dict[str, dict[str, dict[str, int]]] = {
    "cached": {},
    "streaming": {"loader": {"memory_mb": 0}},
    "shared": {"loader": {"memory_mb": 0}, "pairs": {"shared_by": LoaderConfig().group}},
    "workers": {"loader": {"memory_mb": 0, "workers": 2}},  # start takes longer than so few epochs: not trained with
}
_Run = dict[str, Any]


def _changed(settings: TrainingConfig, way: Mapping[str, Mapping[str, int]]) -> TrainingConfig:
    given = {name: getattr(settings, name).model_copy(update=dict(update)) for name, update in way.items()}
    return settings.model_copy(update=given)


def _loader(folders: Mapping[str, Place], settings: TrainingConfig, method: str = "resim") -> Loader:
    return contrastive_loader(open_store(folders, settings), settings, method, 0, Meter())


def _fed(make: Callable[[], Loader]) -> Iterator[Batch]:
    """Make the loader when the first batch is asked for, so that what it reads at first is counted."""
    yield from make().batches(range(_EPOCHS))


def _speed(loader: Loader) -> int:
    """Count the objects a second that come while nothing is done with them, from the second epoch on."""
    started, objects = 0.0, 0
    for batch in loader.batches(range(1 + _EPOCHS)):
        if batch.epoch and not started:
            started = time.perf_counter()
        objects += len(batch.rows) if started else 0
    return round(objects / (time.perf_counter() - started))


def _medians(runs: Mapping[str, list[_Run]], figure: Callable[[_Run], float]) -> dict[str, float]:
    return {name: statistics.median(map(figure, found)) for name, found in runs.items()}


def _ratios(runs: Mapping[str, list[_Run]], time_of: str) -> dict[str, float]:
    return {
        name: round(statistics.median(m[time_of] / t[time_of] for m, t in zip(runs["memory"], found, strict=True)), 3)
        for name, found in runs.items()
        if name != "memory"
    }


def train(settings: TrainingConfig, loader: Loader, batches: Iterable[Batch]) -> _Run:
    """Train a fresh network; give wall and CPU seconds, the share of the time spent waiting, and all losses."""
    encoder = make_encoder(settings.encoder, loader.normalisation, torch_generator("bench", "encoder"))
    projection = head(encoder.width, settings.pretrain.projection, torch_generator("bench", "projection"))
    network = nn.ModuleList([encoder, projection])
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.optimiser.learning_rate)
    losses, waited, started = [], list[float](), Clock()
    timed = _timed(batches, waited)
    first_batch = next(timed)
    start_cpu_s, clock = started.cpu_s(), Clock()
    for batch in chain([first_batch], timed):
        first, second = (projection(jets.through(encoder)) for jets in batch.views)
        loss = objective(settings.pretrain, first, second, batch.labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    wall_s = clock.wall_s()
    times = {"start_cpu_s": start_cpu_s, "wall_s": wall_s, "whole_s": started.wall_s(), "cpu_s": clock.cpu_s()}
    return times | {"waits": sum(waited[1:]) / wall_s, "losses": losses}


def _timed(batches: Iterable[Batch], waited: list[float]) -> Generator[Batch, None, None]:
    iterator = iter(batches)
    while True:
        started = time.perf_counter()
        batch = next(iterator, None)
        waited.append(time.perf_counter() - started)
        if batch is None:
            return
        yield batch


def padding(folders: Mapping[str, Place], settings: TrainingConfig) -> dict[str, dict[str, list[float]]]:
    """Measure what buckets save: constituents kept -> buckets -> [share of slots that are padding, speed of a step].

    The speed is that of the encoder forward and backward over a batch of nominal jets, against one bucket.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for constituents in (settings.encoder.constituents, 128):
        shape = settings.encoder.model_copy(update={"constituents": constituents})
        wide = settings.model_copy(update={"encoder": shape})
        found[str(constituents)] = _padding(folders, wide)
    return found


def _padding(folders: Mapping[str, Place], settings: TrainingConfig) -> dict[str, list[float]]:
    loaders = {n: _loader(folders, _changed(settings, {"loader": {"memory_mb": 0, "buckets": n}})) for n in (1, 4, 8)}
    loader = loaders[1]
    encoder = make_encoder(settings.encoder, loader.normalisation, torch_generator("bench", "encoder"))
    batches = {n: next(each.batches(range(1))).views[0] for n, each in loaders.items()}
    lengths = (loader.source.read("nominal", loader.rows)[:, :, PT] > 0).sum(axis=1)
    seconds: dict[int, list[float]] = {n: [] for n in batches}
    for n in list(batches) * 4:
        started = time.perf_counter()
        batches[n].through(encoder).square().sum().backward()
        seconds[n].append(time.perf_counter() - started)
    speed = {
        n: statistics.median(a / b for a, b in zip(seconds[1][1:], s[1:], strict=True)) for n, s in seconds.items()
    }
    return {str(n): [round(_waste(lengths, n, settings.pretrain.batch), 3), round(speed[n], 2)] for n in batches}


def _waste(lengths: np.ndarray[Any, Any], buckets: int, batch: int) -> float:
    """Give the share of a network's slots that is padding, over one order of the jets."""
    slots = 0
    for start in range(0, len(lengths), batch):
        of_batch = lengths[start : start + batch]
        cut = bucketed(of_batch, buckets, int(of_batch.max()))
        slots += sum(len(b.places) * b.width for b in cut) or len(of_batch) * int(of_batch.max())
    return 1 - lengths.sum() / slots


if __name__ == "__main__":
    print(json.dumps(loader_ratio(data_folders(sys.argv[2:]), load(Path(sys.argv[1])).training)))
