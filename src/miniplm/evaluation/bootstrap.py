"""Intervals by resampling documents within their domains.

The percentile bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13):
documents are drawn with replacement, as many as a domain has, and figures are worked out of the
sums of those drawn. It says how much of a figure is owed to which documents happen to be in the
held-out text, and nothing of what another seed of training would give.

Axes: N documents, K sums, R resamples.
"""

import zlib
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

NUM_RESAMPLES = 10_000
LEVEL = 0.95
FEWEST = 5
"""Documents of a domain that have an interval; of fewer the bootstrap's are much too narrow."""
_MOST_UNITS = 2_000
_DRAWN_AT_ONCE = 1 << 22


def resampled_sums(
    sums_NK: NDArray[np.float64], generator: np.random.Generator, num_resamples: int = NUM_RESAMPLES
) -> NDArray[np.float64]:
    """Sums over documents drawn with replacement, `[R, K]`.

    Many documents are first put together by chance in bundles of one size, which are then drawn:
    the spread is the same and the work is bounded.

    Args:
        sums_NK: What each document adds.
        generator: Draws.
        num_resamples: How often all are drawn.
    """
    units_NK = _bundled(sums_NK, generator)
    size, at_once = len(units_NK), max(1, _DRAWN_AT_ONCE // max(1, len(units_NK)))
    blocks = [np.empty((0, units_NK.shape[1]))]
    for begin in range(0, num_resamples, at_once):
        rows = min(at_once, num_resamples - begin)
        drawn = generator.integers(size, size=(rows, size)) + size * np.arange(rows)[:, None]
        counts_RN = np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size)
        blocks.append(counts_RN @ units_NK)
    return np.concatenate(blocks)


def _bundled(sums_NK: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    size = -(-len(sums_NK) // _MOST_UNITS)
    if size <= 1:
        return sums_NK
    shuffled_NK = sums_NK[generator.permutation(len(sums_NK))]
    begins = np.arange(0, len(sums_NK), size)
    bundled: NDArray[np.float64] = np.add.reduceat(shuffled_NK, begins, axis=0)
    return bundled


def resampled_domains(
    sums: Mapping[str, NDArray[np.float64]], seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> dict[str, NDArray[np.float64]]:
    """`resampled_sums` of each domain by itself.

    What is drawn of a domain depends on its name, the number of its documents and the seed: models
    that are measured on the same documents are resampled alike.

    Args:
        sums: What each document of a domain adds, `[N, K]`, by domain.
        seed: Of chance.
        num_resamples: How often all are drawn.
    """
    return {
        name: resampled_sums(
            sums_NK, np.random.default_rng([seed, zlib.crc32(name.encode())]), num_resamples
        )
        for name, sums_NK in sums.items()
    }


def are_enough(counts: Iterable[int]) -> bool:
    """Whether there is an interval of a figure over domains with so many documents each.

    What varies in drawing n documents of a domain are n - 1 of them, and nothing where n is 1.

    Example:
        >>> are_enough([5]), are_enough([4]), are_enough([1] * 9), are_enough([3, 3])
        (True, False, False, True)
    """
    return sum(count - 1 for count in counts) >= FEWEST - 1


def interval(values_R: NDArray[np.float64]) -> tuple[float, float]:
    """The middle 95 % of resampled figures; those that are no number are left out.

    Example:
        >>> [round(end, 6) for end in interval(np.arange(201.0))]
        [5.0, 195.0]
    """
    tail = 100 * (1 - LEVEL) / 2
    found = values_R[np.isfinite(values_R)]
    if not len(found):
        return float("nan"), float("nan")
    low, high = np.percentile(found, [tail, 100 - tail])
    return float(low), float(high)
