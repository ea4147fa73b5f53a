"""Random numbers of training: each generator is made from the words that name its purpose."""

import numpy as np
import torch
from numpy.typing import NDArray

from resim.keys import Stream


def generator(*words: int | str) -> np.random.Generator:
    """Give the NumPy generator (Philox) of a purpose."""
    return Stream(words).generator(0)


def torch_generator(*words: int | str) -> torch.Generator:
    """Give the CPU torch generator of a purpose."""
    return torch.Generator().manual_seed(int(generator(*words).integers(2**63)))


def uniform_by_id(ids: NDArray[np.int64], columns: int, *words: int | str) -> NDArray[np.float64]:
    """Draw (len(ids), columns) uniforms in [0, 1) that depend on each id and the purpose alone."""
    return Stream(words).uniform(ids, np.ones(len(ids), dtype=np.int64), columns)
