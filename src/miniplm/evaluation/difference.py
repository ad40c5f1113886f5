"""A difference of two models, with its interval and whether it could be chance.

Axes: S seeds, R resamples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_CHANCE_OF_SEEDS = 1


@dataclass(frozen=True)
class Difference:
    """What one model has more than another.

    Args:
        value: The first one's figure less the second's; a mean over seeds.
        low: Lower end of the 95 % interval; None of too few units to draw from.
        high: Upper end.
        p_value: Two-sided; never 0, since resamples are counted. None where drawing too few units
            would give it.
        test: What the p value is of.
        num_units: Documents, rows or items.
        num_seeds: Pairs of models.
        by_seed: The difference of each pair.
    """

    value: float
    low: float | None
    high: float | None
    p_value: float | None
    test: str
    num_units: int
    num_seeds: int = 1
    by_seed: tuple[float, ...] = ()

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends, where there are any."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def is_clear(self) -> bool:
        """Whether there is an interval, and it leaves out zero."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


def drawn_seeds(num_seeds: int, seed: int, num_resamples: int) -> NDArray[np.int64]:
    """Seeds drawn with replacement, as many as there are, `[R, S]`."""
    generator = np.random.default_rng([seed, _CHANCE_OF_SEEDS])
    return generator.integers(num_seeds, size=(num_resamples, num_seeds))
