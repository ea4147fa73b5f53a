"""Training throughput from the store against the same training from tensors in memory.

Both train the same network on the same batches of re-simulated pairs. `store` reads the parts every epoch, in the
background; `memory` holds every batch ready as tensors, so that it pays neither reading nor padding nor scaling.
Repeats alternate, so that a busy machine slows both, and the ratio is taken repeat by repeat.
"""

import json
import statistics
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.cli import data_folders
from training.config import LoaderConfig, TrainingConfig
from training.data.features import INPUTS
from training.data.loader import Batch, Loader
from training.encoders.transformer import Transformer, head
from training.fit import be_deterministic, fit
from training.keys import torch_generator
from training.losses.ntxent import ntxent
from training.meter import Clock, Meter
from training.pretrain import contrastive_loader, open_store

EPOCHS = range(3)


def loader_ratio(folders: Mapping[str, Path], config: TrainingConfig | None = None, repeats: int = 5) -> dict[str, Any]:
    """Measure a short training from the store and one from memory, several times in turn.

    Returns
    -------
    dict
        `ratio_to_memory`, the median of the ratios of throughputs (1 is as fast as memory), the first read included;
        `cpu_ratio_to_memory`, the same of CPU seconds, which is what is left when no core is free for reading;
        median seconds of both; objects and epochs of a training; whether both gave the same losses, to the bit.
    """
    base = config or TrainingConfig()
    settings = base.model_copy(update={"loader": LoaderConfig(**base.loader.model_dump() | {"memory_mb": 0})})
    be_deterministic(settings.threads)
    loader = contrastive_loader(open_store(folders, settings), settings, "resim", 0, Meter())
    ready = list(loader.batches(EPOCHS))  # also warms the page cache, for what is compared is the program
    _train(loader, settings, ready)  # and the network's first steps, which are slow
    times: dict[str, list[float]] = {"store": [], "memory": []}
    cpu: dict[str, list[float]] = {"store": [], "memory": []}
    losses = {}
    for _ in range(repeats):
        for name in times:
            clock = Clock()
            losses[name] = _train(loader, settings, ready if name == "memory" else loader.batches(EPOCHS))
            times[name].append(clock.wall_s())
            cpu[name].append(clock.cpu_s())
    ratios = [[m / s for m, s in zip(t["memory"], t["store"], strict=True)] for t in (times, cpu)]
    return {
        "ratio_to_memory": round(statistics.median(ratios[0]), 3),
        "cpu_ratio_to_memory": round(statistics.median(ratios[1]), 3),
        "ratios": [round(ratio, 3) for ratio in ratios[0]],
        "store_s": round(statistics.median(times["store"]), 3),
        "memory_s": round(statistics.median(times["memory"]), 3),
        "objects": len(loader.rows),
        "epochs": len(EPOCHS),
        "same_loss": losses["store"] == losses["memory"],
    }


def _train(loader: Loader, config: TrainingConfig, batches: Iterable[Batch]) -> list[float]:
    """Train a fresh network; give the mean loss of each epoch."""
    encoder = Transformer(len(INPUTS), config.encoder, torch_generator("bench", "encoder"))
    projection = head(encoder.width, config.pretrain.projection, torch_generator("bench", "projection"))
    loss = partial(_loss, encoder, projection, config.pretrain.temperature)
    network = nn.ModuleList([encoder, projection])
    return fit(network, iter(batches), loss, config.optimiser, loader.steps(len(EPOCHS)), "bench").loss


def _loss(encoder: Transformer, projection: nn.Module, temperature: float, batch: Batch) -> torch.Tensor:
    first, second = (projection(encoder(jets.values, jets.present)) for jets in batch.views)
    return ntxent(first, second, temperature)


if __name__ == "__main__":
    print(json.dumps(loader_ratio(data_folders(sys.argv[1:]))))
