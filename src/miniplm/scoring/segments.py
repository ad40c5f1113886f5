"""Sums over the pieces of documents that a row holds, with end-of-text between them.

A position belongs to the piece that its target is of; end-of-text is the last target of its piece.

Axes: B sequences, T positions, S segments, W windows, R rows, V vocabulary.
"""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from miniplm.data.packing import ranges
from miniplm.scoring.batches import ScoringBatch
from miniplm.scoring.tables import SEGMENT_COLUMNS

_NUMBERS = (np.float64, np.int64, np.int64)


def segment_numbers(
    input_ids_BT: NDArray[np.int64], num_positions_B: NDArray[np.int64], eos_id: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which piece each position is of, and how many pieces each row holds.

    Args:
        input_ids_BT: Ids, padded on the right with anything.
        num_positions_B: Positions of each row, padding left out.
        eos_id: Between pieces.

    Returns:
        Numbers of pieces, `[B, T]`, those of padding being of the last piece; and counts, `[B]`.

    Example:
        >>> segment_numbers(np.array([[5, 0, 6], [7, 8, 0]]), np.array([3, 2]), 0)
        (array([[0, 1, 1],
               [0, 0, 0]]), array([2, 1]))
    """
    ends_BT = np.cumsum(input_ids_BT == eos_id, axis=1)
    last_B = np.take_along_axis(ends_BT, np.maximum(num_positions_B, 1)[:, None] - 1, axis=1)
    last_B[num_positions_B == 0] = 0
    return np.minimum(ends_BT, last_B), last_B[:, 0] + 1


@dataclass
class SegmentSums:
    """Sums by segment of some rows, gathered batch by batch.

    Args:
        eos_id: Between pieces.
        lengths: Ids in each row, `[R]`.
    """

    eos_id: int
    lengths: NDArray[np.int32]
    _rows: list[tuple[NDArray[np.int64], NDArray[np.int64], torch.Tensor]] = field(
        default_factory=list
    )
    _counts: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = field(default_factory=list)

    def add(self, batch: ScoringBatch, log_probs_BT: torch.Tensor) -> None:
        """Take in the log-probabilities of a batch; they stay on their device until the end."""
        input_ids_BT = batch.input_ids_BT.numpy()
        positions_B = self.lengths[batch.places].astype(np.int64) - 1
        numbers_BT, counts_B = segment_numbers(input_ids_BT, positions_B, self.eos_id)
        shape = len(counts_B), int(counts_B.max())
        sums_BS = torch.zeros(shape, dtype=torch.float64, device=log_probs_BT.device)
        where_BT = torch.from_numpy(numbers_BT).to(log_probs_BT.device)
        sums_BS.scatter_add_(1, where_BT, log_probs_BT.double())
        self._rows.append((batch.places, counts_B, sums_BS))
        flat_BT = numbers_BT + np.arange(shape[0])[:, None] * shape[1]
        self._counts.append(
            (
                _summed(flat_BT, batch.counted_BT, shape),
                _summed(flat_BT, batch.num_bytes_BT, shape),
            )
        )

    def columns(self) -> list[pa.LargeListArray]:
        """The `SEGMENT_COLUMNS`, in the order of the rows."""
        num_segments = np.zeros(len(self.lengths), dtype=np.int64)
        for places, counts_B, _ in self._rows:
            num_segments[places] = counts_B
        ends = np.cumsum(num_segments)
        flat = [np.zeros(int(num_segments.sum()), dtype=dtype) for dtype in _NUMBERS]
        for (places, counts_B, sums_BS), counted in zip(self._rows, self._counts, strict=True):
            targets = ranges(ends[places] - counts_B, counts_B)
            there_BS = np.arange(sums_BS.shape[1]) < counts_B[:, None]
            for column, values_BS in zip(flat, (sums_BS.cpu().numpy(), *counted), strict=True):
                column[targets] = values_BS[there_BS]
        offsets = np.concatenate([[0], ends])
        return [pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(c)) for c in flat]


def _summed(
    flat_BT: NDArray[np.int64], values_BT: NDArray[np.integer], shape: tuple[int, int]
) -> NDArray[np.int64]:
    size = shape[0] * shape[1]
    sums = np.bincount(flat_BT.ravel(), values_BT.ravel(), minlength=size)
    return sums.astype(np.int64).reshape(shape)


def segments_of_rows(
    table: pa.Table,
    parents_W: NDArray[np.int64],
    first_segments_W: NDArray[np.int64],
    num_rows: int,
) -> list[pa.LargeListArray]:
    """The `SEGMENT_COLUMNS` of rows from those of the windows that they were cut into.

    Args:
        table: Of the windows.
        parents_W: Which row each window is of.
        first_segments_W: Which of the row's pieces each window begins in.
        num_rows: How many rows there are.
    """
    column = table[SEGMENT_COLUMNS[0]].combine_chunks()
    counts_W = np.diff(column.offsets.to_numpy())
    num_segments = np.zeros(num_rows, dtype=np.int64)
    np.maximum.at(num_segments, parents_W, first_segments_W + counts_W)
    offsets = np.concatenate([[0], np.cumsum(num_segments)])
    targets = ranges(offsets[parents_W] + first_segments_W, counts_W)
    columns = []
    for name, dtype in zip(SEGMENT_COLUMNS, _NUMBERS, strict=True):
        values = table[name].combine_chunks().flatten().to_numpy()
        sums = np.bincount(targets, values, minlength=int(offsets[-1])).astype(dtype)
        columns.append(pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(sums)))
    return columns
