"""Rows on their way to the shards: ids in a file, what describes them in memory."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miniplm.data.shards import ids_dtype
from miniplm.data.splits import Split
from miniplm.data.tokenizer import TokenTable


class Spill:
    """Rows of one split in the order they were packed."""

    def __init__(self, path: Path, table: TokenTable) -> None:
        self.path = path
        self._table = table
        self._dtype = ids_dtype(table.vocab_size)
        self._file = path.open("wb")
        self._lengths: list[int] = []
        self._num_bytes: list[int] = []
        self.domains: list[str] = []
        self.source_ids: list[list[str]] = []

    @property
    def num_rows(self) -> int:
        """Rows written so far."""
        return len(self._lengths)

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Ids in each row, `[rows]` int32."""
        return np.array(self._lengths, dtype=np.int32)

    @property
    def num_bytes(self) -> NDArray[np.int64]:
        """Bytes of text in each row, `[rows]` int64."""
        return np.array(self._num_bytes, dtype=np.int64)

    def add(self, ids: NDArray[np.int32], domain: str, source_ids: list[str]) -> None:
        """Append a row."""
        self._file.write(ids.astype(self._dtype).tobytes())
        self._lengths.append(len(ids))
        self._num_bytes.append(int(self._table.num_bytes_V[ids].sum()))
        self.domains.append(domain)
        self.source_ids.append(source_ids)

    def rows(self, order: NDArray[np.int64]) -> Iterator[NDArray[np.generic]]:
        """Ids of the rows in the given order, mapped from disk."""
        self._file.flush()
        starts = np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)])
        ids = np.memmap(self.path, dtype=self._dtype, mode="r") if self.num_rows else None
        for index in order:
            assert ids is not None
            yield ids[starts[index] : starts[index + 1]]

    def close(self) -> None:
        """Remove the file."""
        self._file.close()
        self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def open_spills(
    folder: Path, splits: Sequence[Split], table: TokenTable
) -> Iterator[dict[Split, Spill]]:
    """One spill file per split, removed when the block ends."""
    spills = {split: Spill(folder / f".{split}.spill", table) for split in splits}
    try:
        yield spills
    finally:
        for spill in spills.values():
            spill.close()
