"""What a selection has in common with the baselines, and what its ranking follows.

Read off the sample of rows that the select stage leaves; up to 65,536 candidates that is all of
them. Every baseline keeps as many rows of the sample as the selection did.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ScoredRows:
    """Rows with both models' scores and what became of them; rows without a score left out.

    Args:
        sequence_ids: `[rows]`.
        teacher: Normalised log-probabilities, `[rows]`.
        reference: The same under the reference.
        num_tokens: Ids of each row.
        is_kept: Whether the row is in the refined corpus.
    """

    sequence_ids: NDArray[np.int64]
    teacher: NDArray[np.float64]
    reference: NDArray[np.float64]
    num_tokens: NDArray[np.int64]
    is_kept: NDArray[np.bool_]

    @classmethod
    def total(cls, parts: Sequence[Self]) -> Self:
        """All parts, in the order of their ids."""
        columns = [np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)]
        order = np.argsort(columns[0], kind="stable")
        return cls(*(column[order] for column in columns))


def describe_agreement(rows: ScoredRows) -> dict[str, Any]:
    """Agreement with the baselines, and what scores and choice go along with, for the manifest.

    Returns:
        `num_rows` and `num_kept` of the sample; `baselines`, each with `overlap` (share of the kept
        rows that it keeps too) and `jaccard` (rows that both keep over rows that either keeps);
        and `follows`: for each quantity the Spearman correlation of the difference score with it,
        and the chance that a kept row has more of it than a dropped one, None where no row is kept
        or none is dropped.
    """
    num_kept = int(np.count_nonzero(rows.is_kept))
    quantities = {
        "teacher_loss": -rows.teacher,
        "reference_loss": -rows.reference,
        "length": rows.num_tokens.astype(np.float64),
    }
    difference = rows.teacher - rows.reference
    return {
        "num_rows": len(rows.sequence_ids),
        "num_kept": num_kept,
        "baselines": _agreements(rows, num_kept),
        "follows": {
            name: {
                "spearman": spearman(difference, values),
                "kept_has_more": chance_of_more(values, rows.is_kept),
            }
            for name, values in quantities.items()
        },
    }


def _agreements(rows: ScoredRows, num_kept: int) -> dict[str, dict[str, float]]:
    """Overlap and Jaccard index with each baseline; `random` as it comes out on average."""
    likely = ranks(rows.reference)
    rankings = {
        "top_ratio": rows.teacher - rows.reference,
        "teacher_only": rows.teacher,
        "reference_only": -rows.reference,
        "perplexity_band": -np.abs(likely - likely.mean()) if len(likely) else likely,
    }
    chance = num_kept / max(1, len(rows.sequence_ids))
    agreements = {"random": {"overlap": chance, "jaccard": chance / (2 - chance)}}
    for name, values in rankings.items():
        first = np.lexsort((rows.sequence_ids, -values))[:num_kept]
        common = int(np.count_nonzero(rows.is_kept[first]))
        agreements[name] = {
            "overlap": common / max(1, num_kept),
            "jaccard": common / max(1, 2 * num_kept - common),
        }
    return agreements


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1, lowest first; equal values share the mean of theirs.

    Example:
        >>> ranks(np.array([5.0, 1.0, 5.0])).tolist()
        [2.5, 1.0, 2.5]
    """
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: NDArray[np.float64] = (last - (counts - 1) / 2)[places]
    return mean


def spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    """Correlation of ranks, -1 to 1; None where one of the two does not vary."""
    if len(a) == 0 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def chance_of_more(values: NDArray[np.float64], is_kept: NDArray[np.bool_]) -> float | None:
    """The chance that a kept row has a larger value than a dropped one (Mann-Whitney's U / pairs).

    Example:
        >>> chance_of_more(np.array([1.0, 2.0, 3.0]), np.array([False, True, True]))
        1.0
    """
    num_kept = int(np.count_nonzero(is_kept))
    num_pairs = num_kept * (len(values) - num_kept)
    if num_pairs == 0:
        return None
    sum_of_ranks = float(ranks(values)[is_kept].sum())
    return (sum_of_ranks - num_kept * (num_kept + 1) / 2) / num_pairs
