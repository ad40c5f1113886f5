"""How much of each stratum is kept. Pure functions of what there is.

Sizes are in sequences, or in tokens. What a look at some of the rows has is a `fraction` of the
corpus, and a budget is cut down to that.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor
from typing import Protocol

from miniplm.selection.cut import Sizes

CORPUS = ""
"""The stratum of a ranking over everything."""


class Target(Protocol):
    """How much of each stratum is wanted."""

    def __call__(self, available: Sizes, fraction: float) -> Sizes:
        """Wanted sizes by stratum.

        Args:
            available: Usable sizes by stratum.
            fraction: Of the corpus, that these are of.
        """
        ...


def num_kept(num_usable: int, ratio: float) -> int:
    """How much to keep: floor(ratio * usable), but at least one if there is any.

    Example:
        >>> num_kept(10, 0.25), num_kept(3, 0.1), num_kept(0, 0.5)
        (2, 1, 0)
    """
    return min(num_usable, max(1, floor(ratio * num_usable + 1e-9)))


@dataclass(frozen=True)
class Share:
    """The same share of every stratum.

    Example:
        >>> Share(0.5)({"books": 10, "logs": 3}, 1.0)
        {'books': 5, 'logs': 1}
    """

    ratio: float

    def __call__(self, available: Sizes, fraction: float) -> Sizes:  # noqa: ARG002
        """See `Target`."""
        return {stratum: num_kept(size, self.ratio) for stratum, size in available.items()}


@dataclass(frozen=True)
class Band:
    """Up to an end of the band: what is skipped of every stratum, and what is kept after that.

    Args:
        skip: Share left out at the top, rounded down.
        ratio: Share kept after it; 0 gives the beginning of the band.

    Example:
        >>> Band(0.1, 0.5)({"books": 30, "logs": 9}, 1.0), Band(0.1)({"books": 30, "logs": 9}, 1.0)
        ({'books': 18, 'logs': 4}, {'books': 3, 'logs': 0})
    """

    skip: float
    ratio: float = 0.0

    def __call__(self, available: Sizes, fraction: float) -> Sizes:  # noqa: ARG002
        """See `Target`."""
        return {stratum: self._end(size) for stratum, size in available.items()}

    def _end(self, size: int) -> int:
        return floor(self.skip * size + 1e-9) + (num_kept(size, self.ratio) if self.ratio else 0)


@dataclass(frozen=True)
class AtLeast:
    """A share of every stratum, rounded up.

    Example:
        >>> AtLeast(0.1)({"books": 30, "logs": 9}, 1.0)
        {'books': 3, 'logs': 1}
    """

    ratio: float

    def __call__(self, available: Sizes, fraction: float) -> Sizes:  # noqa: ARG002
        """See `Target`."""
        return {stratum: ceil(self.ratio * size - 1e-9) for stratum, size in available.items()}


@dataclass(frozen=True)
class Fixed:
    """Sizes that are known."""

    sizes: Sizes

    def __call__(self, available: Sizes, fraction: float) -> Sizes:
        """See `Target`."""
        return {stratum: floor(self.sizes[stratum] * fraction) for stratum in available}


@dataclass(frozen=True)
class Budget:
    """A budget, dealt to strata in proportion to what they have.

    Example:
        >>> Budget(100)({"books": 300, "logs": 100}, 1.0)
        {'books': 75, 'logs': 25}
    """

    size: int

    def __call__(self, available: Sizes, fraction: float) -> Sizes:
        """See `Target`."""
        total = max(1, sum(available.values()))
        budget = floor(self.size * fraction)
        return {stratum: budget * size // total for stratum, size in available.items()}


@dataclass(frozen=True)
class Quota:
    """Given shares of what is kept; strata without one have the rest together, as `CORPUS`.

    Args:
        shares: By stratum; they add up to 1 at most.
        whole: How much is kept of everything as one stratum.

    Example:
        >>> Quota({"books": 0.8}, Share(0.5))({"books": 10, CORPUS: 10}, 1.0)
        {'books': 8, '': 2}
    """

    shares: Mapping[str, float]
    whole: Target

    def __call__(self, available: Sizes, fraction: float) -> Sizes:
        """See `Target`; no stratum is asked for more than it has."""
        kept = self.whole({CORPUS: sum(available.values())}, fraction)[CORPUS]
        rest = 1 - sum(self.shares.values())
        return {
            stratum: min(size, floor(self.shares.get(stratum, rest) * kept + 1e-9))
            for stratum, size in available.items()
        }


@dataclass(frozen=True)
class Remainder:
    """What is still wanted of the corpus after some of it is kept in any case.

    Args:
        whole: How much is kept of everything.
        kept: Size that is kept in any case; what is available does not hold it.
    """

    whole: Target
    kept: int

    def __call__(self, available: Sizes, fraction: float) -> Sizes:
        """See `Target`; one stratum only."""
        ((stratum, size),) = available.items()
        kept = self.kept * fraction
        wanted = self.whole({stratum: floor(size + kept)}, fraction)[stratum]
        return {stratum: max(0, floor(wanted - kept + 1e-9))}
