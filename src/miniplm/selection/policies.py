"""Which rows to keep, given one number per row. Pure functions of their arguments.

Results do not depend on how rows are ordered or spread over shards: equal numbers are told apart
by sequence id, and chance comes from a hash of the id and the seed.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Policy = Literal["top_ratio", "random", "teacher_only", "reference_only"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def ranking_values(
    policy: Policy,
    teacher: NDArray[np.float64],
    reference: NDArray[np.float64],
    sequence_ids: NDArray[np.int64],
    seed: int,
) -> NDArray[np.float64]:
    """The number by which a policy ranks rows; the highest are kept.

    `top_ratio` ranks by the difference score. The baselines take one of its two terms:
    `teacher_only` what the teacher finds likely, `reference_only` what the reference finds
    unlikely; `random` takes neither.

    Args:
        policy: Name of the policy.
        teacher: Normalised log-probabilities under the teacher, `[rows]`.
        reference: The same under the reference.
        sequence_ids: Id of each row.
        seed: For `random`.
    """
    if policy == "top_ratio":
        return teacher - reference
    if policy == "teacher_only":
        return teacher
    if policy == "reference_only":
        return -reference
    return uniform_by_id(sequence_ids, seed)


def top_ratio(
    values: NDArray[np.float64], sequence_ids: NDArray[np.int64], ratio: float
) -> NDArray[np.bool_]:
    """Keep the `ratio` of rows with the highest values; of equal ones the lower id.

    Args:
        values: One number per row; rows with NaN are never kept and do not count.
        sequence_ids: Id of each row, unique.
        ratio: Share to keep, 0 to 1; K = floor(ratio * rows), at least one row.

    Returns:
        Whether each row is kept.

    Example:
        >>> top_ratio(np.array([1.0, 2.0, 2.0, 0.0]), np.array([3, 2, 1, 0]), 0.25).tolist()
        [False, False, True, False]
    """
    usable = np.flatnonzero(~np.isnan(values))
    count = min(len(usable), max(1, int(np.floor(ratio * len(usable) + 1e-9))))
    order = np.lexsort((sequence_ids[usable], -values[usable]))
    keep = np.zeros(len(values), dtype=np.bool_)
    keep[usable[order[:count]]] = True
    return keep


def uniform_by_id(sequence_ids: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each id, by hash (SplitMix64 of id and seed)."""
    mixed_seed = _mix(np.array([seed], dtype=np.uint64))
    mixed = _mix(sequence_ids.astype(np.uint64) ^ mixed_seed)
    return (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value = value + _GOLDEN
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = value ^ (value >> np.uint64(31))
    return mixed
