"""Packing: documents of one domain, joined by eos, cut into rows that end with a sentence.

A row holds up to `max_length` + 1 ids. A full window is cut back to the last sentence end in it
(or newline, or eos) and what was cut off starts the next row, as in the MiniPLM paper's data
preparation. Where no sentence ends in the window it is kept whole. What is left of a domain at
the end makes a shorter last row.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from miniplm.config import Config

MIN_ROW_IDS = 2
"""A row of one id predicts nothing."""

_BLOCK_IDS = 1 << 20


class PackingConfig(Config):
    """How rows are made."""

    max_length: int = Field(
        1024, ge=2, description="predicted tokens per sequence; rows hold one id more"
    )
    sequences_per_shard: int = Field(
        65536, ge=1, description="rows per token shard (the unit of resuming and of parallel work)"
    )


@dataclass(frozen=True, slots=True)
class Row:
    """A packed row: its ids, and the documents it holds parts of, in order."""

    ids: NDArray[np.int32]
    sources: list[str]


def row_ends(ends_sentence: NDArray[np.bool_], row_length: int) -> list[int]:
    """Where full rows end in a stream of ids.

    Args:
        ends_sentence: For each id of the stream, whether a row may end behind it.
        row_length: Ids per full window.

    Returns:
        Exclusive end positions, ascending. What follows the last one is no full window yet.

    Example:
        >>> row_ends(np.array([0, 0, 1, 0, 0, 0, 0, 0, 1, 0], bool), 4)
        [3, 7]
    """
    cuts = np.flatnonzero(ends_sentence) + 1
    ends: list[int] = []
    start = 0
    while start + row_length <= len(ends_sentence):
        window_end = start + row_length
        index = int(np.searchsorted(cuts, window_end, side="right")) - 1
        cut = int(cuts[index]) if index >= 0 else 0
        start = cut if cut >= start + MIN_ROW_IDS else window_end
        ends.append(start)
    return ends


class DomainPacker:
    """Packs the documents of one domain, given one after another.

    The rows do not depend on how many documents are added between two calls of `rows`.
    """

    def __init__(self, ends_sentence_V: NDArray[np.bool_], eos_id: int, max_length: int) -> None:
        self._ends_sentence_V = ends_sentence_V
        self._eos = np.array([eos_id], dtype=np.int32)
        self._row_length = max_length + 1
        self._pieces: list[NDArray[np.int32]] = []
        self._num_ids = 0
        self._starts: list[int] = []
        self._sources: list[str] = []
        self.num_dropped_ids = 0

    def add(self, ids: NDArray[np.int32], source: str) -> None:
        """Add a document's ids, without eos, and the document's id."""
        self._starts.append(self._num_ids)
        self._sources.append(source)
        self._pieces += [ids, self._eos]
        self._num_ids += len(ids) + 1

    def rows(self, *, flush: bool = False) -> Iterator[Row]:
        """Rows that are decided by now; all that is left when `flush` is set."""
        if self._num_ids < _BLOCK_IDS and not flush:
            return
        stream = np.concatenate(self._pieces) if self._pieces else np.empty(0, np.int32)
        ends = row_ends(self._ends_sentence_V[stream], self._row_length)
        consumed = ends[-1] if ends else 0
        if flush and consumed < len(stream):
            ends.append(len(stream))
        yield from self._cut(stream, ends)
        self._keep_from(stream, ends[-1] if ends else 0)

    def _cut(self, stream: NDArray[np.int32], ends: list[int]) -> Iterator[Row]:
        starts = np.asarray(self._starts)
        begin = 0
        for end in ends:
            if end - begin < MIN_ROW_IDS:
                self.num_dropped_ids += end - begin
            else:
                first = int(np.searchsorted(starts, begin, side="right")) - 1
                last = int(np.searchsorted(starts, end, side="left"))
                yield Row(stream[begin:end], self._sources[first:last])
            begin = end

    def _keep_from(self, stream: NDArray[np.int32], begin: int) -> None:
        first = int(np.searchsorted(np.asarray(self._starts), begin, side="right")) - 1
        rest = stream[begin:].copy()
        self._pieces, self._num_ids = ([rest] if len(rest) else []), len(rest)
        if len(rest):
            self._starts = [max(0, start - begin) for start in self._starts[first:]]
            self._sources = self._sources[first:]
        else:
            self._starts, self._sources = [], []
