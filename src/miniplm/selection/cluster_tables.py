"""Cluster tables: one Parquet file per token shard that says which rows are near-duplicates.

Columns: sequence_id; `cluster`, the smallest sequence_id among the near-duplicates of a row, which
is its own where it has none.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from miniplm.data.parquet import ColumnFile, write_parquet
from miniplm.data.shards import open_table_of, shard_info, shard_prefixes
from miniplm.manifest import Outcome
from miniplm.runtime.executors import Executor, threads
from miniplm.selection.tables import write_selection

CLUSTER_SCHEMA = pa.schema(
    [
        pa.field("sequence_id", pa.int64(), nullable=False),
        pa.field("cluster", pa.int64(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Clusters:
    """Clusters of the rows of a shard.

    Args:
        sequence_ids: `[rows]`, in the shard's order.
        clusters: Smallest sequence_id of each row's cluster, `[rows]`.
    """

    sequence_ids: NDArray[np.int64]
    clusters: NDArray[np.int64]


def write_clusters(path: Path, found: Clusters, origin: dict[str, Any]) -> None:
    """Write the clusters of one shard atomically; `origin` names its `shard_hash`."""
    columns = [pa.array(found.sequence_ids), pa.array(found.clusters)]
    write_parquet(path, pa.Table.from_arrays(columns, schema=CLUSTER_SCHEMA), origin)


def read_clusters(path: Path, shard_hash: str) -> Clusters:
    """The clusters of a shard.

    Raises:
        ArtefactError: The file is missing or damaged, or belongs to another shard.
    """
    file = open_table_of(
        path, shard_hash, "holds clusters of", "Look for near-duplicates in these shards again."
    )
    return Clusters(file.sequence_ids(), file.array("cluster"))


def keep_one(
    shards_folder: Path,
    clusters_folder: Path,
    folder: Path,
    executor: Executor[Path, tuple[int, int]] = threads,
) -> Outcome:
    """Select the row with the smallest id of each cluster, before there are scores.

    Writes selections as `selection.tables` has them, which `export_corpus` takes; the difference
    score is NaN, as nothing is scored.

    Args:
        shards_folder: Token shards.
        clusters_folder: Their cluster tables.
        folder: Where the selection goes.
        executor: Runs the shards.

    Raises:
        ArtefactError: A cluster table is missing or damaged, or belongs to another shard.
    """
    num_rows = num_kept = 0
    select = partial(_keep_one, clusters_folder, folder)
    for rows, kept in executor(select, shard_prefixes(shards_folder)):
        num_rows, num_kept = num_rows + rows, num_kept + kept
    return Outcome(
        counts={
            "sequences": num_rows,
            "kept": num_kept,
            "dropped": {"near-duplicate": num_rows - num_kept},
        }
    )


def _keep_one(clusters_folder: Path, folder: Path, prefix: Path) -> tuple[int, int]:
    """Select from one shard; returns the number of its rows and of those kept."""
    shard_hash = shard_info(ColumnFile(prefix.with_suffix(".parquet"))).shard_hash
    found = read_clusters(clusters_folder / f"{prefix.name}.parquet", shard_hash)
    kept = found.sequence_ids[found.clusters == found.sequence_ids]
    write_selection(
        folder / f"{prefix.name}.parquet",
        kept,
        np.full(len(kept), np.nan, dtype=np.float32),
        {},
        {"shard_hash": shard_hash, "kept": "one of each cluster"},
    )
    return len(found.sequence_ids), len(kept)
