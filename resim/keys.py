"""Where every random number comes from.

A stream is named by (seed, sample, stage, view, replica); within it an event is a Philox counter. Nothing else enters:
not the part, the job, the order of the events or the number of cores.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PYTHIA_SEED_MAX = 900_000_000  # Pythia takes 1..900,000,000; 0 would mean the clock (its manual, "Random-Number Seed")
_FEISTEL_HALF_BITS = 15  # 2^30 is the first even power of two above PYTHIA_SEED_MAX
_FEISTEL_ROUNDS = 6


def _digest(*words: object) -> bytes:
    return hashlib.sha256(json.dumps(words, separators=(",", ":")).encode()).digest()


@dataclass(frozen=True)
class Stream:
    """A named stream of random numbers; hashes of its name key a Philox generator (Salmon et al., SC11)."""

    name: tuple[int | str, ...]

    def child(self, purpose: str) -> "Stream":
        """Give an independent stream of the same stage, for draws of another kind."""
        return Stream((*self.name, purpose))

    def generator(self, event: int) -> np.random.Generator:
        """Give the generator of one event; each event has 2^192 counter values of its own."""
        return next(self._generators(np.asarray([event])))

    def pythia_seed(self, event: int, attempt: int = 0) -> int:
        """Give the seed of one event for Pythia's own generator, in 1..900,000,000."""
        return int.from_bytes(_digest(*self.name, int(event), attempt)[:8], "little") % PYTHIA_SEED_MAX + 1

    def uniform(self, events: NDArray[np.int64], counts: NDArray[np.int64], columns: int) -> NDArray[np.float64]:
        """Draw uniforms in [0, 1): (sum(counts), columns), `counts[i]` rows from the generator of `events[i]`."""
        parts = [g.random((n, columns)) for g, n in zip(self._generators(events), counts, strict=True)]
        return np.concatenate(parts) if parts else np.empty((0, columns))

    def normal(self, events: NDArray[np.int64], counts: NDArray[np.int64], columns: int) -> NDArray[np.float64]:
        """Draw standard normals, shaped as in `uniform`."""
        parts = [g.standard_normal((n, columns)) for g, n in zip(self._generators(events), counts, strict=True)]
        return np.concatenate(parts) if parts else np.empty((0, columns))

    def _generators(self, events: NDArray[np.int64]) -> Iterator[np.random.Generator]:
        """Yield one generator, set anew for each event: making a Philox costs more than setting its state."""
        bits = np.random.Philox(key=np.frombuffer(_digest(*self.name)[:16], dtype=np.uint64))
        state = bits.state
        generator = np.random.Generator(bits)
        for event in events:
            state["state"]["counter"] = np.array([0, 0, 0, event], dtype=np.uint64)
            bits.state = state
            yield generator


def stream(seed: int, sample: str, stage: str, view: str = "nominal", replica: int = 0) -> Stream:
    """Name the stream of a stage run for a view; what a view shares with nominal has nominal's name."""
    return Stream((seed, sample, stage, view, replica))


def block_seed(seed: int, sample: str, block: int) -> int:
    """Give the Pythia seed of a block of hard processes: a keyed permutation of the block number.

    A Feistel network on 30 bits, walked until it falls into the allowed range, is a bijection: two blocks of a
    sample never share a seed (drawn at random, 10^5 blocks would collide).

    Raises
    ------
    ValueError
        If `block` is outside 0..899,999,999.
    """
    if not 0 <= block < PYTHIA_SEED_MAX:
        raise ValueError(f"block {block} is outside 0..{PYTHIA_SEED_MAX - 1}")
    mask = (1 << _FEISTEL_HALF_BITS) - 1
    value = block
    while True:
        left, right = value >> _FEISTEL_HALF_BITS, value & mask
        for turn in range(_FEISTEL_ROUNDS):
            mixed = int.from_bytes(_digest(seed, sample, "hard", turn, right)[:4], "little") & mask
            left, right = right, left ^ mixed
        value = left << _FEISTEL_HALF_BITS | right
        if value < PYTHIA_SEED_MAX:
            return value + 1


def uniform_of_event(seed: int, sample: str, purpose: str, events: NDArray[np.int64]) -> NDArray[np.float64]:
    """Draw one uniform an event, for decisions about the event itself such as its split."""
    return Stream((seed, sample, purpose)).uniform(events, np.ones(len(events), dtype=np.int64), 1)[:, 0]
