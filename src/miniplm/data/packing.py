"""Packing: documents of one domain, joined by eos, cut into rows that end with a sentence.

A row holds up to `max_length` + 1 ids. A full window is cut back to the last sentence end in it
(or newline, or eos) and what was cut off starts the next row, as in the MiniPLM paper's data
preparation. Where no sentence ends in the window it is kept whole. What is left of a domain at
the end makes a shorter last row.
"""

from bisect import bisect_right
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
class Rows:
    """Packed rows, one after another in flat arrays.

    Args:
        ids_N: Ids of all rows, `[N]` int32.
        lengths_R: Ids in each row, `[rows]` int64.
        num_sources_R: Documents that each row holds parts of, `[rows]` int64.
        sources_S: Numbers of these documents, in order, `[S]` int64.
    """

    ids_N: NDArray[np.int32]
    lengths_R: NDArray[np.int64]
    num_sources_R: NDArray[np.int64]
    sources_S: NDArray[np.int64]


def ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers of several ranges, one range after another.

    Example:
        >>> ranges(np.array([5, 0]), np.array([2, 3])).tolist()
        [5, 6, 0, 1, 2]
    """
    before = np.cumsum(lengths) - lengths
    numbers: NDArray[np.int64] = np.repeat(starts - before, lengths)
    numbers += np.arange(len(numbers))
    return numbers


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
    found = np.flatnonzero(ends_sentence) + 1
    cuts, num_cuts = found.data, len(found)  # a memoryview gives Python's own numbers
    ends: list[int] = []
    start = passed = 0
    while (window_end := start + row_length) <= len(ends_sentence):
        # A window holds at most as many cuts as ids, so there is no need to search them all.
        passed = bisect_right(cuts, window_end, passed, min(passed + row_length, num_cuts))
        cut = cuts[passed - 1] if passed else 0
        start = cut if cut >= start + MIN_ROW_IDS else window_end
        ends.append(start)
    return ends


class DomainPacker:
    """Packs the documents of one domain, given one after another.

    Neither the rows nor the documents behind which they are given out depend on how a document is
    divided. Up to `_BLOCK_IDS` ids and what was added last are held.
    """

    def __init__(self, ends_sentence_V: NDArray[np.bool_], eos_id: int, max_length: int) -> None:
        self._ends_sentence_V = ends_sentence_V
        self._eos = np.array([eos_id], dtype=np.int32)
        self._row_length = max_length + 1
        self._pieces: list[NDArray[np.int32]] = []
        self._num_ids = 0
        self._starts: list[int] = []
        self._sources: list[int] = []
        self._in_document = False
        self._is_due = False
        self.num_dropped_ids = 0

    def add(self, ids: NDArray[np.int32], source: int, *, is_last: bool = True) -> Rows | None:
        """Add a document, or the next part of one.

        Args:
            ids: Its ids, without eos.
            source: The document's number.
            is_last: The document ends here.

        Returns:
            The rows that are decided, once there are many.
        """
        if not self._in_document:
            self._starts.append(self._num_ids)
            self._sources.append(source)
        self._in_document = not is_last
        self._append(ids)
        if is_last:
            self._append(self._eos)
        if self._num_ids < _BLOCK_IDS and not (is_last and self._is_due):
            return None
        self._is_due = not is_last
        return self._take(flush=False)

    def flush(self) -> Rows | None:
        """All rows that are left, the last one shorter."""
        return self._take(flush=True) if self._num_ids else None

    def _append(self, ids: NDArray[np.int32]) -> None:
        self._pieces.append(ids)
        self._num_ids += len(ids)

    def _take(self, *, flush: bool) -> Rows:
        stream = np.concatenate(self._pieces)
        ends = row_ends(self._ends_sentence_V[stream], self._row_length)
        used = ends[-1] if ends else 0
        if flush and len(stream) - used >= MIN_ROW_IDS:
            ends.append(len(stream))
        elif flush:
            self.num_dropped_ids += len(stream) - used
        rows = self._cut(stream, np.array([0, *ends], dtype=np.int64))
        self._keep_from(stream, len(stream) if flush else used)
        return rows

    def _cut(self, stream: NDArray[np.int32], bounds: NDArray[np.int64]) -> Rows:
        starts = np.array(self._starts)
        first = np.searchsorted(starts, bounds[:-1], side="right") - 1
        counts = np.searchsorted(starts, bounds[1:], side="left") - first
        sources = np.array(self._sources, dtype=np.int64)[ranges(first, counts)]
        return Rows(stream[: bounds[-1]], np.diff(bounds), counts, sources)

    def _keep_from(self, stream: NDArray[np.int32], begin: int) -> None:
        rest = stream[begin:].copy()
        self._pieces, self._num_ids = ([rest] if len(rest) else []), len(rest)
        first = bisect_right(self._starts, begin) - 1
        self._starts = [max(0, start - begin) for start in self._starts[first:]]
        self._sources = self._sources[first:]
