"""The export stage: a selection becomes the refined corpus.

Each token shard gives one shard of the refined corpus, with the kept rows in their order and
under their old ids, and on request one file of text. Shards are exported one by one and a shard
whose sidecar is there is not made again.
"""

import functools
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from miniplm.data.shards import Shard, open_shards, shard_prefixes, write_shard
from miniplm.data.tokenizer import load_tokenizer
from miniplm.errors import ArtefactError
from miniplm.export.config import ExportConfig
from miniplm.manifest import Outcome, atomic_path
from miniplm.runtime.executors import Executor, processes
from miniplm.runtime.progress import progress
from miniplm.selection.selector import SELECTION_NAME

SHARDS_FOLDER = "shards"
TEXT_FOLDER = "text"


@dataclass(frozen=True)
class _Task:
    prefix: Path
    selection: Path
    tokenizer: Path
    text: Literal["jsonl", "parquet"] | None
    folder: Path


def export_corpus(
    shards_folder: Path,
    selection_folder: Path,
    tokenizer_folder: Path,
    config: ExportConfig,
    folder: Path,
    executor: Executor[_Task, tuple[int, int]] = processes,
) -> Outcome:
    """Write `folder/shards/data_N.*` and, if asked for, `folder/text/data_N.*`.

    Args:
        shards_folder: The candidates' token shards.
        selection_folder: Output of the select stage for these shards.
        tokenizer_folder: Their tokenizer, for the text.
        config: Which forms to write.
        folder: Where the refined corpus goes.
        executor: Runs the shards.

    Raises:
        ArtefactError: The selection names sequences that the shards do not hold.
    """
    prefixes = shard_prefixes(shards_folder)
    tasks = [
        _Task(prefix, selection_folder / SELECTION_NAME, tokenizer_folder, config.text, folder)
        for prefix in prefixes
    ]
    num_kept = num_ids = 0
    with progress("export", len(tasks), "shards") as advance:
        for kept, ids in executor(_export_shard, tasks):
            num_kept, num_ids = num_kept + kept, num_ids + ids
            advance(1)
    expected = pq.read_metadata(selection_folder / SELECTION_NAME).num_rows
    if num_kept != expected:
        raise ArtefactError(
            f"{selection_folder}: selects {expected} sequences, the shards in {shards_folder} "
            f"hold {num_kept} of them. Select from these shards again."
        )
    return Outcome(counts={"sequences": num_kept}, num_tokens=num_ids - num_kept)


def _export_shard(task: _Task) -> tuple[int, int]:
    """Export one shard; returns the number of its rows kept and of their ids."""
    target = task.folder / SHARDS_FOLDER / task.prefix.name
    text_path = _text_path(task)
    if not target.with_suffix(".parquet").exists() or (text_path and not text_path.exists()):
        shard = Shard(task.prefix)
        places, scores = _kept_places(shard, task.selection)
        if text_path:
            _write_text(shard, places, scores, task, text_path)
        sidecar = shard.sidecar.take(places).append_column("difference_score", pa.array(scores))
        write_shard(
            target,
            kept_ranges(shard, places),
            sidecar,
            vocab_size=shard.info.vocab_size,
            eos_id=shard.info.eos_id,
            max_length=shard.info.max_length,
        )
    written = Shard(target)
    return len(written), written.num_ids


def _kept_places(
    shard: Shard, selection_path: Path
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Places of the kept rows in the shard, ascending, and their difference scores."""
    selection = pq.read_table(selection_path, columns=["sequence_id", "difference_score"])
    selected = selection["sequence_id"].to_numpy()
    order = np.argsort(selected)
    where = np.searchsorted(selected, shard.sequence_ids, sorter=order)
    where = order[np.minimum(where, len(selected) - 1)]
    places = np.flatnonzero(selected[where] == shard.sequence_ids)
    return places, selection["difference_score"].to_numpy()[where[places]]


def kept_ranges(shard: Shard, places: NDArray[np.int64]) -> Iterator[NDArray[np.generic]]:
    """The ids of the rows at ascending places; neighbours come as one contiguous range."""
    if len(places) == 0:
        return
    breaks = np.flatnonzero(np.diff(places) != 1) + 1
    for run in np.split(places, breaks):
        yield shard.ids[shard.starts[run[0]] : shard.starts[run[-1] + 1]]


def _text_path(task: _Task) -> Path | None:
    if task.text is None:
        return None
    suffix = "jsonl.zst" if task.text == "jsonl" else "parquet"
    return task.folder / TEXT_FOLDER / f"{task.prefix.name}.{suffix}"


def _write_text(
    shard: Shard,
    places: NDArray[np.int64],
    scores: NDArray[np.float64],
    task: _Task,
    path: Path,
) -> None:
    records = text_records(shard, places, scores, task.tokenizer)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        if task.text == "parquet":
            pq.write_table(pa.Table.from_pylist(list(records), schema=_TEXT_SCHEMA), temporary)
        else:
            _write_jsonl(temporary, records)


def _write_jsonl(path: Path, records: Iterator[dict[str, Any]]) -> None:
    import zstandard

    with zstandard.open(path, "wb") as raw, io.TextIOWrapper(raw, encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


_TEXT_SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("domain", pa.string()),
        ("sequence_id", pa.int64()),
        ("source_id", pa.string()),
        ("difference_score", pa.float64()),
    ]
)


def text_records(
    shard: Shard, places: NDArray[np.int64], scores: NDArray[np.float64], tokenizer_folder: Path
) -> Iterator[dict[str, Any]]:
    """The text of kept rows, one record per piece of a document.

    Rows hold pieces of several documents; each piece is a record of its own, so that no
    tokenizer's end-of-text mark gets into the text.
    """
    tokenizer = _tokenizer(tokenizer_folder)
    sidecar = shard.sidecar
    for place, score in zip(places, scores, strict=True):
        pieces = split_at_eos(shard.row(int(place)), shard.info.eos_id)
        sources = sidecar["source_ids"][int(place)].as_py()
        common = {
            "domain": sidecar["domain"][int(place)].as_py(),
            "sequence_id": sidecar["sequence_id"][int(place)].as_py(),
            "difference_score": float(score),
        }
        for source, piece in zip(sources, pieces, strict=False):
            if len(piece):
                text = tokenizer.decode(piece, clean_up_tokenization_spaces=False)
                yield {"text": text, "source_id": source, **common}


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


@functools.cache
def _tokenizer(folder: Path) -> Any:  # noqa: ANN401
    return load_tokenizer(folder)


def open_refined(folder: Path) -> list[Shard]:
    """The refined corpus's shards that hold rows."""
    return [shard for shard in open_shards(folder / SHARDS_FOLDER) if len(shard)]
