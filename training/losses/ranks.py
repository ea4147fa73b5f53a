"""Batches over several processes: a loss sees the rows of all ranks, so that negatives come from everywhere."""

from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")


def ranks() -> int:
    """Count the processes that train together; 1 without `torch.distributed`."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def gathered(x: Tensor) -> Tensor:
    """Give the rows of all ranks in the order of the ranks, (sum of B, ...); every rank must call this.

    Each rank then computes the same loss of the whole batch. Its gradients, averaged over the ranks as
    `DistributedDataParallel` does, are those of one process with that batch. Ranks may have different numbers of rows.
    """
    return x if ranks() == 1 else _Gather.apply(x)


def of_all(value: T) -> list[T]:
    """Give what each rank has, in the order of the ranks; every rank must call this."""
    if ranks() == 1:
        return [value]
    found: list[Any] = [None] * ranks()
    distributed.all_gather_object(found, value)
    return found


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        counts = [torch.zeros(1, dtype=torch.int64, device=x.device) for _ in range(ranks())]
        distributed.all_gather(counts, torch.tensor([len(x)], device=x.device))
        rows = [int(count) for count in counts]
        padded = x.new_zeros((max(rows), *x.shape[1:]))  # collectives want equal shapes
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in rows]
        distributed.all_gather(parts, padded)
        ctx.start, ctx.count = sum(rows[: distributed.get_rank()]), len(x)
        return torch.cat([part[:n] for part, n in zip(parts, rows, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # Every rank has the whole loss and its own rows of the gradient; the average over ranks divides by their number
        return ranks() * gradients[0].narrow(0, ctx.start, ctx.count)
