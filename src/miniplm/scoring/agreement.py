"""How well predicted scores rank like the true ones: pure functions of numbers.

Axes: R rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PAPER_RATIO = 0.5
_RESAMPLES = 200
_INTERVAL = (2.5, 97.5)

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure with the interval that 95 % of bootstrap resamples fall into."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.1%} ({self.low:.1%} to {self.high:.1%})"


def spearman(true_R: Scores, predicted_R: Scores) -> float:
    """Rank correlation; equal numbers share the mean of their ranks. 0 where one is constant."""
    from scipy.stats import rankdata

    ranks = [rankdata(values) for values in (true_R, predicted_R)]
    if any(np.ptp(values) == 0 for values in ranks):
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])


def num_top(size: int, ratio: float) -> int:
    """Rows in the top of so many: floor(ratio * size), at least one."""
    return max(1, int(np.floor(ratio * size + 1e-9)))


def top_rows(scores_R: Scores, ratio: float) -> NDArray[np.bool_]:
    """The highest `num_top` rows; of equal ones the first."""
    kept_R = np.zeros(len(scores_R), dtype=np.bool_)
    kept_R[np.argsort(-scores_R, kind="stable")[: num_top(len(scores_R), ratio)]] = True
    return kept_R


def selection_agreement(true_R: Scores, predicted_R: Scores, ratio: float = PAPER_RATIO) -> float:
    """Share of the true top rows that are among as many predicted ones; by chance it is `ratio`.

    Example:
        >>> true = np.array([4.0, 3.0, 2.0, 1.0])
        >>> selection_agreement(true, np.array([4.0, 1.0, 3.0, 2.0]))
        0.5
    """
    both_R = top_rows(true_R, ratio) & top_rows(predicted_R, ratio)
    return float(both_R.sum() / top_rows(true_R, ratio).sum())


def agreement_within(
    true_R: Scores, predicted_R: Scores, groups_R: NDArray[np.integer], ratio: float = PAPER_RATIO
) -> float:
    """Like `selection_agreement`, the top being taken inside each group; over all groups' tops."""
    num_both = num_kept = 0
    for group in np.unique(groups_R):
        here = groups_R == group
        true, predicted = top_rows(true_R[here], ratio), top_rows(predicted_R[here], ratio)
        num_both += int((true & predicted).sum())
        num_kept += int(true.sum())
    return num_both / max(1, num_kept)


def agreement_by_chance(groups_R: NDArray[np.integer], ratio: float = PAPER_RATIO) -> float:
    """What `agreement_within` is on average for predictions that know nothing.

    Of n rows in a group of which k are kept, k chosen by chance hold k * k / n of these.

    Example:
        >>> agreement_by_chance(np.array([0, 0, 0, 0]), 0.5), agreement_by_chance(np.array([7]))
        (0.5, 1.0)
    """
    sizes = np.unique_counts(groups_R).counts
    kept = np.array([num_top(int(size), ratio) for size in sizes])
    return float((kept**2 / sizes).sum() / max(1, kept.sum()))


def kappa(agreement: float, by_chance: float) -> float:
    """Cohen's kappa of two selections of equal size: 0 by chance, 1 for the same rows.

    Where they agree on a share a of their rows and would by chance on a share c, it comes out as
    (a - c) / (1 - c) (Cohen, 1960, doi:10.1177/001316446002000104). Where chance agrees on all of
    them there is nothing to get wrong: 1.

    Example:
        >>> kappa(0.75, by_chance=0.5), kappa(0.25, by_chance=0.25), kappa(1.0, by_chance=1.0)
        (0.5, 0.0, 1.0)
    """
    return (agreement - by_chance) / (1 - by_chance) if by_chance < 1 else 1.0


def bootstrap(
    figure: Callable[..., float], columns: Sequence[NDArray[np.generic]], seed: int
) -> Estimate:
    """A figure of some rows, and how much it would vary over other rows of the same kind.

    Args:
        figure: Of columns.
        columns: Arrays `[R]`.
        seed: Of the resamples.
    """
    generator = np.random.default_rng(seed)
    size = len(columns[0])
    values = []
    for _ in range(_RESAMPLES):
        rows = generator.integers(0, size, size)
        values.append(figure(*(column[rows] for column in columns)))
    low, high = np.percentile(values, _INTERVAL)
    return Estimate(figure(*columns), float(low), float(high))
