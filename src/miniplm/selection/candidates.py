"""Going through the candidates, block by block and shards in parallel, with their scores.

A pass adds up what a function finds in each block; neither the number of shards nor that of workers
has a say in the sum.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from miniplm.data.parquet import ColumnFile
from miniplm.data.shards import count_rows
from miniplm.runtime.buffers import Buffers
from miniplm.runtime.executors import Executor
from miniplm.selection.amounts import CORPUS, Target
from miniplm.selection.calibration import Calibrated, Rows
from miniplm.selection.cut import (
    EVERYTHING,
    Bracket,
    Brackets,
    Place,
    Ranked,
    Tallies,
    Tally,
    add_tallies,
    find_cuts,
)
from miniplm.selection.group_tables import read_groups
from miniplm.selection.scores import Block, OpenShard, ScoredShard

_LOOKS = 16
_BUFFERS = Buffers()
FoundT = TypeVar("FoundT")
StratumOf = Callable[[str], str]
"""The stratum that a domain belongs to, or a group."""
ValueOf = Callable[["ScoredBlock"], NDArray[np.float64]]
"""What the rows of a block are ranked by, NaN where one has no place in the ranking."""


def whole_corpus(_: str) -> str:
    """Everything is ranked against everything."""
    return CORPUS


def each_its_own(label: str) -> str:
    """Each domain, or each group, has a ranking of its own."""
    return label


@dataclass(frozen=True)
class Labels:
    """What each row of a block is: of which domain, or of which group.

    Args:
        names: Names of domains or groups.
        numbers: Which of them each row is of, `[rows]`.
    """

    names: Sequence[str]
    numbers: NDArray[np.int32]


@dataclass(frozen=True)
class ScoredBlock:
    """Some rows with their scores; arrays last until the next block is asked for.

    Args:
        rows: As they are read.
        difference: Difference scores, `[rows]`, NaN where there is none.
        scores: The same, calibrated; NaN also where a row is left out beforehand.
        labels: What strata are made of: domains or groups.
    """

    rows: Block
    difference: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: Labels

    @property
    def ids(self) -> NDArray[np.int64]:
        """Sequence ids."""
        return self.rows.sequence_ids

    def by_stratum(self, stratum_of: StratumOf) -> list[tuple[str, Any]]:
        """Places of the rows of each stratum: an array of indices, or a slice of all."""
        if stratum_of is whole_corpus:
            return [(CORPUS, slice(None))]
        names = sorted({stratum_of(label) for label in self.labels.names})
        numbers = {name: number for number, name in enumerate(names)}
        kind = np.min_scalar_type(len(names))  # numpy sorts the narrow ones by radix
        strata = np.array([numbers[stratum_of(label)] for label in self.labels.names], kind)
        of_rows = strata[self.labels.numbers]
        order = np.argsort(of_rows, kind="stable")
        parts = np.split(order, np.searchsorted(of_rows[order], np.arange(1, len(names))))
        return [(name, part) for name, part in zip(names, parts, strict=True) if len(part)]


class Candidates:
    """All candidates with both models' scores.

    Args:
        shards: With their score tables.
        executor: Runs the shards.
        described: Whether domains and numbers of tokens are needed.
        groups_folder: Group tables, if strata are made of groups; else they are of domains.

    Attributes:
        calibrated: Turns log-probabilities into the scores that are ranked, once it is fitted.
        left_out: Ascending ids of rows that have no place in any ranking.
    """

    def __init__(
        self,
        shards: Sequence[ScoredShard],
        executor: Executor[Any, Any],
        *,
        described: bool,
        groups_folder: Path | None = None,
    ) -> None:
        self.shards, self.executor, self.described = shards, executor, described
        self._groups_folder = groups_folder
        sizes = [count_rows(shard.prefix) for shard in shards]
        self.num_rows = sum(sizes)
        self.filled = [shard for shard, size in zip(shards, sizes, strict=True) if size]
        self.calibrated: Calibrated | None = None
        self.left_out: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def blocks(self, files: OpenShard, *, described: bool | None = None) -> Iterator[ScoredBlock]:
        """The rows of a shard, in its order."""
        described = self.described if described is None else described
        grouped = self._groups(files) if described else None
        begin = 0
        for rows in files.blocks(described=described):
            difference = _BUFFERS.get("difference", len(rows.sequence_ids))
            np.subtract(rows.teacher, rows.reference, out=difference)
            labels = Labels(rows.domains, rows.domain_numbers)
            if grouped is not None:
                end = begin + len(rows.sequence_ids)
                labels = Labels(grouped.names, grouped.numbers[begin:end])
                begin = end
            scores = self._without(rows, self._scores(rows, difference, labels))
            yield ScoredBlock(rows, difference, scores, labels)

    def groups_origin(self, files: OpenShard) -> dict[str, Any] | None:
        """What the groups of a shard follow from, where strata are made of groups."""
        if self._groups_folder is None:
            return None
        return ColumnFile(self._groups_folder / f"{files.shard.name}.parquet").metadata

    def _groups(self, files: OpenShard) -> Labels | None:
        """Groups of all rows of a shard."""
        if self._groups_folder is None:
            return None
        path = self._groups_folder / f"{files.shard.name}.parquet"
        found = read_groups(path, files.shard_hash)
        return Labels(found.names, found.groups)

    def _scores(
        self, rows: Block, difference: NDArray[np.float64], labels: Labels
    ) -> NDArray[np.float64]:
        """Calibrated difference scores."""
        if self.calibrated is None:
            return difference
        names, numbers = tuple(labels.names), labels.numbers
        return self.calibrated.scores(
            Rows(rows.teacher, rows.reference, rows.num_tokens, names, numbers)
        )

    def _without(self, rows: Block, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores, NaN for rows that are left out."""
        ids = rows.sequence_ids
        if not len(self.left_out) or not len(ids):
            return scores
        ends = np.searchsorted(self.left_out, [ids.min(), ids.max() + 1])
        left_out = self.left_out[slice(*ends)]
        return np.where(np.isin(ids, left_out), np.nan, scores) if len(left_out) else scores

    def label_names(self) -> list[str]:
        """Names of the domains, or groups, that have a row."""

        def there(block: ScoredBlock) -> set[str]:
            return {block.labels.names[number] for number in np.unique(block.labels.numbers)}

        return sorted(set().union(*self.each_block(there)))

    def each_block(self, find: Callable[[ScoredBlock], FoundT]) -> list[FoundT]:
        """What a function finds in every block, in their order."""
        parts = self.executor(partial(self._find, find), self.filled)
        return [found for part in parts for found in part]

    def _find(self, find: Callable[[ScoredBlock], FoundT], shard: ScoredShard) -> list[FoundT]:
        return [find(block) for block in self.blocks(shard.open())]

    def cuts(
        self,
        value_of: ValueOf,
        stratum_of: StratumOf,
        target: Target,
        *,
        in_tokens: bool,
        reach: bool = False,
    ) -> dict[str, Place]:
        """The last row to be kept of each stratum.

        Args:
            value_of: What rows are ranked by.
            stratum_of: Which rows are ranked against each other.
            target: How much to keep.
            in_tokens: Whether that is told in tokens, not in sequences.
            reach: Whether to keep at least that much, instead of at most.
        """
        count = partial(self._count, value_of, stratum_of, in_tokens)
        look, seen = self._look(count)
        return find_cuts(
            lambda brackets: add_tallies(self.each_block(partial(count, brackets))),
            look,
            target,
            seen / max(1, self.num_rows),
            reach=reach,
        )

    def sizes_kept(
        self, value_of: ValueOf, stratum_of: StratumOf, cuts: dict[str, Place], *, in_tokens: bool
    ) -> dict[str, int]:
        """Sizes of all that ranks before the cuts."""
        count = partial(self._count, value_of, stratum_of, in_tokens)
        brackets = Brackets({stratum: Bracket(place, place) for stratum, place in cuts.items()})
        tallies = add_tallies(self.each_block(partial(count, brackets)))
        return {stratum: tally.size_above for stratum, tally in tallies.items()}

    def _look(self, count: Callable[[Brackets, ScoredBlock], Tallies]) -> tuple[Any, int]:
        """The first rows of some shards by stratum, and how many rows that are in all."""

        def first_rows(shard: ScoredShard) -> list[tuple[Tallies, int]]:
            blocks = islice(self.blocks(shard.open()), 1)
            everything = Brackets({}, EVERYTHING)
            return [(count(everything, block), len(block.ids)) for block in blocks]

        step = -(-len(self.filled) // _LOOKS) or 1
        parts = [found for part in self.executor(first_rows, self.filled[::step]) for found in part]
        tallies = add_tallies([tallies for tallies, _ in parts])
        look: dict[str, Ranked] = {stratum: tally.inside for stratum, tally in tallies.items()}
        return look, sum(size for _, size in parts)

    @staticmethod
    def _count(
        value_of: ValueOf,
        stratum_of: StratumOf,
        in_tokens: bool,
        brackets: Brackets,
        block: ScoredBlock,
    ) -> Tallies:
        values, found = value_of(block), {}
        sizes = block.rows.num_tokens.astype(np.int64) if in_tokens else None
        for stratum, places in block.by_stratum(stratum_of):
            found[stratum] = Tally.of(
                values[places],
                block.ids[places],
                brackets[stratum],
                brackets.step,
                None if sizes is None else sizes[places],
            )
        return found
