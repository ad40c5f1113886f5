"""The refined corpus as text: JSON lines or Parquet that `datasets.load_dataset` opens.

Rows hold pieces of several documents; each piece is a record of its own, so that no tokenizer's
end-of-text mark gets into the text. Where that is retokenised or tokenised afresh, it is the same
text (`export.row_text`).
"""

import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from miniplm.data.shards import Shard, open_shards
from miniplm.data.tokenizer import load_tokenizer
from miniplm.export.config import TextForm
from miniplm.export.repeats import REPEATS, with_repeats
from miniplm.export.row_text import piece_texts
from miniplm.export.schedule import UNTIL
from miniplm.manifest import Outcome, atomic_path
from miniplm.runtime.executors import Executor, threads
from miniplm.runtime.progress import progress

Decode = Callable[[NDArray[np.int64]], Sequence[str]]
"""Gives the texts of the pieces of a row."""

_SUFFIXES = {"jsonl": "jsonl.zst", "parquet": "parquet"}
_ROWS_AT_ONCE = 2048
_SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("domain", pa.string()),
        ("sequence_id", pa.int64()),
        ("source_id", pa.string()),
        ("difference_score", pa.float64()),
        (REPEATS, pa.int32()),
    ]
)
_SCHEDULED_SCHEMA = _SCHEMA.append(pa.field(UNTIL, pa.float32()))


@dataclass(frozen=True)
class _Task:
    shard: Shard
    path: Path


def export_text(
    shards_folder: Path,
    tokenizer_folder: Path,
    form: TextForm,
    folder: Path,
    executor: Executor[_Task, None] = threads,
) -> Outcome:
    """Write `folder/data_N.jsonl.zst` or `folder/data_N.parquet` for every refined shard.

    Args:
        shards_folder: Token shards of a refined corpus.
        tokenizer_folder: Their tokenizer.
        form: Of the files.
        folder: Where they go; files already there are kept.
        executor: Runs the shards; has to share memory.

    Raises:
        ArtefactError: A shard is damaged, or not one of a refined corpus.
    """
    decode = piece_texts(load_tokenizer(tokenizer_folder))
    shards = open_shards(shards_folder)
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [_Task(shard, folder / f"{shard.prefix.name}.{_SUFFIXES[form]}") for shard in shards]
    with progress("export text", len(shards), "shards") as advance:
        for _ in executor(partial(_export_shard, decode, form), tasks):
            advance(1)
    return Outcome(
        counts={"sequences": sum(len(shard) for shard in shards)},
        num_tokens=sum(shard.num_ids - len(shard) for shard in shards),
    )


def _export_shard(decode: Decode, form: TextForm, task: _Task) -> None:
    if task.path.exists():
        return
    tables = text_tables(task.shard, decode)
    with atomic_path(task.path) as temporary:
        if form == "parquet":
            _write_parquet(temporary, _schema(task.shard), tables)
        else:
            _write_lines(temporary, tables)


def _schema(shard: Shard) -> pa.Schema:
    """Of the records of a shard."""
    return _SCHEDULED_SCHEMA if UNTIL in shard.sidecar.column_names else _SCHEMA


def _write_parquet(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)


def _write_lines(path: Path, tables: Iterable[pa.Table]) -> None:
    import zstandard

    with zstandard.open(path, "wb") as raw, io.TextIOWrapper(raw, encoding="utf-8") as file:
        for table in tables:
            lines = (json.dumps(record, ensure_ascii=False) for record in table.to_pylist())
            file.writelines(f"{line}\n" for line in lines)


def text_tables(shard: Shard, decode: Decode) -> Iterator[pa.Table]:
    """One record per piece of a document, in tables of some thousand rows of the shard."""
    schema = _schema(shard)
    columns = ["source_ids", *(name for name in schema.names if name not in ("text", "source_id"))]
    sidecar = with_repeats(shard.sidecar).select(columns)
    for begin in range(0, len(shard), _ROWS_AT_ONCE):
        facts = sidecar.slice(begin, _ROWS_AT_ONCE).to_pylist()
        rows = range(begin, begin + len(facts))
        yield _text_table(schema, facts, [decode(shard.row(row)) for row in rows])


def _text_table(
    schema: pa.Schema, facts: Sequence[dict[str, Any]], texts: Sequence[Sequence[str]]
) -> pa.Table:
    records: list[dict[str, Any]] = []
    for line, pieces in zip(facts, texts, strict=True):
        sources = line.pop("source_ids")
        records += [
            {"text": text, "source_id": source, **line}
            for source, text in zip(sources, pieces, strict=True)
            if text
        ]
    return pa.Table.from_pylist(records, schema=schema)
