"""Training throughput from the store against the same training from tensors in memory.

Both train the same network on the same batches of re-simulated pairs. `store` reads the parts every epoch, in the
background; `memory` holds every batch ready as tensors, so that it pays neither reading nor padding nor scaling.
Repeats alternate, so that a busy machine slows both, and the ratio is taken repeat by repeat.
"""

import json
import statistics
import sys
import time
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
from training.meter import Meter
from training.pretrain import contrastive_loader, open_store


def loader_ratio(folders: Mapping[str, Path], config: TrainingConfig | None = None, repeats: int = 5) -> dict[str, Any]:
    """Measure one epoch from the store and one from memory, several times in turn.

    Returns
    -------
    dict
        `ratio_to_memory`, the median of the ratios of throughputs (1 is as fast as memory); median seconds an epoch of
        both; objects an epoch; whether the last epoch of both ended in the same loss, to the bit.
    """
    base = config or TrainingConfig()
    settings = base.model_copy(update={"loader": LoaderConfig(**base.loader.model_dump() | {"memory_mb": 0})})
    be_deterministic(settings.threads)
    loader = contrastive_loader(open_store(folders, settings), settings, "resim", 0, Meter())
    ready = list(loader.batches(range(1)))  # also warms the page cache, for what is compared is the program
    _epoch(loader, settings, ready)  # and the network's first steps, which are slow
    times: dict[str, list[float]] = {"store": [], "memory": []}
    losses = {}
    for _ in range(repeats):
        for name in times:
            started = time.perf_counter()
            losses[name] = _epoch(loader, settings, ready if name == "memory" else loader.batches(range(1)))
            times[name].append(time.perf_counter() - started)
    ratios = [memory / store for memory, store in zip(times["memory"], times["store"], strict=True)]
    return {
        "ratio_to_memory": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "store_s": round(statistics.median(times["store"]), 3),
        "memory_s": round(statistics.median(times["memory"]), 3),
        "objects": len(loader.rows),
        "same_loss": losses["store"] == losses["memory"],
    }


def _epoch(loader: Loader, config: TrainingConfig, batches: Iterable[Batch]) -> float:
    """Train a fresh network for an epoch; give the mean loss."""
    encoder = Transformer(len(INPUTS), config.encoder, torch_generator("bench", "encoder"))
    projection = head(encoder.width, config.pretrain.projection, torch_generator("bench", "projection"))
    loss = partial(_loss, encoder, projection, config.pretrain.temperature)
    network = nn.ModuleList([encoder, projection])
    return fit(network, iter(batches), loss, config.optimiser, loader.steps(1), "epoch").loss[0]


def _loss(encoder: Transformer, projection: nn.Module, temperature: float, batch: Batch) -> torch.Tensor:
    first, second = (projection(encoder(jets.values, jets.present)) for jets in batch.views)
    return ntxent(first, second, temperature)


if __name__ == "__main__":
    print(json.dumps(loader_ratio(data_folders(sys.argv[1:]))))
