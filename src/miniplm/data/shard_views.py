"""Views: token shards whose ids stay in the files of another program.

A view is a token shard like any other, but its `.bin` is a link to the file it was given, and its
`.idx` names some of the rows in there. So rows are dealt to splits, and a corpus of terabytes is
made a run's own, without copying an id. The sidecar says what the others' files do not: it is
worked out from the ids and the tokenizer, once, in the only pass over them.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from miniplm.data.megatron_index import index_bytes
from miniplm.data.parquet import write_parquet
from miniplm.data.shards import SIDECAR_SCHEMA, Shard, ShardInfo
from miniplm.data.tokenizer import TokenTable
from miniplm.errors import ArtefactError
from miniplm.manifest import atomic_path
from miniplm.runtime.log import logger

_BLOCK_IDS = 1 << 20
_MANY_ROWS = 100
"""Rows among which a document should have ended."""


@dataclass(frozen=True)
class SourceShard:
    """A token shard of another program, or of another run.

    Args:
        prefix: Where it is.
        name: What its rows are called by in `source_ids`.
        domain: Of its rows; None for what its sidecar says.
        first_row: Rows of the corpus before it.
    """

    prefix: Path
    name: str
    domain: str | None
    first_row: int


@dataclass(frozen=True)
class ShardFacts:
    """What reading all ids of a shard tells.

    Args:
        shard: The shard.
        digest: SHA-256 of its ids.
        num_bytes_R: Bytes of text in each row, `[R]` int64.
        num_pieces_R: Pieces of documents in each row, `[R]` int64.
    """

    shard: Shard
    digest: bytes
    num_bytes_R: NDArray[np.int64]
    num_pieces_R: NDArray[np.int64]


def read_facts(source: SourceShard, table: TokenTable, max_length: int) -> ShardFacts:
    """Read a shard once, from beginning to end.

    Args:
        source: The shard.
        table: Of the tokenizer that its ids were cut with.
        max_length: Most predicted tokens in a row.

    Raises:
        ArtefactError: It is damaged, has longer rows, or ids that the tokenizer does not know.
    """
    shard = Shard(source.prefix)
    _check_lengths(shard, max_length)
    digest, num_eos = hashlib.sha256(), 0
    num_bytes, num_pieces = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for ids_N, ends_R in _row_blocks(shard):
        digest.update(np.ascontiguousarray(ids_N).view(np.uint8).data)
        _check_ids(shard, ids_N, table)
        is_eos_N = ids_N == table.eos_id
        num_bytes.append(_sums(table.num_bytes_V[ids_N], ends_R))
        # what ends with end-of-text has no piece behind it (data.pieces.split_at_eos)
        ends_with_eos_R = is_eos_N[np.maximum(ends_R - 1, 0)] if len(ids_N) else ends_R > 0
        num_pieces.append(_sums(is_eos_N, ends_R) + ~ends_with_eos_R)
        num_eos += int(np.count_nonzero(is_eos_N))
    if not num_eos and len(shard) >= _MANY_ROWS:
        logger.warning(
            "%s: none of its %d rows holds the tokenizer's end-of-text id %d; is this the "
            "tokenizer they were cut with?", source.prefix, len(shard), table.eos_id,
        )  # fmt: skip
    return ShardFacts(shard, digest.digest(), np.concatenate(num_bytes), np.concatenate(num_pieces))


def _check_lengths(shard: Shard, max_length: int) -> None:
    longest = int(shard.lengths.max(initial=0))
    if longest > max_length + 1:
        raise ArtefactError(
            f"{shard.prefix}: has rows of up to {longest} ids; packing.max_length {max_length} "
            f"allows {max_length + 1}. Set packing.max_length to {longest - 1} or more."
        )


def _check_ids(shard: Shard, ids_N: NDArray[np.generic], table: TokenTable) -> None:
    smallest, largest = int(ids_N.min(initial=0)), int(ids_N.max(initial=0))
    if smallest < 0 or largest >= table.vocab_size:
        wrong = smallest if smallest < 0 else largest
        raise ArtefactError(
            f"{shard.prefix}: holds the id {wrong}; those of the tokenizer are 0 to "
            f"{table.vocab_size - 1}. Set tokenizer.name to the tokenizer it was cut with."
        )


def _row_blocks(shard: Shard) -> Iterator[tuple[NDArray[np.generic], NDArray[np.int64]]]:
    """Ids of some rows back to back, and where each row ends among them."""
    filled = np.cumsum(shard.lengths, dtype=np.int64)
    first = 0
    while first < len(shard):
        before = int(filled[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(filled, before + _BLOCK_IDS, side="right")))
        begins, ends = shard.begins[first:last], shard.ends[first:last]
        if np.array_equal(begins[1:], ends[:-1]):
            ids_N = shard.ids[begins[0] : ends[-1]]
        else:
            pairs = zip(begins.tolist(), ends.tolist(), strict=True)
            ids_N = np.concatenate([shard.ids[begin:end] for begin, end in pairs])
        yield ids_N, filled[first:last] - before
        first = last


def _sums(values_N: NDArray[np.generic], ends_R: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sums of the values of each row, which stand back to back."""
    running = np.concatenate([[0], np.cumsum(values_N, dtype=np.int64)])
    return np.diff(running[ends_R], prepend=0)


def write_view(
    prefix: Path,
    facts: ShardFacts,
    rows: NDArray[np.int64],
    source: SourceShard,
    table: TokenTable,
    max_length: int,
    origin: object,
) -> None:
    """Write a view of some rows of a shard; its sidecar comes last.

    Args:
        prefix: Of the view, without extension.
        facts: Of the shard.
        rows: Places of the rows in the shard, ascending.
        source: What the shard is called.
        table: Of its tokenizer.
        max_length: Most predicted tokens in a row.
        origin: What the view follows from, a JSON value.

    Raises:
        ArtefactError: The shard's own sidecar is damaged, or of another tokenizer.
    """
    shard = facts.shard
    sidecar = _sidecar(facts, rows, source, table)
    index = index_bytes(shard.lengths[rows], shard.dtype, shard.begins[rows] * shard.dtype.itemsize)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(prefix.with_suffix(".bin")) as temporary:
        temporary.symlink_to(source.prefix.with_suffix(".bin").resolve())
    with atomic_path(prefix.with_suffix(".idx")) as temporary:
        temporary.write_bytes(index)
    shard_hash = hashlib.sha256(index + facts.digest).hexdigest()
    info = ShardInfo(shard_hash, table.vocab_size, table.eos_id, max_length)
    write_parquet(prefix.with_suffix(".parquet"), sidecar, asdict(info), origin=origin)


def _sidecar(
    facts: ShardFacts, rows: NDArray[np.int64], source: SourceShard, table: TokenTable
) -> pa.Table:
    """The sidecar of the rows: what their own one says, and what the ids tell."""
    path = source.prefix.with_suffix(".parquet")
    own = _own_sidecar(path, facts.shard, table).take(rows) if path.exists() else None
    if source.domain is None and own is not None:
        domains = own["domain"].combine_chunks().cast(pa.string())
    else:
        domains = pa.repeat(source.domain or source.prefix.parent.name, len(rows))
    columns = [
        pa.array(source.first_row + rows),
        domains.dictionary_encode(),
        pa.array(facts.shard.lengths[rows]),
        pa.array(facts.num_bytes_R[rows]),
        own["source_ids"] if own is not None else _source_ids(facts, rows, source.name),
    ]
    return pa.Table.from_arrays(columns, schema=SIDECAR_SCHEMA)


def _own_sidecar(path: Path, shard: Shard, table: TokenTable) -> pa.Table:
    if (shard.info.vocab_size, shard.info.eos_id) != (table.vocab_size, table.eos_id):
        raise ArtefactError(
            f"{path}: was made with a tokenizer of {shard.info.vocab_size} entries whose "
            f"end-of-text id is {shard.info.eos_id}; the one given has {table.vocab_size} and "
            f"{table.eos_id}. Set tokenizer.name to the tokenizer it was made with."
        )
    return shard.sidecar.select(["domain", "source_ids"])


def _source_ids(facts: ShardFacts, rows: NDArray[np.int64], name: str) -> pa.ListArray:
    """`name:row#piece` for each piece of a document in each row: a row is its own source."""
    counts = facts.num_pieces_R[rows]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    pieces = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
    names = pc.binary_join_element_wise(
        pa.repeat(f"{name}:", len(pieces)),
        pa.array(np.repeat(rows, counts)).cast(pa.string()),
        "#",
        pa.array(pieces).cast(pa.string()),
        "",
    )
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), names)
