"""Rows on their way to the shards: on disk, both their ids and what describes them.

Nothing is kept in memory per row or per document. What is written here is mapped, not read, when
the shards are made.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from miniplm.data.packing import Rows, ranges
from miniplm.data.shards import SIDECAR_SCHEMA, ids_dtype
from miniplm.data.splits import Split
from miniplm.data.tokenizer import TokenTable

_BUFFER_BYTES = 1 << 20
_GROUP_ROWS = 2048
_GROUP_NAMES = 1024

_ROW = np.dtype(
    [
        ("first_id", np.int64),
        ("first_source", np.int64),
        ("num_bytes", np.int64),
        ("num_ids", np.int32),
        ("num_sources", np.int32),
        ("domain", np.int32),
    ]
)


class _Column:
    """An array that grows at its end, in a file."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self.path = path
        self.length = 0
        self._dtype = dtype
        self._file = path.open("wb", buffering=_BUFFER_BYTES)

    def append(self, values: NDArray[Any]) -> None:
        self._file.write(np.ascontiguousarray(values, dtype=self._dtype).data)
        self.length += len(values)

    def mapped(self) -> NDArray[Any]:
        """What was appended so far, mapped from disk."""
        self._file.flush()
        if not self.length:
            return np.empty(0, self._dtype)
        # As a plain array: a slice of a memmap takes ten times as long to make.
        return np.asarray(np.memmap(self.path, dtype=self._dtype, mode="r"))

    def close(self) -> None:
        """Remove the file."""
        self._file.close()
        self.path.unlink(missing_ok=True)


class Spill:
    """Rows of one split in the order they were packed, and the ids of its documents."""

    def __init__(self, folder: Path, split: Split, table: TokenTable) -> None:
        self.num_bytes = 0
        self.num_documents = 0
        self._num_bytes_V = table.num_bytes_V.astype(np.int32)
        self._domains: dict[str, int] = {}
        self._new_names: list[bytes] = []
        dtypes: dict[str, np.dtype[Any]] = {
            "ids": ids_dtype(table.vocab_size),
            "rows": _ROW,
            "sources": np.dtype(np.int64),
            "names": np.dtype(np.uint8),
            "name_ends": np.dtype(np.int64),
        }
        # The stage runner removes files of such names when a stage was killed.
        self._columns = {
            name: _Column(folder / f".{split}-{name}.tmp", dtype) for name, dtype in dtypes.items()
        }
        self._columns["name_ends"].append(np.zeros(1))

    @property
    def num_rows(self) -> int:
        """Rows written so far."""
        return self._columns["rows"].length

    @property
    def num_ids(self) -> int:
        """Ids in all rows."""
        return self._columns["ids"].length

    def add_document(self, document_id: str) -> int:
        """Note a document's id; returns the number that rows refer to it by."""
        self._new_names.append(document_id.encode())
        if len(self._new_names) == _GROUP_NAMES:
            self._write_names()
        self.num_documents += 1
        return self.num_documents - 1

    def _write_names(self) -> None:
        names, ends = self._columns["names"], self._columns["name_ends"]
        lengths = np.fromiter(map(len, self._new_names), np.int64, len(self._new_names))
        ends.append(names.length + np.cumsum(lengths))
        names.append(np.frombuffer(b"".join(self._new_names), np.uint8))
        self._new_names.clear()

    def add_rows(self, rows: Rows, domain: str) -> None:
        """Append rows."""
        if not len(rows.lengths_R):
            return
        firsts = np.cumsum(rows.lengths_R) - rows.lengths_R
        records = np.empty(len(firsts), _ROW)
        records["first_id"] = self._columns["ids"].length + firsts
        records["first_source"] = (
            self._columns["sources"].length + np.cumsum(rows.num_sources_R) - rows.num_sources_R
        )
        records["num_bytes"] = np.add.reduceat(
            self._num_bytes_V[rows.ids_N], firsts, dtype=np.int64
        )
        records["num_ids"] = rows.lengths_R
        records["num_sources"] = rows.num_sources_R
        records["domain"] = self._domains.setdefault(domain, len(self._domains))
        self.num_bytes += int(records["num_bytes"].sum())
        self._columns["ids"].append(rows.ids_N)
        self._columns["sources"].append(rows.sources_S)
        self._columns["rows"].append(records)

    def finish(self) -> "FinishedSpill":
        """What was added, for reading."""
        self._write_names()
        mapped = {name: column.mapped() for name, column in self._columns.items()}
        return FinishedSpill(mapped, list(self._domains))

    def close(self) -> None:
        """Remove the files."""
        for column in self._columns.values():
            column.close()


class FinishedSpill:
    """A spill's rows in any order; may be used by several threads."""

    def __init__(self, columns: dict[str, NDArray[Any]], domains: list[str]) -> None:
        self._columns = columns
        self._domains = pa.array(domains, pa.string())
        buffers = [None, pa.py_buffer(columns["name_ends"]), pa.py_buffer(columns["names"])]
        num_documents = len(columns["name_ends"]) - 1
        self._names = pa.Array.from_buffers(pa.large_string(), num_documents, buffers)

    def ids(self, order: NDArray[np.int64]) -> Iterator[NDArray[np.generic]]:
        """Ids of the rows in the given order, many rows at a time."""
        ids, rows = self._columns["ids"], self._columns["rows"]
        for begin in range(0, len(order), _GROUP_ROWS):
            group = rows[order[begin : begin + _GROUP_ROWS]]
            starts, lengths = group["first_id"].tolist(), group["num_ids"].tolist()
            pairs = zip(starts, lengths, strict=True)
            yield np.concatenate([ids[start : start + length] for start, length in pairs])

    def sidecar(self, order: NDArray[np.int64], first_sequence_id: int) -> pa.Table:
        """The sidecar of a shard that holds the rows in the given order."""
        rows = self._columns["rows"][order]
        counts = rows["num_sources"].astype(np.int64)
        sources = self._columns["sources"][ranges(rows["first_source"], counts)]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        columns = [
            pa.array(np.arange(first_sequence_id, first_sequence_id + len(rows))),
            self._domains.take(pa.array(rows["domain"])).dictionary_encode(),
            pa.array(np.ascontiguousarray(rows["num_ids"])),
            pa.array(np.ascontiguousarray(rows["num_bytes"])),
            pa.ListArray.from_arrays(
                pa.array(offsets, pa.int32()),
                self._names.take(pa.array(sources)).cast(pa.string()),
            ),
        ]
        return pa.Table.from_arrays(columns, schema=SIDECAR_SCHEMA)


@contextlib.contextmanager
def open_spills(
    folder: Path, splits: Sequence[Split], table: TokenTable
) -> Iterator[dict[Split, Spill]]:
    """A spill per split, removed when the block ends."""
    spills = {split: Spill(folder, split, table) for split in splits}
    try:
        yield spills
    finally:
        for spill in spills.values():
            spill.close()
