"""Training curves, and the compute at which they reach a loss."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

SETTLED = 1.25
"""A learning rate at most so many times that of the run's end counts as having fallen."""


@dataclass(frozen=True)
class CurvePoint:
    """Where a training stood when it was evaluated.

    Args:
        num_tokens: Trained on so far.
        flops: Of training so far, as the method has them.
        loss: Of the chosen kind, on held-out text.
        lr: Learning rate of the step.
    """

    num_tokens: int
    flops: float
    loss: float
    lr: float = 1.0


@dataclass(frozen=True)
class LossCurve:
    """Losses of one student along its training.

    Args:
        student: Its name.
        run: The run it belongs to, by any name.
        points: With compute above 0, ascending; at least one.
        num_params: All parameters; None where they are not known.
        finished: Whether training came to its end.
    """

    student: str
    run: str
    points: tuple[CurvePoint, ...]
    num_params: int | None = None
    finished: bool = True

    @property
    def flops_per_token(self) -> float:
        """Of training, a teacher beside the student included."""
        return self.points[-1].flops / self.points[-1].num_tokens

    @property
    def falls(self) -> bool:
        """Whether the learning rate comes down along the points."""
        return max(point.lr for point in self.points) > SETTLED * self.points[-1].lr

    def fit_points(self, skip: float) -> tuple[CurvePoint, ...]:
        """Points that a law is fitted to: those behind the warm-up and the first part of the run.

        Args:
            skip: Share of the curve's own compute that is left out; a loss that still falls from
                that of an untrained model follows another law.
        """
        peak = max(point.lr for point in self.points)
        warm = next(point.flops for point in self.points if point.lr >= 0.99 * peak)
        begin = max(warm, skip * self.points[-1].flops)
        return tuple(point for point in self.points if point.flops >= begin)

    def end_only(self) -> "LossCurve":
        """The curve's last point by itself."""
        return replace(self, points=self.points[-1:])

    def is_settled_at(self, loss: float) -> bool:
        """Whether the learning rate had come down when the curve first reached a loss.

        Of a run that is not finished it never has; under a constant schedule it always has.
        """
        end = self.points[-1].lr
        reached = next((point for point in self.points if point.loss <= loss), None)
        return self.finished and reached is not None and reached.lr <= SETTLED * end

    def flops_at_loss(self, loss: float) -> float | None:
        """Training FLOPs at which the curve first reaches a loss, as `compute_at_loss`."""
        return compute_at_loss(
            [point.flops for point in self.points], [point.loss for point in self.points], loss
        )

    def tokens_at_loss(self, loss: float) -> float | None:
        """Tokens at which the curve first reaches a loss, as `compute_at_loss`."""
        return compute_at_loss(
            [point.num_tokens for point in self.points], [point.loss for point in self.points], loss
        )


def compute_at_loss(flops: Sequence[float], losses: Sequence[float], target: float) -> float | None:
    """Training FLOPs at which a curve first reaches a loss, by linear interpolation.

    Args:
        flops: Ascending; or tokens, to read off these.
        losses: Loss at each of them.
        target: The loss to reach.

    Returns:
        None where the curve never gets there, or lies below it from its first point on, so that it
        got there at some time before.

    Example:
        >>> compute_at_loss([0, 10, 20], [5.0, 4.0, 3.0], 3.5)
        15.0
        >>> compute_at_loss([10, 20], [4.0, 3.0], 4.5) is None
        True
    """
    for index, loss in enumerate(losses):
        if loss > target:
            continue
        if index == 0:
            return float(flops[0]) if loss == target or flops[0] == 0 else None
        before, above = flops[index - 1], losses[index - 1]
        return before + (flops[index] - before) * (above - target) / (above - loss)
    return None


def decades(values: Sequence[float]) -> float:
    """How far positive values reach, in powers of ten.

    Example:
        >>> decades([5.0, 500.0, 50.0])
        2.0
    """
    return math.log10(max(values) / min(values)) if values else 0.0
