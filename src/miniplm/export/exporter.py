"""The export stage: a selection becomes the refined corpus, as token shards.

Each token shard gives one shard of the refined corpus, with the kept rows in their order and
under their old ids. Shards are exported one by one, and one whose sidecar is there is not made
again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from miniplm.data.shards import Shard, shard_prefixes, write_shard
from miniplm.errors import ArtefactError
from miniplm.manifest import Outcome
from miniplm.runtime.executors import Executor, processes
from miniplm.runtime.progress import progress
from miniplm.selection.selector import SELECTION_NAME

SHARDS_FOLDER = "shards"


@dataclass(frozen=True)
class _Task:
    prefix: Path
    selection: Path
    folder: Path


def export_corpus(
    shards_folder: Path,
    selection_folder: Path,
    folder: Path,
    executor: Executor[_Task, tuple[int, int]] = processes,
) -> Outcome:
    """Write `folder/shards/data_N.*`.

    Args:
        shards_folder: The candidates' token shards.
        selection_folder: Output of the select stage for these shards.
        folder: Where the refined corpus goes.
        executor: Runs the shards.

    Raises:
        ArtefactError: The selection names sequences that the shards do not hold.
    """
    selection = selection_folder / SELECTION_NAME
    tasks = [_Task(prefix, selection, folder) for prefix in shard_prefixes(shards_folder)]
    num_kept = num_ids = 0
    with progress("export", len(tasks), "shards") as advance:
        for kept, ids in executor(_export_shard, tasks):
            num_kept, num_ids = num_kept + kept, num_ids + ids
            advance(1)
    expected = pq.read_metadata(selection).num_rows
    if num_kept != expected:
        raise ArtefactError(
            f"{selection_folder}: selects {expected} sequences, the shards in {shards_folder} "
            f"hold {num_kept} of them. Select from these shards again."
        )
    return Outcome(counts={"sequences": num_kept}, num_tokens=num_ids - num_kept)


def _export_shard(task: _Task) -> tuple[int, int]:
    """Export one shard; returns the number of its rows kept and of their ids."""
    target = task.folder / SHARDS_FOLDER / task.prefix.name
    if not target.with_suffix(".parquet").exists():
        shard = Shard(task.prefix)
        places, scores = _kept_places(shard, task.selection)
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
    ids = shard.sequence_ids
    near = [("sequence_id", ">=", int(ids.min())), ("sequence_id", "<=", int(ids.max()))]
    columns = ["sequence_id", "difference_score"]
    selection = pq.read_table(selection_path, columns=columns, filters=near)
    selected = selection["sequence_id"].to_numpy()
    _, places, found = np.intersect1d(ids, selected, assume_unique=True, return_indices=True)
    order = np.argsort(places)
    return places[order], selection["difference_score"].to_numpy()[found[order]]


def kept_ranges(shard: Shard, places: NDArray[np.int64]) -> Iterator[NDArray[np.generic]]:
    """The ids of the rows at ascending places; neighbours come as one contiguous range."""
    if len(places) == 0:
        return
    breaks = np.flatnonzero(np.diff(places) != 1) + 1
    for run in np.split(places, breaks):
        yield shard.ids[shard.starts[run[0]] : shard.starts[run[-1] + 1]]
