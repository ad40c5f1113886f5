"""Megatron-LM prefixes: `NAME_N_text_document.{bin,idx}` for each shard, and their blend.

Megatron-LM's GPTDataset shuffles the items of a prefix, joins them into one stream and cuts that
every `--seq-length` ids, so that neighbours come to stand in one sample. An item is a sequence of
the refined corpus, a document of its own in the document index, and each ends with end-of-text,
which is added where a sequence was cut inside a document: as after each document of Megatron-LM's
`preprocess_data.py --append-eod`. With `--eod-mask-loss` the position whose input is end-of-text
has no target, as in training here.

There is a prefix per shard, so that shards are written in parallel and again after a kill.
`data_args.txt` is their blend for `--data-args-path`, each weighed by its ids.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miniplm.data.megatron_index import index_bytes, read_index
from miniplm.data.shards import Shard, ids_dtype
from miniplm.errors import ArtefactError
from miniplm.export.exporter import kept_blocks
from miniplm.export.repeats import places_to_write
from miniplm.export.token_form import Numbered, filled_shards
from miniplm.manifest import Outcome, atomic_path, write_atomically
from miniplm.runtime.executors import Executor, threads
from miniplm.runtime.progress import progress

BLEND_NAME = "data_args.txt"
_ROWS_AT_ONCE = 512


def export_megatron(
    shards_folder: Path,
    folder: Path,
    name: str,
    *,
    materialize_repeats: bool = False,
    executor: Executor[Numbered, tuple[int, int, int]] = threads,
) -> Outcome:
    """Write `folder/NAME_N_text_document.{bin,idx}` and the blend `folder/data_args.txt`.

    Args:
        shards_folder: Token shards of a refined corpus.
        folder: Where they go; prefixes that are there are kept.
        name: First part of the prefixes' names.
        materialize_repeats: Hold a row as often as its `repeats` say.
        executor: Runs the shards.

    Raises:
        ArtefactError: A shard is damaged.
    """
    shards = filled_shards(shards_folder)
    folder.mkdir(parents=True, exist_ok=True)
    num_rows = num_tokens = num_added = 0
    blend = []
    with progress("export megatron", len(shards), "shards") as advance:
        work = partial(_write_prefix, folder, name, materialize_repeats)
        for number, (rows, ids, added) in enumerate(executor(work, enumerate(shards))):
            blend.append(f"{ids} {prefix_name(name, number)}\n")
            num_rows, num_added = num_rows + rows, num_added + added
            num_tokens += ids - added - rows
            advance(1)
    write_atomically(folder / BLEND_NAME, "".join(blend))
    return Outcome(
        counts={"sequences": num_rows, "shards": len(shards), "added_eos": num_added},
        num_tokens=num_tokens,
    )


def prefix_name(name: str, number: int) -> str:
    """Of a shard's prefix, as `--data-path` takes it."""
    return f"{name}_{number}_text_document"


def _write_prefix(
    folder: Path, name: str, materialize: bool, numbered: Numbered
) -> tuple[int, int, int]:
    """Write a prefix; returns its items, their ids, and how many of these were added."""
    number, shard = numbered
    index = folder / f"{prefix_name(name, number)}.idx"
    data = folder / f"{prefix_name(name, number)}.bin"
    dtype = ids_dtype(shard.info.vocab_size)
    places = places_to_write(shard.sidecar, materialize=materialize)
    is_open = shard.ids[shard.ends[places] - 1] != shard.info.eos_id
    lengths = shard.lengths[places] + is_open.astype(np.int32)
    num_ids = int(lengths.sum(dtype=np.int64))
    if not index.exists():  # it is written last
        with atomic_path(data) as temporary, temporary.open("wb") as file:
            for block in _closed(shard, places, is_open):
                file.write(np.ascontiguousarray(block, dtype).data)
        with atomic_path(index) as temporary:
            temporary.write_bytes(index_bytes(lengths, dtype))
    elif not np.array_equal(read_index(index).lengths, lengths):
        raise ArtefactError(f"{index}: is not of these shards. Remove {folder} and export again.")
    return len(places), num_ids, int(np.count_nonzero(is_open))


def _closed(
    shard: Shard, places: NDArray[np.int64], is_open: NDArray[np.bool_]
) -> Iterator[NDArray[np.generic]]:
    """The ids of rows, with end-of-text behind those that are open, some rows at a time."""
    for begin in range(0, len(places), _ROWS_AT_ONCE):
        rows = places[begin : begin + _ROWS_AT_ONCE]
        ids = np.concatenate([block.copy() for block in kept_blocks(shard, rows)])
        ends = np.cumsum(shard.lengths[rows], dtype=np.int64)
        yield np.insert(ids, ends[is_open[begin : begin + len(rows)]], shard.info.eos_id)
