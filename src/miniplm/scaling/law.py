"""Sums of power laws, L = A_1 / x_1^a_1 + ... + A_K / x_K^a_K + floor.

Axes: P points, K terms.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LONGEST_LOG = 700.0
"""Of a number that is told from infinity."""


@dataclass(frozen=True)
class PowerLaw:
    """A fitted law.

    Args:
        log_amplitudes: Natural logarithms of A_k.
        exponents: a_k.
        floor: What is left when every x is infinite, in the unit of the losses.
    """

    log_amplitudes: tuple[float, ...]
    exponents: tuple[float, ...]
    floor: float

    @property
    def constants(self) -> tuple[float, ...]:
        """A_1 to A_K, a_1 to a_K, and the floor."""
        return (*map(math.exp, self.log_amplitudes), *self.exponents, self.floor)

    def losses(self, x_PK: Floats) -> Floats:
        """Predicted losses at points, `[P]`."""
        exponents_K = np.array(self.exponents)
        terms_PK = np.exp(np.array(self.log_amplitudes) - exponents_K * np.log(x_PK))
        losses_P: Floats = terms_PK.sum(axis=1) + self.floor
        return losses_P

    def loss(self, *x: float) -> float:
        """Predicted loss at one point.

        Example:
            >>> PowerLaw((math.log(2.0),), (1.0,), 3.0).loss(4.0)
            3.5
        """
        return float(self.losses(np.array([x], dtype=np.float64))[0])

    def x_at(self, loss: float) -> float:
        """Of a law of one x: where it reaches a loss, (A / (L - floor))^(1 / a); or infinity.

        Example:
            >>> round(PowerLaw((0.0,), (0.5,), 3.0).x_at(3.1), 6)  # 1 / x^0.5 + 3
            100.0
        """
        if loss <= self.floor:
            return math.inf
        logarithm = (self.log_amplitudes[0] - math.log(loss - self.floor)) / self.exponents[0]
        return math.exp(logarithm) if logarithm < _LONGEST_LOG else math.inf
