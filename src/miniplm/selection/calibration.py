"""Calibrated difference scores: what is left when the models' scales are taken out.

The difference of two losses goes mostly with the one that varies more. `residual` asks how much
better the teacher is than it usually is on rows that are as hard for the reference; where the
reference tells little of that, it is nearly the teacher alone (docs/calibration.md). `zscore` asks
how much better the difference is than on rows of the same domain and length. Both are fitted on the
sample of rows that the select stage draws, by hash of their ids.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from miniplm.errors import ArtefactError

Calibration = Literal["none", "residual", "zscore"]

_FEWEST = 30
"""Rows that a domain and length, or a domain, needs for figures of its own."""
_LENGTHS = 4
_MAD_TO_DEVIATION = 1.4826
"""Standard deviation over median distance from the median, of normal numbers."""
_LEAST_SLOPE = 0.2
"""Of a residual's line; at 0.17 the ranking was the teacher's alone (docs/calibration.md)."""
_HUBER = 1.345
"""Residuals beyond so many deviations weigh less (Huber 1981; 95 % as good on normal numbers)."""


@dataclass(frozen=True)
class Rows:
    """Rows with what calibrations look at.

    Args:
        teacher: Normalised log-probabilities, `[rows]`.
        reference: The same under the reference.
        num_tokens: Scored tokens.
        domains: Names.
        domain_numbers: Which of them each row is of.
    """

    teacher: NDArray[np.float64]
    reference: NDArray[np.float64]
    num_tokens: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    domains: tuple[str, ...] = ()
    domain_numbers: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))

    def take(self, order: NDArray[np.intp]) -> Self:
        """Some of the rows, in an order."""
        described = len(self.num_tokens) > 0
        return replace(
            self,
            teacher=self.teacher[order],
            reference=self.reference[order],
            num_tokens=self.num_tokens[order] if described else self.num_tokens,
            domain_numbers=self.domain_numbers[order] if described else self.domain_numbers,
        )

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """All rows of some."""
        domains = sorted({domain for part in parts for domain in part.domains})
        numbers = {domain: number for number, domain in enumerate(domains)}
        of_parts = [
            np.array([numbers[domain] for domain in part.domains], np.int32) for part in parts
        ]
        return cls(
            np.concatenate([part.teacher for part in parts]),
            np.concatenate([part.reference for part in parts]),
            np.concatenate([part.num_tokens for part in parts]),
            tuple(domains),
            np.concatenate(
                [mine[part.domain_numbers] for mine, part in zip(of_parts, parts, strict=True)]
            ),
        )


class Calibrated(Protocol):
    """A fitted calibration."""

    def scores(self, rows: Rows) -> NDArray[np.float64]:
        """Calibrated difference scores, `[rows]`; higher is better."""

    def facts(self) -> dict[str, object]:
        """What was fitted, as plain JSON values."""

    def warnings(self) -> list[str]:
        """What a person should know about the fit."""


@dataclass(frozen=True)
class Residual:
    """Teacher loss = intercept + slope * reference loss; the score is how far a row is below.

    Args:
        slope: Of the line.
        intercept: Nats per unit.
    """

    slope: float
    intercept: float

    @classmethod
    def fit(cls, rows: Rows) -> "Residual":
        """A robust line (Huber's M-estimate).

        Raises:
            ArtefactError: The reference's losses are all the same.
        """
        from sklearn.linear_model import HuberRegressor

        usable = ~np.isnan(rows.teacher - rows.reference)
        x, y = -rows.reference[usable], -rows.teacher[usable]
        if len(x) < 2 or np.ptp(x) == 0:
            raise ArtefactError(
                f"calibration residual: {len(x)} scored rows with one reference loss give no line; "
                "use calibration: none"
            )
        line = HuberRegressor(epsilon=_HUBER, alpha=0.0, max_iter=1000).fit(x[:, None], y)
        return cls(float(line.coef_[0]), float(line.intercept_))

    def scores(self, rows: Rows) -> NDArray[np.float64]:
        """See `Calibrated`."""
        expected_loss = self.intercept - self.slope * rows.reference
        scores: NDArray[np.float64] = expected_loss + rows.teacher
        return scores

    def facts(self) -> dict[str, object]:
        """See `Calibrated`."""
        return {"slope": self.slope, "intercept": self.intercept}

    def warnings(self) -> list[str]:
        """See `Calibrated`."""
        if self.slope >= _LEAST_SLOPE:
            return []
        return [
            f"The residual's slope is {self.slope:.2f}: the reference's loss tells little of the "
            "teacher's, so that rows are ranked by the teacher's loss nearly alone. A better "
            "reference would help (docs/calibration.md)."
        ]


@dataclass(frozen=True)
class ZScore:
    """(score - median) / deviation, both of the row's domain and length.

    Medians and median distances, so that a few odd rows do not count. Where there are too few rows
    of a length, the domain's are taken, and where there are too few of the domain, everybody's.

    Args:
        edges: Lengths that part short rows from long ones, `[L - 1]` tokens.
        middles: Medians by domain, `[L]` each; the name "" has those for other domains.
        deviations: The same of deviations.
    """

    edges: NDArray[np.float64]
    middles: dict[str, NDArray[np.float64]]
    deviations: dict[str, NDArray[np.float64]]

    @classmethod
    def fit(cls, rows: Rows) -> "ZScore":
        """Medians and deviations of a sample.

        Raises:
            ArtefactError: No row has a score.
        """
        difference = rows.teacher - rows.reference
        usable = ~np.isnan(difference)
        if not usable.any():
            raise ArtefactError("calibration zscore: no row has a score; use calibration: none")
        edges = np.quantile(rows.num_tokens[usable], np.arange(1, _LENGTHS) / _LENGTHS)
        lengths = np.searchsorted(edges, rows.num_tokens)
        overall = _middle_and_deviation(difference[usable])
        found = {"": np.tile(overall, (_LENGTHS, 1))}
        for number, domain in enumerate(rows.domains):
            here = usable & (rows.domain_numbers == number)
            if np.count_nonzero(here) < _FEWEST:
                continue
            found[domain] = np.tile(_middle_and_deviation(difference[here]), (_LENGTHS, 1))
            for length in range(_LENGTHS):
                cell = here & (lengths == length)
                if np.count_nonzero(cell) >= _FEWEST:
                    found[domain][length] = _middle_and_deviation(difference[cell])
        return cls(
            edges,
            {domain: pairs[:, 0] for domain, pairs in found.items()},
            {domain: pairs[:, 1] for domain, pairs in found.items()},
        )

    def scores(self, rows: Rows) -> NDArray[np.float64]:
        """See `Calibrated`."""
        lengths = np.searchsorted(self.edges, rows.num_tokens)
        names = [domain if domain in self.middles else "" for domain in rows.domains]
        middles_DL = np.stack([self.middles[name] for name in names])
        deviations_DL = np.stack([self.deviations[name] for name in names])
        cells = rows.domain_numbers, lengths
        difference = rows.teacher - rows.reference
        scores: NDArray[np.float64] = (difference - middles_DL[cells]) / deviations_DL[cells]
        return scores

    def facts(self) -> dict[str, object]:
        """See `Calibrated`."""
        return {
            "length_edges": self.edges.tolist(),
            "medians": {domain: values.tolist() for domain, values in self.middles.items()},
            "deviations": {domain: values.tolist() for domain, values in self.deviations.items()},
        }

    def warnings(self) -> list[str]:
        """See `Calibrated`."""
        return []


def _middle_and_deviation(values: NDArray[np.float64]) -> tuple[float, float]:
    middle = float(np.median(values))
    deviation = _MAD_TO_DEVIATION * float(np.median(np.abs(values - middle)))
    return middle, deviation or 1.0


def fit_calibration(kind: Calibration, rows: Rows) -> Calibrated | None:
    """Fit a calibration on some rows; None for `none`. Raises what the fits raise."""
    if kind == "none":
        return None
    return Residual.fit(rows) if kind == "residual" else ZScore.fit(rows)
