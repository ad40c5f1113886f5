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
        low: Lower end of the 95 % interval.
        high: Upper end.
        p_value: Two-sided; never 0, since resamples are counted.
        test: What the p value is of.
        num_units: Documents, rows or items.
        num_seeds: Pairs of models.
        by_seed: The difference of each pair.
    """

    value: float
    low: float
    high: float
    p_value: float
    test: str
    num_units: int
    num_seeds: int = 1
    by_seed: tuple[float, ...] = ()

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def drawn_seeds(num_seeds: int, seed: int, num_resamples: int) -> NDArray[np.int64]:
    """Seeds drawn with replacement, as many as there are, `[R, S]`."""
    generator = np.random.default_rng([seed, _CHANCE_OF_SEEDS])
    return generator.integers(num_seeds, size=(num_resamples, num_seeds))
