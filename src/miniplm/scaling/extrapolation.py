"""What a law says beyond its points, or the reason why it is not asked."""

from collections.abc import Sequence
from dataclasses import dataclass

from miniplm.scaling.content import Extrapolation
from miniplm.scaling.fits import Fit
from miniplm.scaling.reliability import distance_refusal, width_refusal


@dataclass(frozen=True)
class Budget:
    """A training: its student's parameters, its tokens, and its compute."""

    num_params: int | None
    num_tokens: float
    flops: float

    def refused(self, reason: str) -> Extrapolation:
        """No loss, and why."""
        return Extrapolation(self.num_params, self.num_tokens, self.flops, None, None, reason)


def extrapolate(
    fit: Fit | None,
    refusals: Sequence[str],
    at: Sequence[float],
    last: Sequence[float],
    budget: Budget,
) -> Extrapolation:
    """A loss with its interval, or a refusal.

    Args:
        fit: The law.
        refusals: What speaks against it wherever it is asked.
        at: Where it is asked: compute; or parameters and tokens.
        last: The same where measuring ended.
        budget: What that is.
    """
    if fit is None or refusals:
        return budget.refused("; ".join(refusals))
    if too_far := distance_refusal(fit, at[-1]):
        return budget.refused(too_far)
    loss = fit.law.loss(*at)
    found = fit.interval(lambda law: law.loss(*at))
    if too_wide := width_refusal(loss, found, fit.law.loss(*last)):
        return budget.refused(too_wide)
    return Extrapolation(budget.num_params, budget.num_tokens, budget.flops, loss, found, None)
