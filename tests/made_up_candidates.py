"""Candidates made up row by row, with scores, groups and clusters; and the policies spelt out."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from miniplm.data.chance import uniform_by_id
from miniplm.data.shards import make_sidecar, open_shards, write_shard
from miniplm.scoring.tables import ScoreInfo, write_scores
from miniplm.selection.amounts import num_kept
from miniplm.selection.cluster_tables import Clusters, write_clusters
from miniplm.selection.config import SelectionConfig
from miniplm.selection.group_tables import Groups, group_name, write_groups
from miniplm.selection.ranking import gumbel_values
from miniplm.selection.row_tables import RowTables
from miniplm.selection.selector import select_sequences

SEED = 5


@dataclass(frozen=True)
class Row:
    id: int
    teacher: float
    reference: float
    num_tokens: int
    domain: str
    group: int = 0
    cluster: int | None = None

    @property
    def difference(self):
        return self.teacher - self.reference


def write_candidates(folder, rows, num_shards):
    """Shards and score tables of rows, dealt out in turn."""
    for number in range(num_shards):
        part = rows[number::num_shards]
        prefix = folder / "shards" / f"data_{number}"
        sidecar = make_sidecar(
            np.array([row.id for row in part], np.int64),
            [row.domain for row in part],
            np.array([row.num_tokens + 1 for row in part], np.int32),
            np.array([3 * row.num_tokens for row in part], np.int64),
            [[f"source-{row.id}"] for row in part],
        )
        ids = [np.ones(row.num_tokens + 1, np.int32) for row in part]
        write_shard(prefix, ids, sidecar, vocab_size=10, eos_id=0, max_length=64)
    for role in ("teacher", "reference"):
        by_id = {row.id: row for row in rows}
        for shard in open_shards(folder / "shards"):
            part = [by_id[index] for index in shard.sequence_ids.tolist()]
            table = pa.table(
                {
                    "sequence_id": shard.sequence_ids,
                    "log_prob": [getattr(row, role) * row.num_tokens for row in part],
                    "num_tokens": np.array([row.num_tokens for row in part], np.int32),
                    "num_bytes": np.array([3 * row.num_tokens for row in part], np.int64),
                }
            )
            info = ScoreInfo("m", "f", "float32", shard.info.shard_hash)
            write_scores(folder / role / f"{shard.prefix.name}.parquet", table, info)


def write_row_tables(folder, rows):
    """Group and cluster tables of rows whose shards are there."""
    by_id = {row.id: row for row in rows}
    for shard in open_shards(folder / "shards"):
        part = [by_id[index] for index in shard.sequence_ids.tolist()]
        name, origin = f"{shard.prefix.name}.parquet", {"shard_hash": shard.info.shard_hash}
        groups = np.array([row.group for row in part], np.int32)
        write_groups(folder / "groups" / name, Groups(shard.sequence_ids, groups), origin)
        clusters = [row.id if row.cluster is None else row.cluster for row in part]
        found = Clusters(shard.sequence_ids, np.array(clusters, np.int64))
        write_clusters(folder / "clusters" / name, found, origin)
    return RowTables(folder / "groups", folder / "clusters")


def select(folder, rows, num_shards=1, seed=SEED, **config):
    """Outcome, and the selection as a table in the order of ids."""
    if not (folder / "shards").exists():
        write_candidates(folder, rows, num_shards)
        write_row_tables(folder, rows)
    out = folder / f"selection-{len(list(folder.iterdir()))}"
    outcome = run_select(folder, out, SelectionConfig(**config), seed)
    return outcome, read_selections(out)


def select_into(folder, out, **config):
    """The selection in a folder of one's own, as a table in the order of ids."""
    run_select(folder, out, SelectionConfig(**config), SEED)
    return read_selections(out)


def read_selections(out):
    tables = [pq.read_table(path) for path in sorted(out.glob("data_*.parquet"))]
    return pa.concat_tables(tables).sort_by("sequence_id")


def run_select(folder, out, config, seed):
    looks_at = {}
    if config.within == "group":
        looks_at["groups"] = folder / "groups"
    if config.one_per_cluster:
        looks_at["clusters"] = folder / "clusters"
    return select_sequences(
        folder / "shards", folder / "teacher", folder / "reference", config, seed, out,
        tables=RowTables(**looks_at),
    )  # fmt: skip


def simple_values(rows, config):
    """What rows are ranked by, spelt out."""
    by_policy = {
        "teacher_only": lambda row: row.teacher,
        "reference_only": lambda row: -row.reference,
        "perplexity_band": lambda row: -row.reference,
    }
    if config.policy == "random":
        chance = uniform_by_id(np.array([row.id for row in rows]), SEED)
        return dict(zip([row.id for row in rows], chance.tolist(), strict=True))
    if config.policy == "sample":
        ids = np.array([row.id for row in rows])
        scores = np.array([row.difference for row in rows])
        noisy = gumbel_values(scores, config.temperature, uniform_by_id(ids, SEED))
        return dict(zip(ids.tolist(), noisy.tolist(), strict=True))
    value = by_policy.get(config.policy, lambda row: row.difference)
    return {row.id: value(row) for row in rows}


def ranked(rows, values):
    return sorted(rows, key=lambda row: (-values[row.id], row.id))


def up_to(rows, limit, size):
    """The first rows that together are no larger than the limit."""
    found = []
    for row in rows:
        if sum(size(each) for each in found) + size(row) > limit:
            break
        found.append(row)
    return found


def as_far_as(rows, least, size):
    """The first rows that together reach a size."""
    found = []
    for row in rows:
        if sum(size(each) for each in found) >= least:
            break
        found.append(row)
    return found


def best_of_clusters(rows, values):
    """Of rows of one cluster the one that is ranked first."""
    best = {}
    for row in ranked(rows, values):
        best.setdefault(row.id if row.cluster is None else row.cluster, row)
    return list(best.values())


def simple_selection(rows, config):
    """Ids that a policy keeps, spelt out."""
    rows = [row for row in rows if row.num_tokens]
    if not rows:
        return set()
    values = simple_values(rows, config)
    if config.policy == "threshold":
        low = -np.inf if config.min_score is None else config.min_score
        high = np.inf if config.max_score is None else config.max_score
        rows = [row for row in rows if low <= values[row.id] <= high]
    if config.one_per_cluster:
        rows = best_of_clusters(rows, values)
    if config.policy == "threshold":
        return {row.id for row in rows}
    in_strata = config.within != "corpus" or config.policy == "quota"
    by_tokens = config.tokens is not None

    def size(row):
        return row.num_tokens if by_tokens else 1

    def total(part):
        return sum(size(row) for row in part)

    def whole(part):
        if by_tokens:
            return int(Fraction(config.tokens * total(part), total(rows)))
        return num_kept(len(part), config.ratio)

    by_group = config.within == "group"
    of = {row.id: group_name(row.group) if by_group else row.domain for row in rows}
    labels = set(of.values())
    if config.shares:
        kept, budget = [], whole(rows)
        for label in config.shares:
            part = [row for row in rows if of[row.id] == label]
            limit = min(total(part), int(config.shares[label] * budget + 1e-9))
            kept += up_to(ranked(part, values), limit, size)
        part = [row for row in rows if of[row.id] not in config.shares]
        limit = int((1 - sum(config.shares.values())) * budget + 1e-9)
        return {row.id for row in kept + up_to(ranked(part, values), limit, size)}
    if config.floor:
        kept = []
        for label in labels:
            part = [row for row in rows if of[row.id] == label]
            kept += as_far_as(ranked(part, values), config.floor * total(part) - 1e-9, size)
        others = [row for row in rows if row not in kept]
        return {
            row.id for row in kept + up_to(ranked(others, values), whole(rows) - total(kept), size)
        }
    strata = [[row for row in rows if of[row.id] == each] for each in labels]
    kept = []
    for part in strata if in_strata else [rows]:
        order = ranked(part, values)
        skip = {"band": config.skip_top, "perplexity_band": (1 - config.ratio) / 2}
        order = order[int(skip.get(config.policy, 0) * len(order) + 1e-9) :]
        kept += up_to(order, whole(part), size)
    return {row.id for row in kept}
