"""Groups of similar rows, for corpora whose domains are not labelled.

Rows are bags of hashed n-grams of token ids, weighted by tf-idf. On a sample, a truncated singular
value decomposition and k-means find directions of the groups (latent semantic analysis); then each
row goes to the group whose direction has the smallest angle to it. The sample follows from ids and
the seed, and a row's group from its own n-grams alone, so that neither shards nor workers have a
say.

In memory are the sample (about 8 bytes an n-gram) and a block of rows for each worker.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniplm.data.chance import uniform_by_id
from miniplm.data.parquet import ColumnFile
from miniplm.data.shards import Shard, open_shards
from miniplm.errors import ArtefactError
from miniplm.manifest import Outcome, fingerprint
from miniplm.runtime.executors import Executor, threads
from miniplm.runtime.progress import progress
from miniplm.selection.group_facts import group_facts
from miniplm.selection.group_tables import Groups, is_grouped, read_groups, write_groups
from miniplm.selection.grouping_config import GroupingConfig
from miniplm.selection.ngram_counts import Weighting, ngram_counts
from miniplm.selection.token_rows import TokenRows, row_blocks


@dataclass(frozen=True)
class Grouper:
    """What tells a row's group.

    Args:
        weighting: Of n-grams.
        directions_FG: Of each group, among the features.
        longest_ngram: Ids in the longest n-grams.
    """

    weighting: Weighting
    directions_FG: NDArray[np.float32]
    longest_ngram: int

    def assign(self, ids: NDArray[Any], lengths: NDArray[np.int64]) -> NDArray[np.int32]:
        """The group of each row."""
        features_RF = self.weighting.apply(ngram_counts(ids, lengths, self.longest_ngram))
        # row by row, in one order: the same for any block that a row is in
        closeness_RG: NDArray[np.float32] = features_RF @ self.directions_FG
        groups: NDArray[np.int32] = closeness_RG.argmax(axis=1).astype(np.int32)
        return groups


def group_sequences(
    shards_folder: Path,
    config: GroupingConfig,
    folder: Path,
    seed: int,
    executor: Executor[Shard, None] = threads,
    tokenizer_folder: Path | None = None,
) -> Outcome:
    """Write `folder/data_N.parquet` for every token shard: each row's group.

    Groups are numbered by their size in the sample, the largest first.

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
    grouper = fit_groups(ids, lengths, config, seed)
    origin = {
        "shards": fingerprint([shard.info.shard_hash for shard in shards]),
        "config": config.fingerprinted(),
        "seed": seed,
    }
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
    places = []
    for number, shard in enumerate(rows.shards):
        ids = ColumnFile(shard.prefix.with_suffix(".parquet")).sequence_ids()
        chosen = np.flatnonzero(uniform_by_id(ids, seed) < num_rows / len(rows))
        places.append(chosen + rows.offsets[number])
    return np.concatenate(places)


def fit_groups(
    ids: NDArray[Any], lengths: NDArray[np.int64], config: GroupingConfig, seed: int
) -> Grouper:
    """Find groups among some rows.

    Args:
        ids: Token ids of the rows, one row after another.
        lengths: Ids in each.
        config: How.
        seed: Of the decomposition and the clustering.
    """
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.decomposition import TruncatedSVD
    from threadpoolctl import threadpool_limits

    counts_RF = ngram_counts(ids, lengths, config.longest_ngram)
    weighting = Weighting.fit(counts_RF)
    features_RF = weighting.apply(counts_RF)
    with threadpool_limits(1):  # sums of floats in one order, whatever the machine
        components = min(config.num_components, len(lengths) - 1)
        svd = TruncatedSVD(components, n_iter=4, random_state=seed)
        reduced_RC = _unit(svd.fit_transform(features_RF))
        kmeans = MiniBatchKMeans(config.num_groups, batch_size=4096, n_init=5, random_state=seed)
        members = kmeans.fit_predict(reduced_RC)
        centres_GC = _unit(kmeans.cluster_centers_)[_largest_first(members, config.num_groups)]
        directions_FG = (svd.components_.T @ centres_GC.T).astype(np.float32)
    return Grouper(weighting, directions_FG, config.longest_ngram)


def _unit(rows: NDArray[Any]) -> NDArray[Any]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: NDArray[Any] = rows / np.where(lengths > 0, lengths, 1)
    return scaled


def _largest_first(members: NDArray[Any], num_groups: int) -> NDArray[np.int64]:
    sizes = np.bincount(members, minlength=num_groups)
    return np.argsort(-sizes, kind="stable")


def _write_groups(grouper: Grouper, folder: Path, origin: dict[str, Any], shard: Shard) -> None:
    """Write the groups of one shard, unless they are there."""
    path = folder / f"{shard.prefix.name}.parquet"
    origin = {"shard_hash": shard.info.shard_hash, **origin}
    if is_grouped(path, origin):
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
