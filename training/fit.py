"""What every training shares: the same bits for the same inputs, a schedule, and a state on disk to go on from."""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, Strict
from torch import Tensor, nn

from training.config import OptimiserConfig, TrainerConfig, TrainingConfig
from training.data.loader import Batch, Loader
from training.files import Layout, load_checkpoint
from training.losses.ranks import of_all
from training.meter import Clock, Meter, Spent, peak_mb
from training.watch import Watch

STATE, STATE_FORMAT, STATE_VERSION = "state.ckpt", "resim-state", 1


@dataclass
class History:
    """What a training saw: mean losses of each epoch on the train and the validation split, and the number of steps."""

    loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    """At the end of each epoch, of the same batches every time; empty if there are none."""
    probe: dict[str, list[float]] = field(default_factory=dict)
    """Figure -> at the end of each epoch, see `training.watch`; empty where a training is not watched."""
    steps: int = 0


class HistoryFile(Layout):
    """A `History` as plain values."""

    loss: list[float]
    validation_loss: list[float]
    probe: dict[str, list[float]] = Field(default_factory=dict)
    steps: int


class _Seconds(Layout):
    cpu_s: float
    wall_s: float


class _Metered(Layout):
    cpu_s: dict[str, float]
    objects: dict[str, int]


class State(Layout):
    """What a training goes on from; the first five are Lightning's."""

    state_dict: dict[str, Tensor]
    optimizer_states: list[dict[str, Any]]
    lr_schedulers: list[dict[str, Any]]
    epoch: int
    global_step: int
    origin: dict[str, Any]
    history: Annotated[HistoryFile, Strict(False)]
    clock: Annotated[_Seconds, Strict(False)]
    meter: Annotated[_Metered, Strict(False)]


@dataclass(frozen=True)
class Run:
    """Where a training leaves its state and its metrics, and what it costs."""

    folder: Path | None = None
    """None: nothing is left."""
    origin: Mapping[str, Any] = field(default_factory=dict)
    """All that the weights depend on; only a state of the same origin is gone on with."""
    clock: Clock = field(default_factory=Clock)
    meter: Meter = field(default_factory=Meter)

    @classmethod
    def begin(cls, folder: Path | None, origin: Mapping[str, Any]) -> "Run":
        """Start the clock, after Lightning is imported: start-up belongs to no training's price."""
        import_module("training.learner")
        return cls(folder, origin)

    def spent(self) -> Spent:
        """Give what the training took so far, of all ranks together; every rank must call this."""
        own = Spent(self.clock.cpu_s(), self.clock.wall_s(), peak_mb(), self.meter)
        return Spent.together(of_all(own))

    def state(self) -> Path | None:
        """Give the file that an earlier process left after its last whole epoch, if it was of the same training."""
        path = self.folder and self.folder / STATE
        if not path or not path.exists():
            return None
        found = load_checkpoint(path, STATE_FORMAT, STATE_VERSION, State)
        return path if found["origin"] == dict(self.origin) else None


def be_deterministic(threads: int) -> None:
    """Make torch give the same bits for the same inputs; sums over threads depend on how many there are."""
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms, without importing the compiler for 2 s
    torch.set_num_threads(threads)


def place(network: nn.Module, config: TrainerConfig) -> None:
    """Put a trained network where it is to be asked: on a GPU if there is one and the config lets it."""
    if config.accelerator != "cpu" and torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else its sums may differ, and torch refuses them
        network.to("cuda")


def fit(
    network: nn.Module,
    loss_of: Callable[[Batch], Tensor],
    data: Loader,
    epochs: int,
    config: TrainingConfig,
    title: str,
    run: Run,
    validation: Loader | None = None,
    watch: Watch | None = None,
) -> History:
    """Minimise a loss over batches with Adam and a rate that warms up and decays.

    Goes on from the last whole epoch if there is a state of the same training; the weights are then the same bits as
    if it had never stopped. In several processes (`torchrun`) each takes its share of every batch.

    Parameters
    ----------
    network
        Trained in place; its children are what `loss_of` calls.
    loss_of
        Gives the scalar loss of a batch, or of all ranks' shares of it.
    data
        What is trained on, whole: each rank takes its share.
    epochs
        How many there are.
    config
        Rate, decay, warm-up; device, precision, loggers.
    title
        Names the training in errors.
    run
        Where the state is kept.
    validation
        What is never trained on; its first epoch is judged after each of the training's.
    watch
        What looks at the network after each epoch; in one process alone.

    Raises
    ------
    UserError
        If a loss is not finite; the state of the last whole epoch is kept.
    """
    from training.learner import Feed, Learner, make_trainer  # 4 s to import, which judging and --help need not wait

    steps = data.steps(epochs)
    schedule = partial(rate, steps=steps, epochs=epochs, config=config.optimiser)
    learner = Learner(network, loss_of, config.optimiser, schedule, title, run, data.index, watch)
    trainer = make_trainer(config.trainer, epochs, steps, run.folder)
    if config.trainer.compile:
        for child in network.children():
            child.compile(dynamic=True)
    network.train()
    trainer.fit(learner, datamodule=Feed(learner, data, epochs, validation), ckpt_path=run.state(), weights_only=True)
    network.eval()
    return learner.history


def rate(step: int, steps: int, epochs: int, config: OptimiserConfig) -> float:
    """Give the share of the peak rate at a step: up in a line over `warmup` of all steps, then as `schedule` says."""
    rising = max(1, math.ceil(config.warmup * steps))
    if step < rising:
        return (step + 1) / rising
    if config.schedule == "step":
        return config.factor ** (step * epochs // steps // config.every)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))
