"""From token shards to batches.

Axes: B sequences, T positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from miniplm.data.shards import Shard
from miniplm.errors import ArtefactError

IGNORED = -100
"""Target of a position that is neither scored nor trained on."""

_WIDTH_STEP = 32
"""Widths are multiples of this: few different shapes keep the allocator's memory in one piece."""


@dataclass(frozen=True)
class Batch:
    """Sequences padded to one length.

    Args:
        input_ids_BT: int64; padding is eos.
        targets_BT: The id to predict at each position, or `IGNORED`.
        num_tokens_B: Targets that count, per sequence.
    """

    input_ids_BT: torch.Tensor
    targets_BT: torch.Tensor
    num_tokens_B: torch.Tensor


def padded_width(longest: int, max_length: int) -> int:
    """Positions to pad to: a few different widths only, and never more than a model serves.

    Example:
        >>> padded_width(33, 256), padded_width(90, 100)
        (64, 96)
        >>> padded_width(99, 100)
        100
    """
    return min(max_length, -(-longest // _WIDTH_STEP) * _WIDTH_STEP)


def make_batch(rows: Sequence[NDArray[np.int64]], eos_id: int, length: int | None = None) -> Batch:
    """Pad rows to a batch of inputs and targets.

    The position whose input is eos has no target: the first token of a new document inside a row
    is neither scored nor trained on.

    Args:
        rows: Ids of each sequence, `[length + 1]`.
        eos_id: End-of-text id.
        length: Positions to pad to; the longest row's if not given.
    """
    width = length or max(len(row) for row in rows) - 1
    inputs = np.full((len(rows), width), eos_id, dtype=np.int64)
    targets = np.full((len(rows), width), IGNORED, dtype=np.int64)
    for index, row in enumerate(rows):
        inputs[index, : len(row) - 1] = row[:-1]
        targets[index, : len(row) - 1] = row[1:]
    targets[inputs == eos_id] = IGNORED
    num_tokens = (targets != IGNORED).sum(axis=1)
    return Batch(torch.from_numpy(inputs), torch.from_numpy(targets), torch.from_numpy(num_tokens))


class SequenceStore:
    """All sequences of some shards under one running index.

    Raises:
        ArtefactError: The shards differ in vocabulary, end-of-text id or length.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = list(shards)
        self._first = np.concatenate([[0], np.cumsum([len(shard) for shard in shards])])
        kinds = {(s.info.vocab_size, s.info.eos_id, s.info.max_length) for s in shards}
        if len(kinds) != 1:
            raise ArtefactError(
                f"{shards[0].prefix.parent}: its shards differ in (vocabulary, eos, length): "
                f"{sorted(kinds)}. They were not made together; make them again."
            )
        self.vocab_size, self.eos_id, self.max_length = kinds.pop()
        self.lengths = np.concatenate([shard.lengths for shard in shards])

    def __len__(self) -> int:
        return int(self._first[-1])

    def row(self, index: int) -> NDArray[np.int64]:
        """Ids of a sequence, `[length]` int64."""
        shard, place = self._find(index)
        return shard.row(place)

    def num_scored_bytes(self, token_num_bytes_V: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bytes of text that the targets of each sequence stand for, `[M]`.

        Args:
            token_num_bytes_V: Of each id, `[V]`.
        """
        return np.concatenate(
            [_num_scored_bytes(shard, self.eos_id, token_num_bytes_V) for shard in self.shards]
        )

    def name_of(self, index: int) -> str:
        """Where a sequence is found: its shard and its row in it."""
        shard, place = self._find(index)
        return f"{shard.prefix}:{place}"

    def domains(self) -> tuple[list[str], NDArray[np.int64]]:
        """Names of the domains, in order, and the number of each sequence's among them, `[M]`."""
        columns = [shard.sidecar["domain"].cast(pa.string()) for shard in self.shards]
        chunks = [chunk for column in columns for chunk in column.chunks]
        coded = pa.chunked_array(chunks, pa.string()).combine_chunks().dictionary_encode()
        found = np.array(coded.dictionary.to_pylist(), dtype=np.str_)
        names, numbers = np.unique(found, return_inverse=True)
        return names.tolist(), numbers[coded.indices.to_numpy()]

    def source_ids(self, index: int) -> list[str]:
        """The documents that a sequence holds parts of, in order."""
        shard, place = self._find(index)
        names: list[str] = shard.sidecar["source_ids"][place].as_py()
        return names

    def _find(self, index: int) -> tuple[Shard, int]:
        number = int(np.searchsorted(self._first, index, side="right")) - 1
        return self.shards[number], index - int(self._first[number])

    def batch(self, indices: Sequence[int] | NDArray[np.int64], length: int | None = None) -> Batch:
        """The sequences at these indices as a batch; `length` as in `make_batch`, but rounded."""
        rows = [self.row(int(index)) for index in indices]
        longest = max(len(row) for row in rows) - 1
        return make_batch(rows, self.eos_id, length or padded_width(longest, self.max_length))


def _num_scored_bytes(
    shard: Shard, eos_id: int, token_num_bytes_V: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Those of a shard's rows: neither a row's first id nor one behind eos is a target."""
    num_bytes_N = token_num_bytes_V[shard.ids]
    num_bytes_N[1:][shard.ids[:-1] == eos_id] = 0
    num_bytes_N[shard.begins] = 0
    sums = np.concatenate([[0], np.cumsum(num_bytes_N)])
    counts: NDArray[np.int64] = sums[shard.ends] - sums[shard.begins]
    return counts
