"""Bootstrap of fits: what is drawn again, and the intervals that follow.

Where a law is fitted to several curves of a size, curves are drawn with replacement; within each
curve that was drawn, so are blocks of neighbouring points, as long as the square root of their
number, since neighbours err alike. So an interval tells how far the constants would move with
other runs of the same kind (seeds), if there are several, and with other wiggles along the curves.
It tells nothing of whether the law holds where nothing was measured; and of a single curve nothing
of how another seed would have come out. Of two or three curves it is too narrow, as few were drawn
from.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miniplm.scaling.law import Floats

LEVEL = 0.95
"""Of all intervals."""
_FEWEST_PLACES = 3


@dataclass(frozen=True)
class Interval:
    """An interval of `LEVEL`: between the quantiles of what resampling gave."""

    low: float
    high: float

    @property
    def width(self) -> float:
        """From the low to the high end."""
        return self.high - self.low


@dataclass(frozen=True)
class Points:
    """Points of one curve, to be fitted.

    Args:
        x_PK: Compute; or parameters and tokens, `[P, K]`.
        losses_P: Losses there, `[P]`.
        amount_P: What is extrapolated over: compute; or tokens, `[P]`.
    """

    x_PK: Floats
    losses_P: Floats
    amount_P: Floats

    def take(self, places: NDArray[np.intp]) -> "Points":
        """Some of the points."""
        return Points(self.x_PK[places], self.losses_P[places], self.amount_P[places])

    def part(self, low: float, high: float) -> "Points":
        """The points between two shares of the largest amount."""
        share_P = self.amount_P / self.amount_P.max()
        return self.take(np.flatnonzero((share_P >= low) & (share_P <= high)))


def joined(parts: Sequence[Points]) -> Points:
    """All points of several curves."""
    return Points(
        np.concatenate([part.x_PK for part in parts]),
        np.concatenate([part.losses_P for part in parts]),
        np.concatenate([part.amount_P for part in parts]),
    )


def resamples(strata: Sequence[Sequence[Points]], count: int, seed: int) -> Iterator[Points]:
    """Draw points again, as the module says.

    Args:
        strata: The curves of each size; curves are drawn within these.
        count: How many resamples are tried.
        seed: Of what is drawn.

    Yields:
        Those with points at three places or more.
    """
    generator = np.random.default_rng(seed)
    for _ in range(count):
        parts = [
            _blocks(curves[chosen], generator)
            for curves in strata
            for chosen in generator.integers(0, len(curves), len(curves))
        ]
        drawn = joined(parts)
        if len(np.unique(drawn.amount_P)) >= _FEWEST_PLACES:
            yield drawn


def _blocks(curve: Points, generator: np.random.Generator) -> Points:
    """As many points as the curve has, in blocks of neighbours, which may reach around its ends."""
    count = len(curve.losses_P)
    length = max(1, round(math.sqrt(count)))
    begins = generator.integers(0, count, -(-count // length))
    places = (begins[:, None] + np.arange(length)) % count
    return curve.take(places.ravel()[:count])


def interval(values: Sequence[float]) -> Interval:
    """The middle `LEVEL` of some values, of which some may be infinite.

    Example:
        >>> interval([float(value) for value in range(41)])
        Interval(low=1.0, high=39.0)
    """
    ordered = sorted(values)
    outside = round((1 - LEVEL) / 2 * (len(ordered) - 1))
    return Interval(ordered[outside], ordered[len(ordered) - 1 - outside])
