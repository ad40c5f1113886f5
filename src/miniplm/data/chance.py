"""Chance by hash: numbers that depend on a seed and on what they are for, and on nothing else.

So results are the same for any order of rows, any batches and shards, and after a restart.

Axes: B sequences, T positions.
"""

import numpy as np
from numpy.typing import NDArray

GOLDEN_RATIO_64 = np.uint64(0x9E3779B97F4A7C15)
"""2 ** 64 over the golden ratio: multiples of it are spread evenly (Fibonacci hashing)."""


def uniform_by_id(sequence_ids: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each id, by hash (SplitMix64 of id and seed)."""
    return (_hashed(sequence_ids, seed) >> np.uint64(11)).astype(np.float64) / 2.0**53


def uniform_by_position(
    sequence_ids_B: NDArray[np.int64], num_positions: int, seed: int
) -> NDArray[np.float64]:
    """A number in [0, 1) for each of the first positions of some sequences, `[B, T]`.

    They are multiples of 2 ** -32, so that sums of one with a count are exact.

    Args:
        sequence_ids_B: Ids of the sequences.
        num_positions: T.
        seed: Any 64 bits.
    """
    steps_T = np.arange(1, num_positions + 1, dtype=np.uint64) * GOLDEN_RATIO_64
    mixed_BT = _mix(_hashed(sequence_ids_B, seed)[:, None] ^ steps_T)
    uniform_BT: NDArray[np.float64] = (mixed_BT >> np.uint64(32)).astype(np.float64) / 2.0**32
    return uniform_BT


def seed_of(seed: int, number: int) -> int:
    """A seed of its own for each number, such as a step's."""
    return int(_hashed(np.array([number]), seed)[0])


def _hashed(sequence_ids: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    return _mix(sequence_ids.astype(np.uint64) ^ _mix(np.array([seed], dtype=np.uint64)))


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value = value + GOLDEN_RATIO_64
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = value ^ (value >> np.uint64(31))
    return mixed
