"""An interpolated trigram model over token ids: a judge of text that no score was taken from.

Kneser-Ney smoothing with one discount for each order (Kneser and Ney 1995; in the interpolated form
of Chen and Goodman 1998, section 3): with c a count, N the number of different words,

    p(w | u v) = max(c(uvw) - D, 0) / c(uv) + D N(uv.) / c(uv) p(w | v)
    p(w | v)   = max(N(.vw) - D, 0) / N(.v.) + D N(v.) / N(.v.) p(w)
    p(w)       = max(N(.w) - D, 0) / N(..) + D N(.) / N(..) / V

and D = n1 / (n1 + 2 n2) of each order, from how many counts are 1 and 2 (Ney, Essen and Kneser
1994). Where a context was never seen, the next shorter one answers alone.

Axes: N positions, V vocabulary, C contexts, K n-grams.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

LARGEST_VOCABULARY = 1 << 21
"""Three ids have to fit in 63 bits."""
_LEAST_DISCOUNT, _MOST_DISCOUNT = 0.1, 0.9


@dataclass(frozen=True)
class Trigrams:
    """Targets with the two ids before each; `u` is the vocabulary's size where there is one only.

    Args:
        u_N: Id two places before.
        v_N: Id before.
        w_N: Target.
        rows_N: Number of the row that each stands in.
    """

    u_N: NDArray[np.int64]
    v_N: NDArray[np.int64]
    w_N: NDArray[np.int64]
    rows_N: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[NDArray[Any]], vocab_size: int, eos_id: int) -> Self:
        """The targets of some rows: as in training, none behind an end-of-text id."""
        begin = np.array([vocab_size], dtype=np.int64)
        parts = [part for row in rows for part in (begin, row)]
        ids = np.concatenate([*parts, begin]).astype(np.int64)
        numbers = np.repeat(np.arange(len(rows)), [len(row) + 1 for row in rows])
        w, v = ids[1:-1], ids[:-2]
        places = np.flatnonzero((w != vocab_size) & (v != vocab_size) & (v != eos_id))
        return cls(ids[places - 1], v[places], w[places], numbers[places + 1])


@dataclass(frozen=True)
class _Order:
    """Counts of one order: `counts_K` of sorted `keys_K`; of each context, sum and number."""

    size: int
    keys_K: NDArray[np.int64]
    counts_K: NDArray[np.int64]
    contexts_C: NDArray[np.int64]
    totals_C: NDArray[np.int64]
    distinct_C: NDArray[np.int64]
    discount: float

    @classmethod
    def of(cls, keys_K: NDArray[np.int64], counts_K: NDArray[np.int64], size: int) -> Self:
        """From distinct n-grams as numbers in base `size`, ascending, and their counts."""
        contexts, begins = np.unique(keys_K // size, return_index=True)
        ends = np.append(begins[1:], len(keys_K))
        sums = np.concatenate([[0], np.cumsum(counts_K)])
        return cls(
            size, keys_K, counts_K, contexts, sums[ends] - sums[begins], ends - begins,
            _discount(counts_K),
        )  # fmt: skip

    def probability(
        self, keys_N: NDArray[np.int64], shorter_N: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Of n-grams, given what the next shorter context says of their last words."""
        counts_N = _looked_up(keys_N, self.keys_K, self.counts_K)
        contexts_N = keys_N // self.size
        totals_N = _looked_up(contexts_N, self.contexts_C, self.totals_C)
        distinct_N = _looked_up(contexts_N, self.contexts_C, self.distinct_C)
        seen_N = np.maximum(totals_N, 1)
        own_N = np.maximum(counts_N - self.discount, 0.0) / seen_N
        left_N = self.discount * distinct_N / seen_N
        return np.where(totals_N > 0, own_N + left_N * shorter_N, shorter_N)


class NgramModel:
    """Counts of some text.

    Args:
        counted: Its targets.
        vocab_size: V, ids that there may be.
    """

    def __init__(self, counted: Trigrams, vocab_size: int) -> None:
        self._vocab_size = vocab_size
        base = self._base = vocab_size + 1
        assert vocab_size < LARGEST_VOCABULARY
        keys, counts = np.unique(self._keys(counted), return_counts=True)
        self._trigrams = _Order.of(keys, counts, base)
        pairs, followed = np.unique(keys % base**2, return_counts=True)
        self._bigrams = _Order.of(pairs, followed, base)
        words, preceded = np.unique(pairs % base, return_counts=True)
        self._words = _Order.of(words, preceded, base)  # all in the one context 0

    def _keys(self, targets: Trigrams) -> NDArray[np.int64]:
        keys: NDArray[np.int64] = (targets.u_N * self._base + targets.v_N) * self._base
        return keys + targets.w_N

    def losses(self, targets: Trigrams) -> NDArray[np.float64]:
        """Nats of each target, `[N]`."""
        keys_N = self._keys(targets)
        uniform_N = np.full(len(keys_N), 1 / self._vocab_size)
        word_N = self._words.probability(targets.w_N, uniform_N)
        pair_N = self._bigrams.probability(keys_N % self._base**2, word_N)
        losses: NDArray[np.float64] = -np.log(self._trigrams.probability(keys_N, pair_N))
        return losses


def _looked_up(
    wanted_N: NDArray[np.int64], keys_K: NDArray[np.int64], values_K: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The value of each wanted key among ascending ones; 0 where it is not there."""
    if len(keys_K) == 0:
        return np.zeros(len(wanted_N), dtype=np.int64)
    places = np.minimum(np.searchsorted(keys_K, wanted_N), len(keys_K) - 1)
    return np.where(keys_K[places] == wanted_N, values_K[places], 0)


def _discount(counts_K: NDArray[np.int64]) -> float:
    """What is taken off each count; within bounds, as small counts may lack ones or twos."""
    ones, twos = np.count_nonzero(counts_K == 1), np.count_nonzero(counts_K == 2)
    discount = ones / (ones + 2 * twos) if ones else 0.0
    return float(np.clip(discount, _LEAST_DISCOUNT, _MOST_DISCOUNT))
