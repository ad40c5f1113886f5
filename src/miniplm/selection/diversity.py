"""How varied text is: n-grams that differ, and how alike two rows are.

Pure functions over token ids. Axes: N positions, F features of rows.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_BUCKETS = np.uint64(1 << 22)


def ngram_hashes(
    rows: Sequence[NDArray[Any]], n: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """A hash of each run of `n` ids within a row, and the number of the row, in order.

    The hash is of 64 bits: of a million n-grams, two share one by chance in one sample out of
    tens of millions.
    """
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    numbers = np.repeat(np.arange(len(rows)), lengths)
    ids = np.concatenate([*rows, np.empty(0, np.int64)]).astype(np.uint64)
    count = max(0, len(ids) - n + 1)
    hashes = np.zeros(count, dtype=np.uint64)
    for place in range(n):
        hashes = (hashes + ids[place : place + count] + np.uint64(1)) * _MULTIPLIER
        hashes ^= hashes >> np.uint64(29)
    within = np.flatnonzero(numbers[:count] == numbers[n - 1 : n - 1 + count])
    return hashes[within], numbers[within]


def distinct_shares(
    before: Sequence[NDArray[Any]], after: Sequence[NDArray[Any]], n: int
) -> tuple[float, float, int]:
    """Distinct n-grams over n-grams of two samples, at equal numbers of n-grams.

    The share falls with the size of a sample, so only the first of the larger one are looked at.

    Returns:
        The share before and after, and the number of n-grams; 1 of no n-grams.

    Example:
        >>> distinct_shares([np.array([1, 2, 3, 4, 5])], [np.array([1, 2, 1, 2])], 2)
        (1.0, 0.6666666666666666, 3)
    """
    hashed = [ngram_hashes(rows, n)[0] for rows in (before, after)]
    count = min(len(hashes) for hashes in hashed)
    first, second = (_num_distinct(hashes[:count]) / count if count else 1.0 for hashes in hashed)
    return first, second, count


def _num_distinct(values: NDArray[np.uint64]) -> int:
    ordered = np.sort(values)  # several times faster than a hash table
    return 1 + int(np.count_nonzero(ordered[1:] != ordered[:-1]))


def self_similarity(rows: Sequence[NDArray[Any]], n: int = 2) -> float | None:
    """Mean cosine between the n-gram counts of two different rows, 0 to 1.

    Counts are of hashed n-grams. With u the counts of a row divided by their Euclidean length and S
    the sum of all u, the mean over pairs is (|S|^2 - rows) / (rows (rows - 1)); no pair is looked
    at.

    Returns:
        None where fewer than two rows have an n-gram.

    Example:
        >>> round(self_similarity([np.array([1, 2, 3]), np.array([1, 2, 9])]), 3)
        0.5
    """
    hashes, numbers = ngram_hashes(rows, n)
    keys = numbers.astype(np.uint64) * _BUCKETS + hashes % _BUCKETS
    features, counts_F = np.unique(keys, return_counts=True)
    rows_F = (features // _BUCKETS).astype(np.int64)
    squares = np.bincount(rows_F, weights=counts_F.astype(np.float64) ** 2)
    num_rows = int(np.count_nonzero(squares))
    if num_rows < 2:
        return None
    shares_F = counts_F / np.sqrt(squares[rows_F])
    _, buckets_F = np.unique(features % _BUCKETS, return_inverse=True)
    length = float((np.bincount(buckets_F, weights=shares_F) ** 2).sum())
    return (length - num_rows) / (num_rows * (num_rows - 1))
