"""Where every random number comes from.

A stream is named by (seed, sample, stage, view, replica); within it an event is a Philox counter. Nothing else enters:
not the part, the job, the order of the events or the number of cores.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray
from scipy.special import ndtri

from resim.ragged import offsets_of

PYTHIA_SEED_MAX = 900_000_000  # Pythia takes 1..900,000,000; 0 would mean the clock (its manual, "Random-Number Seed")
_FEISTEL_HALF_BITS = 15  # 2^30 is the first even power of two above PYTHIA_SEED_MAX
_FEISTEL_ROUNDS = 6

# Philox4x64-10: rounds, multipliers and what is added to the key after each round (Salmon et al., SC11, table 2)
_ROUNDS = 10
_FACTORS = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_STEPS = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)

Four = tuple[float, float, float, float]


def _digest(*words: object) -> bytes:
    return hashlib.sha256(json.dumps(words, separators=(",", ":")).encode()).digest()


@dataclass(frozen=True)
class Stream:
    """A named stream of random numbers; hashes of its name key a Philox generator (Salmon et al., SC11)."""

    name: tuple[int | str, ...]

    def child(self, purpose: str) -> "Stream":
        """Give an independent stream of the same stage, for draws of another kind."""
        return Stream((*self.name, purpose))

    @property
    def key(self) -> NDArray[np.uint64]:
        """Give the Philox key, (2,)."""
        return np.frombuffer(_digest(*self.name)[:16], dtype=np.uint64)

    def generator(self, event: int) -> np.random.Generator:
        """Give the generator of one event; each event has 2^192 counter values of its own."""
        return np.random.Generator(np.random.Philox(key=self.key, counter=np.array([0, 0, 0, event], dtype=np.uint64)))

    def pythia_seed(self, event: int, attempt: int = 0) -> int:
        """Give the seed of one event for Pythia's own generator, in 1..900,000,000."""
        return int.from_bytes(_digest(*self.name, int(event), attempt)[:8], "little") % PYTHIA_SEED_MAX + 1

    def uniform(self, events: NDArray[np.int64], counts: NDArray[np.int64], columns: int) -> NDArray[np.float64]:
        """Draw uniforms in [0, 1): (sum(counts), columns), `counts[i]` rows from the generator of `events[i]`.

        They are what NumPy's generators give, bit for bit.
        """
        if len(events) != len(counts):
            raise ValueError(f"{len(events)} events and {len(counts)} counts; give one count an event")
        rows = np.asarray(counts, dtype=np.int64)
        offsets = offsets_of(rows * columns)
        numbers = _draw(self.key, np.asarray(events, dtype=np.int64), offsets)
        return numbers.reshape(int(rows.sum()), columns)

    def uniform_at(self, events: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Draw four uniforms for each place (0, 1, ...) in an event, (n, 4): rows of `uniform(..., columns=4)`.

        For draws that belong to a particle, whatever the others of its event do.
        """
        return _draw_at(self.key, events, places)


def to_normal(uniform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn uniforms in [0, 1) into standard normals, by the inverse of their distribution; none is beyond 8.3."""
    return ndtri(np.maximum(uniform, 2.0**-54))


@intrinsic  # type: ignore[untyped-decorator]
def _high(_context: Any, a: Any, b: Any) -> Any:
    """Give the upper 64 bits of a product: one instruction of the processor, which Numba has no word for."""

    def build(_compilation: Any, builder: Any, _signature: Any, factors: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(factor, wide) for factor in factors))
        return builder.trunc(builder.lshr(product, wide(64)), ir.IntType(64))

    return types.uint64(a, b), build


@njit(cache=True)
def four(k0: np.uint64, k1: np.uint64, event: int, place: int) -> Four:
    """Draw four uniforms in [0, 1) from a block of the event's counters.

    NumPy raises the counter before it draws, so place 0 has counter 1.
    """
    c0, c1, c2, c3 = np.uint64(place + 1), np.uint64(0), np.uint64(0), np.uint64(event)
    for _ in range(_ROUNDS):
        high0, low0 = _high(_FACTORS[0], c0), _FACTORS[0] * c0
        high1, low1 = _high(_FACTORS[1], c2), _FACTORS[1] * c2
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + _STEPS[0], k1 + _STEPS[1]
    return _unit(c0), _unit(c1), _unit(c2), _unit(c3)


@njit(cache=True)
def _unit(word: np.uint64) -> float:
    """Turn the upper 53 bits of a word into a number in [0, 1)."""
    return (word >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@njit(cache=True)
def _draw(key: NDArray[np.uint64], events: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Draw the numbers of all events, four at a time."""
    numbers = np.empty(offsets[-1])
    for row in range(len(events)):
        for start in range(offsets[row], offsets[row + 1], 4):
            drawn = four(key[0], key[1], events[row], (start - offsets[row]) // 4)
            for i in range(min(4, offsets[row + 1] - start)):
                numbers[start + i] = drawn[i]
    return numbers


@njit(cache=True)
def _draw_at(key: NDArray[np.uint64], events: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.float64]:
    numbers = np.empty((len(events), 4))
    for i in range(len(events)):
        drawn = four(key[0], key[1], events[i], places[i])
        numbers[i, 0], numbers[i, 1], numbers[i, 2], numbers[i, 3] = drawn
    return numbers


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
