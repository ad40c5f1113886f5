"""Where rankings are cut: the last row to be kept of each stratum, found without holding all rows.

Rows are ranked by value, highest first, and equal ones by id, lowest first; so no two rows share a
place. A stratum is a set of rows with a ranking of its own: a domain, or the whole corpus. A first
look at a few rows says between which two places each cut will lie. Going through all rows, only
those between are held; the rest are counted. The look decides the cost, never the cut.

How far a cut goes is told in *size*: rows have size 1, or their number of tokens.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
from numpy.typing import NDArray

_LARGEST_ID = np.iinfo(np.int64).max
_SAMPLE = 1 << 20
_CAUTION = 8.0
"""Standard errors of a sampled rank left on either side of the cut."""


@dataclass(frozen=True)
class Place:
    """A place in a ranking: the one of a row of this value and id."""

    value: float
    sequence_id: int

    def reached(self, values: NDArray[np.float64], ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rows stand at this place or before it; never those with NaN."""
        before = values > self.value
        tied = values == self.value
        if tied.any():
            before |= tied & (ids <= self.sequence_id)
        return before


FRONT = Place(np.inf, -1)
"""Before the first row."""
END = Place(-np.inf, _LARGEST_ID)
"""At or after the last row."""


@dataclass(frozen=True)
class Bracket:
    """The rows that come after the place `above`, up to and with `below`."""

    above: Place
    below: Place


EVERYTHING = Bracket(FRONT, END)
NOTHING = Bracket(FRONT, FRONT)


@dataclass(frozen=True)
class Ranked:
    """Some rows of one stratum, in no order.

    Args:
        values: What they are ranked by, `[rows]`; no NaN.
        ids: Their ids.
        sizes: Their sizes, int64.
    """

    values: NDArray[np.float64]
    ids: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def size(self) -> int:
        """Of all rows together."""
        return int(self.sizes.sum())

    def order(self) -> NDArray[np.intp]:
        """Indices of the rows as they are ranked."""
        by_id = np.argsort(self.ids, kind="stable")  # quick where they ascend, as they mostly do
        order: NDArray[np.intp] = by_id[np.argsort(-self.values[by_id], kind="stable")]
        return order

    def bracket(self, size: int) -> Bracket:
        """Where a sample like this leads to expect the cut that comes at a size of its own rows."""
        middle = min(size, len(self))
        if (self.sizes != 1).any():
            sizes = self.sizes[self.order()]
            middle = int(np.searchsorted(sizes.cumsum(), size, side="right"))
        share = middle / len(self)
        margin = int(np.ceil(_CAUTION * np.sqrt(len(self) * share * (1 - share)))) + 2
        first, last = middle - margin, middle + margin
        return Bracket(
            self._ranked_at(first - 1) if first >= 1 else FRONT,
            self._ranked_at(last - 1) if last <= len(self) else END,
        )

    def _ranked_at(self, rank: int) -> Place:
        """The place of the row of this rank, from 0; without sorting."""
        value = -np.partition(-self.values, rank)[rank]
        before = int(np.count_nonzero(self.values > value))
        tied = self.ids[self.values == value]
        return Place(float(value), int(np.partition(tied, rank - before)[rank - before]))

    def _place(self, index: int) -> Place:
        return Place(float(self.values[index]), int(self.ids[index]))

    def cut(self, size: int, *, reach: bool = False) -> Place | None:
        """The last row that, with all before it, has at most this size; None if not the first.

        Args:
            size: Of the rows up to the cut.
            reach: Take the first row instead that, with all before it, has at least this size.
        """
        order = self.order()
        sizes = self.sizes[order].cumsum()
        if reach:
            taken = int(np.searchsorted(sizes, size, side="left")) + 1 if size > 0 else 0
        else:
            taken = int(np.searchsorted(sizes, size, side="right"))
        return self._place(order[taken - 1]) if taken else None

    @classmethod
    def joined(cls, parts: Iterable[Self]) -> Self:
        """All rows of some."""
        parts = [*parts, cls(np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64))]
        return cls(
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.sizes for part in parts]),
        )


@dataclass(frozen=True)
class Tally:
    """Some rows of one stratum counted against a bracket.

    Args:
        num_usable: Rows with a value.
        size: Of these rows.
        size_above: Of those that rank above the bracket.
        inside: Those within it, or every so many of them.
        size_inside: Of all within it.
    """

    num_usable: int
    size: int
    size_above: int
    inside: Ranked
    size_inside: int

    @classmethod
    def of(
        cls,
        values: NDArray[np.float64],
        ids: NDArray[np.int64],
        bracket: Bracket,
        step: int = 1,
        sizes: NDArray[np.int64] | None = None,
    ) -> Self:
        """Count rows; of those inside, every `step`-th is held.

        Args:
            values: What they are ranked by; rows with NaN do not count.
            ids: Their ids.
            bracket: What is held.
            step: 1 holds all of that.
            sizes: Their sizes; None: 1 each.
        """
        near = np.flatnonzero((values >= bracket.below.value) & (values <= bracket.above.value))
        above = bracket.above.reached(values[near], ids[near])
        inside = near[bracket.below.reached(values[near], ids[near]) & ~above]
        missing = np.isnan(values)
        higher = values > bracket.above.value
        held = inside[::step]
        num_usable = len(values) - int(np.count_nonzero(missing))
        if sizes is None:
            return cls(
                num_usable=num_usable,
                size=num_usable,
                size_above=int(np.count_nonzero(higher)) + int(np.count_nonzero(above)),
                inside=Ranked(values[held], ids[held], np.ones(len(held), dtype=np.int64)),
                size_inside=len(inside),
            )
        return cls(
            num_usable=num_usable,
            size=int(sizes[~missing].sum()),
            size_above=int(sizes[higher].sum()) + int(sizes[near][above].sum()),
            inside=Ranked(values[held], ids[held], sizes[held]),
            size_inside=int(sizes[inside].sum()),
        )

    @classmethod
    def total(cls, tallies: Iterable[Self]) -> Self:
        """All of them together."""
        tallies = list(tallies)
        return cls(
            num_usable=sum(tally.num_usable for tally in tallies),
            size=sum(tally.size for tally in tallies),
            size_above=sum(tally.size_above for tally in tallies),
            inside=Ranked.joined(tally.inside for tally in tallies),
            size_inside=sum(tally.size_inside for tally in tallies),
        )

    def cut(self, size: int, bracket: Bracket, *, reach: bool = False) -> Place | None:
        """The last place that this size reaches; None if that is not in the bracket counted by.

        Args:
            size: Of the rows up to the cut, at most.
            bracket: Counted by.
            reach: At least, instead.
        """
        if size <= 0:
            return FRONT
        if size >= self.size:
            return END
        within = size - self.size_above
        if not 0 <= within <= self.size_inside:
            return None
        return self.inside.cut(within, reach=reach) or bracket.above


Tallies = dict[str, Tally]
"""Tallies by stratum."""


def add_tallies(parts: Iterable[Mapping[str, Tally]]) -> Tallies:
    """All of them together, stratum by stratum, in the order of names."""
    found: dict[str, list[Tally]] = {}
    for part in parts:
        for stratum, tally in part.items():
            found.setdefault(stratum, []).append(tally)
    return {stratum: Tally.total(found[stratum]) for stratum in sorted(found)}


@dataclass(frozen=True)
class Brackets:
    """A bracket for each stratum.

    Args:
        by_stratum: For those named.
        others: For all others.
        step: Of the rows inside, every so many are held.
    """

    by_stratum: Mapping[str, Bracket]
    others: Bracket = NOTHING
    step: int = 1

    def __getitem__(self, stratum: str) -> Bracket:
        return self.by_stratum.get(stratum, self.others)


Sizes = Mapping[str, int]
"""Sizes by stratum."""


def find_cuts(
    count: Callable[[Brackets], Tallies],
    look: Mapping[str, Ranked],
    targets: Callable[[Sizes, float], Sizes],
    fraction: float,
    *,
    reach: bool = False,
) -> dict[str, Place]:
    """The last place to be kept of each stratum.

    Args:
        count: Goes through all rows and counts them as `Tally.of` does.
        look: Some of the rows, best a random few.
        targets: From the size of all usable rows of each stratum, and the fraction of the corpus
            that these are of, how much is to be kept.
        fraction: Of all rows, those that were looked at.
        reach: Whether what is kept has at least the sizes wanted, instead of at most.
    """
    wanted = targets({stratum: rows.size for stratum, rows in look.items()}, fraction)
    brackets = Brackets(_brackets(look, wanted))
    tallies = count(brackets)
    wanted = targets({stratum: tally.size for stratum, tally in tallies.items()}, 1.0)
    cut_at = partial(_cuts, wanted=wanted, reach=reach)
    cuts = cut_at(tallies, brackets=brackets)
    if missed := [stratum for stratum in tallies if stratum not in cuts]:
        # the look was not like the rest, as in rows that are sorted: take some from everywhere
        step = max(1, sum(tallies[stratum].num_usable for stratum in missed) // _SAMPLE)
        spread = count(Brackets(dict.fromkeys(missed, EVERYTHING), step=step))
        sample = {stratum: spread[stratum].inside for stratum in missed}
        sizes = {
            stratum: wanted[stratum] * rows.size // tallies[stratum].size
            for stratum, rows in sample.items()
        }
        brackets = Brackets(_brackets(sample, sizes))
        cuts |= cut_at(count(brackets), brackets=brackets)
    if missed := [stratum for stratum in tallies if stratum not in cuts]:
        brackets = Brackets(dict.fromkeys(missed, EVERYTHING))
        cuts |= cut_at(count(brackets), brackets=brackets)
    return cuts


def _cuts(tallies: Tallies, *, wanted: Sizes, brackets: Brackets, reach: bool) -> dict[str, Place]:
    """The cuts that lie where they were looked for."""
    found = {
        stratum: tally.cut(wanted[stratum], brackets[stratum], reach=reach)
        for stratum, tally in tallies.items()
    }
    return {stratum: cut for stratum, cut in found.items() if cut is not None}


def _brackets(look: Mapping[str, Ranked], sizes: Sizes) -> dict[str, Bracket]:
    return {
        stratum: rows.bracket(sizes[stratum]) if len(rows) else EVERYTHING
        for stratum, rows in look.items()
    }
