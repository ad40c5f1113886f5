"""The pieces of documents that a row holds, one after another with end-of-text between."""

import numpy as np
from numpy.typing import NDArray


def split_at_eos(ids: NDArray[np.int64], eos_id: int) -> list[NDArray[np.int64]]:
    """The pieces of documents in a row, in the order of its source ids; some may be empty.

    Example:
        >>> [piece.tolist() for piece in split_at_eos(np.array([5, 0, 6, 7, 0]), 0)]
        [[5], [6, 7]]
    """
    pieces = np.split(ids, np.flatnonzero(ids == eos_id) + 1)
    if len(pieces[-1]) == 0:
        pieces.pop()
    return [piece[:-1] if len(piece) and piece[-1] == eos_id else piece for piece in pieces]
