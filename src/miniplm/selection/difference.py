"""The difference score: how much likelier a sequence is to the teacher than to the reference.

r(x) = log p_teacher(x) - log p_reference(x)   (MiniPLM, arXiv 2410.17215, section 2.2)

The paper assumes rows of equal length; ours are cut back to a sentence end, so the sum and the
mean rank differently. The authors' code compares per-token means, and so do we unless told
otherwise.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Normalization = Literal["per_token", "sum", "per_byte"]


def normalized_log_prob(
    log_prob: NDArray[np.float64],
    num_tokens: NDArray[np.int64],
    num_bytes: NDArray[np.int64],
    normalization: Normalization,
) -> NDArray[np.float64]:
    """Log-probabilities per unit of `normalization`, `[rows]`, nats.

    Rows without a single scored token (or byte, for `per_byte`) give NaN.
    """
    if normalization == "sum":
        return np.where(num_tokens > 0, log_prob, np.nan)
    units = num_tokens if normalization == "per_token" else num_bytes
    result = np.full(len(log_prob), np.nan)
    np.divide(log_prob, units, out=result, where=units > 0)
    return result


def variance_between_groups(values: NDArray[np.float64], groups: NDArray[np.int64]) -> float:
    """Share of the variance of `values` that lies between groups, 0 to 1 (eta squared).

    Args:
        values: One number per row, finite.
        groups: Group number of each row, from 0.

    Example:
        >>> variance_between_groups(np.array([1.0, 1.0, 3.0, 3.0]), np.array([0, 0, 1, 1]))
        1.0
    """
    total = float(((values - values.mean()) ** 2).sum()) if len(values) else 0.0
    if total == 0:
        return 0.0
    counts = np.bincount(groups)
    present = counts > 0
    means = np.bincount(groups, weights=values)[present] / counts[present]
    between = float((counts[present] * (means - values.mean()) ** 2).sum())
    return between / total
