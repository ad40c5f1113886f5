"""Captures of the teacher's distributions, read as targets for batches.

Axes: B sequences, T positions, N = B * T positions, M entries of all positions.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from miniplm.data.shards import Shard
from miniplm.errors import ArtefactError
from miniplm.manifest import how_to_remake
from miniplm.runtime.open_files import allow_open_files
from miniplm.scoring.capture_files import Capture, CapturedRow
from miniplm.training.targets import SparseTargets


class Captured:
    """The captures of some shards, their sequences under one running index.

    Args:
        folder: Output of the capture stage.
        shards: Those that are trained on, in the order of `data.loader.SequenceStore`.

    Raises:
        ArtefactError: A capture is missing or damaged, belongs to another shard, or was made in
            another way than the first.
    """

    def __init__(self, folder: Path, shards: Sequence[Shard]) -> None:
        allow_open_files(2 * len(shards))  # shards are mapped too
        self._captures = [Capture(folder / f"{s.prefix.name}.arrow", s) for s in shards]
        self._first = np.cumsum([0, *(len(shard) for shard in shards)])
        self.info = self._captures[0].info
        for capture in self._captures:
            if capture.info.origin != self.info.origin:
                raise ArtefactError(
                    f"{folder}: {self._captures[0].path.name} and {capture.path.name} were "
                    "captured from different teachers or in different ways. Capture these shards "
                    "again."
                )

    def batch(self, indices: Sequence[int] | NDArray[np.int64], width: int) -> SparseTargets:
        """The teacher's entries for some sequences, padded to `width` positions each.

        Args:
            indices: Running indices over all shards.
            width: T, that of the batch's `targets_BT`.

        Returns:
            Weights estimate the teacher's probabilities. Positions are those of `targets_BT`
            flattened; those without a target have no entries.

        Raises:
            ArtefactError: The numbers of entries in the file do not add up.
        """
        rows = [self._row(int(index)) for index in indices]
        num_entries_BT = np.zeros((len(rows), width), dtype=np.int64)
        for row, num_entries_T in zip(rows, num_entries_BT, strict=True):
            num_entries_T[: len(row.num_entries_T)] = row.num_entries_T
        starts_N1 = np.concatenate([[0], num_entries_BT.ravel().cumsum()])
        positions_M = np.repeat(np.arange(num_entries_BT.size), num_entries_BT.ravel())
        weights_M = np.concatenate([row.weights_E for row in rows]).astype(np.float32)
        if self.info.config.holds_counts:
            weights_M /= self.info.entries
        ids_M = np.concatenate([row.ids_E for row in rows]).astype(np.int64)
        return SparseTargets(*map(torch.from_numpy, (positions_M, ids_M, weights_M, starts_N1)))

    def _row(self, index: int) -> CapturedRow:
        number = int(np.searchsorted(self._first, index, side="right")) - 1
        capture, place = self._captures[number], index - int(self._first[number])
        row = capture.row(place)
        if row.num_entries_T.sum(dtype=np.int64) != len(row.ids_E):
            raise ArtefactError(
                f"{capture.path}: is damaged (the entries of its row {place} do not add up). "
                f"{how_to_remake(capture.path, 'Capture this shard again.')}"
            )
        return row
