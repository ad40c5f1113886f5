"""Token shards: Megatron's memory-mapped index format, with a Parquet sidecar.

A shard is three files with one prefix, `data_0`:

- `data_0.bin`: the ids of all rows, one after another, uint16 if the vocabulary fits, else int32;
  or a link to a file that holds those of other rows too (`data.shard_views`);
- `data_0.idx`: where the rows stand in it (`data.megatron_index`);
- `data_0.parquet`: sequence_id, domain, num_tokens (ids in the row), num_bytes (of the row's
  text) and source_ids, in row order. Its metadata carries the hash of the two files above, which
  score tables name.

Megatron-LM reads the first two as they are.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from miniplm.data.megatron_index import again, count_rows, index_bytes, read_index
from miniplm.data.parquet import ColumnFile, write_parquet
from miniplm.errors import ArtefactError
from miniplm.manifest import atomic_path, how_to_remake
from miniplm.runtime.open_files import allow_open_files

__all__ = [
    "SIDECAR_SCHEMA",
    "Shard",
    "ShardInfo",
    "check_rows",
    "count_rows",
    "ids_dtype",
    "index_bytes",
    "is_made_from",
    "make_sidecar",
    "open_shards",
    "shard_info",
    "shard_prefixes",
    "write_shard",
]

_LARGE_BYTES = 1 << 20
_LARGEST_UINT16_VOCABULARY = 65_500  # Megatron's own limit

SIDECAR_SCHEMA = pa.schema(
    [
        ("sequence_id", pa.int64()),
        ("domain", pa.dictionary(pa.int32(), pa.string())),
        ("num_tokens", pa.int32()),
        ("num_bytes", pa.int64()),
        ("source_ids", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True)
class ShardInfo:
    """What a reader of a shard has to know.

    Args:
        shard_hash: SHA-256 over `.idx` and `.bin`, hexadecimal; of a view, over `.idx` and the
            SHA-256 of the ids that it is a view of.
        vocab_size: One more than the largest id the tokenizer gives out.
        eos_id: Id between documents; the position that has it as input predicts nothing.
        max_length: Most predicted tokens in a row.
    """

    shard_hash: str
    vocab_size: int
    eos_id: int
    max_length: int


def ids_dtype(vocab_size: int) -> np.dtype[np.uint16] | np.dtype[np.int32]:
    """The dtype ids are stored in for a vocabulary of this size."""
    small = vocab_size < _LARGEST_UINT16_VOCABULARY
    return np.dtype(np.uint16) if small else np.dtype(np.int32)


def write_shard(
    prefix: Path,
    rows: Iterable[NDArray[np.generic]],
    sidecar: pa.Table,
    *,
    vocab_size: int,
    eos_id: int,
    max_length: int,
    origin: object = None,
) -> ShardInfo:
    """Write one shard; its sidecar comes last, so a shard with a sidecar is whole.

    Args:
        prefix: Path without extension, such as `out/data_0`.
        rows: Ids of the rows, in order: arrays that each hold one row or several back to back,
            and may be reused once the next is asked for. Large ones are written faster.
        sidecar: The columns of `SIDECAR_SCHEMA`, possibly more, in the same order.
        vocab_size: One more than the largest id of the tokenizer.
        eos_id: End-of-text id.
        max_length: Most predicted tokens in a row.
        origin: What the shard was made from, a JSON value; goes into the sidecar.

    Returns:
        What was put in the sidecar's metadata.

    Raises:
        ArtefactError: There are more or fewer ids than the sidecar's `num_tokens` add up to.
    """
    dtype = ids_dtype(vocab_size)
    lengths = sidecar["num_tokens"].to_numpy().astype(np.int32)
    index = index_bytes(lengths, dtype)
    digest = hashlib.sha256(index)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(prefix.with_suffix(".bin")) as temporary:
        num_ids = _write_ids(temporary, rows, dtype, digest)
        if num_ids != lengths.sum(dtype=np.int64):
            raise ArtefactError(
                f"{prefix}: was given {num_ids} ids for rows of {lengths.sum(dtype=np.int64)}"
            )
    with atomic_path(prefix.with_suffix(".idx")) as temporary:
        temporary.write_bytes(index)
    info = ShardInfo(digest.hexdigest(), vocab_size, eos_id, max_length)
    write_parquet(prefix.with_suffix(".parquet"), sidecar, asdict(info), origin=origin)
    return info


def _write_ids(
    path: Path,
    blocks: Iterable[NDArray[np.generic]],
    dtype: np.dtype[Any],
    digest: "hashlib._Hash",
) -> int:
    """Write blocks of ids one after another; returns how many ids there were.

    A large block is hashed in another thread while it is written: hashing takes the longer.
    """
    num_ids = 0
    with path.open("wb", buffering=_LARGE_BYTES) as file, ThreadPoolExecutor(1) as beside:
        for block in blocks:
            data = np.ascontiguousarray(block, dtype).view(np.uint8).data
            if data.nbytes >= _LARGE_BYTES:
                hashed = beside.submit(digest.update, data)
                file.write(data)
                hashed.result()
            else:
                digest.update(data)
                file.write(data)
            num_ids += len(block)
    return num_ids


def shard_info(sidecar: ColumnFile) -> ShardInfo:
    """What the sidecar says of its shard.

    Raises:
        ArtefactError: It is another kind of table.
    """
    try:
        return ShardInfo(**sidecar.metadata)
    except TypeError as error:
        raise ArtefactError(
            f"{sidecar.path}: is not the sidecar of a token shard. {again(sidecar.path)}"
        ) from error


def check_rows(prefix: Path, in_index: int, in_sidecar: int) -> None:
    """Index and sidecar have to have the same number of rows.

    Raises:
        ArtefactError: They have not.
    """
    if in_index != in_sidecar:
        raise ArtefactError(
            f"{prefix}: the index has {in_index} rows, the sidecar {in_sidecar}; "
            f"they do not belong together. {again(prefix)}"
        )


class Shard:
    """A token shard opened for reading; ids stay on disk and are mapped.

    Attributes:
        ids: What the `.bin` file holds.
        lengths: Ids of each row, `[rows]`.
        begins: Where each row begins in `ids`, `[rows]`; rows need not be neighbours there.
        ends: Where it ends.

    Raises:
        ArtefactError: A file is missing or damaged, or the files do not belong together.
    """

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        index = read_index(prefix.with_suffix(".idx"))
        self.dtype, self.lengths = index.dtype, index.lengths
        self.begins = index.offsets // index.dtype.itemsize
        self.ends = self.begins + self.lengths
        self.ids = self._map_ids()

    def __len__(self) -> int:
        return len(self.lengths)

    def row(self, index: int) -> NDArray[np.int64]:
        """The ids of one row, `[length]` int64."""
        return self.ids[self.begins[index] : self.ends[index]].astype(np.int64)

    @cached_property
    def info(self) -> ShardInfo:
        """Hash, vocabulary and end-of-text id, from the sidecar."""
        return shard_info(self._columns())

    @cached_property
    def sidecar(self) -> pa.Table:
        """The sidecar's columns, one row per row of the shard."""
        table = self._columns().table()
        check_rows(self.prefix, len(self), table.num_rows)
        return table

    @cached_property
    def sequence_ids(self) -> NDArray[np.int64]:
        """Id of each row, `[rows]` int64."""
        return self._columns().sequence_ids()

    @property
    def num_ids(self) -> int:
        """Ids in the shard's rows."""
        return int(self.lengths.sum(dtype=np.int64))

    def _columns(self) -> ColumnFile:
        path = self.prefix.with_suffix(".parquet")
        if not path.exists():
            others = (
                "What others wrote is opened by adopt_shards, or by a recipe with "
                "corpus.source: tokens."
            )
            raise ArtefactError(
                f"{path}: no such file; the shard is incomplete, or another program wrote it. "
                f"{how_to_remake(path, others)}"
            )
        return ColumnFile(path)

    def _map_ids(self) -> NDArray[np.generic]:
        path = self.prefix.with_suffix(".bin")
        expected = int(self.ends.max(initial=0)) * self.dtype.itemsize
        found = path.stat().st_size if path.exists() else None
        is_view = path.is_symlink()  # of a file with the ids of more rows
        fits = found is not None and found >= expected and found % self.dtype.itemsize == 0
        if not fits or (found != expected and not is_view):
            size = "is missing" if found is None else f"has {found} bytes"
            origin = path.resolve() if is_view else path  # what is damaged may be another's
            raise ArtefactError(
                f"{path} {size}; its index speaks of {expected} bytes. {again(origin)}"
            )
        if expected == 0:
            return np.empty(0, self.dtype)
        # as a plain array: slices of a memmap cost a microsecond each
        return np.asarray(np.memmap(path, dtype=self.dtype, mode="r"))


def is_made_from(prefix: Path, origin: object) -> bool:
    """Whether the shard is there, whole, and was written with exactly this `origin`."""
    sidecar = prefix.with_suffix(".parquet")
    try:
        return sidecar.exists() and bool(ColumnFile(sidecar).origin == origin)
    except ArtefactError:
        return False


def scored_hash(shard: Shard) -> str:
    """Hash of the shard that scores were made of: this one, or the one its rows were taken from."""
    origin = ColumnFile(shard.prefix.with_suffix(".parquet")).origin
    taken_from = origin.get("shard_hash") if isinstance(origin, dict) else None
    return str(taken_from or shard.info.shard_hash)


def open_table_of(path: Path, shard_hash: str, mistaken: str, remedy: str) -> ColumnFile:
    """A table that names the token shard it is of (`shard_hash`), opened.

    Args:
        path: Of the table.
        shard_hash: Of the shard it has to be of.
        mistaken: What it does to another one, such as `selects from`.
        remedy: What to do then.

    Raises:
        ArtefactError: The table is missing or damaged, or of another shard.
    """
    file = ColumnFile(path)
    found = str(file.metadata.get("shard_hash"))
    if found != shard_hash:
        raise ArtefactError(
            f"{path}: {mistaken} another token shard (hash {found[:12]}, expected "
            f"{shard_hash[:12]}). {remedy}"
        )
    return file


def shard_prefixes(folder: Path) -> list[Path]:
    """Prefixes of the shards in a folder, in the order of their numbers.

    Raises:
        ArtefactError: There are none, or a number is missing in between.
    """
    numbered = {}
    for path in folder.glob("data_*.idx"):
        if match := re.fullmatch(r"data_(\d+)", path.stem):
            numbered[int(match[1])] = path.with_suffix("")
    if not numbered:
        raise ArtefactError(f"{folder}: {_without_shards(folder)}")
    missing = sorted(set(range(max(numbered) + 1)) - set(numbered))
    if missing:
        raise ArtefactError(
            f"{folder}: token shard data_{missing[0]} is missing. {again(folder / 'data_N')}"
        )
    return [numbered[number] for number in sorted(numbered)]


def _without_shards(folder: Path) -> str:
    """What there is instead of token shards, and where some may be."""
    if not folder.exists():
        return "there is no such folder"
    if not folder.is_dir():
        return "is a file; give the folder with data_0.idx, data_0.bin, ..."
    inside = sorted(path.parent.name for path in folder.glob("*/data_0.idx"))
    hint = f"; {', '.join(inside[:3])} in it does: give that folder" if inside else ""
    return f"holds no token shards (data_0.idx, data_0.bin, ...){hint}"


def open_shards(folder: Path) -> list[Shard]:
    """All shards of a folder, mapped. Raises what `shard_prefixes` and `Shard` raise."""
    prefixes = shard_prefixes(folder)
    allow_open_files(len(prefixes))
    return [Shard(prefix) for prefix in prefixes]


def make_sidecar(
    sequence_ids: NDArray[np.int64],
    domains: Sequence[str],
    num_tokens: NDArray[np.int32],
    num_bytes: NDArray[np.int64],
    source_ids: Sequence[Sequence[str]],
) -> pa.Table:
    """The sidecar table of a shard from its columns."""
    columns = [
        pa.array(sequence_ids, pa.int64()),
        pa.array(domains, pa.string()).dictionary_encode(),
        pa.array(num_tokens, pa.int32()),
        pa.array(num_bytes, pa.int64()),
        pa.array(source_ids, pa.list_(pa.string())),
    ]
    return pa.Table.from_arrays(columns, schema=SIDECAR_SCHEMA)
