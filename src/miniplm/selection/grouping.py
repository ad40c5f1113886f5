"""Groups of similar rows, for corpora whose domains are not labelled.

Groups are found on a sample (`selection.grouper`), and each row goes to one of them. The sample
follows from ids and the seed, and a row's group from its own n-grams alone, so that neither shards
nor workers have a say. What was found is kept in a file before any row is grouped, since a library
of another version, or another processor, can find other groups: all shards of a run go by one.

In memory are the sample (about 8 bytes an n-gram) and a block of rows for each worker.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniplm.data.chance import seed_of, uniform_by_id
from miniplm.data.parquet import ColumnFile, follows_from
from miniplm.data.shards import Shard, open_shards
from miniplm.errors import ArtefactError
from miniplm.manifest import Outcome, fingerprint
from miniplm.runtime.executors import Executor, threads
from miniplm.runtime.progress import progress
from miniplm.selection.group_facts import group_facts
from miniplm.selection.group_tables import Groups, read_groups, write_groups
from miniplm.selection.grouper import Grouper, fit_groups
from miniplm.selection.grouping_config import GroupingConfig
from miniplm.selection.token_rows import TokenRows, row_blocks

GROUPER_NAME = "grouper.safetensors"
_SAMPLING = 0x6209
"""Keeps the sample apart from what else is drawn by id with the run's seed."""


def group_sequences(
    shards_folder: Path,
    config: GroupingConfig,
    folder: Path,
    seed: int,
    executor: Executor[Shard, None] = threads,
    tokenizer_folder: Path | None = None,
) -> Outcome:
    """Write `folder/data_N.parquet` for every token shard: each row's group.

    Groups are numbered by their size in the sample, the largest first. `folder/grouper.safetensors`
    is what tells them apart.

    Args:
        shards_folder: Token shards.
        config: How rows are grouped.
        folder: Where the tables go.
        seed: Of the sample, the decomposition and the clustering.
        executor: Runs the shards.
        tokenizer_folder: Their tokenizer, for the text of typical n-grams.

    Raises:
        ArtefactError: A shard is missing or damaged, or there are fewer rows than groups.
    """
    shards = open_shards(shards_folder)
    rows = TokenRows(shards)
    sample = sampled_places(rows, config.sample_rows, seed)
    if len(sample) < config.num_groups:
        raise ArtefactError(
            f"{shards_folder}: holds {len(sample)} sequences, too few for {config.num_groups} "
            "groups. Ask for fewer groups."
        )
    ids, lengths = rows.ids(sample)
    origin: dict[str, Any] = {
        "shards": fingerprint([shard.info.shard_hash for shard in shards]),
        "config": config.fingerprinted(),
        "seed": seed,
    }
    grouper = Grouper.read(folder / GROUPER_NAME, origin)
    if grouper is None:
        grouper = fit_groups(ids, lengths, config, seed)
        grouper.write(folder / GROUPER_NAME, origin)
    origin["grouper"] = grouper.digest
    with progress("group", len(shards), "shards") as advance:
        for _ in executor(partial(_write_groups, grouper, folder, origin), shards):
            advance(1)
    sizes = _sizes(folder, shards, config.num_groups)
    groups = grouper.assign(ids, lengths)
    return Outcome(
        counts={"sequences": len(rows), "groups": int(np.count_nonzero(sizes))},
        num_tokens=sum(shard.num_ids - len(shard) for shard in shards),
        facts={
            "sampled": len(sample),
            "groups": group_facts(ids, lengths, groups, sizes, shards[0].info, tokenizer_folder),
        },
    )


def sampled_places(rows: TokenRows, num_rows: int, seed: int) -> NDArray[np.int64]:
    """Ascending places of about `num_rows` rows that follow from their ids, or of all."""
    if len(rows) <= num_rows:
        return np.arange(len(rows))
    places, stream = [], seed_of(seed, _SAMPLING)
    for number, shard in enumerate(rows.shards):
        ids = ColumnFile(shard.prefix.with_suffix(".parquet")).sequence_ids()
        chosen = np.flatnonzero(uniform_by_id(ids, stream) < num_rows / len(rows))
        places.append(chosen + rows.offsets[number])
    return np.concatenate(places)


def _write_groups(grouper: Grouper, folder: Path, origin: dict[str, Any], shard: Shard) -> None:
    """Write the groups of one shard, unless they are there."""
    path = folder / f"{shard.prefix.name}.parquet"
    origin = {"shard_hash": shard.info.shard_hash, **origin}
    if follows_from(path, origin):
        return
    parts = [np.empty(0, np.int32), *(grouper.assign(*block) for block in row_blocks(shard))]
    write_groups(path, Groups(shard.sequence_ids, np.concatenate(parts)), origin)


def _sizes(folder: Path, shards: Sequence[Shard], num_groups: int) -> NDArray[np.int64]:
    """Rows in each group."""
    sizes = np.zeros(num_groups, dtype=np.int64)
    for shard in shards:
        found = read_groups(folder / f"{shard.prefix.name}.parquet", shard.info.shard_hash)
        sizes += np.bincount(found.groups, minlength=num_groups)
    return sizes
