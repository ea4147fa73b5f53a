"""The loop that every training shares."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from resim.errors import UserError
from training.config import OptimiserConfig
from training.data.loader import Batch


@dataclass
class History:
    """What a training saw: the mean loss of each epoch, and the number of steps."""

    loss: list[float] = field(default_factory=list)
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
    """
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step, steps, config.warmup))
    history, sums = History(), np.zeros((0, 2))
    network.train()
    for batch in tqdm(batches, total=steps, desc=title, unit="step", disable=None):
        loss = loss_of(batch)
        if not torch.isfinite(loss):
            raise UserError(f"{title}: the loss is {loss.item()} at step {history.steps}; lower the learning rate")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        history.steps += 1
        sums = np.pad(sums, ((0, batch.epoch + 1 - len(sums)), (0, 0)))
        sums[batch.epoch] += loss.item() * len(batch.rows), len(batch.rows)
    history.loss = (sums[:, 0] / sums[:, 1]).tolist()
    network.eval()
    return history


def rate(step: int, steps: int, warmup: float) -> float:
    """Give the share of the peak rate at a step: up in a line over `warmup` of all steps, down in half a cosine."""
    rising = max(1, math.ceil(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))
