"""Random numbers of training: each generator is made from the words that name its purpose."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from resim.keys import Stream, to_normal


def generator(*words: int | str) -> np.random.Generator:
    """Give the NumPy generator (Philox) of a purpose."""
    return Stream(words).generator(0)


def torch_generator(*words: int | str) -> torch.Generator:
    """Give the CPU torch generator of a purpose."""
    return torch.Generator().manual_seed(int(generator(*words).integers(2**63)))


def uniform_by_id(ids: NDArray[np.int64], columns: int, *words: int | str) -> NDArray[np.float64]:
    """Draw (len(ids), columns) uniforms in [0, 1) that depend on each id and the purpose alone."""
    return Stream(words).uniform(ids, np.ones(len(ids), dtype=np.int64), columns)


@dataclass(frozen=True)
class Draws:
    """Random numbers of objects; each depends on the object's id and the purpose alone, not on the others."""

    ids: NDArray[np.int64]
    words: tuple[int | str, ...]

    def uniform(self, purpose: str, columns: int) -> NDArray[np.float64]:
        """Draw (len(ids), columns) uniforms in [0, 1); more columns leave the first as they are."""
        return uniform_by_id(self.ids, columns, *self.words, purpose)

    def normal(self, purpose: str, columns: int) -> NDArray[np.float64]:
        """Draw (len(ids), columns) standard normals, likewise."""
        return to_normal(self.uniform(purpose, columns))
