"""Figures that tell what a calibration did to a ranking: pure functions of numbers.

Rows without a figure, such as those that a student has not scored, are NaN and left out.

Axes: R rows, D domains.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miniplm.scoring.agreement import spearman, top_rows
from miniplm.selection.calibration import Residual, Rows

FEWEST = 30
"""Rows that a domain needs for a correlation of its own."""

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Correlation:
    """Spearman's, over all rows, and its mean within domains, weighted by their rows."""

    overall: float
    within: float

    @classmethod
    def of(cls, a_R: Scores, b_R: Scores, domains_R: NDArray[np.integer]) -> "Correlation":
        """Of the rows that have both figures."""
        known = np.isfinite(a_R) & np.isfinite(b_R)
        a, b, domains = a_R[known], b_R[known], domains_R[known]
        return cls(spearman(a, b), spearman_within(a, b, domains))


def spearman_within(a_R: Scores, b_R: Scores, domains_R: NDArray[np.integer]) -> float:
    """Mean of the domains' rank correlations by their rows; NaN where all domains are too small."""
    total = size = 0.0
    for domain in np.unique(domains_R):
        here = domains_R == domain
        if (count := np.count_nonzero(here)) >= FEWEST:
            total += count * spearman(a_R[here], b_R[here])
            size += count
    return total / size if size else float("nan")


def share_between(scores_R: Scores, domains_R: NDArray[np.integer]) -> float:
    """Share of the scores' variance that is between the means of domains."""
    known = np.isfinite(scores_R)
    scores, domains = scores_R[known], domains_R[known]
    counts = np.bincount(domains)
    means = np.bincount(domains, scores) / np.maximum(counts, 1)
    between = ((means - scores.mean()) ** 2 @ counts) / len(scores)
    return float(between / scores.var())


def kept_by_domain(
    scores_R: Scores, domains_R: NDArray[np.integer], num_domains: int, ratio: float
) -> Scores:
    """Share of each domain's rows among the top rows of all, `[D]`; NaN of an empty domain."""
    kept_R = top_rows(scores_R, ratio)
    counts_D = np.bincount(domains_R, minlength=num_domains)
    kept_D = np.bincount(domains_R[kept_R], minlength=num_domains)
    shares_D: Scores = kept_D / np.where(counts_D > 0, counts_D, np.nan)
    return shares_D


def domains_to_show(
    names: Sequence[str], before_D: Scores, after: Sequence[Scores], num_changed: int
) -> list[int]:
    """Numbers of the domains whose kept share changes most, and of those labelled as noise.

    Args:
        names: Of domains.
        before_D: Kept shares of the ranking that others are compared with.
        after: Kept shares of the others, `[D]` each.
        num_changed: How many of those that change most under each.
    """
    shown = set(np.flatnonzero(is_noise(names)).tolist())
    for after_D in after:
        change_D = np.nan_to_num(np.abs(after_D - before_D))
        shown.update(np.argsort(-change_D, kind="stable")[:num_changed].tolist())
    return sorted(shown, key=lambda number: names[number])


def is_noise(names: Sequence[str]) -> NDArray[np.bool_]:
    """Which domains the corpus itself labels as noise, `[D]`."""
    return np.array([name.startswith("noise-") for name in names], np.bool_)


def slopes_by_reference_loss(rows: Rows, num_parts: int) -> list[float]:
    """Slopes of the robust line in equal parts of the rows, those that are easy for the reference
    first: where they differ, teacher loss over reference loss is no straight line.
    """
    order = np.argsort(-rows.reference, kind="stable")
    known = order[np.isfinite(rows.teacher - rows.reference)[order]]
    return [Residual.fit(rows.take(part)).slope for part in np.array_split(known, num_parts)]
