"""What a proxy sees of a sequence: the reference's hidden states, or n-grams of its ids.

Both come with the reference's loss, which is there in any case.

Axes: R rows, D hidden width, F features, N n-grams.
"""

from typing import TYPE_CHECKING, Union

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from miniplm.data.chance import GOLDEN_RATIO_64
from miniplm.data.shards import Shard
from miniplm.scoring.proxy_config import Features
from miniplm.scoring.tables import states_of

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Matrix = Union[NDArray[np.floating], "csr_matrix"]

NGRAM_BUCKETS = 1 << 18
"""Features that n-grams are hashed to."""
LONGEST_NGRAM = 2


def features_per_row(kind: Features, width: int, num_ids: float) -> float:
    """Features of a row that are not zero, at most: those that a head multiplies.

    Args:
        kind: Which features.
        width: Of the reference's hidden states.
        num_ids: In a row.
    """
    return 1 + (width if kind == "hidden" else LONGEST_NGRAM * num_ids)


def features_of(
    kind: Features, shard: Shard, places: NDArray[np.int64], reference: pa.Table
) -> Matrix:
    """Features of some rows of a shard, `[R, F]`.

    Args:
        kind: Which.
        shard: Holds the rows.
        places: Of the rows in the shard, `[R]`.
        reference: The reference's scores of these rows, in this order; for `hidden` with states.
    """
    num_tokens = np.maximum(reference["num_tokens"].to_numpy(), 1)
    loss_R = (-reference["log_prob"].to_numpy() / num_tokens).astype(np.float32)
    if kind == "hidden":
        return np.column_stack([states_of(reference), loss_R])
    return ngram_features([shard.row(int(place)) for place in places], loss_R)


def ngram_features(rows: list[NDArray[np.int64]], loss_R: NDArray[np.float32]) -> "csr_matrix":
    """Hashed n-grams of each row and, last, its loss, `[R, NGRAM_BUCKETS + 1]` sparse.

    A bucket's number is log(1 + how often its n-grams come), and a row of them has length 1.
    """
    from scipy.sparse import csr_matrix, hstack

    buckets = [_buckets(row) for row in rows]
    ends = np.cumsum([0, *map(len, buckets)])
    places = np.concatenate([np.empty(0, np.int64), *buckets])
    ones = np.ones(len(places), dtype=np.float32)
    counts = csr_matrix((ones, places, ends), shape=(len(rows), NGRAM_BUCKETS))
    counts.sum_duplicates()
    counts.data = np.log1p(counts.data)
    squares_R = np.asarray(counts.multiply(counts).sum(axis=1)).ravel()
    counts.data /= np.repeat(np.sqrt(squares_R), np.diff(counts.indptr)).astype(np.float32)
    return hstack([counts, csr_matrix(loss_R[:, None])], format="csr")


def _buckets(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The bucket of each n-gram of a row, for all lengths."""
    shift = np.uint64(64 - (NGRAM_BUCKETS.bit_length() - 1))
    hashed = np.zeros(len(ids), dtype=np.uint64)
    found = []
    for length in range(LONGEST_NGRAM):
        ids_here = ids[length:].astype(np.uint64) + np.uint64(1)
        hashed = (hashed[: len(ids_here)] ^ ids_here) * GOLDEN_RATIO_64
        hashed ^= hashed >> np.uint64(29)
        found.append((hashed * GOLDEN_RATIO_64) >> shift)
    return np.concatenate(found).astype(np.int64)
