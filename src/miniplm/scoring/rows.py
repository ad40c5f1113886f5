"""Rows that a model scores: those of a shard, some of them, or their text in other ids.

Axes: R rows, B sequences, T positions.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from miniplm.data.shards import Shard, ShardInfo


@dataclass(frozen=True)
class Rows:
    """Rows that a model scores.

    Args:
        prefix: Of the shard they come from, for messages.
        info: Vocabulary, end-of-text id and most predicted tokens of a row.
        sequence_ids: Of each row, `[R]`.
        lengths: Ids in each row, `[R]`.
        row: The ids of the row at a place.
        bos_id: Begins a text in these ids, if anything does; what follows it is no target.
        num_known: Leading targets of each row that are scored elsewhere, `[R]`, if there are any.
    """

    prefix: Path
    info: ShardInfo
    sequence_ids: NDArray[np.int64]
    lengths: NDArray[np.int32]
    row: Callable[[int], NDArray[np.int64]]
    bos_id: int | None = None
    num_known: NDArray[np.int32] | None = None

    @classmethod
    def of(cls, shard: Shard) -> Self:
        """All rows of a shard."""
        return cls(shard.prefix, shard.info, shard.sequence_ids, shard.lengths, shard.row)

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, places: NDArray[np.int64]) -> Self:
        """The rows at some places, in that order."""
        known = None if self.num_known is None else self.num_known[places]
        return replace(
            self,
            sequence_ids=self.sequence_ids[places],
            lengths=self.lengths[places],
            row=lambda place: self.row(int(places[place])),
            num_known=known,
        )

    def unscored(
        self, places_B: NDArray[np.int64], input_ids_BT: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Positions of rows whose targets do not count, besides those behind eos, `[B, T]`."""
        unscored_BT = np.zeros(input_ids_BT.shape, dtype=np.bool_)
        if self.bos_id is not None:
            unscored_BT |= input_ids_BT == self.bos_id
        if self.num_known is not None:
            unscored_BT |= np.arange(input_ids_BT.shape[1]) < self.num_known[places_B][:, None]
        return unscored_BT
