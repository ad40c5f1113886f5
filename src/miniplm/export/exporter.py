"""The export stage: a selection becomes the refined corpus, as token shards.

Each token shard gives one shard of the refined corpus, with the kept rows in their order and
under their old ids. Shards are exported in parallel. One that is there is not made again if it
says that it was made from this shard and this selection.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from miniplm.data.parquet import places_of
from miniplm.data.shards import Shard, is_made_from, shard_prefixes, write_shard
from miniplm.errors import ArtefactError
from miniplm.manifest import Outcome
from miniplm.runtime.buffers import Buffers
from miniplm.runtime.executors import Executor, threads
from miniplm.runtime.progress import progress
from miniplm.selection.tables import EXTRA_FIELDS, Selected, read_selection

SHARDS_FOLDER = "shards"
_SCORE_COLUMN = "difference_score"
_BLOCK_IDS = 1 << 19
"""Ids copied at a time: a megabyte, which is in the cache when it is hashed and written."""
_BUFFERS = Buffers()


@dataclass(frozen=True)
class _Task:
    prefix: Path
    selection: Path
    folder: Path


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
        ArtefactError: The selection is not one of these shards.
    """
    prefixes = shard_prefixes(shards_folder)
    _check_shards(shards_folder, prefixes, selection_folder)
    tasks = [
        _Task(prefix, selection_folder / f"{prefix.name}.parquet", folder) for prefix in prefixes
    ]
    num_kept = num_ids = 0
    with progress("export", len(tasks), "shards") as advance:
        for kept, ids in executor(_export_shard, tasks):
            num_kept, num_ids = num_kept + kept, num_ids + ids
            advance(1)
    return Outcome(counts={"sequences": num_kept}, num_tokens=num_ids - num_kept)


def _check_shards(shards_folder: Path, prefixes: list[Path], selection_folder: Path) -> None:
    selected = {path.stem for path in selection_folder.glob("data_*.parquet")}
    if missing := sorted(selected - {prefix.name for prefix in prefixes}):
        raise ArtefactError(
            f"{selection_folder}: selects from {missing[0]}, which {shards_folder} does not hold. "
            "Select from these shards again."
        )


def _export_shard(task: _Task) -> tuple[int, int]:
    """Export one shard; returns the number of its rows kept and of their ids."""
    shard = Shard(task.prefix)
    selected = read_selection(task.selection, shard.info.shard_hash)
    target = task.folder / SHARDS_FOLDER / task.prefix.name
    origin = {"shard_hash": shard.info.shard_hash, "selection": selected.digest}
    if not is_made_from(target, origin):
        places = _kept_places(shard, selected, task.selection)
        order = np.argsort(places)
        places = places[order]
        sidecar = _unscored(shard.sidecar).take(places)
        sidecar = sidecar.append_column(_SCORE_COLUMN, pa.array(selected.scores[order]))
        for name, values in selected.extra.items():
            sidecar = sidecar.append_column(name, pa.array(values[order]))
        write_shard(
            target,
            kept_blocks(shard, places),
            sidecar,
            vocab_size=shard.info.vocab_size,
            eos_id=shard.info.eos_id,
            max_length=shard.info.max_length,
            origin=origin,
        )
    written = Shard(target)
    return len(written), written.num_ids


def _unscored(sidecar: pa.Table) -> pa.Table:
    """A sidecar without what an earlier selection said, as one that left out duplicates."""
    said = {_SCORE_COLUMN, *(field.name for field in EXTRA_FIELDS)}
    return sidecar.select([name for name in sidecar.column_names if name not in said])


def _kept_places(shard: Shard, selected: Selected, path: Path) -> NDArray[np.int64]:
    places = places_of(selected.sequence_ids, shard.sequence_ids)
    if places is None:
        raise ArtefactError(
            f"{path}: selects sequences that {shard.prefix} does not hold. "
            "Select from these shards again."
        )
    return places


def kept_blocks(shard: Shard, places: NDArray[np.int64]) -> Iterator[NDArray[np.generic]]:
    """The ids of the rows at these places, back to back, a megabyte at a time.

    Rows that are neighbours in the file are copied as one range. A block lasts until the next is
    asked for.
    """
    begins, ends = shard.begins[places], shard.ends[places]
    if len(places):
        breaks = np.flatnonzero(begins[1:] != ends[:-1]) + 1
        begins, ends = begins[np.r_[0, breaks]], ends[np.r_[breaks - 1, -1]]
    filled = np.cumsum(ends - begins)
    first = 0
    while first < len(begins):
        before = filled[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(filled, before + _BLOCK_IDS, side="right")))
        room = _BUFFERS.get("block", int(filled[last - 1] - before), shard.dtype)
        runs = zip(begins[first:last].tolist(), ends[first:last].tolist(), strict=True)
        yield np.concatenate([shard.ids[begin:end] for begin, end in runs], out=room)
        first = last
