"""What a result was made from, and on what."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, Strict, model_validator
from torch import Tensor

from resim.errors import UserError
from training.config import Config, TrainerConfig
from training.data.fetch import Store
from training.files import Layout, digest, is_first, load_checkpoint, read_model, write_model
from training.fit import HistoryFile
from training.heldout import HeldOutSet, digests
from training.results import Provenance

_RECORD = "run.json"
_SOFTWARE = ("numpy", "pytorch-lightning", "scikit-learn", "scipy", "torch", "zarr")
_WEIGHTS_DEPEND_ON = ("training_digest", "data", "software")


class Environment(BaseModel):
    """On what a training ran."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    python: str
    platform: str = Field(description="operating system, C library and processor")
    device: str = Field(description="name of the GPU, or cpu")
    threads: int = Field(description="CPU threads a process")
    processes: int = Field(description="that train together")
    packages: dict[str, str] = Field(description="everything that is installed, and its version")


class Result(Layout):
    """What checkpoints of trained networks have in common."""

    method: str
    seed_index: int
    inputs: list[str]
    mean: Tensor
    width: Tensor
    history: Annotated[HistoryFile, Strict(False)]
    cost: dict[str, float]
    provenance: Annotated[Provenance, Strict(False)]

    @model_validator(mode="after")
    def _is_of_its_inputs(self) -> "Result":
        for name in ("mean", "width"):
            value = getattr(self, name)
            if value.shape != (len(self.inputs),) or value.dtype != torch.float32:
                raise ValueError(f"{name} is not {len(self.inputs)} numbers, one for each input")
        return self


class RunRecord(BaseModel):
    """What a training leaves beside its metrics; cost is filled in at its end."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    seed_index: int
    config: Config = Field(description="with all defaults; training.seed and the seed index settle all random numbers")
    provenance: Provenance
    environment: Environment
    cost: dict[str, float] = {}


def provenance(config: Config, store: Store, method: str = "", held_out: Sequence[HeldOutSet] = ()) -> Provenance:
    """Collect digests of config and data, and versions; the digests are of what one method is told, or all are."""
    methods = [method] if method else list(config.training.methods)
    return Provenance(
        training_digest=_digest({name: store.lane.own(config.training.settings_of(name)) for name in methods}),
        evaluation_digest=_digest({name: config.judging_of(name) for name in methods}),
        seed=config.training.seed,
        data=store.digests(),
        held_out=digests(held_out),
        software={name: version(name) for name in _SOFTWARE},
    )


def origin(method: str, seed_index: int, made_from: Mapping[str, Any]) -> dict[str, Any]:
    """Give all that the weights of a training depend on, from its provenance as plain values."""
    return {"method": method, "seed_index": seed_index} | {name: made_from[name] for name in _WEIGHTS_DEPEND_ON}


def origin_of(config: Config, store: Store, method: str, seed_index: int) -> dict[str, Any]:
    """Give the same for a training that is still to come."""
    return origin(method, seed_index, provenance(config, store, method).model_dump(mode="json"))


def made_before(
    path: Path, form: str, version: int, layout: type[Layout], expected: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Give the checkpoint at a path if it is whole and of this origin."""
    try:
        content = load_checkpoint(path, form, version, layout)
    except UserError:  # none yet, or one of old or damaged: it is made, and replaces what is there
        return None
    return content if origin(content["method"], content["seed_index"], content["provenance"]) == expected else None


def record(folder: Path | None, config: Config, store: Store, method: str, seed_index: int) -> None:
    """Write `run.json` in the folder of a training that begins, if it has one."""
    if folder is None or not is_first():
        return
    made_from, environment = provenance(config, store, method), _environment(config.training.trainer)
    about = {"method": method, "seed_index": seed_index, "config": config.of(method), "provenance": made_from}
    write_model(folder / _RECORD, RunRecord(**about, environment=environment))


def record_cost(folder: Path | None, cost: Mapping[str, float]) -> None:
    """Add to `run.json` what the training took."""
    if folder is None or not is_first():
        return
    begun = read_model(folder / _RECORD, RunRecord)
    write_model(folder / _RECORD, begun.model_copy(update={"cost": cost}))


def _environment(config: TrainerConfig) -> Environment:
    on_gpu = config.accelerator != "cpu" and torch.cuda.is_available()
    return Environment(
        python=platform.python_version(),
        platform=f"{platform.platform()} {platform.processor() or platform.machine()}",
        device=torch.cuda.get_device_name() if on_gpu else "cpu",
        threads=torch.get_num_threads(),
        processes=int(os.environ.get("WORLD_SIZE", "1")),
        packages=dict(sorted((about["Name"], about["Version"]) for about in (d.metadata for d in distributions()))),
    )


def _digest(section: Mapping[str, Any]) -> str:
    return digest(json.dumps(section, sort_keys=True).encode())
