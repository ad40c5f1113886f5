"""Token shards for other loaders: the run's own, without what these stumble over.

A shard of which nothing was kept has an empty `.bin`, which neither Megatron-LM nor the MiniPLM
authors' loader can map. Such shards are left out and the others numbered anew. Files are linked,
not copied, where the disk allows it.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from miniplm.data.shards import Shard, is_made_from, open_shards, write_shard
from miniplm.export.exporter import kept_blocks
from miniplm.export.repeats import places_to_write, without_repeats
from miniplm.manifest import Outcome, link
from miniplm.runtime.executors import Executor, threads
from miniplm.runtime.progress import progress

Numbered = tuple[int, Shard]


def export_tokens(
    shards_folder: Path,
    folder: Path,
    *,
    materialize_repeats: bool = False,
    executor: Executor[Numbered, tuple[int, int]] = threads,
) -> Outcome:
    """Write `folder/data_N.{bin,idx,parquet}`, without empty shards.

    Args:
        shards_folder: Token shards of a refined corpus.
        folder: Where they go; links that are there are made again.
        materialize_repeats: Hold a row as often as its `repeats` say; its id repeats with it.
        executor: Runs the shards.

    Raises:
        ArtefactError: A shard is damaged.
    """
    shards = filled_shards(shards_folder)
    write = partial(_write, folder, materialize_repeats)
    num_rows = num_ids = 0
    with progress("export tokens", len(shards), "shards") as advance:
        for rows, ids in executor(write, enumerate(shards)):
            num_rows, num_ids = num_rows + rows, num_ids + ids
            advance(1)
    return Outcome(
        counts={"sequences": num_rows, "shards": len(shards)}, num_tokens=num_ids - num_rows
    )


def filled_shards(folder: Path) -> Sequence[Shard]:
    """The shards of a folder that hold rows."""
    return [shard for shard in open_shards(folder) if len(shard)]


def _write(folder: Path, materialize: bool, numbered: Numbered) -> tuple[int, int]:
    number, shard = numbered
    target = folder / f"data_{number}"
    folder.mkdir(parents=True, exist_ok=True)
    places = places_to_write(shard.sidecar, materialize=materialize)
    origin = {"shard_hash": shard.info.shard_hash, "repeats": "materialized"}
    if np.array_equal(places, np.arange(len(shard))):
        for suffix in (".bin", ".idx", ".parquet"):
            link(shard.prefix.with_suffix(suffix), target.with_suffix(suffix))
    elif not is_made_from(target, origin):
        write_shard(
            target,
            kept_blocks(shard, places),
            without_repeats(shard.sidecar).take(places),
            vocab_size=shard.info.vocab_size,
            eos_id=shard.info.eos_id,
            max_length=shard.info.max_length,
            origin=origin,
        )
    return len(places), int(shard.lengths[places].sum(dtype=np.int64))
