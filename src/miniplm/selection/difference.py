"""The difference score: how much likelier a sequence is to the teacher than to the reference.

r(x) = log p_teacher(x) - log p_reference(x)   (MiniPLM, arXiv 2410.17215, section 2.2)

The paper assumes rows of equal length; ours are cut back to a sentence end, so the sum and the
mean rank differently. The authors' code compares per-token means, and so do we unless told
otherwise.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from miniplm.scoring.tables import MEAN_COLUMN

Normalization = Literal["per_token", "sum", "per_byte"]


def score_columns(normalization: Normalization) -> list[str]:
    """The columns of a score table that `normalized_log_prob` takes."""
    if normalization == "per_token":
        return [MEAN_COLUMN]
    return ["log_prob", "num_bytes" if normalization == "per_byte" else "num_tokens"]


def normalized_log_prob(
    columns: Sequence[NDArray[Any]], normalization: Normalization
) -> NDArray[np.float64]:
    """Log-probabilities per unit of `normalization`, `[rows]`, nats.

    Args:
        columns: The `score_columns` of the rows.
        normalization: `sum` divides by nothing.

    Returns:
        NaN where a row has no token, or no byte for `per_byte`.
    """
    if normalization == "per_token":
        return columns[0]
    log_prob, units = columns
    divisor = np.where(units > 0, 1 if normalization == "sum" else units, np.nan)
    normalized: NDArray[np.float64] = log_prob / divisor
    return normalized
