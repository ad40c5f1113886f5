"""Laws fitted to the curves of a method, with intervals and how good they are.

L(C) = A / C^alpha + L_inf is fitted to the curves of one method and size, C in training FLOPs
(MiniPLM, arXiv 2410.17215). L(N, D) = E + A / N^a + B / D^b (Hoffmann et al., arXiv 2203.15556) is
fitted to those of one method and several sizes, N in parameters, embeddings included, D in tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from miniplm.scaling.curves import CurvePoint, LossCurve, decades
from miniplm.scaling.law import PowerLaw
from miniplm.scaling.power_law import fit_power_law
from miniplm.scaling.resampling import Interval, Points, interval, joined, resamples

SKIP = 0.04
"""First share of a curve that no law is fitted to; of twenty evaluations the first one counts."""
RESAMPLES = 200
CONSTANTS = {1: ("A", "alpha", "L_inf"), 2: ("A", "B", "a", "b", "E")}
"""Names in the order of `PowerLaw.constants`, by the number of terms."""
_LAST_PART = 0.9
"""What is predicted to judge a fit to the first half: points from this share of the compute on."""


@dataclass(frozen=True)
class Quality:
    """How good a fit is.

    Args:
        num_points: That it was fitted to.
        num_curves: That they lie on.
        decades: Of compute, or of tokens for each size, that they cover.
        deviation: Standard deviation of log losses from the law: 0.01 is one per cent of the loss.
        r2: Share of the variance of log losses that the law explains.
        miss: What a fit to the first half of the compute (for each size, of the tokens) says of the
            end, less what was measured there, as a share of it; None where the first half has too
            few points.
    """

    num_points: int
    num_curves: int
    decades: float
    deviation: float
    r2: float
    miss: float | None


@dataclass(frozen=True)
class Fit:
    """A law fitted to curves.

    Args:
        law: Of the one variable C, or of N and D.
        resampled: Laws of the resamples.
        on_bound: Names of constants that stand at a bound of the search.
        share_on_bound: Share of the resamples whose constants do.
        quality: How good it is.
        last_amount: The largest compute that was measured, or the most tokens.
    """

    law: PowerLaw
    resampled: tuple[PowerLaw, ...]
    on_bound: tuple[str, ...]
    share_on_bound: float
    quality: Quality
    last_amount: float

    def interval(self, figure: Callable[[PowerLaw], float]) -> Interval:
        """The interval of anything that follows from the law."""
        return interval([figure(law) for law in self.resampled])


def compute_points(curve: LossCurve, skip: float = SKIP) -> Points:
    """The points of a curve that L(C) is fitted to."""
    return _points(curve.fit_points(skip), lambda point: (point.flops,))


def size_points(curve: LossCurve, num_params: int, skip: float = SKIP) -> Points:
    """The points of a curve that L(N, D) is fitted to."""
    size = float(num_params)
    return _points(curve.fit_points(skip), lambda point: (size, float(point.num_tokens)))


def _points(points: Sequence[CurvePoint], x: Callable[[CurvePoint], tuple[float, ...]]) -> Points:
    return Points(
        np.array([x(point) for point in points], dtype=np.float64),
        np.array([point.loss for point in points], dtype=np.float64),
        np.array([x(point)[-1] for point in points], dtype=np.float64),
    )


def fit_curves(
    strata: Sequence[Sequence[Points]], *, count: int = RESAMPLES, seed: int = 0
) -> Fit | None:
    """Fit a law to curves, and to resamples of them.

    Args:
        strata: The curves of each size.
        count: Resamples.
        seed: Of what is drawn.

    Returns:
        None where there are fewer points than constants, or too few to draw from.
    """
    curves = [curve for stratum in strata for curve in stratum]
    points = joined(curves)
    constants = 2 * points.x_PK.shape[1] + 1
    if len(np.unique(points.x_PK, axis=0)) < constants:
        return None
    found = fit_power_law(points.x_PK, points.losses_P)
    again = [
        fit_power_law(drawn.x_PK, drawn.losses_P, [found.law])
        for drawn in resamples(strata, count, seed)
    ]
    if len(again) < count / 2:
        return None
    return Fit(
        law=found.law,
        resampled=tuple(each.law for each in again),
        on_bound=tuple(CONSTANTS[points.x_PK.shape[1]][place] for place in found.on_bound),
        share_on_bound=sum(bool(each.on_bound) for each in again) / len(again),
        quality=_quality(found.law, strata),
        last_amount=float(points.amount_P.max()),
    )


def _quality(law: PowerLaw, strata: Sequence[Sequence[Points]]) -> Quality:
    sizes = [joined(stratum) for stratum in strata]
    points = joined(sizes)
    logs_P = np.log(points.losses_P)
    errors_P = np.log(law.losses(points.x_PK)) - logs_P
    free = max(1, len(logs_P) - 2 * points.x_PK.shape[1] - 1)
    spread = float(((logs_P - logs_P.mean()) ** 2).sum())
    squares = float((errors_P**2).sum())
    return Quality(
        num_points=len(logs_P),
        num_curves=sum(map(len, strata)),
        decades=min(decades(size.amount_P.tolist()) for size in sizes),
        deviation=(squares / free) ** 0.5,
        r2=1 - squares / spread if spread else 0.0,
        miss=_miss(sizes),
    )


def _miss(sizes: Sequence[Points]) -> float | None:
    """How far a fit to the first half of the amounts of each size is off at the end."""
    first = joined([size.part(0.0, 0.5) for size in sizes])
    last = joined([size.part(_LAST_PART, 1.0) for size in sizes])
    if len(np.unique(first.x_PK, axis=0)) < 2 * first.x_PK.shape[1] + 1:
        return None
    law = fit_power_law(first.x_PK, first.losses_P).law
    return float(np.exp(np.log(law.losses(last.x_PK) / last.losses_P).mean()) - 1)
