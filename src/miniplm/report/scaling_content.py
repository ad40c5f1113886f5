"""Scaling fits, as plain data: what was measured, the fitted curve with its band, or why not.

Losses are in the unit of the content, FLOPs are those of training.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class MeasuredLoss:
    """A run's loss after so much training compute; `fitted` says whether the fit is made of it."""

    flops: float
    loss: float
    fitted: bool = True


@dataclass(frozen=True)
class FittedLoss:
    """A point of the fitted curve and of its band, ends of a 95 % interval."""

    flops: float
    loss: float
    low: float
    high: float


@dataclass(frozen=True)
class ScalingFit:
    """A method's curve.

    `formula` gives the fitted constants in words, such as `L(C) = 4.2e3 / C^0.21 + 1.83`. The grid
    rises; beyond `measured_to` it is extrapolated. Where `refusal` says why there is no fit, or
    none that may be extrapolated, the grid is empty or ends at `measured_to`.
    """

    method: str
    points: Sequence[MeasuredLoss]
    grid: Sequence[FittedLoss]
    measured_to: float
    formula: str = ""
    refusal: str | None = None


@dataclass(frozen=True)
class ScalingContent:
    """All fits; `findings` are sentences, such as compute saved at equal loss."""

    fits: Sequence[ScalingFit]
    findings: Sequence[str] = field(default_factory=tuple)
    unit: str = "nats per token"
