"""Near-duplicates among the rows of token shards: MinHash, confirmed by the exact similarity.

First each shard gets a table of its rows' band hashes, in parallel; then bands are compared over
all shards, and each shard gets its cluster table. Either table that is there, and was made from
these shards with this config, is not made again. Rows are compared as they are packed: two copies
of a document that are cut into rows at other places share only a part of each row.

In memory are, for each worker, a block of rows and the bands of its shard (128 bytes a row of it);
20 bytes a row of all (8 for the hashes of a band, 12 for where rows begin); and some 100 bytes for
each row that has a near-duplicate. On disk are 136 bytes a row while at work, 16 in the end.
"""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from miniplm.data.parquet import ID_COLUMN, ColumnFile, follows_from, write_parquet
from miniplm.data.shards import Shard, open_shards
from miniplm.manifest import Outcome, fingerprint
from miniplm.runtime.executors import Executor, threads
from miniplm.runtime.progress import progress
from miniplm.selection.cluster_tables import Clusters, write_clusters
from miniplm.selection.clustering import Clustering, find_clusters
from miniplm.selection.duplicate_facts import duplicate_facts
from miniplm.selection.duplicates_config import NearDuplicatesConfig
from miniplm.selection.minhash import algorithm, band_hashes
from miniplm.selection.shingles import Shingles
from miniplm.selection.token_rows import TokenRows, row_blocks

BANDS_FOLDER = "bands"


def find_near_duplicates(
    shards_folder: Path,
    config: NearDuplicatesConfig,
    folder: Path,
    executor: Executor[Shard, None] = threads,
    tokenizer_folder: Path | None = None,
) -> Outcome:
    """Write `folder/data_N.parquet` for every token shard: each row's cluster.

    The result depends neither on how rows are spread over shards nor on the workers.

    Args:
        shards_folder: Token shards.
        config: When rows are near-duplicates.
        folder: Where the cluster tables go, and the bands while at work.
        executor: Runs the shards.
        tokenizer_folder: Their tokenizer, for the text of the examples.

    Raises:
        ArtefactError: A shard is missing or damaged.
    """
    shards = open_shards(shards_folder)
    with progress("near-duplicates: hash", len(shards), "shards") as advance:
        for _ in executor(partial(_write_bands, config, folder), shards):
            advance(1)
    rows = TokenRows(shards)
    with progress("near-duplicates: compare", config.bands.num_bands, "bands") as advance:
        found = find_clusters(
            rows,
            partial(_read_band, folder, shards),
            config.bands.num_bands,
            config.ngram,
            config.similarity,
            advance,
        )
    _write_clusters(rows, found, config, folder)
    facts = duplicate_facts(rows, found, tokenizer_folder)
    return Outcome(
        counts={
            "sequences": len(rows),
            "clusters": facts["num_clusters"],
            "in_clusters": len(found.places),
            "redundant": len(found.places) - facts["num_clusters"],
            "compared": found.num_compared,
            "confirmed": found.num_confirmed,
        },
        num_tokens=sum(shard.num_ids - len(shard) for shard in shards),
        facts={
            "bands": asdict(config.bands),
            "recall_at_similarity": config.bands.recall(config.similarity),
            **facts,
        },
        obsolete=(BANDS_FOLDER,),
    )


def _bands_path(folder: Path, shard: Shard) -> Path:
    return folder / BANDS_FOLDER / f"{shard.prefix.name}.parquet"


def _write_bands(config: NearDuplicatesConfig, folder: Path, shard: Shard) -> None:
    """Write the band hashes of one shard, unless they are there."""
    path = _bands_path(folder, shard)
    origin = {
        "shard_hash": shard.info.shard_hash,
        "ngram": config.ngram,
        "bands": asdict(config.bands),
        "algorithm": algorithm(),
    }
    if follows_from(path, origin):
        return
    hashes_RB = np.empty((len(shard), config.bands.num_bands), dtype=np.uint64, order="F")
    done = 0
    for ids, lengths in row_blocks(shard):
        block = band_hashes(Shingles.of(ids, lengths, config.ngram), config.bands)
        hashes_RB[done : done + len(block)] = block
        done += len(block)
    columns = {f"band_{number}": band for number, band in enumerate(hashes_RB.T.view(np.int64))}
    write_parquet(path, pa.table({ID_COLUMN: shard.sequence_ids, **columns}), origin)


def _read_band(folder: Path, shards: list[Shard], band: int, number: int) -> NDArray[np.uint64]:
    file = ColumnFile(_bands_path(folder, shards[number]))
    return file.array(f"band_{band}").view(np.uint64)


def _write_clusters(
    rows: TokenRows, found: Clustering, config: NearDuplicatesConfig, folder: Path
) -> None:
    together = fingerprint([shard.info.shard_hash for shard in rows.shards])
    of_config = {**config.clustered_by(), "algorithm": algorithm()}
    bounds = np.searchsorted(found.places, rows.offsets)
    for number, shard in enumerate(rows.shards):
        path = folder / f"{shard.prefix.name}.parquet"
        origin: dict[str, Any] = {
            "shard_hash": shard.info.shard_hash,
            "shards": together,
            "config": of_config,
        }
        if follows_from(path, origin):
            continue
        ids = ColumnFile(shard.prefix.with_suffix(".parquet")).sequence_ids()
        clusters = ids.copy()
        part = slice(bounds[number], bounds[number + 1])
        clusters[found.places[part] - rows.offsets[number]] = found.clusters[part]
        write_clusters(path, Clusters(ids, clusters), origin)
