"""The order of sequences in training: a pure function of (seed, epoch).

The sequences of the run form one endless list, epoch after epoch, each epoch shuffled anew; step s
trains on positions [s * G, (s + 1) * G) of it, G being the global batch size. Nothing about the
machine enters, so a run that is resumed, elsewhere or on other devices, sees the same sequences in
the same global batches.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray


class Order(Protocol):
    """Which sequences each step trains on."""

    def batch(self, step: int, size: int) -> NDArray[np.int64]:
        """Indices of the sequences of one step, `[size]` int64, the step's global batch."""
        ...

    def mean(self, values_M: NDArray[np.integer[Any]]) -> float:
        """Mean over training of a number that each sequence has."""
        ...

    def planned(self, num_positions: int) -> "Order":
        """The order of a training of so many positions."""
        ...


@lru_cache(maxsize=4)
def epoch_order(num_sequences: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of sequences in one epoch: a permutation of `range(num_sequences)`."""
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch])))
    return generator.permutation(num_sequences)


@dataclass(frozen=True)
class EpochOrder:
    """Epoch after epoch of one corpus.

    Args:
        num_sequences: Sequences of an epoch.
        seed: Of the shuffling.
        drawn: Gives the sequences of an epoch, `[num_sequences]` indices, where some come
            repeatedly and others not at all; without it, all come once.
    """

    num_sequences: int
    seed: int
    drawn: Callable[[int], NDArray[np.int64]] | None = None

    def batch(self, step: int, size: int) -> NDArray[np.int64]:
        """See `Order`; a batch at the end of an epoch is filled from the next one."""
        return self.at(np.arange(step * size, (step + 1) * size))

    def at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """What stands at some positions of the endless list, `[positions]` int64."""
        epochs, places = np.divmod(positions, self.num_sequences)
        indices = np.empty(len(positions), dtype=np.int64)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            shuffled = epoch_order(self.num_sequences, self.seed, epoch)[places[here]]
            indices[here] = shuffled if self.drawn is None else self.drawn(epoch)[shuffled]
        return indices

    def mean(self, values_M: NDArray[np.integer[Any]]) -> float:
        """See `Order`; of repeated sequences, as the first epoch has them."""
        return float(np.mean(values_M if self.drawn is None else values_M[self.drawn(0)]))

    def planned(self, num_positions: int) -> Self:  # noqa: ARG002
        """See `Order`."""
        return self


MIXTURE_ROUND = 10_000
"""Positions after which the corpora of a mixture come in the same order again."""


class MixedOrder:
    """Several corpora side by side, each with a share of all positions and epochs of its own.

    Which corpus stands at a position repeats every `MIXTURE_ROUND` positions, so shares are rounded
    to that; within a round, each corpus comes at even distances.

    Args:
        sizes: Sequences of each corpus, which stand one after another under one running index.
        shares: Share of each in training; they add up to one.
        seed: Of the shuffling.
    """

    def __init__(self, sizes: Sequence[int], shares: Sequence[float], seed: int) -> None:
        self._orders = [EpochOrder(size, seed) for size in sizes]
        self._first = np.cumsum([0, *sizes])
        ends = np.round(np.cumsum(shares) * MIXTURE_ROUND).astype(np.int64)
        self._counts = np.diff(ends, prepend=0)
        keys = np.concatenate([(np.arange(n) + 0.5) / max(1, n) for n in self._counts])
        corpora = np.repeat(np.arange(len(sizes)), self._counts)
        self._corpora = corpora[np.argsort(keys, kind="stable")]
        self._ranks = np.empty(len(corpora), dtype=np.int64)
        for corpus, count in enumerate(self._counts):
            self._ranks[self._corpora == corpus] = np.arange(count)

    def batch(self, step: int, size: int) -> NDArray[np.int64]:
        """See `Order`."""
        rounds, places = np.divmod(np.arange(step * size, (step + 1) * size), MIXTURE_ROUND)
        corpora, indices = self._corpora[places], np.empty(size, dtype=np.int64)
        for corpus, order in enumerate(self._orders):
            here = corpora == corpus
            positions = rounds[here] * self._counts[corpus] + self._ranks[places[here]]
            indices[here] = self._first[corpus] + order.at(positions)
        return indices

    def mean(self, values_M: NDArray[np.integer[Any]]) -> float:
        """See `Order`."""
        parts = np.split(values_M, self._first[1:-1])
        means = [np.mean(part) for part in parts]
        return float(np.average(means, weights=self._counts))

    def planned(self, num_positions: int) -> Self:  # noqa: ARG002
        """See `Order`."""
        return self
