"""Rows as sets of shingles: n-grams of token ids, hashed.

A shingle is `size` ids in a row of ids, and is known by 64 bits; nothing is decoded. Two n-grams
share a hash with a chance of 2 ** -64.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_ROUND = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Shingles:
    """Hashes of the shingles of some rows, one row after another.

    Args:
        hashes: Of all shingles, uint64.
        starts: Where each row begins, and the end of the last, `[rows + 1]` int64.
    """

    hashes: NDArray[np.uint64]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @classmethod
    def of(cls, ids: NDArray[Any], lengths: NDArray[np.int64], size: int) -> Self:
        """Shingles of rows; one that occurs twice in a row is there twice.

        A row shorter than a shingle has none.

        Args:
            ids: Token ids of the rows, one row after another.
            lengths: Ids in each row, `[rows]`.
            size: Ids in a shingle.

        Example:
            >>> same = Shingles.of(np.array([1, 2, 3, 1, 2]), np.array([3, 2]), 2)
            >>> same.starts.tolist(), bool(same.hashes[0] == same.hashes[2])
            ([0, 2, 3], True)
        """
        counts = np.maximum(lengths - size + 1, 0)
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        if starts[-1] == 0:
            return cls(np.empty(0, np.uint64), starts)
        begins = np.cumsum(lengths) - lengths
        places = np.arange(starts[-1]) + np.repeat(begins - starts[:-1], counts)
        return cls(hash_ngrams(ids, size)[places], starts)

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Some of the rows, in the given order."""
        counts = np.diff(self.starts)[rows]
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        places = np.arange(starts[-1]) + np.repeat(self.starts[rows] - starts[:-1], counts)
        return type(self)(self.hashes[places], starts)


def hash_ngrams(ids: NDArray[Any], size: int) -> NDArray[np.uint64]:
    """A hash of each `size` neighbouring ids, `[ids - size + 1]`."""
    count = len(ids) - size + 1
    wide = ids.astype(np.uint64)
    hashes = np.full(count, size, dtype=np.uint64)
    for step in range(size):
        hashes = mixed(hashes + wide[step : step + count])
    return hashes


def mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The bits of each number mixed, one to one (the finalizer of SplitMix64)."""
    values = values + _ROUND
    values ^= values >> np.uint64(30)
    values *= _MULTIPLIERS[0]
    values ^= values >> np.uint64(27)
    values *= _MULTIPLIERS[1]
    values ^= values >> np.uint64(31)
    return values


def jaccard(first: Shingles, second: Shingles) -> NDArray[np.float64]:
    """Jaccard similarity of the sets of each two rows, `[pairs]`: shared over all shingles.

    Args:
        first: One row of each pair.
        second: The other, in the same order.

    Returns:
        0 where neither has a shingle.

    Example:
        >>> rows = Shingles.of(np.array([1, 2, 3, 1, 2, 4]), np.array([3, 3]), 2)
        >>> jaccard(rows.take(np.array([0, 0])), rows.take(np.array([0, 1]))).tolist()
        [1.0, 0.3333333333333333]
    """
    keys = [_set_keys(rows) for rows in (first, second)]
    both = np.sort(np.concatenate(keys))
    shared = _per_pair(both[1:][both[1:] == both[:-1]], len(first))
    union = sum(_per_pair(part, len(first)) for part in keys) - shared
    similarity: NDArray[np.float64] = shared / np.maximum(union, 1)
    return similarity


_PAIR_BITS = 20
MOST_PAIRS = 1 << _PAIR_BITS
"""Pairs that `jaccard` takes at a time."""


def _set_keys(rows: Shingles) -> NDArray[np.uint64]:
    """Number of the row and hash of the shingle in one number each, sorted, each once.

    44 bits of the hash are left: enough to tell the few thousand shingles of a pair apart.
    """
    assert len(rows) <= MOST_PAIRS
    numbers = np.repeat(np.arange(len(rows), dtype=np.uint64), np.diff(rows.starts))
    keys = rows.hashes >> np.uint64(_PAIR_BITS) | numbers << np.uint64(64 - _PAIR_BITS)
    keys.sort()
    first = np.ones(len(keys), dtype=np.bool_)
    np.not_equal(keys[1:], keys[:-1], out=first[1:])
    return keys[first]


def _per_pair(keys: NDArray[np.uint64], num_pairs: int) -> NDArray[np.int64]:
    numbers = (keys >> np.uint64(64 - _PAIR_BITS)).astype(np.int64)
    return np.bincount(numbers, minlength=num_pairs)
