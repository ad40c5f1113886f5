"""Fitting sums of power laws, L = A_1 / x_1^a_1 + ... + A_K / x_K^a_K + floor, to losses.

With K = 1 and x = C this is L(C) (MiniPLM, arXiv 2410.17215), with x = (N, D) the joint form of
Hoffmann et al. (arXiv 2203.15556, section 3.3). As there, the Huber loss of the difference of log
losses is minimised from a grid of starts, with everything in logs: A can be 1e10 and C 1e21.

Axes: P points, K terms.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from miniplm.scaling.law import Floats, PowerLaw

HUBER_DELTA = 1e-3
"""Of log losses; larger errors count by their size, not their square (Hoffmann et al.)."""
EXPONENT_BOUNDS = (0.01, 3.0)
LEAST_FLOOR = 0.01
"""The floor's lower bound as a share of the smallest loss."""
_START_EXPONENTS = (0.03, 0.07, 0.15, 0.25, 0.4, 0.6, 0.9, 1.3, 2.0)
_NEAR = 2e-3
"""A parameter so near to a bound is at it."""
_REFINED = 3
"""Best starts that are refined."""
_MOST_EVALUATIONS = 60
"""Of a start; points that determine a law take a third of it, others would take thousands."""
_TOLERANCE = 1e-9
_TOLERANCE_FROM_STARTS = 1e-5
"""Of laws of resampled points, which differ from each other by far more."""


@dataclass(frozen=True)
class PowerLawFit:
    """A law and how it was found.

    Args:
        law: The best one found.
        on_bound: Constants that a bound of the search stopped, by their places in
            `PowerLaw.constants`.
    """

    law: PowerLaw
    on_bound: tuple[int, ...]


def fit_power_law(
    x_PK: Floats, losses_P: Floats, starts: Sequence[PowerLaw] | None = None
) -> PowerLawFit:
    """Fit a law to points.

    The x are centred on their geometric means, so that a fit does not depend on their units.

    Args:
        x_PK: Compute, or parameters and tokens, above 0, `[P, K]`.
        losses_P: Above 0, `[P]`.
        starts: Laws to start from instead of the grid: for fits of resampled points, which lie
            near that of all points.

    Raises:
        ValueError: There are fewer points than constants, or values that have no logarithm.
    """
    from scipy.optimize import least_squares

    _check(x_PK, losses_P)
    centre_K = np.log(x_PK).mean(axis=0)
    z_PK = np.log(x_PK) - centre_K
    bounds = _bounds(losses_P, x_PK.shape[1])
    grid = _grid(z_PK, losses_P) if starts is None else [_packed(s, centre_K) for s in starts]
    tolerance = _TOLERANCE if starts is None else _TOLERANCE_FROM_STARTS
    best = sorted(grid, key=lambda start: _cost(start, z_PK, losses_P))[:_REFINED]
    found = [
        least_squares(
            _residuals, np.clip(start, *bounds), _jacobian, bounds, "trf", args=(z_PK, losses_P),
            loss="huber", f_scale=HUBER_DELTA, x_scale="jac", xtol=tolerance, ftol=tolerance,
            gtol=1e-12, max_nfev=_MOST_EVALUATIONS,
        )
        for start in best
    ]  # fmt: skip
    solution = min(found, key=lambda each: float(each.cost)).x
    return PowerLawFit(_unpacked(solution, centre_K), _stopped(solution, bounds))


def _check(x_PK: Floats, losses_P: Floats) -> None:
    constants = 2 * x_PK.shape[1] + 1
    if len(losses_P) < constants:
        raise ValueError(f"{len(losses_P)} points; a law of {constants} constants needs as many")
    if not (np.isfinite(x_PK).all() and np.isfinite(losses_P).all()):
        raise ValueError("a point is not finite")
    if x_PK.min() <= 0 or losses_P.min() <= 0:
        raise ValueError("compute, parameters, tokens and losses must be above 0")


# Parameters are [log amplitudes at the centre (K), exponents (K), log floor].


def _split(parameters: Floats) -> tuple[Floats, Floats, float]:
    terms = len(parameters) // 2
    return parameters[:terms], parameters[terms:-1], float(parameters[-1])


def _packed(law: PowerLaw, centre_K: Floats) -> Floats:
    exponents_K = np.array(law.exponents)
    at_centre_K = np.array(law.log_amplitudes) - exponents_K * centre_K
    return np.concatenate([at_centre_K, exponents_K, [math.log(law.floor)]])


def _unpacked(parameters: Floats, centre_K: Floats) -> PowerLaw:
    at_centre_K, exponents_K, log_floor = _split(parameters)
    log_amplitudes_K = at_centre_K + exponents_K * centre_K
    return PowerLaw(
        tuple(log_amplitudes_K.tolist()), tuple(exponents_K.tolist()), math.exp(log_floor)
    )


def _bounds(losses_P: Floats, terms: int) -> tuple[Floats, Floats]:
    least, most = float(losses_P.min()), float(losses_P.max())
    low = [math.log(least) - 25.0] * terms + [EXPONENT_BOUNDS[0]] * terms
    high = [math.log(most) + 10.0] * terms + [EXPONENT_BOUNDS[1]] * terms
    return (
        np.array([*low, math.log(LEAST_FLOOR * least)]),
        np.array([*high, math.log(most) + 0.01]),
    )


def _stopped(parameters: Floats, bounds: tuple[Floats, Floats]) -> tuple[int, ...]:
    near = [np.isclose(parameters, bound, rtol=0.0, atol=_NEAR) for bound in bounds]
    return tuple(np.flatnonzero(near[0] | near[1]).tolist())


def _terms(parameters: Floats, z_PK: Floats) -> tuple[Floats, Floats]:
    """Each term at each point, and the predicted losses."""
    at_centre_K, exponents_K, log_floor = _split(parameters)
    terms_PK = np.exp(at_centre_K - exponents_K * z_PK)
    return terms_PK, terms_PK.sum(axis=1) + math.exp(log_floor)


def _residuals(parameters: Floats, z_PK: Floats, losses_P: Floats) -> Floats:
    residuals_P: Floats = np.log(_terms(parameters, z_PK)[1] / losses_P)
    return residuals_P


def _jacobian(parameters: Floats, z_PK: Floats, losses_P: Floats) -> Floats:  # noqa: ARG001
    terms_PK, predicted_P = _terms(parameters, z_PK)
    shares_PK = terms_PK / predicted_P[:, None]
    floor_P = math.exp(parameters[-1]) / predicted_P
    return np.hstack([shares_PK, -z_PK * shares_PK, floor_P[:, None]])


def _cost(parameters: Floats, z_PK: Floats, losses_P: Floats) -> float:
    sizes_P = np.abs(_residuals(parameters, z_PK, losses_P)) / HUBER_DELTA
    return float(np.where(sizes_P <= 1, sizes_P**2 / 2, sizes_P - 0.5).sum())


def _grid(z_PK: Floats, losses_P: Floats) -> list[Floats]:
    """A start for each choice of exponents: given these, the rest is a linear problem."""
    from scipy.optimize import nnls

    starts = []
    least = float(losses_P.min())
    for exponents in itertools.product(_START_EXPONENTS, repeat=z_PK.shape[1]):
        powers_PK = np.exp(-np.array(exponents) * z_PK)
        columns = np.hstack([powers_PK, np.ones((len(losses_P), 1))]) / losses_P[:, None]
        amplitudes, _ = nnls(columns, np.ones(len(losses_P)))
        logs = np.log(np.maximum(amplitudes, 1e-3 * least))
        starts.append(np.concatenate([logs[:-1], exponents, logs[-1:]]))
    return starts
