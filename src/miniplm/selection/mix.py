"""How much there is of each domain before and after selection: rows, tokens, bytes, lengths.

Whole numbers, so they are exact and the same for any number of shards and workers. A row that is
kept in several copies counts as often.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from miniplm.selection.kept_rows import KeptRows

Part = Literal["candidates", "kept"]
PARTS: tuple[Part, Part] = ("candidates", "kept")


@dataclass(frozen=True)
class Extent:
    """How much there is of some rows.

    Args:
        num_rows: Rows, each as often as it has copies.
        num_tokens: Their ids.
        num_bytes: Bytes of their text.
        rows_by_length: Rows of each length in ids, `[longest + 1]`.
    """

    num_rows: int
    num_tokens: int
    num_bytes: int
    rows_by_length: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        num_tokens: NDArray[np.int64],
        num_bytes: NDArray[np.int64],
        copies: NDArray[np.int64],
    ) -> Self:
        """Of rows, from the length, bytes and copies of each."""
        by_length = np.zeros(int(num_tokens.max(initial=0)) + 1, dtype=np.int64)
        np.add.at(by_length, num_tokens, copies)
        return cls(int(copies.sum()), int(num_tokens @ copies), int(num_bytes @ copies), by_length)

    def __add__(self, other: "Extent") -> "Extent":
        by_length = np.zeros(
            max(len(self.rows_by_length), len(other.rows_by_length)), dtype=np.int64
        )
        for part in (self, other):
            by_length[: len(part.rows_by_length)] += part.rows_by_length
        return Extent(
            self.num_rows + other.num_rows,
            self.num_tokens + other.num_tokens,
            self.num_bytes + other.num_bytes,
            by_length,
        )

    def length_quantile(self, share: float) -> int | None:
        """The smallest length that at least this share of the rows do not exceed; None of none.

        Example:
            >>> lengths, ones = np.array([2, 3, 3, 9]), np.ones(4, np.int64)
            >>> extent = Extent.of(lengths, lengths, ones)
            >>> extent.length_quantile(0.5), extent.length_quantile(0.9)
            (3, 9)
        """
        if self.num_rows == 0:
            return None
        wanted = max(1, int(np.ceil(share * self.num_rows - 1e-9)))
        return int(np.searchsorted(np.cumsum(self.rows_by_length), wanted))


NOTHING = Extent(0, 0, 0, np.zeros(1, dtype=np.int64))


@dataclass(frozen=True)
class Mix:
    """Candidates and kept rows of a domain, or of all.

    Args:
        candidates: All rows, each once.
        kept: The kept rows, with their copies.
        num_distinct: The kept rows, each once.
    """

    candidates: Extent = NOTHING
    kept: Extent = NOTHING
    num_distinct: int = 0

    def __add__(self, other: "Mix") -> "Mix":
        return Mix(
            self.candidates + other.candidates,
            self.kept + other.kept,
            self.num_distinct + other.num_distinct,
        )

    def part(self, part: Part) -> Extent:
        """What there is before or after selection."""
        return self.candidates if part == "candidates" else self.kept


def mix_by_domain(rows: KeptRows) -> dict[str, Mix]:
    """The mix of each domain in a shard."""
    if len(rows.domain_numbers) == 0:
        return {}
    order = np.argsort(rows.domain_numbers, kind="stable")
    numbers, begins = np.unique(rows.domain_numbers[order], return_index=True)
    mixes = {}
    for number, places in zip(numbers.tolist(), np.split(order, begins[1:]), strict=True):
        tokens, size, copies = rows.num_tokens[places], rows.num_bytes[places], rows.copies[places]
        mixes[rows.domains[number]] = Mix(
            Extent.of(tokens, size, np.ones_like(copies)),
            Extent.of(tokens, size, copies),
            int(np.count_nonzero(copies)),
        )
    return mixes


def group_shares(mixes: Mapping[str, Mix]) -> dict[str, dict[str, int]]:
    """Rows and tokens of each group, and how many of them count at the end, for the manifest."""
    return {
        group: {
            "num_sequences": mix.candidates.num_rows,
            "num_counted": mix.kept.num_rows,
            "num_tokens": mix.candidates.num_tokens,
            "num_tokens_counted": mix.kept.num_tokens,
        }
        for group, mix in mixes.items()
    }


def add_mixes(parts: Iterable[Mapping[str, Mix]]) -> dict[str, Mix]:
    """All parts together, domains in order of their names."""
    total: dict[str, Mix] = {}
    for part in parts:
        for domain, mix in part.items():
            total[domain] = total.get(domain, Mix()) + mix
    return dict(sorted(total.items()))
