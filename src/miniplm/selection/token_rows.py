"""Token ids of many rows at a time, out of shards that are mapped."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniplm.data.parquet import ColumnFile
from miniplm.data.shards import Shard

_IDS_AT_ONCE = 1 << 20


def row_blocks(shard: Shard) -> Iterator[tuple[NDArray[Any], NDArray[np.int64]]]:
    """Ids and lengths of neighbouring rows, about a million ids at a time, in order."""
    begin, filled = 0, np.cumsum(shard.lengths, dtype=np.int64)
    while begin < len(shard):
        limit = filled[begin] - shard.lengths[begin] + _IDS_AT_ONCE
        end = max(begin + 1, int(np.searchsorted(filled, limit, side="right")))
        yield _ids_of(shard, np.arange(begin, end))
        begin = end


def _ids_of(shard: Shard, rows: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Ids of some rows, one row after another, and their lengths."""
    begins, ends = shard.begins[rows], shard.ends[rows]
    counts = shard.lengths[rows].astype(np.int64)
    if len(rows) and np.array_equal(begins[1:], ends[:-1]):
        return shard.ids[begins[0] : ends[-1]], counts
    starts = np.repeat(begins - (np.cumsum(counts) - counts), counts)
    return shard.ids[starts + np.arange(len(starts))], counts


class TokenRows:
    """Rows of all shards of a folder by their place: shard by shard, in order.

    Args:
        shards: Opened; they keep 12 bytes a row in memory.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = shards
        self.offsets = np.concatenate([[0], np.cumsum([len(shard) for shard in shards])])

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def ids(self, places: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Token ids of some rows, one row after another, and the lengths of the rows.

        Args:
            places: Ascending.
        """
        parts: list[NDArray[Any]] = [np.empty(0, np.int32)]
        lengths: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        for number, rows in self.by_shard(places):
            ids, counts = _ids_of(self.shards[number], rows)
            parts.append(ids)
            lengths.append(counts)
        return np.concatenate(parts), np.concatenate(lengths)

    def sequence_ids(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Ids of the sequences at ascending places."""
        parts = [np.empty(0, np.int64)]
        for number, rows in self.by_shard(places):
            sidecar = self.shards[number].prefix.with_suffix(".parquet")
            parts.append(ColumnFile(sidecar).sequence_ids()[rows])
        return np.concatenate(parts)

    def by_shard(self, places: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Number of each shard that holds some of the ascending places, and the rows in it."""
        bounds = np.searchsorted(places, self.offsets)
        for number in np.flatnonzero(np.diff(bounds)).tolist():
            part = places[bounds[number] : bounds[number + 1]]
            yield number, part - self.offsets[number]
