"""Captures: one Arrow file per token shard with a few entries of the teacher's distributions.

The file is an uncompressed Arrow IPC file, to be mapped and read at any row. Columns, one row per
row of the shard and in its order: sequence_id; `num_entries`, of each predicted position, 0 where
there is no target; `ids`, of all positions one after another; `weights`, likewise: numbers of
draws, or (float16) estimates of probabilities. A row's entries lie in one record batch.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from miniplm.data.shards import Shard
from miniplm.errors import ArtefactError
from miniplm.manifest import atomic_path, how_to_remake
from miniplm.scoring.capture_config import CaptureConfig, CaptureMethod

_METADATA_KEY = b"miniplm"


@dataclass(frozen=True)
class CaptureInfo:
    """Where a capture comes from; part of the file.

    Args:
        shard_hash: Hash of the token shard.
        model: Name of the teacher.
        model_fingerprint: Fingerprint of its weights' origin.
        dtype: Dtype it ran in.
        vocab_size: Ids that its distribution is over.
        method: As in `CaptureConfig`.
        entries: As in `CaptureConfig`.
        temperature: As in `CaptureConfig`.
        seed: Of the draws.
    """

    shard_hash: str
    model: str
    model_fingerprint: str
    dtype: str
    vocab_size: int
    method: CaptureMethod
    entries: int
    temperature: float
    seed: int

    @property
    def origin(self) -> "CaptureInfo":
        """The same for all shards that were captured together."""
        return replace(self, shard_hash="")

    @property
    def config(self) -> CaptureConfig:
        """How entries were chosen."""
        return CaptureConfig(method=self.method, entries=self.entries, temperature=self.temperature)

    @property
    def schema(self) -> pa.Schema:
        """Columns of the file: the smallest types that hold the numbers."""
        counts = pa.uint8() if self.entries <= np.iinfo(np.uint8).max else pa.uint16()
        ids = pa.uint16() if self.vocab_size <= 1 << 16 else pa.uint32()
        weights = counts if self.config.holds_counts else pa.float16()
        columns = {
            "sequence_id": pa.int64(),
            "num_entries": pa.list_(counts),
            "ids": pa.list_(ids),
            "weights": pa.list_(weights),
        }
        return pa.schema(columns, {_METADATA_KEY: json.dumps(asdict(self))})


@dataclass(frozen=True)
class CapturedRow:
    """The entries of one row of a shard.

    Args:
        num_entries_T: Entries of each position.
        ids_E: Of all positions, one after another.
        weights_E: Likewise.
    """

    num_entries_T: NDArray[np.generic]
    ids_E: NDArray[np.generic]
    weights_E: NDArray[np.generic]


class CaptureWriter:
    """Takes the rows of a shard in order, some at a time."""

    def __init__(self, writer: "pa.ipc.RecordBatchFileWriter", schema: pa.Schema) -> None:
        self._writer, self._schema = writer, schema

    def write(self, sequence_ids: NDArray[np.int64], rows: Sequence[CapturedRow]) -> None:
        """Write further rows; all their entries together must be fewer than 2 ** 31."""
        columns = [
            pa.array(sequence_ids),
            self._lists("num_entries", [row.num_entries_T for row in rows]),
            self._lists("ids", [row.ids_E for row in rows]),
            self._lists("weights", [row.weights_E for row in rows]),
        ]
        self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema))

    def _lists(self, name: str, values: Sequence[NDArray[np.generic]]) -> pa.ListArray:
        ends = np.cumsum([0, *(len(part) for part in values)]).astype(np.int32)
        kind = self._schema.field(name).type
        items = np.concatenate(values).astype(kind.value_type.to_pandas_dtype())
        return pa.ListArray.from_arrays(pa.array(ends), pa.array(items), type=kind)


@contextmanager
def writing_capture(path: Path, info: CaptureInfo) -> Iterator[CaptureWriter]:
    """A capture to write rows to; it is there, whole, when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_path(path) as temporary,
        pa.OSFile(str(temporary), "wb") as file,
        pa.ipc.new_file(file, info.schema) as writer,
    ):
        yield CaptureWriter(writer, info.schema)


def is_captured(path: Path, info: CaptureInfo) -> bool:
    """Whether the capture is there, whole, and was made from exactly this."""
    try:
        return path.exists() and _read_info(path, _open(path)) == info
    except ArtefactError:
        return False


class Capture:
    """The capture of a shard, mapped; rows are views of it.

    Attributes:
        info: Where it comes from.
        num_entries: In the whole file.

    Raises:
        ArtefactError: The file is missing or damaged, or belongs to another shard.
    """

    def __init__(self, path: Path, shard: Shard) -> None:
        reader = _open(path)
        self.path, self.info = path, _read_info(path, reader)
        if self.info.shard_hash != shard.info.shard_hash:
            raise ArtefactError(
                f"{path}: holds the capture of another token shard (hash "
                f"{self.info.shard_hash[:12]}, expected {shard.info.shard_hash[:12]}). Capture "
                "these shards again, or train on those that were captured."
            )
        try:
            blocks = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        except (OSError, pa.ArrowException) as error:
            raise _damaged(path, error) from error
        self._blocks = [_Block.of(block) for block in blocks]
        self._first = np.cumsum([0, *(block.num_rows for block in blocks)])
        self.num_entries = sum(len(block.ids) for block in self._blocks)
        lengths = [np.diff(block.position_ends) for block in self._blocks]
        if not np.array_equal(np.concatenate([np.empty(0, np.int32), *lengths]), shard.lengths - 1):
            raise _damaged(path, "its rows are not as long as those of the shard")

    def row(self, place: int) -> CapturedRow:
        """The entries of the row at a place in the shard."""
        number = int(np.searchsorted(self._first, place, side="right")) - 1
        block, place = self._blocks[number], place - int(self._first[number])
        positions = slice(block.position_ends[place], block.position_ends[place + 1])
        entries = slice(block.entry_ends[place], block.entry_ends[place + 1])
        return CapturedRow(block.num_entries[positions], block.ids[entries], block.weights[entries])


@dataclass(frozen=True)
class _Block:
    """A record batch as arrays."""

    position_ends: NDArray[np.int32]
    num_entries: NDArray[np.generic]
    entry_ends: NDArray[np.int32]
    ids: NDArray[np.generic]
    weights: NDArray[np.generic]

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> "_Block":
        return cls(
            position_ends=batch["num_entries"].offsets.to_numpy(),
            num_entries=batch["num_entries"].values.to_numpy(),
            entry_ends=batch["ids"].offsets.to_numpy(),
            ids=batch["ids"].values.to_numpy(),
            weights=batch["weights"].values.to_numpy(),
        )


def _open(path: Path) -> "pa.ipc.RecordBatchFileReader":
    try:
        return pa.ipc.open_file(pa.memory_map(str(path)))
    except FileNotFoundError:
        raise ArtefactError(
            f"{path}: no such file; this shard was not captured. {_again(path)}"
        ) from None
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from error


def _read_info(path: Path, reader: "pa.ipc.RecordBatchFileReader") -> CaptureInfo:
    try:
        content: dict[str, Any] = json.loads((reader.schema.metadata or {})[_METADATA_KEY])
        info = CaptureInfo(**content)
    except (KeyError, ValueError, TypeError) as error:
        raise ArtefactError(f"{path}: is not a capture. {_again(path)}") from error
    if reader.schema != info.schema:
        raise ArtefactError(f"{path}: its columns are not those of a capture. {_again(path)}")
    return info


def _damaged(path: Path, reason: object) -> ArtefactError:
    return ArtefactError(f"{path}: is damaged ({reason}). {_again(path)}")


def _again(path: Path) -> str:
    return how_to_remake(path, "Capture this shard again.")
