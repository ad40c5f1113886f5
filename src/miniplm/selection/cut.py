"""Where a ranking is cut: the last row to be kept, found without holding all rows.

Rows are ranked by value, highest first, and equal ones by id, lowest first; so no two rows share a
place. A first look at a few rows says between which two places the cut will lie. Going through all
rows, only those between are held; the rest are counted. The look decides the cost, never the cut.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

_LARGEST_ID = np.iinfo(np.int64).max
_NO_VALUES = np.empty(0, dtype=np.float64)
_NO_IDS = np.empty(0, dtype=np.int64)
_SAMPLE = 1 << 20
_CAUTION = 8.0
"""Standard errors of a sampled rank left on either side of the cut."""


@dataclass(frozen=True)
class Place:
    """A place in the ranking: the one of a row of this value and id."""

    value: float
    sequence_id: int

    def reached(self, values: NDArray[np.float64], ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rows stand at this place or before it; never those with NaN."""
        before = values > self.value
        tied = values == self.value
        if tied.any():
            before |= tied & (ids <= self.sequence_id)
        return before


@dataclass(frozen=True)
class Bracket:
    """The rows that come after the place `above`, up to and with `below`."""

    above: Place
    below: Place


EVERYTHING = Bracket(Place(np.inf, -1), Place(-np.inf, _LARGEST_ID))


@dataclass(frozen=True)
class Ranked:
    """Values and ids of some rows, in no order."""

    values: NDArray[np.float64]
    ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.values)

    def place(self, rank: int) -> Place:
        """The place of the row with this rank, counted from 1."""
        values = self.values
        value = np.partition(values, len(values) - rank)[len(values) - rank]
        tied = self.ids[values == value]
        index = rank - 1 - np.count_nonzero(values > value)
        return Place(float(value), int(np.partition(tied, index)[index]))

    def bracket(self, ratio: float) -> Bracket:
        """Where a sample like this leads to expect the cut."""
        middle = ratio * len(self)
        margin = _CAUTION * np.sqrt(len(self) * ratio * (1 - ratio)) + 2
        first, last = int(middle - margin), int(np.ceil(middle + margin))
        return Bracket(
            self.place(first) if first >= 1 else EVERYTHING.above,
            self.place(last) if last <= len(self) else EVERYTHING.below,
        )


@dataclass(frozen=True)
class Tally:
    """Some rows counted against a bracket.

    Args:
        num_usable: Rows with a value.
        num_above: Those that rank above the bracket.
        inside: Those within it.
    """

    num_usable: int
    num_above: int
    inside: Ranked

    @classmethod
    def of(
        cls, values: NDArray[np.float64], ids: NDArray[np.int64], bracket: Bracket, step: int = 1
    ) -> Self:
        """Count rows; of those inside, every `step`-th is held."""
        near = np.flatnonzero((values >= bracket.below.value) & (values <= bracket.above.value))
        near_values, near_ids = values[near], ids[near]
        above = bracket.above.reached(near_values, near_ids)
        inside = np.flatnonzero(bracket.below.reached(near_values, near_ids) & ~above)[::step]
        higher = int(np.count_nonzero(values > bracket.above.value))
        return cls(
            num_usable=len(values) - int(np.count_nonzero(np.isnan(values))),
            num_above=higher + int(np.count_nonzero(above)),
            inside=Ranked(near_values[inside], near_ids[inside]),
        )

    @classmethod
    def total(cls, tallies: Sequence[Self]) -> Self:
        """All of them together."""
        return cls(
            num_usable=sum(tally.num_usable for tally in tallies),
            num_above=sum(tally.num_above for tally in tallies),
            inside=Ranked(
                np.concatenate([_NO_VALUES, *(tally.inside.values for tally in tallies)]),
                np.concatenate([_NO_IDS, *(tally.inside.ids for tally in tallies)]),
            ),
        )


def num_kept(num_usable: int, ratio: float) -> int:
    """How many rows to keep: floor(ratio * rows), but at least one if there is any.

    Example:
        >>> num_kept(10, 0.25), num_kept(3, 0.1), num_kept(0, 0.5)
        (2, 1, 0)
    """
    return min(num_usable, max(1, int(np.floor(ratio * num_usable + 1e-9))))


def find_cut(count: Callable[[Bracket, int], Tally], look: Ranked, ratio: float) -> Place | None:
    """The last place to be kept; None where no row has a value.

    Args:
        count: Goes through all rows: `count(bracket, step)`, as `Tally.of`.
        look: Some of the rows, best a random few.
        ratio: Share of the rows to keep.
    """
    tally = count(look.bracket(ratio), 1)
    if (cut := _cut_within(tally, ratio)) or not tally.num_usable:
        return cut
    # The look was not like the rest, as in rows that are sorted: take some from everywhere.
    spread = count(EVERYTHING, max(1, tally.num_usable // _SAMPLE)).inside
    tally = count(spread.bracket(ratio), 1)
    return _cut_within(tally, ratio) or _cut_within(count(EVERYTHING, 1), ratio)


def _cut_within(tally: Tally, ratio: float) -> Place | None:
    rank = num_kept(tally.num_usable, ratio) - tally.num_above
    return tally.inside.place(rank) if 1 <= rank <= len(tally.inside) else None
