"""Training throughput from the store against the same training from tensors in memory.

All train the same network on the same batches of re-simulated pairs. `memory` holds every batch ready as tensors, so
that it pays neither reading nor padding nor scaling. `streaming` reads the parts anew every epoch, as it must with more
data than memory. `cached` is the config as it stands: objects that fit into `training.loader.memory_mb` are kept after
the first read. Repeats alternate, so that a busy machine slows all, and ratios
are taken repeat by repeat.
"""

import json
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.cli import data_folders
from training.config import TrainingConfig, load
from training.data.features import INPUTS
from training.data.loader import Batch
from training.encoders.transformer import Transformer, head
from training.fit import Batches, Run, be_deterministic, fit
from training.keys import torch_generator
from training.losses.ntxent import ntxent
from training.meter import Clock, Meter
from training.pretrain import contrastive_loader, open_store


def loader_ratio(folders: Mapping[str, Path], settings: TrainingConfig, repeats: int = 3) -> dict[str, Any]:
    """Measure a whole training of the config in all three ways, several times in turn.

    Returns
    -------
    dict
        `ratio_to_memory` (streaming) and `cached_ratio_to_memory`, medians of the ratios of throughputs (1 is as fast
        as memory), the first read included; the same of CPU seconds (`..._cpu`), which is what is left when no core
        is free for reading; median seconds of each way; objects and epochs; whether all gave the same losses, to the
        bit.
    """
    streaming = settings.model_copy(update={"loader": settings.loader.model_copy(update={"memory_mb": 0})})
    be_deterministic(settings.threads)
    store = open_store(folders, settings)
    loader = contrastive_loader(store, streaming, "resim", 0, Meter())
    epochs = range(settings.pretrain.epochs)
    ready = list(loader.batches(epochs))  # also warms the page cache, for what is compared is the program
    _train(settings, Ready(ready))  # and the network's first steps, which are slow
    ways: dict[str, Callable[[], Batches]] = {
        "memory": lambda: Ready(ready),
        "streaming": lambda: contrastive_loader(store, streaming, "resim", 0, Meter()),
        "cached": lambda: contrastive_loader(store, settings, "resim", 0, Meter()),
    }
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    losses = []
    for name in list(ways) * repeats:
        clock = Clock()
        losses.append(_train(settings, ways[name]()))
        wall[name].append(clock.wall_s())
        cpu[name].append(clock.cpu_s())
    return {
        "ratio_to_memory": _ratio(wall, "streaming"),
        "ratio_to_memory_cpu": _ratio(cpu, "streaming"),
        "cached_ratio_to_memory": _ratio(wall, "cached"),
        "cached_ratio_to_memory_cpu": _ratio(cpu, "cached"),
        "seconds": {name: round(statistics.median(times), 3) for name, times in wall.items()},
        "objects": len(loader.rows),
        "epochs": len(epochs),
        "same_loss": all(loss == losses[0] for loss in losses),
    }


def _ratio(times: Mapping[str, list[float]], way: str) -> float:
    return round(statistics.median(m / t for m, t in zip(times["memory"], times[way], strict=True)), 3)


@dataclass(frozen=True)
class Ready:
    """Batches of all epochs, in memory."""

    all: list[Batch]

    def batches(self, epochs: range) -> Iterator[Batch]:
        """Give them all."""
        return iter(self.all)

    def steps(self, epochs: int) -> int:
        """Count them."""
        return len(self.all)


def _train(config: TrainingConfig, batches: Batches) -> list[float]:
    """Train a fresh network; give the mean loss of each epoch."""
    encoder = Transformer(len(INPUTS), config.encoder, torch_generator("bench", "encoder"))
    projection = head(encoder.width, config.pretrain.projection, torch_generator("bench", "projection"))
    loss = partial(_loss, encoder, projection, config.pretrain.temperature)
    network = nn.ModuleList([encoder, projection])
    return fit(network, loss, batches, config.pretrain.epochs, config, "bench", Run()).loss


def _loss(encoder: Transformer, projection: nn.Module, temperature: float, batch: Batch) -> torch.Tensor:
    first, second = (projection(encoder(jets.values, jets.present)) for jets in batch.views)
    return ntxent(first, second, temperature)


if __name__ == "__main__":
    print(json.dumps(loader_ratio(data_folders(sys.argv[2:]), load(Path(sys.argv[1])).training)))
