"""Group tables: one Parquet file per token shard, with the columns sequence_id and `group`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from miniplm.data.parquet import ColumnFile, places_of, write_parquet
from miniplm.data.shards import open_table_of
from miniplm.errors import ArtefactError

GROUP_SCHEMA = pa.schema(
    [
        pa.field("sequence_id", pa.int64(), nullable=False),
        pa.field("group", pa.int32(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Groups:
    """Groups of the rows of a shard.

    Args:
        sequence_ids: `[rows]`, in the shard's order.
        groups: Number of each row's group, `[rows]`.
    """

    sequence_ids: NDArray[np.int64]
    groups: NDArray[np.int32]

    @property
    def names(self) -> list[str]:
        """What the groups are called, up to the highest number that a row has."""
        return [group_name(number) for number in range(self.groups.max(initial=-1) + 1)]


def group_name(number: int) -> str:
    """What a group is called.

    Example:
        >>> group_name(3)
        'group 3'
    """
    return f"group {number}"


def write_groups(path: Path, found: Groups, origin: dict[str, Any]) -> None:
    """Write the groups of one shard atomically; `origin` names its `shard_hash`."""
    columns = [pa.array(found.sequence_ids), pa.array(found.groups)]
    write_parquet(path, pa.Table.from_arrays(columns, schema=GROUP_SCHEMA), origin)


def read_groups(path: Path, shard_hash: str) -> Groups:
    """The groups of a shard's rows.

    Raises:
        ArtefactError: The file is missing or damaged, or belongs to another shard.
    """
    file = open_table_of(path, shard_hash, "holds groups of", "Group these shards again.")
    return Groups(file.sequence_ids(), file.array("group"))


def groups_of(folder: Path, wanted: NDArray[np.int64]) -> NDArray[np.int32]:
    """The groups of some rows, wherever they are.

    Args:
        folder: Group tables of all shards.
        wanted: Sequence ids, `[R]`.

    Raises:
        ArtefactError: A table is damaged, or there is none of a row.
    """
    groups_R = np.full(len(wanted), -1, np.int32)
    for path in folder.glob("data_*.parquet"):
        file = ColumnFile(path)
        there_R = np.isin(wanted, ids := file.sequence_ids())
        if there_R.any():
            groups_R[there_R] = file.array("group")[places_of(wanted[there_R], ids)]
    if (groups_R < 0).any():
        raise ArtefactError(
            f"{folder}: has no group for {np.count_nonzero(groups_R < 0)} of {len(wanted)} "
            "sequences. Group these shards again."
        )
    return groups_R
