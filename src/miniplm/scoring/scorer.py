"""The score stage: every sequence of some token shards under a model, once.

Axes: B sequences, V vocabulary.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from miniplm.data.shards import Shard, open_shards
from miniplm.manifest import Outcome
from miniplm.runtime.progress import Advance, progress
from miniplm.scoring.batches import length_buckets, scoring_batches
from miniplm.scoring.config import ScoringConfig
from miniplm.scoring.forward import sequence_log_probs
from miniplm.scoring.own_scores import score_in_own_tokens
from miniplm.scoring.preparation import check_and_count, compile_models, prepare_model
from miniplm.scoring.row_scores import score_rows
from miniplm.scoring.rows import Rows
from miniplm.scoring.scoring_model import ScoringModel
from miniplm.scoring.tables import ScoreInfo, is_scored, write_scores
from miniplm.scoring.tuning import Tuning, halving_batches, tune


def score_shards(
    scorer: ScoringModel,
    shards_folder: Path,
    token_num_bytes_V: NDArray[np.int64],
    config: ScoringConfig,
    folder: Path,
    *,
    states: bool = False,
    segments: bool = False,
) -> Outcome:
    """Write `folder/data_N.parquet` for every token shard; tables already there are kept.

    Args:
        scorer: The model, on the device it is to run on. With a tokenizer of its own it scores
            the text of the rows in its own tokens.
        shards_folder: Folder of token shards.
        token_num_bytes_V: Bytes of text that each id stands for, `[V]`.
        config: Limits; the dtype is the scorer's.
        folder: Where the tables go.
        states: With each row's hidden states, averaged.
        segments: With the sums of each piece of a document in a row.

    Raises:
        ModelError: The model's vocabulary or length is smaller than that of the shards, its
            logits are not those of its output layer, or its scores are not finite.
        ArtefactError: A shard is damaged.
    """
    if scorer.own is not None:
        return score_in_own_tokens(
            scorer, shards_folder, config, folder, states=states, segments=segments
        )
    scorers = {folder: scorer}
    done = score_with_models(
        scorers, shards_folder, token_num_bytes_V, config, states=states, segments=segments
    )
    return done[folder]


def score_with_models(
    scorers: Mapping[Path, ScoringModel],
    shards_folder: Path,
    token_num_bytes_V: NDArray[np.int64],
    config: ScoringConfig,
    *,
    states: bool = False,
    segments: bool = False,
) -> dict[Path, Outcome]:
    """Like `score_shards`, of several models in one pass over the shards.

    All of them have to fit in memory together. Batches are those of the model that takes the
    smallest.

    Args:
        scorers: Each model under the folder its tables go to.
        shards_folder: Folder of token shards.
        token_num_bytes_V: Bytes of text that each id stands for, `[V]`.
        config: Limits; dtypes are the scorers'.
        states: With each row's hidden states, averaged.
        segments: With the sums of each piece of a document in a row.

    Returns:
        What was done, by folder.

    Raises:
        ModelError: As `score_shards`, of any of the models.
        ArtefactError: A shard is damaged.
    """
    shards = open_shards(shards_folder)
    total = sum(shard.num_ids - len(shard) for shard in shards)
    flops = {
        folder: total * check_and_count(scorer.model, scorer.name, shards)
        for folder, scorer in scorers.items()
    }
    wanted = partial(_missing, scorers, config, states, segments)
    missing = [(shard, tables) for shard in shards if (tables := wanted(shard))]
    num_left = sum(shard.num_ids - len(shard) for shard, _ in missing)
    left = {folder: value * num_left / max(1, total) for folder, value in flops.items()}
    tuning = _tune_all(scorers, left, config)
    compile_seconds = 0.0
    if tuning.compiled:
        tuning, compile_seconds = _compile(scorers, missing[0][0], token_num_bytes_V, tuning)
    title = ", ".join(scorer.name for scorer in scorers.values())
    with progress(f"score {title}", total, "tokens") as advance:
        advance(total - num_left)
        for shard, tables in missing:
            tuning = _score_missing(tables, shard, token_num_bytes_V, tuning, advance)
    facts = {
        "batch_tokens": tuning.batch_tokens,
        "compiled": tuning.compiled,
        "compile_seconds": round(compile_seconds, 1),
    }
    num_rows = sum(len(shard) for shard in shards)
    return {
        folder: Outcome(
            counts={"sequences": num_rows}, num_tokens=total, flops=flops[folder], facts=facts
        )
        for folder in scorers
    }


def _tune_all(
    scorers: Mapping[Path, ScoringModel], flops: Mapping[Path, float], config: ScoringConfig
) -> Tuning:
    for scorer in scorers.values():
        prepare_model(scorer.model)
    tunings = [tune(s.model, flops[folder], config.memory_gb) for folder, s in scorers.items()]
    return Tuning(
        batch_tokens=min(tuning.batch_tokens for tuning in tunings),
        compiled=any(tuning.compiled for tuning in tunings),
    )


def _compile(
    scorers: Mapping[Path, ScoringModel],
    shard: Shard,
    token_num_bytes_V: NDArray[np.int64],
    tuning: Tuning,
) -> tuple[Tuning, float]:
    """Compile the models; returns how they score from here on, and the seconds it took."""
    models = [scorer.model for scorer in scorers.values()]
    bucket = next(length_buckets(shard.lengths, tuning.batch_tokens, shard.info.max_length))
    batch = next(scoring_batches(Rows.of(shard), [bucket], token_num_bytes_V))

    def first() -> None:
        for model in models:
            sequence_log_probs(model, batch.input_ids_BT, batch.targets_BT, compiled=True)

    return compile_models(models, tuning, first)


def _missing(
    scorers: Mapping[Path, ScoringModel],
    config: ScoringConfig,
    states: bool,
    segments: bool,
    shard: Shard,
) -> dict[Path, tuple[ScoringModel, ScoreInfo]]:
    """The tables of a shard that are not there yet, with who is to make them."""
    tables = {
        folder / f"{shard.prefix.name}.parquet": (
            scorer,
            ScoreInfo(
                scorer.name,
                scorer.fingerprint,
                scorer.dtype,
                shard.info.shard_hash,
                config.per_token,
                states,
                segments=segments,
            ),
        )
        for folder, scorer in scorers.items()
    }
    return {path: pair for path, pair in tables.items() if not is_scored(path, pair[1])}


def _score_missing(
    missing: Mapping[Path, tuple[ScoringModel, ScoreInfo]],
    shard: Shard,
    token_num_bytes_V: NDArray[np.int64],
    tuning: Tuning,
    advance: Advance,
) -> Tuning:
    """Score a shard with the models that have no table of it yet; returns what it took to."""
    models = [scorer.model for scorer, _ in missing.values()]
    info = next(iter(missing.values()))[1]  # what a table holds is the same for all

    def work(tuned: Tuning) -> list[pa.Table]:
        return score_rows(
            models,
            shard,
            token_num_bytes_V,
            tuned,
            advance,
            per_token=info.per_token,
            states=info.states,
            segments=info.segments,
        )

    tables, tuning = halving_batches(work, shard, tuning)
    for (path, (_, info)), table in zip(missing.items(), tables, strict=True):
        write_scores(path, table, info)
    return tuning
