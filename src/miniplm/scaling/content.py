"""What is found about scaling, as plain data: to be printed, drawn, and written as JSON.

Losses are of one kind, in the `unit` of the findings. FLOPs are of training, counted from the
shapes. Intervals are of `level`; `scaling.resampling` says what is drawn again for them, and None
stands where there is none.
"""

from dataclasses import dataclass
from typing import Literal

from miniplm.scaling.resampling import Interval

Reading = Literal["about", "at least", "at most", "unknown"]
"""How a factor that was read off curves is to be taken. A curve whose learning rate has not fallen
yet needs more compute to a loss than a run that was to end there: `at least` where that holds for
the method alone, `at most` for the baseline alone, `unknown` for both, `about` for neither."""


@dataclass(frozen=True)
class Constant:
    """A fitted constant: A, alpha, L_inf; or A, a, B, b, E."""

    name: str
    value: float
    interval: Interval


@dataclass(frozen=True)
class FitPoint:
    """A point of a curve, and whether the law was fitted to it."""

    num_tokens: int
    flops: float
    loss: float
    is_fitted: bool


@dataclass(frozen=True)
class CurveContent:
    """A student's curve."""

    student: str
    run: str
    finished: bool
    points: tuple[FitPoint, ...]


@dataclass(frozen=True)
class BandPoint:
    """The law at a compute; beyond what was measured where `is_measured` is false."""

    flops: float
    loss: float
    interval: Interval
    is_measured: bool


@dataclass(frozen=True)
class Extrapolation:
    """A loss at a budget, or the reason why there is none.

    Args:
        num_params: Of the student.
        num_tokens: The budget: what the baseline of this size is trained on.
        flops: Its training compute, which every method of the size gets.
    """

    num_params: int | None
    num_tokens: float
    flops: float
    loss: float | None
    interval: Interval | None
    refusal: str | None


@dataclass(frozen=True)
class FitContent:
    """A fitted law, and how good it is (see `fits.Quality`)."""

    constants: tuple[Constant, ...]
    num_points: int
    num_curves: int
    decades: float
    deviation: float
    r2: float
    miss: float | None


@dataclass(frozen=True)
class SeriesContent:
    """The curves of one method and size, and L(C) = A / C^alpha + L_inf through them.

    Args:
        method: Its name.
        num_params: Of its students; None where unknown.
        flops_per_token: Of training.
        curves: Of its students.
        fit: None where there are too few points for one.
        refusals: Why the law must not be extrapolated; empty if it may.
        band: The law over a grid of compute, equal steps in its logarithm.
        extrapolations: One for each budget.
    """

    method: str
    num_params: int | None
    flops_per_token: float
    curves: tuple[CurveContent, ...]
    fit: FitContent | None
    refusals: tuple[str, ...]
    band: tuple[BandPoint, ...]
    extrapolations: tuple[Extrapolation, ...]


@dataclass(frozen=True)
class JointContent:
    """L(N, D) = E + A / N^a + B / D^b over all sizes of a method."""

    method: str
    sizes: tuple[int, ...]
    fit: FitContent | None
    refusals: tuple[str, ...]
    extrapolations: tuple[Extrapolation, ...]


@dataclass(frozen=True)
class Factor:
    """How many times less a method needs than the baseline; under 1: it needs more."""

    value: float
    interval: Interval | None


@dataclass(frozen=True)
class MeasuredSaving:
    """Compute and data to one loss, read off the curves of a method and of the baseline.

    Args:
        method: That is compared with the baseline, at one size.
        baseline: Its name.
        num_params: The size.
        loss: The highest of the last losses of all the curves.
        compute: The baseline's FLOPs to that loss over the method's; None with a refusal.
        data: The same of tokens.
        num_curves: Of the method and of the baseline.
        reading: How the factors are to be taken.
        refusal: Why there is none.
    """

    method: str
    baseline: str
    num_params: int | None
    loss: float | None
    compute: Factor | None
    data: Factor | None
    num_curves: tuple[int, int]
    reading: Reading
    refusal: str | None


@dataclass(frozen=True)
class FittedSaving:
    """Compute and data to one loss, off the laws; never a measurement.

    Args:
        method: That is compared with the baseline, at one size.
        baseline: Its name.
        num_params: The size.
        num_tokens: The baseline's budget at which the loss is its law's; None where the loss is the
            one of the measured saving.
        loss: The loss.
        compute: The baseline's FLOPs to that loss over the method's; None with a refusal.
        data: The same of tokens.
        refusal: Why there is none.
    """

    method: str
    baseline: str
    num_params: int | None
    num_tokens: float | None
    loss: float | None
    compute: Factor | None
    data: Factor | None
    refusal: str | None


@dataclass(frozen=True)
class ScalingFindings:
    """All that is found.

    Args:
        loss: Kind of the losses, such as `held_out_loss`.
        unit: Theirs.
        level: Of the intervals.
        baseline: The method that others are compared with; None where there is one method only.
        series: By method, then by size, the baseline first.
        joint: Of the methods with students of several sizes.
        measured: Savings read off curves.
        fitted: Savings off the laws.
        cautions: Sentences on what all this rests on.
    """

    loss: str
    unit: str
    level: float
    baseline: str | None
    series: tuple[SeriesContent, ...]
    joint: tuple[JointContent, ...]
    measured: tuple[MeasuredSaving, ...]
    fitted: tuple[FittedSaving, ...]
    cautions: tuple[str, ...]
