"""What a selection did, added up block by block: counts, tokens and scores per domain.

Axes: D domains, S = 2 (dropped, kept). Counts and tokens are whole numbers and exact. Means and
variances are sums of floats: how rows are spread over shards changes them by rounding only (less
than 1e-9 of their size), the number of workers not at all, as parts are added in a fixed order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from miniplm.runtime.buffers import Buffers

_BUFFERS = Buffers()


@dataclass(frozen=True)
class Moments:
    """Of some numbers: how many, their mean, and the sum of their squared distances from it."""

    count: int
    mean: float
    squares: float

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Self:
        """Of an array."""
        if len(values) == 0:
            return cls(0, 0.0, 0.0)
        mean = float(values.mean())
        away = np.subtract(values, mean, out=_BUFFERS.get("away", len(values)))
        return cls(len(values), mean, float(np.square(away, out=away).sum()))

    @property
    def deviation(self) -> float:
        """Standard deviation."""
        return float(np.sqrt(self.squares / max(1, self.count)))

    @classmethod
    def total(cls, parts: Sequence[Self]) -> Self:
        """Of all the numbers that the parts are of."""
        count = sum(part.count for part in parts)
        mean = sum(part.count * part.mean for part in parts) / max(1, count)
        squares = sum(part.squares + part.count * (part.mean - mean) ** 2 for part in parts)
        return cls(count, mean, squares)


@dataclass(frozen=True)
class Totals:
    """Totals of some rows.

    Args:
        domains: Names, D of them.
        rows_DS: Sequences by domain, dropped and kept.
        tokens_DS: Their scored tokens.
        scored_D: Sequences that have a difference score.
        score_D: Sum of these scores.
        num_below_zero: Scores below zero.
        scores: Moments of all scores.
        counted_D: Sequences kept, each as often as it comes in an epoch at the end of training.
        tokens_counted_D: Their scored tokens.
    """

    domains: tuple[str, ...]
    rows_DS: NDArray[np.int64]
    tokens_DS: NDArray[np.int64]
    scored_D: NDArray[np.int64]
    score_D: NDArray[np.float64]
    num_below_zero: int
    scores: Moments
    counted_D: NDArray[np.int64]
    tokens_counted_D: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        domains: Sequence[str],
        domain_numbers: NDArray[np.int32],
        num_tokens: NDArray[np.int32],
        difference: NDArray[np.float64],
        kept: NDArray[np.bool_],
        counted: NDArray[np.int32] | None = None,
    ) -> Self:
        """Add up rows.

        Args:
            domains: Names of domains.
            domain_numbers: Of each row.
            num_tokens: Scored tokens of each row.
            difference: Difference score of each row, or NaN.
            kept: Whether each row is kept.
            counted: How often each comes in an epoch at the end of training; None: once if it is
                kept.
        """
        num_rows, size = len(kept), len(domains)
        numbers = _BUFFERS.get("numbers", num_rows, np.int64)
        groups = _BUFFERS.get("groups", num_rows, np.int64)
        tokens = _BUFFERS.get("tokens", num_rows)
        np.copyto(numbers, domain_numbers)
        np.copyto(tokens, num_tokens)
        np.add(np.multiply(numbers, 2, out=groups), kept, out=groups)
        rows_DS = np.bincount(groups, minlength=2 * size).reshape(size, 2)
        tokens_DS = np.bincount(groups, weights=tokens, minlength=2 * size).reshape(size, 2)
        counted_D, tokens_counted_D = rows_DS[:, 1], tokens_DS[:, 1]
        if counted is not None:
            counted_D = np.bincount(numbers, weights=counted, minlength=size)
            tokens_counted_D = np.bincount(numbers, weights=counted * tokens, minlength=size)
        scored_D = rows_DS.sum(axis=1)
        if (missing := np.isnan(difference)).any():
            numbers, difference = numbers[~missing], difference[~missing]
            scored_D = np.bincount(numbers, minlength=size)
        score_D = np.bincount(numbers, weights=difference, minlength=size)
        return cls(
            domains=tuple(domains),
            rows_DS=rows_DS,
            tokens_DS=tokens_DS.astype(np.int64),
            scored_D=scored_D,
            score_D=score_D.astype(np.float64, copy=False),  # its type says int
            num_below_zero=int(np.count_nonzero(difference < 0)),
            scores=Moments.of(difference),
            counted_D=counted_D.astype(np.int64),
            tokens_counted_D=tokens_counted_D.astype(np.int64),
        )

    @classmethod
    def total(cls, parts: Sequence[Self]) -> Self:
        """All parts together; domains in order of their names."""
        domains = sorted(
            {
                name
                for part in parts
                for name, rows in zip(part.domains, part.rows_DS.sum(axis=1), strict=True)
                if rows  # a dictionary may name domains of which no row is left
            }
        )
        numbers = {name: number for number, name in enumerate(domains)}
        size = len(domains)
        rows_DS, tokens_DS = np.zeros((2, size, 2), dtype=np.int64)
        scored_D, counted_D, tokens_counted_D = np.zeros((3, size), dtype=np.int64)
        score_D = np.zeros(size, dtype=np.float64)
        for part in parts:
            there = [place for place, name in enumerate(part.domains) if name in numbers]
            here = [numbers[part.domains[place]] for place in there]
            rows_DS[here] += part.rows_DS[there]
            tokens_DS[here] += part.tokens_DS[there]
            scored_D[here] += part.scored_D[there]
            score_D[here] += part.score_D[there]
            counted_D[here] += part.counted_D[there]
            tokens_counted_D[here] += part.tokens_counted_D[there]
        return cls(
            domains=tuple(domains),
            rows_DS=rows_DS,
            tokens_DS=tokens_DS,
            scored_D=scored_D,
            score_D=score_D,
            num_below_zero=sum(part.num_below_zero for part in parts),
            scores=Moments.total([part.scores for part in parts]),
            counted_D=counted_D,
            tokens_counted_D=tokens_counted_D,
        )

    @property
    def num_rows(self) -> int:
        """Sequences, kept or not."""
        return int(self.rows_DS.sum())

    @property
    def num_kept(self) -> int:
        """Sequences kept."""
        return int(self.rows_DS[:, 1].sum())

    @property
    def variance_between_domains(self) -> float:
        """Share of the scores' variance that lies between domains, 0 to 1 (eta squared)."""
        if self.scores.squares == 0:
            return 0.0
        present = self.scored_D > 0
        means = self.score_D[present] / self.scored_D[present]
        between = float((self.scored_D[present] * (means - self.scores.mean) ** 2).sum())
        return between / self.scores.squares

    def by_domain(self) -> dict[str, dict[str, Any]]:
        """Counts, tokens and the mean score of each domain, for the manifest.

        What is `kept` is in the refined corpus; `counted` is as often as it comes in an epoch at
        the end of training.
        """
        return {
            domain: {
                "num_sequences": int(self.rows_DS[number].sum()),
                "num_kept": int(self.rows_DS[number, 1]),
                "num_tokens": int(self.tokens_DS[number].sum()),
                "num_tokens_kept": int(self.tokens_DS[number, 1]),
                "num_counted": int(self.counted_D[number]),
                "num_tokens_counted": int(self.tokens_counted_D[number]),
                "mean_score": float(self.score_D[number] / max(1, self.scored_D[number])),
            }
            for number, domain in enumerate(self.domains)
        }
