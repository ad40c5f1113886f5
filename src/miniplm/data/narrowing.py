"""An order in which the corpus narrows: every sequence takes part until a share of training.

Training is cut into phases at the shares that occur. A phase goes through the sequences that still
take part, epoch after epoch; its first epoch begins with those that earlier phases have not come
to, so that as few as possible are seen twice before all are seen once.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniplm.data.order import epoch_order

_EPOCHS = 1_000_000
"""Epochs that a phase may have; numbers the shuffles of the next one."""


@dataclass(frozen=True)
class _Phase:
    """A part of training.

    Args:
        number: From 0.
        begin: Its first position in training.
        first: Indices of its first epoch, in their order.
    """

    number: int
    begin: int
    first: NDArray[np.int64]

    def at(self, positions: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
        """What stands at positions of training from `begin` on."""
        epochs, places = np.divmod(positions - self.begin, len(self.first))
        indices = self.first[places]
        for epoch in np.unique(epochs[epochs > 0]).tolist():
            here = epochs == epoch
            shuffled = epoch_order(len(self.first), seed, self.number * _EPOCHS + epoch)
            indices[here] = np.sort(self.first)[shuffled[places[here]]]
        return indices

    def seen(self, end: int, seed: int, num_sequences: int) -> NDArray[np.int64]:
        """How often each sequence of the corpus has come when the phase ends, `[M]`."""
        positions = np.arange(self.begin, end)
        return np.bincount(self.at(positions, seed), minlength=num_sequences)


class NarrowingOrder:
    """Sequences of which ever fewer take part.

    Args:
        until_M: Share of training at which each sequence stops to take part, in (0, 1]; the largest
            of them counts as 1.
        seed: Of the shuffling.
        num_positions: Positions of the whole training; has to be known before a batch is asked for.
    """

    def __init__(
        self, until_M: NDArray[np.floating[Any]], seed: int, num_positions: int | None = None
    ) -> None:
        self._until_M, self._seed, self._num_positions = until_M, seed, num_positions

    def planned(self, num_positions: int) -> "NarrowingOrder":
        """See `data.order.Order`."""
        return NarrowingOrder(self._until_M, self._seed, num_positions)

    def batch(self, step: int, size: int) -> NDArray[np.int64]:
        """See `data.order.Order`."""
        positions = np.arange(step * size, (step + 1) * size)
        numbers = np.searchsorted([phase.begin for phase in self._phases], positions, side="right")
        indices = np.empty(size, dtype=np.int64)
        for number in np.unique(numbers).tolist():
            here = numbers == number
            indices[here] = self._phases[number - 1].at(positions[here], self._seed)
        return indices

    def mean(self, values_M: NDArray[np.integer[Any]]) -> float:
        """See `data.order.Order`."""
        means = [values_M[self._until_M >= end].mean() for end in self._ends]
        return float(np.average(means, weights=np.diff(self._ends, prepend=0.0)))

    @property
    def _ends(self) -> NDArray[np.float64]:
        ends = np.unique(self._until_M).astype(np.float64)
        ends[-1] = 1.0
        return ends

    @cached_property
    def _phases(self) -> list[_Phase]:
        assert self._num_positions is not None, "a training is planned before it starts"
        phases: list[_Phase] = []
        begin, seen_M = 0, np.zeros(len(self._until_M), dtype=np.int64)
        for number, until in enumerate(np.unique(self._until_M)):
            taking_part = np.flatnonzero(self._until_M >= until)
            shuffled = epoch_order(len(taking_part), self._seed, number * _EPOCHS)
            mixed = taking_part[shuffled]
            phase = _Phase(number, begin, mixed[np.argsort(seen_M[mixed], kind="stable")])
            end = round(float(self._ends[number]) * self._num_positions)
            seen_M += phase.seen(end, self._seed, len(seen_M))
            phases.append(phase)
            begin = end
        return phases
