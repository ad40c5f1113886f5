"""Rows of a token shard in batches of near lengths, with what is counted of each row.

Axes: B sequences, T positions, V vocabulary.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from miniplm.data.loader import IGNORED, make_batch, padded_width
from miniplm.data.shards import Shard
from miniplm.scoring.rows import Rows


@dataclass(frozen=True)
class RowBatch:
    """Rows of one shard, padded to one length.

    Args:
        places: Of the rows in the shard, `[B]`.
        input_ids_BT: Ids, padded on the right.
        targets_BT: The id to predict at each position, or `IGNORED`.
        num_positions: Positions of the rows, padding left out.
    """

    places: NDArray[np.int64]
    input_ids_BT: torch.Tensor
    targets_BT: torch.Tensor
    num_positions: int


@dataclass(frozen=True)
class ScoringBatch(RowBatch):
    """Rows with what is counted of them.

    Args:
        counted_BT: 1 where the target counts, else 0.
        num_bytes_BT: Bytes of text that it stands for, 0 where it does not count.
        num_tokens_B: Targets of the row that count.
        num_bytes_B: Bytes of text that they stand for.
    """

    counted_BT: NDArray[np.int64]
    num_bytes_BT: NDArray[np.int64]
    num_tokens_B: NDArray[np.int64]
    num_bytes_B: NDArray[np.int64]


def length_buckets(
    lengths: NDArray[np.int32], batch_tokens: int, max_length: int
) -> Iterator[NDArray[np.int64]]:
    """Group rows of near lengths so that a padded batch holds at most `batch_tokens` positions.

    Longest first, so that memory runs out at once or not at all. A row longer than the limit
    makes a batch of its own.
    """
    order = np.argsort(-lengths, kind="stable")
    begin = 0
    while begin < len(order):
        positions = padded_width(max(1, int(lengths[order[begin]]) - 1), max_length)
        size = max(1, batch_tokens // positions)
        yield order[begin : begin + size]
        begin += size


def row_batches(shard: Shard | Rows, buckets: Iterable[NDArray[np.int64]]) -> Iterator[RowBatch]:
    """A batch for each group of places in the shard."""
    for places in buckets:
        rows = [shard.row(int(place)) for place in places]
        width = padded_width(max(len(row) for row in rows) - 1, shard.info.max_length)
        batch = make_batch(rows, shard.info.eos_id, width)
        yield RowBatch(
            places=places,
            input_ids_BT=batch.input_ids_BT,
            targets_BT=batch.targets_BT,
            num_positions=sum(len(row) - 1 for row in rows),
        )


def scoring_batches(
    rows: Rows, buckets: Iterable[NDArray[np.int64]], token_num_bytes_V: NDArray[np.int64]
) -> Iterator[ScoringBatch]:
    """A batch for each group of places among the rows, with what is counted of them.

    Args:
        rows: The rows.
        buckets: Places that go together.
        token_num_bytes_V: Bytes of text that each id stands for, `[V]`.
    """
    for batch in row_batches(rows, buckets):
        targets_BT = batch.targets_BT.numpy()
        targets_BT[rows.unscored(batch.places, batch.input_ids_BT.numpy())] = IGNORED
        counted_BT = (targets_BT != IGNORED).astype(np.int64)
        num_bytes_BT = token_num_bytes_V[targets_BT * counted_BT] * counted_BT
        yield ScoringBatch(
            **vars(batch),
            counted_BT=counted_BT,
            num_bytes_BT=num_bytes_BT,
            num_tokens_B=counted_BT.sum(axis=1),
            num_bytes_B=num_bytes_BT.sum(axis=1),
        )
