"""Scoring by a model that reads the text in tokens of its own (see `reencoding`)."""

from pathlib import Path

import numpy as np

from miniplm.data.parquet import ColumnFile
from miniplm.data.shards import open_shards
from miniplm.manifest import Outcome
from miniplm.runtime.progress import progress
from miniplm.scoring.config import ScoringConfig
from miniplm.scoring.scoring_model import ScoringModel
from miniplm.scoring.shard_scorer import ShardScorer
from miniplm.scoring.tables import is_scored, write_scores


def score_in_own_tokens(
    scorer: ScoringModel,
    shards_folder: Path,
    config: ScoringConfig,
    folder: Path,
    *,
    states: bool = False,
    segments: bool = False,
) -> Outcome:
    """Write `folder/data_N.parquet` for every token shard; tables already there are kept.

    Args:
        scorer: The model, with a tokenizer of its own.
        shards_folder: Folder of token shards.
        config: Limits; there are no scores of single tokens, which would be those of no shard.
        folder: Where the tables go.
        states: With each row's hidden states, averaged.
        segments: With the sums of each piece of a document in a row.

    Raises:
        ModelError: The model's vocabulary is smaller than that of its tokenizer, its logits are
            not those of its output layer, or its scores are not finite.
        ArtefactError: A shard is damaged.
    """
    shards = open_shards(shards_folder)
    work = ShardScorer(scorer, shards, np.empty(0, np.int64), config)
    counts: dict[str, int] = {"sequences": sum(len(shard) for shard in shards)}
    num_tokens = 0
    with progress(f"score {scorer.name}", counts["sequences"], "sequences") as advance:
        for shard in shards:
            path = folder / f"{shard.prefix.name}.parquet"
            info = work.info(shard, states=states, segments=segments)
            if not is_scored(path, info):
                places = np.arange(len(shard))
                table, counted = work.score(shard, places, states=states, segments=segments)
                write_scores(path, table, info, counted)
            file = ColumnFile(path)
            num_tokens += int(file.array("num_tokens").sum())
            counts = {
                name: counts.get(name, 0) + file.origin.get(name, 0)
                for name in {**counts, **file.origin}
            }
            advance(len(shard))
    flops = counts.pop("positions") * work.flops_per_token
    return Outcome(counts=counts, num_tokens=num_tokens, flops=flops)
