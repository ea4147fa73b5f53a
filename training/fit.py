"""The loop that every training shares."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from resim.errors import UserError
from training.config import OptimiserConfig
from training.data.loader import Batch


@dataclass
class History:
    """What a training saw: mean losses of each epoch on the train and the validation split, and the number of steps."""

    loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    """At the end of each epoch, of the same batches every time; empty if there are none."""
    steps: int = 0


def be_deterministic(threads: int) -> None:
    """Make torch give the same bits for the same inputs; sums over threads depend on how many there are."""
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms, without importing the compiler for 2 s
    torch.set_num_threads(threads)


def fit(
    network: nn.Module,
    batches: Iterator[Batch],
    loss_of: Callable[[Batch], Tensor],
    config: OptimiserConfig,
    steps: int,
    title: str,
    validation: Sequence[Batch] = (),
) -> History:
    """Minimise a loss over batches with AdamW, linear warm-up and cosine decay.

    Parameters
    ----------
    network
        Trained in place.
    batches
        All batches of all epochs.
    loss_of
        Gives the scalar loss of a batch.
    config
        Rate, decay, warm-up.
    steps
        How many batches there will be, for the schedule.
    title
        Shown before the progress bar, which is silent when standard error is no terminal.
    validation
        Batches that are never trained on.
    """
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step, steps, config.warmup))
    history = History()
    network.train()
    shown = tqdm(batches, total=steps, desc=title, unit="step", disable=None)
    for _, epoch in groupby(shown, key=lambda batch: batch.epoch):
        losses = []
        for batch in epoch:
            loss = loss_of(batch)
            if not torch.isfinite(loss):
                raise UserError(f"{title}: the loss is {loss.item()} at step {history.steps}; lower the learning rate")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            history.steps += 1
            losses.append((loss.item(), len(batch.rows)))
        history.loss.append(_mean(losses))
        if validation:
            history.validation_loss.append(_judged(network, validation, loss_of))
    network.eval()
    return history


def _judged(network: nn.Module, batches: Sequence[Batch], loss_of: Callable[[Batch], Tensor]) -> float:
    """Give the mean loss of batches without learning from them."""
    network.eval()
    with torch.inference_mode():
        loss = _mean([(loss_of(batch).item(), len(batch.rows)) for batch in batches])
    network.train()
    return loss


def _mean(losses: Sequence[tuple[float, int]]) -> float:
    """Average the losses of batches by their sizes."""
    values, sizes = zip(*losses, strict=True)
    return float(np.average(values, weights=sizes))


def rate(step: int, steps: int, warmup: float) -> float:
    """Give the share of the peak rate at a step: up in a line over `warmup` of all steps, down in half a cosine."""
    rising = max(1, math.ceil(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))
