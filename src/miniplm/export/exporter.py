"""The export stage: a selection becomes the refined corpus, as token shards.

Each token shard gives one shard of the refined corpus, with the kept rows in their order and
under their old ids. Shards are exported in parallel, and one whose sidecar is there is not made
again. What is in memory at once is a shard's sidecar and a few megabytes of ids for each worker.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from miniplm.data.parquet import ColumnFile, places_of
from miniplm.data.shards import Shard, shard_prefixes, write_shard
from miniplm.errors import ArtefactError
from miniplm.manifest import Outcome
from miniplm.runtime.buffers import Buffers
from miniplm.runtime.executors import Executor, threads
from miniplm.runtime.progress import progress

SHARDS_FOLDER = "shards"
_BLOCK_IDS = 1 << 19
"""Ids copied at a time: a megabyte, which is in the cache when it is hashed and written."""
_BUFFERS = Buffers()


@dataclass(frozen=True)
class _Task:
    prefix: Path
    selection: Path
    target: Path


def export_corpus(
    shards_folder: Path,
    selection_folder: Path,
    folder: Path,
    executor: Executor[_Task, tuple[int, int]] = threads,
) -> Outcome:
    """Write `folder/shards/data_N.*`.

    Args:
        shards_folder: The candidates' token shards.
        selection_folder: Output of the select stage for these shards.
        folder: Where the refined corpus goes.
        executor: Runs the shards.

    Raises:
        ArtefactError: The selection is damaged, or was not made from these shards.
    """
    tasks = [
        _Task(
            prefix,
            selection_folder / f"{prefix.name}.parquet",
            folder / SHARDS_FOLDER / prefix.name,
        )
        for prefix in shard_prefixes(shards_folder)
    ]
    num_kept = num_ids = 0
    with progress("export", len(tasks), "shards") as advance:
        for kept, ids in executor(_export_shard, tasks):
            num_kept, num_ids = num_kept + kept, num_ids + ids
            advance(1)
    return Outcome(counts={"sequences": num_kept}, num_tokens=num_ids - num_kept)


def _export_shard(task: _Task) -> tuple[int, int]:
    """Export one shard; returns the number of its rows kept and of their ids."""
    if not task.target.with_suffix(".parquet").exists():
        shard = Shard(task.prefix)
        places, scores = _kept_places(shard, task.selection)
        sidecar = shard.sidecar.take(pa.array(places))
        write_shard(
            task.target,
            kept_blocks(shard, places),
            sidecar.append_column("difference_score", pa.array(scores)),
            vocab_size=shard.info.vocab_size,
            eos_id=shard.info.eos_id,
            max_length=shard.info.max_length,
        )
    written = Shard(task.target)
    return len(written), written.num_ids


def _kept_places(shard: Shard, selection: Path) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Places of the kept rows in the shard, ascending, and their difference scores."""
    file = ColumnFile(selection)
    if file.metadata.get("shard_hash") != shard.info.shard_hash:
        raise ArtefactError(
            f"{selection}: was not made from {shard.prefix} as it is now. Select from these "
            "shards again."
        )
    places = places_of(file.sequence_ids(), shard.sequence_ids)
    if places is None:
        raise ArtefactError(
            f"{selection}: selects sequences that {shard.prefix} does not hold. Select from these "
            "shards again."
        )
    order = np.argsort(places, kind="stable")
    return places[order], file.array("difference_score")[order]


def kept_blocks(shard: Shard, places: NDArray[np.int64]) -> Iterator[NDArray[np.generic]]:
    """The ids of the rows at ascending places, back to back, some megabytes at a time.

    Neighbouring rows are copied as one range. A block holds until the next one is asked for.
    """
    breaks = np.flatnonzero(np.diff(places) != 1) + 1
    firsts = places[np.concatenate([[0], breaks])] if len(places) else places
    lasts = places[np.concatenate([breaks - 1, [len(places) - 1]])] if len(places) else places
    begins, ends = shard.starts[firsts], shard.starts[lasts + 1]
    written = np.cumsum(ends - begins)
    ids = np.asarray(shard.ids)  # slices of a memory map are slow to make
    run = 0
    while run < len(begins):
        before = int(written[run - 1]) if run else 0
        stop = max(run + 1, int(np.searchsorted(written, before + _BLOCK_IDS, side="right")))
        ranges = zip(begins[run:stop].tolist(), ends[run:stop].tolist(), strict=True)
        block = _BUFFERS.get("ids", int(written[stop - 1]) - before, ids.dtype)
        yield np.concatenate([ids[begin:end] for begin, end in ranges], out=block)
        run = stop
