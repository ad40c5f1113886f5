"""The order of sequences in training: a pure function of (seed, epoch).

The sequences of the run form one endless list, epoch after epoch, each epoch shuffled anew; step s
trains on positions [s * G, (s + 1) * G) of it, G being the global batch size. Nothing about the
machine enters, so a run that is resumed, elsewhere or on other devices, sees the same sequences in
the same global batches.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Order(Protocol):
    """Which sequences each step trains on."""

    def batch(self, step: int, size: int) -> NDArray[np.int64]:
        """Indices of the sequences of one step, `[size]` int64, the step's global batch."""
        ...


@lru_cache(maxsize=4)
def epoch_order(num_sequences: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of sequences in one epoch: a permutation of `range(num_sequences)`."""
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch])))
    return generator.permutation(num_sequences)


def global_batch(
    step: int, global_batch_size: int, num_sequences: int, seed: int
) -> NDArray[np.int64]:
    """Indices of the sequences of one step, `[global_batch_size]` int64.

    A batch at the end of an epoch is filled from the next one.

    Example:
        >>> first = [int(i) for step in range(3) for i in global_batch(step, 2, 3, seed=0)]
        >>> sorted(first[:3]), sorted(first[3:])
        ([0, 1, 2], [0, 1, 2])
    """
    return EpochOrder(num_sequences, seed).batch(step, global_batch_size)


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
        return self.positions(step * size, (step + 1) * size)

    def positions(self, begin: int, end: int) -> NDArray[np.int64]:
        """What stands at some positions of the endless list, `[end - begin]` int64."""
        epochs, places = np.divmod(np.arange(begin, end), self.num_sequences)
        indices = np.empty(end - begin, dtype=np.int64)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            shuffled = epoch_order(self.num_sequences, self.seed, epoch)[places[here]]
            indices[here] = shuffled if self.drawn is None else self.drawn(epoch)[shuffled]
        return indices


@dataclass(frozen=True)
class MixedOrder:
    """Several corpora side by side, each with a share of every batch and epochs of its own.

    Up to any step, a corpus has had its share of all sequences, rounded down; the first one has
    the rest.

    Args:
        parts: For each corpus, its order, the index of its first sequence among all, and its share.
    """

    parts: tuple[tuple[EpochOrder, int, float], ...]

    @classmethod
    def of(cls, sizes: Mapping[str, int], shares: Mapping[str, float], seed: int) -> "MixedOrder":
        """Corpora whose sequences stand one after another under one running index.

        Args:
            sizes: Sequences of each corpus, by name, in their order.
            shares: Share of each in training; they add up to one.
            seed: Of the shuffling.
        """
        parts, first = [], 0
        for name, size in sizes.items():
            parts.append((EpochOrder(size, seed), first, shares[name]))
            first += size
        return cls(tuple(parts))

    def batch(self, step: int, size: int) -> NDArray[np.int64]:
        """See `Order`."""
        begins, ends = self._taken(step * size), self._taken((step + 1) * size)
        return np.concatenate(
            [
                first + order.positions(begin, end)
                for (order, first, _), begin, end in zip(self.parts, begins, ends, strict=True)
            ]
        )

    def _taken(self, num_positions: int) -> list[int]:
        """How many sequences of each corpus stand before a position."""
        others = [int(np.floor(num_positions * share + 1e-9)) for *_, share in self.parts[1:]]
        return [num_positions - sum(others), *others]
