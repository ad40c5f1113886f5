"""What rows are ranked by. Pure functions of their arguments.

Results do not depend on how rows are ordered or spread over shards: chance comes from a hash of
the id and the seed.
"""

import numpy as np
from numpy.typing import NDArray

from miniplm.data.chance import uniform_by_id
from miniplm.selection.config import SelectionConfig

_HALF_STEP = 2.0**-54
"""Puts chance in the middle of its 2 ** 53 steps, away from 0."""


def ranking_values(
    config: SelectionConfig,
    teacher: NDArray[np.float64],
    reference: NDArray[np.float64],
    scores: NDArray[np.float64],
    sequence_ids: NDArray[np.int64],
    seed: int,
) -> NDArray[np.float64]:
    """The number by which a policy ranks rows; the highest are kept.

    The baselines take one term of the difference score: `teacher_only` what the teacher finds
    likely, `reference_only` and `perplexity_band` what the reference finds unlikely; `random` takes
    none. Sampling without replacement ranks by noisy scores (`gumbel_values`).

    Args:
        config: Names the policy.
        teacher: Normalised log-probabilities under the teacher, `[rows]`.
        reference: The same under the reference.
        scores: Difference scores, calibrated or not.
        sequence_ids: Id of each row.
        seed: Of chance.

    Returns:
        NaN where the row has no score: such rows are never kept.
    """
    policy = config.policy
    if policy == "sample" and not config.replacement:
        return gumbel_values(scores, config.temperature, uniform_by_id(sequence_ids, seed))
    if policy == "teacher_only":
        values = teacher
    elif policy in ("reference_only", "perplexity_band"):
        values = -reference
    elif policy == "random":
        values = uniform_by_id(sequence_ids, seed)
    else:
        return scores
    return np.where(np.isnan(scores), np.nan, values)


def gumbel_values(
    scores: NDArray[np.float64], temperature: float, uniform: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Scores with noise, whose highest k are k draws without replacement.

    score / temperature + Gumbel noise: each next draw among the rows that are left comes with
    chance ~ exp(score / temperature) (Gumbel-top-k, Kool et al. 2019, arXiv 1903.06059).

    Args:
        scores: `[rows]`.
        temperature: The higher, the more by chance.
        uniform: Numbers in [0, 1), `[rows]`.
    """
    noise = -np.log(-np.log(uniform + _HALF_STEP))
    noisy: NDArray[np.float64] = scores / temperature + noise
    return noisy


def pareto_values(
    chances: NDArray[np.float64], uniform: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Values whose highest k are a sample of k rows that holds each with about its own chance.

    log(p / (1 - p)) - log(u / (1 - u)), with k the sum of all p (Pareto sampling, Rosen 1997,
    "On sampling with probability proportional to size").

    Args:
        chances: p, in [0, 1), `[rows]`.
        uniform: u, in [0, 1), `[rows]`.
    """
    u = uniform + _HALF_STEP
    with np.errstate(divide="ignore"):
        values: NDArray[np.float64] = np.log(chances / (1 - chances)) - np.log(u / (1 - u))
    return values
