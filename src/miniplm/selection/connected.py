"""Rows that pairs connect (union-find by the connected components of a sparse graph)."""

import numpy as np
from numpy.typing import NDArray


class ConnectedRows:
    """Pairs of rows, and what they connect.

    Attributes:
        places: Ascending places of the rows in pairs, when `connect` was last called.
        numbers: Of the connected component that each of these belongs to.
    """

    def __init__(self) -> None:
        self._pairs = [np.empty((2, 0), np.int64)]
        self.places = np.empty(0, np.int64)
        self.numbers = np.empty(0, np.int64)

    @property
    def num_pairs(self) -> int:
        """Pairs that were added."""
        return sum(part.shape[1] for part in self._pairs)

    def add(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> None:
        """Connect pairs of places."""
        self._pairs.append(np.stack([first, second]))

    def connect(self) -> None:
        """Number the connected components, as of now."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        pairs = np.concatenate(self._pairs, axis=1)
        if not pairs.size:
            return
        self.places, ends = np.unique(pairs, return_inverse=True)
        graph = coo_array((np.ones(pairs.shape[1], np.int8), ends.reshape(pairs.shape)))
        graph.resize(len(self.places), len(self.places))
        self.numbers = connected_components(graph, directed=False)[1].astype(np.int64)

    def together(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which pairs were connected when `connect` was last called."""
        numbers = self._number(first)
        connected: NDArray[np.bool_] = (numbers >= 0) & (numbers == self._number(second))
        return connected

    def _number(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        if not len(self.places):
            return np.full(len(places), -1)
        found = np.minimum(np.searchsorted(self.places, places), len(self.places) - 1)
        return np.where(self.places[found] == places, self.numbers[found], -1)
