"""What is cut off with the ends of rows, by its place in them, so that it can be said which
`max_length` would have kept it.

It is counted among all else, one count per place, since such counts add up over rows and shards.
"""

from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

_AT = "cut_bytes_at:"


def count_cut(counts: Counter[str], first: int, num_bytes: NDArray[np.int64]) -> None:
    """Count the ids that a row loses.

    Args:
        counts: To add to.
        first: Place of the first of them in the row.
        num_bytes: Bytes of text that each stands for.
    """
    counts["cut_ids"] += len(num_bytes)
    counts["cut_bytes"] += int(num_bytes.sum())
    for place, size in enumerate(num_bytes.tolist(), first):
        counts[f"{_AT}{place}"] += size


def cut_bytes_by_place(counts: Mapping[str, int]) -> dict[int, int]:
    """Bytes that were cut off at each place of a row."""
    return {
        int(name.removeprefix(_AT)): size for name, size in counts.items() if name.startswith(_AT)
    }


def without_places(counts: Mapping[str, int]) -> dict[str, int]:
    """The counts but for those by place, in alphabetical order."""
    return {name: counts[name] for name in sorted(counts) if not name.startswith(_AT)}


def fitting_length(cut_bytes: Mapping[int, int], most_bytes: float) -> int:
    """The smallest `max_length` with which no more is cut off; with 0, not an id is.

    Args:
        cut_bytes: What was cut off, by place; at least one.
        most_bytes: That may be cut off.

    Example:
        >>> cut_bytes = {41: 30, 42: 20, 43: 0}  # with a max_length of 40
        >>> fitting_length(cut_bytes, 0), fitting_length(cut_bytes, 20)
        (43, 41)
    """
    lost = 0
    for place in sorted(cut_bytes, reverse=True):
        lost += cut_bytes[place]
        if lost > most_bytes or most_bytes == 0:
            return place
    return min(cut_bytes) - 1
