"""Of each cluster of near-duplicates only the best-ranked row may be kept.

In memory are the rows that are in clusters: 24 bytes each.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miniplm.selection.candidates import Candidates, ValueOf
from miniplm.selection.cluster_tables import Clusters, read_clusters
from miniplm.selection.scores import ScoredShard


@dataclass(frozen=True)
class _Members:
    """Rows that are in clusters.

    Args:
        clusters: Which each is in, `[rows]`.
        ids: Their ids.
        values: What they are ranked by; NaN where one has no place in the ranking.
    """

    clusters: NDArray[np.int64]
    ids: NDArray[np.int64]
    values: NDArray[np.float64]


def all_but_the_best(
    candidates: Candidates, clusters_folder: Path, value_of: ValueOf
) -> NDArray[np.int64]:
    """Ascending ids of the rows whose cluster holds one that ranks before them.

    Args:
        candidates: With their scores.
        clusters_folder: Their cluster tables.
        value_of: What rows are ranked by; of equal ones the lowest id comes first.

    Raises:
        ArtefactError: A cluster table is missing or damaged, or belongs to other shards.
    """
    shared = _shared(candidates, clusters_folder)
    find = partial(_members, candidates, clusters_folder, shared, value_of)
    parts = [part for part in candidates.executor(find, candidates.filled) if len(part.ids)]
    if not parts:
        return np.empty(0, dtype=np.int64)
    clusters = np.concatenate([part.clusters for part in parts])
    ids = np.concatenate([part.ids for part in parts])
    values = np.concatenate([part.values for part in parts])
    order = np.lexsort((ids, -np.nan_to_num(values, nan=-np.inf), clusters))
    clusters, ids = clusters[order], ids[order]
    return np.sort(ids[1:][clusters[1:] == clusters[:-1]])


def _read(clusters_folder: Path, shard: ScoredShard) -> Clusters:
    files = shard.open()
    return read_clusters(clusters_folder / f"{shard.name}.parquet", files.shard_hash)


def _shared(candidates: Candidates, clusters_folder: Path) -> NDArray[np.int64]:
    """Ascending names of the clusters that hold several rows."""

    def find(shard: ScoredShard) -> NDArray[np.int64]:
        found = _read(clusters_folder, shard)
        return np.unique(found.clusters[found.clusters != found.sequence_ids])

    return np.unique(np.concatenate(list(candidates.executor(find, candidates.filled))))


def _members(
    candidates: Candidates,
    clusters_folder: Path,
    shared: NDArray[np.int64],
    value_of: ValueOf,
    shard: ScoredShard,
) -> _Members:
    """The rows of a shard that are in clusters."""
    clusters = _read(clusters_folder, shard).clusters
    inside = np.isin(clusters, shared)
    ids, values, begin = [], [], 0
    for block in candidates.blocks(shard.open()):
        places = np.flatnonzero(inside[begin : begin + len(block.ids)])
        ids.append(block.ids[places])
        values.append(value_of(block)[places])
        begin += len(block.ids)
    return _Members(clusters[inside], np.concatenate(ids), np.concatenate(values))
