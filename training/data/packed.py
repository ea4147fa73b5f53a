"""Hand many arrays to another process at once: one block of shared memory in place of a file for each."""

import pickle
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Self

import torch
from torch import Tensor

_ALIGNED = 64  # bytes; a cache line, and more than any type wants


@dataclass(frozen=True)
class Packed:
    """A pickled object whose arrays lie in one tensor, which torch puts into shared memory on its way."""

    content: bytes
    sizes: list[int]
    """Bytes of each array."""
    arrays: Tensor

    @classmethod
    def of(cls, item: Any) -> Self:
        """Pack an object."""
        buffers: list[pickle.PickleBuffer] = []
        content = pickle.dumps(item, protocol=5, buffer_callback=buffers.append)
        raw = [buffer.raw() for buffer in buffers]
        sizes = [len(view) for view in raw]
        starts = _starts(sizes)
        arrays = torch.empty(starts[-1], dtype=torch.uint8)
        target = arrays.numpy().data
        for start, view in zip(starts, raw, strict=False):
            target[start : start + len(view)] = view
        return cls(content, sizes, arrays)

    def item(self) -> Any:
        """Give the object; its arrays lie where they are and are not copied."""
        memory = self.arrays.numpy().data
        places = zip(_starts(self.sizes), self.sizes, strict=False)
        return pickle.loads(self.content, buffers=[memory[start : start + size] for start, size in places])


def _starts(sizes: list[int]) -> list[int]:
    """Give where each array starts, and the end."""
    return list(accumulate((-(-size // _ALIGNED) * _ALIGNED for size in sizes), initial=0))
