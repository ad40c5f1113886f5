"""What rows are ranked by. Pure functions of their arguments.

Results do not depend on how rows are ordered or spread over shards: chance comes from a hash of
the id and the seed.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from miniplm.data.chance import uniform_by_id

Policy = Literal["top_ratio", "random", "teacher_only", "reference_only"]


def ranking_values(
    policy: Policy,
    teacher: NDArray[np.float64],
    reference: NDArray[np.float64],
    difference: NDArray[np.float64],
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
        difference: The one less the other.
        sequence_ids: Id of each row.
        seed: For `random`.

    Returns:
        NaN where the row has no difference score: such rows are never kept.
    """
    if policy == "top_ratio":
        return difference
    if policy == "teacher_only":
        values = teacher
    elif policy == "reference_only":
        values = -reference
    else:
        values = uniform_by_id(sequence_ids, seed)
    return np.where(np.isnan(difference), np.nan, values)
