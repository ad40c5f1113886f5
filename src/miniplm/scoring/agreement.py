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


def top_rows(scores_R: Scores, ratio: float) -> NDArray[np.bool_]:
    """The highest floor(ratio * R) rows, at least one; of equal ones the first."""
    num_kept = max(1, int(np.floor(ratio * len(scores_R) + 1e-9)))
    kept_R = np.zeros(len(scores_R), dtype=np.bool_)
    kept_R[np.argsort(-scores_R, kind="stable")[:num_kept]] = True
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


def above_chance(agreement: float, ratio: float) -> float:
    """How far an agreement is from chance (0) to perfect (1), at its selection ratio.

    Example:
        >>> above_chance(0.8, 0.5), above_chance(0.5, 0.5)
        (0.6000000000000001, 0.0)
    """
    return (agreement - ratio) / (1 - ratio) if ratio < 1 else 1.0


def bar_at(min_agreement: float, ratio: float) -> float:
    """The agreement that is as far above chance at a ratio as `min_agreement` is at one half.

    Example:
        >>> round(bar_at(0.8, 0.5), 3), round(bar_at(0.8, 0.25), 3), round(bar_at(0.8, 0.9), 3)
        (0.8, 0.7, 0.96)
    """
    return ratio + (1 - ratio) * above_chance(min_agreement, PAPER_RATIO)


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
