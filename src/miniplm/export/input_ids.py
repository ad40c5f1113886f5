"""Parquet with a list of ids per sequence: what `datasets` and most trainers take.

All columns of the sidecar come along, but for `num_tokens`, which is the length of the list.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from miniplm.data.shards import Shard, ids_dtype
from miniplm.export.exporter import kept_blocks
from miniplm.export.repeats import with_repeats
from miniplm.export.token_form import Numbered, filled_shards
from miniplm.manifest import Outcome, atomic_path
from miniplm.runtime.executors import Executor, threads
from miniplm.runtime.progress import progress

INPUT_IDS = "input_ids"
_ROWS_AT_ONCE = 4096


def export_input_ids(
    shards_folder: Path, folder: Path, executor: Executor[Numbered, None] = threads
) -> Outcome:
    """Write `folder/data_N.parquet` for each refined shard that holds rows.

    `datasets` cannot read a file without any.

    Columns: `sequence_id`, `domain`, `input_ids` (uint16 where the vocabulary fits, else int32),
    `num_bytes`, `source_ids`, `difference_score` and others that the sidecar has, and `repeats`.

    Args:
        shards_folder: Token shards of a refined corpus.
        folder: Where they go; files that are there are kept.
        executor: Runs the shards.

    Raises:
        ArtefactError: A shard is damaged.
    """
    shards = filled_shards(shards_folder)
    folder.mkdir(parents=True, exist_ok=True)
    with progress("export input_ids", len(shards), "shards") as advance:
        for _ in executor(partial(_write, folder), enumerate(shards)):
            advance(1)
    num_rows = sum(len(shard) for shard in shards)
    return Outcome(
        counts={"sequences": num_rows, "shards": len(shards)},
        num_tokens=sum(shard.num_ids for shard in shards) - num_rows,
    )


def _write(folder: Path, numbered: Numbered) -> None:
    number, shard = numbered
    path = folder / f"data_{number}.parquet"
    if path.exists():
        return
    tables = id_tables(shard)
    first = next(tables)
    with (
        atomic_path(path) as temporary,
        pq.ParquetWriter(
            temporary, first.schema, compression="zstd", use_dictionary=["domain"]
        ) as writer,
    ):
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)


def id_tables(shard: Shard) -> Iterator[pa.Table]:
    """The shard's rows as tables of some thousand."""
    sidecar = _columns(shard)
    place = sidecar.schema.get_field_index("domain") + 1
    for begin in range(0, len(shard), _ROWS_AT_ONCE):
        part = sidecar.slice(begin, _ROWS_AT_ONCE)
        yield part.add_column(place, INPUT_IDS, _lists(shard, begin, part.num_rows))


def _columns(shard: Shard) -> pa.Table:
    sidecar = with_repeats(shard.sidecar).drop_columns("num_tokens")
    domain = sidecar.schema.get_field_index("domain")
    return sidecar.set_column(domain, "domain", sidecar["domain"].cast(pa.string()))


def _lists(shard: Shard, begin: int, num_rows: int) -> pa.ListArray:
    rows = np.arange(begin, begin + num_rows)
    dtype = ids_dtype(shard.info.vocab_size)
    # a block lasts until the next is asked for
    blocks = [block.astype(dtype) for block in kept_blocks(shard, rows)]
    ids = np.concatenate(blocks)
    offsets = np.concatenate([[0], np.cumsum(shard.lengths[rows])]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids))
