"""A training in Lightning's terms: what is done in a step, what it is fed, where its state and metrics are kept."""

import logging
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor, nn
from torch.utils.data import DataLoader

from resim.errors import UserError
from training.config import OptimiserConfig, TrainerConfig
from training.data.fetch import Index
from training.data.loader import Batch, Epochs, Loader
from training.encoders.encoder import load_layers
from training.files import is_first, read_checkpoint, save_checkpoint
from training.fit import STATE, STATE_FORMAT, STATE_VERSION, History, Run
from training.losses.ranks import gathered
from training.meter import Meter
from training.watch import COLLAPSED, Watch, warn_of_collapse

_STEPS_A_STATE = 8  # writing it takes a fifth of a step of the demo; training with few labels has epochs of one step
_Losses = list[tuple[float, int]]  # of each batch, with its size


class Learner(LightningModule):
    """A network and its loss."""

    def __init__(
        self,
        network: nn.Module,
        loss_of: Callable[[Batch], Tensor],
        config: OptimiserConfig,
        schedule: Callable[[int], float],
        title: str,
        run: Run,
        index: Index,
        watch: Watch | None = None,
    ) -> None:
        super().__init__()
        self.network, self.history = network, History()
        self._loss_of, self._config, self._schedule, self._title, self._run = loss_of, config, schedule, title, run
        self._index, self._watch = index, watch
        self._losses: _Losses = []
        self._validation_losses: _Losses = []

    @property
    def epoch(self) -> int:
        """The epoch under way; a trainer that goes on from a state still has the last one when it asks for data."""
        return len(self.history.loss)

    def configure_optimizers(self) -> Any:
        """Make the optimiser and its schedule, which moves every step."""
        config = self._config
        kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
        optimiser = kind(self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, self._schedule)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Give the loss of a batch; one that is not finite stops the training."""
        assert batch.epoch == self.epoch, f"a batch of epoch {batch.epoch} in epoch {self.epoch}"
        loss = self._loss_of(batch)
        value = loss.item()
        if not math.isfinite(value):
            raise self._not_finite(value, batch)
        self._losses.append((value, len(gathered(batch.labels))))
        self._note({"loss": value, "rate": self.trainer.optimizers[0].param_groups[0]["lr"]})
        self.history.steps += 1
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        """Take the loss of a batch that is not learned from."""
        self._validation_losses.append((self._loss_of(batch).item(), len(gathered(batch.labels))))

    def on_validation_epoch_end(self) -> None:
        """Note the mean loss on the validation split."""
        self.history.validation_loss.append(_mean(self._validation_losses))

    def on_train_epoch_end(self) -> None:
        """Note the mean loss of the epoch, and what the encoder has become."""
        names = {"epoch_loss": _mean(self._losses)}
        if self.history.validation_loss:
            names["validation_loss"] = self.history.validation_loss[-1]
        self._note(names | self._watched())
        self.history.loss.append(names["epoch_loss"])
        for logger in self.loggers:  # on disk before the state is, so that a kill leaves no gap
            logger.save()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep beside weights and optimiser what the training saw, what it cost, and what it is of."""
        spent = self._run.spent()  # Lightning asks every rank, and the first one writes
        checkpoint |= {
            "format": STATE_FORMAT,
            "version": STATE_VERSION,
            "origin": dict(self._run.origin),
            "history": asdict(self.history),
            "clock": {"cpu_s": spent.cpu_s, "wall_s": spent.wall_s},
            "meter": {"cpu_s": dict(spent.meter.cpu_s), "objects": dict(spent.meter.objects)},
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on where it ended; work between the state and the end of its process is not counted."""
        load_layers(self, checkpoint["state_dict"], f"{self._run.folder}/{STATE}")  # else Lightning says it its way
        self.history = History(**checkpoint["history"])
        if is_first():  # the state has what all ranks took
            self._run.clock.add(**checkpoint["clock"])
            self._run.meter.add(Meter(**checkpoint["meter"]))

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move the tensors of a batch."""
        return batch.to(device)

    def _watched(self) -> dict[str, float]:
        """Look at the encoder, keep what is seen, and warn once where it has collapsed."""
        figures, before = self._watch.figures() if self._watch else {}, self.history.probe.get("spread", [])
        if figures and figures["spread"] < COLLAPSED <= min(before, default=1):
            warn_of_collapse(self._title, self.epoch, figures["spread"])
        for name, value in figures.items():
            self.history.probe.setdefault(name, []).append(value)
        return {f"probe_{name}": value for name, value in figures.items()}

    def _not_finite(self, loss: float, batch: Batch) -> UserError:
        objects = self._index.told(batch.rows[:3])
        where = f"at step {self.history.steps} in epoch {batch.epoch}, in a batch with the objects {objects} ..."
        state = self._run.folder and self._run.folder / STATE
        kept = f"; the last good state is {state}" if state and state.exists() else ""
        return UserError(f"{self._title}: the loss is {loss} {where}; lower the learning rate{kept}")

    def _note(self, figures: dict[str, float]) -> None:
        """Log figures of the step; past Lightning's own bookkeeping, which takes milliseconds a figure."""
        for logger in self.loggers:
            logger.log_metrics(figures | {"epoch": self.epoch}, self.history.steps)


def _mean(losses: _Losses) -> float:
    """Average the losses of batches by their sizes, and forget them."""
    values, sizes = zip(*losses, strict=True)
    losses.clear()
    return float(np.average(values, weights=sizes))


class Feed(LightningDataModule):
    """A rank's share of the epochs that are left; all that Lightning knows of the loader."""

    def __init__(self, learner: Learner, data: Loader, epochs: int, validation: Loader | None) -> None:
        super().__init__()
        self._learner, self._data, self._epochs, self._validation = learner, data, epochs, validation
        self._left: Epochs | None = None

    def train_dataloader(self) -> Epochs:
        """Give what each epoch is iterated over; Lightning itself restores it within an epoch alone."""
        self._left = Epochs(self._mine(self._data), self._epochs)
        self._left.load_state_dict({"epoch": self._learner.epoch, "step": 0})
        return self._left

    def val_dataloader(self) -> Iterable[Batch]:
        """Give the same batches after every epoch, if there are any, so that their loss follows the network alone."""
        if self._validation is None:
            return []
        batches = list(self._mine(self._validation).batches(range(1)))
        return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]  # a list will do

    def teardown(self, stage: str) -> None:
        """End what makes batches ahead: only processes that ended are counted in the price."""
        if self._left:
            self._left.close()

    def _mine(self, loader: Loader) -> Loader:
        trainer = self.trainer
        assert trainer is not None, "asked by a trainer alone"
        on_gpu = trainer.strategy.root_device.type == "cuda"
        return loader.of_rank(trainer.global_rank, trainer.world_size, pin=on_gpu)


class WholeFiles(TorchCheckpointIO):
    """Writes a state beside its final name and renames it, on the same disk; reads it as all checkpoints are read."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a state."""
        save_checkpoint(Path(path), checkpoint)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a state, on the CPU; nothing but weights and plain values."""
        return read_checkpoint(Path(path))


def make_trainer(config: TrainerConfig, epochs: int, steps: int, folder: Path | None) -> Trainer:
    """Set Lightning up for some epochs of so many steps in all.

    With a folder, a state is kept there after each epoch, or after several that are short, and metrics of every step.

    Raises
    ------
    UserError
        If there is no GPU and one is needed, no compiler, or a logger's package is not installed.
    """
    compiler = os.environ.get("CXX", "g++")  # as torch looks for it
    if config.compile and which(compiler) is None:
        raise UserError(f"training.trainer.compile: needs a C++ compiler, and there is no {compiler}; set it to false")
    if config.accelerator == "gpu" and not torch.cuda.is_available():
        raise UserError("training.trainer.accelerator: gpu, and torch finds none; auto or cpu trains here")
    if config.precision == "16-mixed" and (config.accelerator == "cpu" or not torch.cuda.is_available()):
        why = "16-mixed needs a GPU, and this training runs on a CPU"
        raise UserError(f"training.trainer.precision: {why}; allowed here: 32-true, bf16-mixed")
    _be_quiet()
    torchrun = TorchElasticEnvironment.detect()  # no other launcher is looked for: a batch system starts us singly
    here = int(os.environ["LOCAL_WORLD_SIZE"]) if torchrun else 1
    world = int(os.environ["WORLD_SIZE"]) if torchrun else 1
    return Trainer(
        accelerator=config.accelerator,
        devices=here,
        num_nodes=world // here,
        strategy="ddp" if world > 1 else "auto",
        precision=config.precision,
        deterministic=True,
        max_epochs=epochs,
        logger=[_logger(name, folder) for name in config.logger] if folder else False,
        callbacks=[_state_keeper(folder, every=max(1, _STEPS_A_STATE * epochs // steps))] if folder else [],
        plugins=[TorchElasticEnvironment() if torchrun else LightningEnvironment(), WholeFiles()],
        enable_checkpointing=folder is not None,
        enable_model_summary=False,
        enable_progress_bar=sys.stderr.isatty(),
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )


def _state_keeper(folder: Path, every: int) -> ModelCheckpoint:
    return ModelCheckpoint(
        folder,
        filename=STATE.removesuffix(ModelCheckpoint.FILE_EXTENSION),
        enable_version_counter=False,
        save_on_train_epoch_end=True,
        every_n_epochs=every,
    )


def _logger(name: str, folder: Path) -> Logger:
    """Make a logger; each start of a run has its own version.

    Raises
    ------
    UserError
        If it is of a package that is not installed.
    """
    if name != "csv" and find_spec(name) is None:
        raise UserError(f"training.trainer.logger: {name} is not installed; `pip install {name}`, or leave it out")
    if name == "wandb":
        return WandbLogger(project="resim", save_dir=folder)
    return (CSVLogger if name == "csv" else TensorBoardLogger)(folder, name=name)


def _be_quiet() -> None:
    """Leave out what Lightning says about other ways to do things."""
    for package in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(package).setLevel(logging.WARNING)
        warnings.filterwarnings("ignore", module=package)
