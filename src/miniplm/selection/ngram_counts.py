"""Rows as bags of hashed n-grams of token ids, and their weighting by tf-idf.

Axes: R rows, F features (buckets that n-grams are hashed to).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from miniplm.selection.shingles import Shingles

if TYPE_CHECKING:
    from scipy.sparse import csr_array

NUM_FEATURES = 1 << 16


def ngram_counts(ids: NDArray[Any], lengths: NDArray[np.int64], longest: int) -> "csr_array":
    """How often n-grams of 1 to `longest` ids are in each row, `[R, F]` float32.

    Args:
        ids: Token ids of the rows, one row after another.
        lengths: Ids in each row.
        longest: Ids in the longest n-grams.
    """
    from scipy.sparse import csr_array

    cells = np.sort(np.concatenate([_cells(ids, lengths, n) for n in range(1, longest + 1)]))
    first = np.ones(len(cells), dtype=np.bool_)
    np.not_equal(cells[1:], cells[:-1], out=first[1:])
    begins = np.flatnonzero(first)
    counts = np.diff(begins, append=len(cells)).astype(np.float32)
    rows, features = np.divmod(cells[begins], NUM_FEATURES)
    starts = np.searchsorted(rows, np.arange(len(lengths) + 1))
    return csr_array((counts, features, starts), shape=(len(lengths), NUM_FEATURES))


def _cells(ids: NDArray[Any], lengths: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Row and feature of each n-gram of `size` ids, as one number."""
    ngrams = Shingles.of(ids, lengths, size)
    features = (ngrams.hashes % np.uint64(NUM_FEATURES)).astype(np.int64)
    rows = np.repeat(np.arange(len(lengths)), np.diff(ngrams.starts))
    return rows * NUM_FEATURES + features


@dataclass(frozen=True)
class Weighting:
    """Tf-idf: (1 + log count) * (1 + log((1 + rows) / (1 + rows that have it))), at unit length.

    As scikit-learn's `TfidfTransformer` with `sublinear_tf` (smoothed, Salton and Buckley, 1988).

    Args:
        rarity_F: The second factor.
    """

    rarity_F: NDArray[np.float32]

    @classmethod
    def fit(cls, counts_RF: "csr_array") -> Self:
        """From the rows of a sample."""
        num_rows = counts_RF.shape[0]
        having_F = np.bincount(counts_RF.indices, minlength=NUM_FEATURES)
        return cls((1 + np.log((1 + num_rows) / (1 + having_F))).astype(np.float32))

    def apply(self, counts_RF: "csr_array") -> "csr_array":
        """Weighted rows of length 1, `[R, F]` float32."""
        from scipy.sparse import csr_array

        rows = np.repeat(np.arange(counts_RF.shape[0]), np.diff(counts_RF.indptr))
        values = (1 + np.log(counts_RF.data)) * self.rarity_F[counts_RF.indices]
        squares = np.bincount(rows, values.astype(np.float64) ** 2, minlength=counts_RF.shape[0])
        values /= np.sqrt(squares).astype(np.float32)[rows]
        return csr_array((values, counts_RF.indices, counts_RF.indptr), shape=counts_RF.shape)
