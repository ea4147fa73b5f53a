"""What training asks of the machine: the loader beside the network, its memory, and the networks on a GPU."""

import multiprocessing
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu import on_gpu
from benchmarks.loader import loader_ratio
from resim.store import Place, open_dataset, write_manifest, write_part
from resim.store.part import Part, read_objects, schema_of
from resim.store.tables import SLOTS
from training.config import TrainingConfig
from training.data.jets import FEATURES
from training.meter import Meter
from training.pretrain import contrastive_loader, open_store

_COPIES = 10  # of the data that memory is measured on: 150 MiB unpacked
_FEWER = 4  # that the loader is measured on: enough for epochs of seconds
_SHUFFLE = 1024  # objects read at a time: a fourteenth of these
_EPOCHS = 2  # what grows with the parts that were opened shows in the first, what leaks in the second
_POINTS = 10


def training_cost(folders: Mapping[str, Place], settings: TrainingConfig) -> dict[str, Any]:
    """Measure the loader, its memory over epochs, and the networks on a GPU; see there."""
    with tempfile.TemporaryDirectory() as folder:
        several = {sample: copied(place, Path(folder) / sample, _FEWER) for sample, place in folders.items()}
        loader = loader_ratio(several, settings)
    return {**loader, "memory": memory_over_epochs(folders, settings), "gpu": on_gpu(folders, settings)}


def memory_over_epochs(folders: Mapping[str, Place], settings: TrainingConfig) -> dict[str, Any]:
    """Measure the resident memory of a process over epochs of data that it may not hold, at equal distances.

    Returns
    -------
    dict
        `unpacked_mb`: what an epoch's objects would take in memory. `rss_mb`: the process's memory at ten points, the
        first before the first batch. `growth_mb`: from the third point, by which all that is kept is there, to the end.
    """
    loader = settings.loader.model_copy(update={"memory_mb": 0, "shuffle": _SHUFFLE})
    settings = settings.model_copy(update={"loader": loader})
    with tempfile.TemporaryDirectory() as folder, _fresh_process() as process:
        copies = {sample: copied(place, Path(folder) / sample) for sample, place in folders.items()}
        return process.submit(_memory_over_epochs, copies, settings).result()


def _fresh_process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def _memory_over_epochs(folders: Mapping[str, Place], settings: TrainingConfig) -> dict[str, Any]:
    loader = contrastive_loader(open_store(folders, settings), settings, "resim", 0, Meter())
    resident = [rss_mb(), *(rss_mb() for _ in loader.batches(range(_EPOCHS)))]
    points = np.linspace(0, len(resident) - 1, _POINTS).round().astype(int)
    found = [round(resident[point]) for point in points]
    unpacked = len(loader.rows) * len(loader.views) * settings.encoder.constituents * len(FEATURES) * 4 / 2**20
    return {
        "objects": len(loader.rows),
        "epochs": _EPOCHS,
        "unpacked_mb": round(unpacked),
        "rss_mb": found,
        "growth_mb": found[-1] - found[2],
    }


def rss_mb() -> float:
    """Give the resident memory of this process, MiB (Linux)."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def copied(place: Place, folder: Path, copies: int = _COPIES) -> Path:
    """Write a data set's parts several times, as other events each time."""
    parts = open_dataset(place).parts
    span = parts[-1].stop
    write_manifest(folder, [_moved(part, copy * span, folder).path for copy in range(copies) for part in parts])
    return folder


def _moved(part: Part, by: int, folder: Path) -> Part:
    """Write a part as that of later events."""
    objects = read_objects(part)
    ids = {"event": objects.columns["event"] + by, "object": objects.columns["object"] + SLOTS * by}
    return write_part(
        folder,
        replace(objects, columns=objects.columns | ids),
        {view: part.view(view).read(slice(None)) for view in part.views},
        schema_of(part.view("nominal")),
        {**part.attributes, "first": part.first + by, "stop": part.stop + by},
    )
