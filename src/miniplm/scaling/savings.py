"""Compute and data that a method saves to the same loss as the baseline, at one size.

Read off measured curves, and, told apart, off the laws fitted to them. A factor is what the
baseline needs over what the method needs: 2 is half of the compute saved, under 1 is a loss.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from miniplm.scaling.content import Factor, FittedSaving, MeasuredSaving, Reading
from miniplm.scaling.curves import LossCurve
from miniplm.scaling.fits import Fit
from miniplm.scaling.law import Floats, PowerLaw
from miniplm.scaling.reliability import MOST_DEVIATION, distance_refusal
from miniplm.scaling.resampling import LEVEL, Interval, interval
from miniplm.scaling.series import Series


def measured_saving(method: Series, baseline: Series) -> MeasuredSaving:
    """Read off the curves: to the highest of their last losses, which all of them reach.

    With two curves or more on both sides, the interval is Welch's t interval of the difference of
    mean logarithms: how far the factor would move with other seeds. With one curve on a side there
    is none.

    Args:
        method: That is compared.
        baseline: Of the same size.
    """
    curves, others = method.curves, baseline.curves
    loss = max(curve.points[-1].loss for curve in (*curves, *others))
    compute = _factor(curves, others, lambda curve: curve.flops_at_loss(loss))
    data = _factor(curves, others, lambda curve: curve.tokens_at_loss(loss))
    refusal = None
    if compute is None or data is None:
        refusal = f"a curve begins below {loss:.3f}, the loss to compare at: evaluate more often"
    return MeasuredSaving(
        method=method.method,
        baseline=baseline.method,
        num_params=method.num_params,
        loss=loss,
        compute=None if refusal else compute,
        data=None if refusal else data,
        num_curves=(len(curves), len(others)),
        reading=_reading(curves, others, loss),
        refusal=refusal,
    )


def _factor(
    curves: Sequence[LossCurve],
    others: Sequence[LossCurve],
    needed: Callable[[LossCurve], float | None],
) -> Factor | None:
    """None where a curve is below the loss from its first point on: what it needed is not known."""
    logs = []
    for group in (curves, others):
        amounts = [needed(curve) for curve in group]
        if any(amount is None for amount in amounts):
            return None
        logs.append(np.log(np.array(amounts, dtype=np.float64)))
    ours, theirs = logs
    middle = float(theirs.mean() - ours.mean())
    return Factor(math.exp(middle), _welch(ours, theirs, middle))


def _welch(ours: Floats, theirs: Floats, middle: float) -> Interval | None:
    from scipy.stats import t

    if min(len(ours), len(theirs)) < 2:
        return None
    errors = [float(each.var(ddof=1)) / len(each) for each in (ours, theirs)]
    squares = sum(
        error**2 / (len(each) - 1) for error, each in zip(errors, (ours, theirs), strict=True)
    )
    if squares == 0:
        return Interval(math.exp(middle), math.exp(middle))
    freedom = sum(errors) ** 2 / squares
    half = float(t.ppf((1 + LEVEL) / 2, freedom)) * sum(errors) ** 0.5
    return Interval(math.exp(middle - half), math.exp(middle + half))


def _reading(curves: Sequence[LossCurve], others: Sequence[LossCurve], loss: float) -> Reading:
    ours = all(curve.is_settled_at(loss) for curve in curves)
    theirs = all(curve.is_settled_at(loss) for curve in others)
    readings: dict[tuple[bool, bool], Reading] = {
        (True, True): "about", (False, True): "at least",
        (True, False): "at most", (False, False): "unknown",
    }  # fmt: skip
    return readings[ours, theirs]


def fitted_saving(
    method: Series, baseline: Series, loss: float | None, num_tokens: float | None, why: str | None
) -> FittedSaving:
    """Off the laws, to a loss.

    The interval pairs the resamples of the two laws, which draw the same places of curves that were
    evaluated equally often: what both have in common cancels.

    Args:
        method: That is compared.
        baseline: Of the same size.
        loss: To be reached; None where it is not known.
        num_tokens: The baseline's budget at which that is its loss, if that is where it comes from;
            the laws are then used beyond the points.
        why: Why the loss is not known.
    """
    compute = data = None
    refusal = why or _fit_refusal(method, baseline, beyond=num_tokens is not None)
    if refusal is None and loss is not None and method.fit and baseline.fit:
        compute, refusal = _fitted_factor(method.fit, baseline.fit, loss, method.method)
        refusal = refusal or distance_refusal(method.fit, method.fit.law.x_at(loss))
    if compute and refusal is None:
        ratio = method.flops_per_token / baseline.flops_per_token
        data = _scaled(compute, ratio)
    return FittedSaving(
        method=method.method,
        baseline=baseline.method,
        num_params=method.num_params,
        num_tokens=num_tokens,
        loss=loss,
        compute=None if refusal else compute,
        data=data,
        refusal=refusal,
    )


def _fit_refusal(method: Series, baseline: Series, *, beyond: bool) -> str | None:
    """Beyond the points laws have to be fit for that; among them they have to go through them."""
    for series in (method, baseline):
        if series.fit is None or beyond:
            reasons = series.refusals
        elif series.fit.quality.deviation > MOST_DEVIATION:
            reasons = (f"losses lie {series.fit.quality.deviation:.1%} from the law",)
        else:
            reasons = ()
        if reasons:
            return f"{series.method}: {'; '.join(reasons)}"
    return None


def _fitted_factor(
    method: Fit, baseline: Fit, loss: float, name: str
) -> tuple[Factor | None, str | None]:
    """The factor, or why there is none."""
    value = _ratio(method.law, baseline.law, loss)
    if not 0 < value < math.inf:
        return None, f"the law of {name} or of the baseline never comes down to {loss:.3f}"
    found = interval(
        [
            _ratio(ours, theirs, loss)
            for ours, theirs in zip(method.resampled, baseline.resampled, strict=False)
        ]
    )
    if not 0 < found.low <= found.high < math.inf:
        share = (1 - LEVEL) / 2
        return None, f"in over {share:.1%} of the resamples a law never comes down to {loss:.3f}"
    return Factor(value, found), None


def _ratio(method: PowerLaw, baseline: PowerLaw, loss: float) -> float:
    """The baseline's compute over the method's; 0 where the method's law never gets there."""
    ours, theirs = method.x_at(loss), baseline.x_at(loss)
    return 0.0 if math.isinf(ours) else theirs / ours


def _scaled(factor: Factor, ratio: float) -> Factor:
    found = factor.interval
    scaled = Interval(found.low * ratio, found.high * ratio) if found else None
    return Factor(factor.value * ratio, scaled)
