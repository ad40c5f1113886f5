"""The refined corpus as text: JSON lines or Parquet that `datasets.load_dataset` opens.

Rows hold pieces of several documents; each piece is a record of its own, so that no tokenizer's
end-of-text mark gets into the text.
"""

import io
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from miniplm.data.shards import Shard, open_shards
from miniplm.data.tokenizer import load_tokenizer
from miniplm.export.config import TextForm
from miniplm.manifest import Outcome, atomic_path
from miniplm.runtime.executors import Executor, threads
from miniplm.runtime.progress import progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_RECORDS_AT_A_TIME = 1024
_SUFFIXES = {"jsonl": "jsonl.zst", "parquet": "parquet"}
_SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("domain", pa.string()),
        ("sequence_id", pa.int64()),
        ("source_id", pa.string()),
        ("difference_score", pa.float64()),
    ]
)


def export_text(
    shards_folder: Path,
    tokenizer_folder: Path,
    form: TextForm,
    folder: Path,
    executor: Executor[Shard, None] = threads,
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
    tokenizer = load_tokenizer(tokenizer_folder)
    shards = open_shards(shards_folder)
    folder.mkdir(parents=True, exist_ok=True)

    def write(shard: Shard) -> None:
        path = folder / f"{shard.prefix.name}.{_SUFFIXES[form]}"
        if not path.exists():
            with atomic_path(path) as temporary:
                _write(temporary, form, text_records(shard, tokenizer))

    with progress("export text", len(shards), "shards") as advance:
        for _ in executor(write, shards):
            advance(1)
    return Outcome(
        counts={"sequences": sum(len(shard) for shard in shards)},
        num_tokens=sum(shard.num_ids - len(shard) for shard in shards),
    )


def _write(path: Path, form: TextForm, records: Iterator[dict[str, Any]]) -> None:
    import zstandard

    if form == "parquet":
        with pq.ParquetWriter(path, _SCHEMA) as writer:
            while some := list(islice(records, _RECORDS_AT_A_TIME)):
                writer.write_table(pa.Table.from_pylist(some, schema=_SCHEMA))
        return
    with zstandard.open(path, "wb") as raw, io.TextIOWrapper(raw, encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def text_records(shard: Shard, tokenizer: "PreTrainedTokenizerBase") -> Iterator[dict[str, Any]]:
    """One record per piece of a document: text, domain, sequence_id, source_id, score."""
    pieces = _pieces(shard)
    while some := list(islice(pieces, _RECORDS_AT_A_TIME)):
        # a batch is decoded on all cores
        texts = tokenizer.batch_decode(
            [piece for piece, _ in some], clean_up_tokenization_spaces=False
        )
        for text, (_, facts) in zip(texts, some, strict=True):
            yield {"text": text, **facts}


def _pieces(shard: Shard) -> Iterator[tuple[NDArray[np.int64], dict[str, Any]]]:
    """The ids of each piece of a document, and what is known of it."""
    columns = ["domain", "sequence_id", "source_ids", "difference_score"]
    facts = (
        row
        for batch in shard.sidecar.select(columns).to_batches(_RECORDS_AT_A_TIME)
        for row in batch.to_pylist()
    )
    for index, row in enumerate(facts):
        sources = row.pop("source_ids")
        pieces = split_at_eos(shard.row(index), shard.info.eos_id)
        for source, piece in zip(sources, pieces, strict=True):
            if len(piece):
                yield piece, {"source_id": source, **row}


def split_at_eos(ids: NDArray[np.int64], eos_id: int) -> list[NDArray[np.int64]]:
    """The pieces of documents in a row, in the order of its source ids; some may be empty.

    Example:
        >>> [piece.tolist() for piece in split_at_eos(np.array([5, 0, 6, 7, 0]), 0)]
        [[5], [6, 7]]
    """
    pieces = np.split(ids, np.flatnonzero(ids == eos_id) + 1)
    if len(pieces[-1]) == 0:
        pieces.pop()
    return [piece[:-1] if len(piece) and piece[-1] == eos_id else piece for piece in pieces]
