"""Candidates with both models' scores: joined by sequence id, a block of rows at a time.

Ordinarily sidecar and score tables hold the same ids without a gap, group for group; then groups
are read one after another, and the ids not at all. Any other order is joined by id, a whole shard
at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from miniplm.data.parquet import ColumnFile, places_of
from miniplm.data.shards import check_rows, count_rows, shard_info, shard_prefixes
from miniplm.errors import ArtefactError
from miniplm.runtime.buffers import Buffers
from miniplm.scoring.tables import check_comparable, open_scores, score_info
from miniplm.selection.difference import Normalization, normalized_log_prob, score_columns

Role = Literal["teacher", "reference"]
ROLES: tuple[Role, Role] = ("teacher", "reference")

BLOCK_ROWS = 1 << 17
"""Rows that are worked on at a time: their arrays stay in a core's own cache."""
_COUNTING = np.arange(BLOCK_ROWS)
_BUFFERS = Buffers()


@dataclass
class Block:
    """Some rows of a shard with both models' scores, in the shard's order.

    Args:
        sequence_ids: Id of each row, `[rows]`.
        teacher: Normalised log-probabilities, `[rows]`; NaN where a row has no target.
        reference: The same under the reference.
        num_tokens: Targets of each row, in tokens of the run, `[rows]`; see `OpenShard`.
        domains: Names of domains.
        domain_numbers: Which of them each row belongs to, `[rows]`.
    """

    sequence_ids: NDArray[np.int64]
    teacher: NDArray[np.float64]
    reference: NDArray[np.float64]
    num_tokens: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    domains: Sequence[str] = ()
    domain_numbers: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))


@dataclass(frozen=True)
class ScoredShard:
    """A token shard and its two score tables, on disk.

    Args:
        prefix: Of the token shard.
        table_paths: The score tables.
        normalization: What log-probabilities are divided by.
    """

    prefix: Path
    table_paths: Mapping[Role, Path]
    normalization: Normalization

    @property
    def name(self) -> str:
        """Of the shard and of its tables, such as `data_0`."""
        return self.prefix.name

    def open(self) -> "OpenShard":
        """Open the three files. Raises what `OpenShard` raises."""
        return OpenShard(self)


def scored_shards(
    shards_folder: Path,
    teacher_folder: Path,
    reference_folder: Path,
    normalization: Normalization,
) -> list[ScoredShard]:
    """All shards of a folder with their tables; nothing is opened yet.

    Raises:
        ArtefactError: There are no shards.
    """
    folders: dict[Role, Path] = {"teacher": teacher_folder, "reference": reference_folder}
    return [
        ScoredShard(
            prefix,
            {role: folder / f"{prefix.name}.parquet" for role, folder in folders.items()},
            normalization,
        )
        for prefix in shard_prefixes(shards_folder)
    ]


@dataclass(frozen=True)
class _Group:
    """Rows that are read at once: a group of the three files, or (`number` None) all of them.

    `places` says where the rows stand in a role's table, if not in this order.
    """

    ids: range | NDArray[np.int64]
    number: int | None
    places: Mapping[Role, NDArray[np.int64]]


class OpenShard:
    """The sidecar and the score tables of a shard, opened.

    Tokens are counted as a table in the run's tokens does: without the first of each document,
    which has no target. Where both models count tokens of their own, a row has one fewer than it
    has ids: the first tokens of further documents in it are counted too, for the sidecar does not
    tell how many there are.

    Attributes:
        shard_hash: Hash of the token shard.

    Raises:
        ArtefactError: A file is missing or damaged, or belongs to another shard, or the tables
            cannot be compared by this normalization.
    """

    def __init__(self, shard: ScoredShard) -> None:
        self.shard = shard
        self.sidecar = ColumnFile(shard.prefix.with_suffix(".parquet"))
        self.shard_hash = shard_info(self.sidecar).shard_hash
        check_rows(shard.prefix, count_rows(shard.prefix), self.sidecar.num_rows)
        self.tables = {
            role: open_scores(path, self.shard_hash) for role, path in shard.table_paths.items()
        }
        check_comparable(self.tables, shard.normalization)
        in_run_tokens = [r for r in ROLES if score_info(self.tables[r]).counts_run_tokens]
        self._counted_by = in_run_tokens[0] if in_run_tokens else None

    def blocks(self, *, described: bool = False) -> Iterator["Block"]:
        """The rows of the shard, in its order; a block's arrays last until the next is asked for.

        Args:
            described: With `num_tokens` and `domain_numbers`.

        Raises:
            ArtefactError: A table lacks a sequence of the shard, or a score.
        """
        normalization = self.shard.normalization
        names = score_columns(normalization)
        for group in self._groups():
            scores = {role: [self._column(role, name, group) for name in names] for role in ROLES}
            if described:
                num_tokens = self._num_tokens(group)
                domains, domain_numbers = self._domains(group)
            for begin in range(0, len(group.ids), BLOCK_ROWS):
                rows = slice(begin, min(begin + BLOCK_ROWS, len(group.ids)))
                teacher, reference = (
                    normalized_log_prob([column[rows] for column in scores[role]], normalization)
                    for role in ROLES
                )
                block = Block(_as_array(group.ids[rows]), teacher, reference)
                if described:
                    block.num_tokens = num_tokens[rows]
                    block.domains, block.domain_numbers = domains, domain_numbers[rows]
                yield block

    def _groups(self) -> Iterator[_Group]:
        ranges = self.sidecar.id_ranges()
        if ranges and all(table.id_ranges() == ranges for table in self.tables.values()):
            for number, (first, end) in enumerate(ranges):
                yield _Group(range(first, end), number, {})
        else:
            ids = self.sidecar.sequence_ids()
            yield _Group(ids, None, {role: self._places(role, ids) for role in self.tables})

    def _places(self, role: Role, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        places = places_of(ids, self.tables[role].sequence_ids())
        if places is None:
            raise ArtefactError(
                f"{self.tables[role].path}: has no score for some sequences of "
                f"{self.shard.prefix}. Score these shards again."
            )
        return places

    def _column(self, role: Role, name: str, group: _Group) -> NDArray[Any]:
        room = partial(_BUFFERS.get, f"{role} {name}")
        column = self.tables[role].array(name, group.number, room)
        places = group.places.get(role)
        return column if places is None else column[places]

    def _num_tokens(self, group: _Group) -> NDArray[np.int32]:
        if self._counted_by is not None:
            return self._column(self._counted_by, "num_tokens", group)
        num_ids: NDArray[np.int32] = self.sidecar.array("num_tokens", group.number)
        return np.maximum(num_ids - 1, 0)

    def _domains(self, group: _Group) -> tuple[list[str], NDArray[np.int32]]:
        return self.sidecar.categories("domain", group.number)


def _as_array(ids: range | NDArray[np.int64]) -> NDArray[np.int64]:
    if not isinstance(ids, range):
        return ids
    array: NDArray[np.int64] = _BUFFERS.get("ids", len(ids), np.int64)
    return np.add(_COUNTING[: len(ids)], ids.start, out=array)
