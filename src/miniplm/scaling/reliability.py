"""What a law may be asked, and why not: reasons as sentences, for people and for data.

A fit of three constants goes through almost any curve. Whether it says something beyond the points
is another question, and the answer is a reason to refuse, or none. The bars:

- points: two for each constant;
- a decade of compute. At the exponents of the paper (0.41 to 0.59) what is above L_inf falls to a
  third over it; over much less, a law that levels off soon and one that falls for long cannot be
  told apart;
- no constant at a bound of the search, nor in more than a tenth of the resamples;
- losses within one per cent of the law (standard deviation of log losses): methods differ by one
  or two;
- fitted to the first half of the compute, it is within one per cent at the end. This finds laws
  of a wrong form, such as those through curves whose learning rate falls on the way;
- not further beyond the points than twice as many decades as these cover (the paper goes 2.3
  decades beyond its curves, from 52B tokens to 10T);
- an interval that is not wider than both the improvement that is predicted and two per cent.
"""

import math

from miniplm.scaling.fits import Fit
from miniplm.scaling.resampling import Interval

POINTS_PER_CONSTANT = 2
LEAST_DECADES = 1.0
MOST_ON_BOUND = 0.1
MOST_DEVIATION = 0.01
MOST_MISS = 0.01
FARTHEST = 2.0
MOST_WIDTH = 0.02
SIZES = 3
SIZE_RANGE = 4.0


def fit_refusals(fit: Fit | None, num_points: int, constants: int = 3) -> list[str]:
    """Why a fit must not be extrapolated, in sentences without a full stop; nothing if it may.

    Args:
        fit: None where there were too few points for one.
        num_points: That there were.
        constants: Of the law.
    """
    wanted = POINTS_PER_CONSTANT * constants
    reasons = []
    if num_points < wanted:
        reasons.append(f"{num_points} points; a law of {constants} constants needs {wanted}")
    if fit is None:
        return reasons or ["too few points at different compute"]
    quality = fit.quality
    if quality.decades < LEAST_DECADES - 1e-9:
        reasons.append(
            f"the points cover a factor of {10**quality.decades:.1f} in {_unit(fit, 'compute')}; "
            f"it takes {10**LEAST_DECADES:.0f} to tell a slope from a floor"
        )
    return [*reasons, *_bound_reasons(fit), *_fit_reasons(fit)]


def _bound_reasons(fit: Fit) -> list[str]:
    if fit.on_bound:
        return [
            f"{' and '.join(fit.on_bound)} of the law came to a bound of the search: the points "
            "do not determine it"
        ]
    if fit.share_on_bound > MOST_ON_BOUND:
        return [
            f"in {fit.share_on_bound:.0%} of the resamples a constant came to a bound of the "
            "search: the points hardly determine it"
        ]
    return []


def _fit_reasons(fit: Fit) -> list[str]:
    quality, reasons = fit.quality, []
    if quality.deviation > MOST_DEVIATION:
        reasons.append(
            f"losses lie {quality.deviation:.1%} from the law (standard deviation); the "
            f"bar is {MOST_DEVIATION:.0%}"
        )
    if quality.miss is None:
        reasons.append(
            f"too few points in the first half of the {_unit(fit, 'compute')} to test the law with"
        )
    elif abs(quality.miss) > MOST_MISS:
        side = "above" if quality.miss > 0 else "below"
        reasons.append(
            f"fitted to the first half of the {_unit(fit, 'compute')}, the law is "
            f"{abs(quality.miss):.1%} {side} what was measured at the end; the bar is "
            f"{MOST_MISS:.0%}"
        )
    return reasons


def size_refusals(sizes: list[int]) -> list[str]:
    """Why curves of these sizes do not determine L(N, D); nothing if they may."""
    if len(sizes) < SIZES:
        named = " and ".join(f"{size:,}" for size in sizes) or "none that is known"
        return [f"students of {len(sizes)} sizes ({named}); it takes {SIZES} to fit E, A and a"]
    if max(sizes) < SIZE_RANGE * min(sizes):
        return [
            f"sizes from {min(sizes):,} to {max(sizes):,} parameters, a factor of "
            f"{max(sizes) / min(sizes):.1f}; it takes {SIZE_RANGE:.0f}"
        ]
    return []


def _unit(fit: Fit, of_compute: str) -> str:
    """What a law is extrapolated over."""
    return of_compute if len(fit.law.exponents) == 1 else "tokens"


def distance_refusal(fit: Fit, amount: float) -> str | None:
    """Why a compute, or a number of tokens, is too far beyond the points; None if it is not."""
    beyond = math.log10(amount / fit.last_amount)
    if beyond <= FARTHEST * fit.quality.decades:
        return None
    return (
        f"{amount:.3g} {_unit(fit, 'FLOPs')} are {beyond:.1f} powers of ten beyond the points, "
        f"which cover {fit.quality.decades:.1f}; the bar is twice that"
    )


def width_refusal(loss: float, found: Interval, last_loss: float) -> str | None:
    """Why an interval of an extrapolated loss says nothing; None if it says something."""
    most = max(last_loss - loss, MOST_WIDTH * loss)
    if found.width <= most:
        return None
    return (
        f"the interval, {found.low:.3f} to {found.high:.3f}, is wider than the step that it is "
        f"about, from {last_loss:.3f} to {loss:.3f}"
    )
