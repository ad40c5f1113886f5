"""The score stage: every sequence of some token shards under a model, once.

Axes: B sequences, V vocabulary.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from miniplm.data.shards import Shard, open_shards
from miniplm.errors import ModelError
from miniplm.manifest import Outcome
from miniplm.model import Dtype
from miniplm.model_checks import check_causal_head, check_length, check_vocabulary
from miniplm.model_size import size_of
from miniplm.runtime.ahead import ahead
from miniplm.runtime.allocator import keep_memory
from miniplm.runtime.progress import Advance, progress
from miniplm.scoring.attention import use_blocked_attention
from miniplm.scoring.batches import length_buckets, scoring_batches
from miniplm.scoring.config import ScoringConfig
from miniplm.scoring.forward import sequence_log_probs
from miniplm.scoring.tables import SCORE_SCHEMA, ScoreInfo, is_scored, write_scores
from miniplm.scoring.tuning import Tuning, tune

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class ScoringModel:
    """A model with what goes into the tables it makes."""

    model: "PreTrainedModel"
    name: str
    fingerprint: str
    dtype: Dtype


def score_shards(
    scorer: ScoringModel,
    shards_folder: Path,
    token_num_bytes_V: NDArray[np.int64],
    config: ScoringConfig,
    folder: Path,
) -> Outcome:
    """Write `folder/data_N.parquet` for every token shard; tables already there are kept.

    Args:
        scorer: The model, on the device it is to run on.
        shards_folder: Folder of token shards.
        token_num_bytes_V: Bytes of text that each id stands for, `[V]`.
        config: Limits; the dtype is the scorer's.
        folder: Where the tables go.

    Raises:
        ModelError: The model's vocabulary or length is smaller than that of the shards, its
            logits are not those of its output layer, or its scores are not finite.
        ArtefactError: A shard is damaged.
    """
    return score_with_models({folder: scorer}, shards_folder, token_num_bytes_V, config)[folder]


def score_with_models(
    scorers: Mapping[Path, ScoringModel],
    shards_folder: Path,
    token_num_bytes_V: NDArray[np.int64],
    config: ScoringConfig,
) -> dict[Path, Outcome]:
    """Like `score_shards`, of several models in one pass over the shards.

    All of them have to fit in memory together. Batches are those of the model that takes the
    smallest. Each model's folder is the key.
    """
    shards = open_shards(shards_folder)
    total = sum(shard.num_ids - len(shard) for shard in shards)
    flops = {}
    for folder, scorer in scorers.items():
        flops[folder] = total * _check_and_count(scorer, shards)
    tuning = _tune_all(scorers, flops, config)
    compile_seconds = _prepare(scorers, shards, token_num_bytes_V, tuning)
    title = ", ".join(scorer.name for scorer in scorers.values())
    with progress(f"score {title}", total, "tokens") as advance:
        for shard in shards:
            _score_missing(scorers, shard, token_num_bytes_V, tuning, advance)
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


def _check_and_count(scorer: ScoringModel, shards: Sequence[Shard]) -> float:
    """Refuse a model that does not fit the shards; returns its FLOPs for a token."""
    check_vocabulary(scorer.model, shards[0].info.vocab_size, scorer.name)
    check_length(scorer.model, shards[0].info.max_length, scorer.name)
    check_causal_head(scorer.model)
    length = int(np.mean([shard.lengths.mean() for shard in shards]))
    return size_of(scorer.model, length).forward_flops_per_token


def _tune_all(
    scorers: Mapping[Path, ScoringModel], flops: Mapping[Path, float], config: ScoringConfig
) -> Tuning:
    tunings = [tune(s.model, flops[folder], config.memory_gb) for folder, s in scorers.items()]
    return Tuning(
        batch_tokens=min(tuning.batch_tokens for tuning in tunings),
        compiled=any(tuning.compiled for tuning in tunings),
    )


def _prepare(
    scorers: Mapping[Path, ScoringModel],
    shards: Sequence[Shard],
    token_num_bytes_V: NDArray[np.int64],
    tuning: Tuning,
) -> float:
    """Set the models up; returns the seconds that compiling took."""
    for scorer in scorers.values():
        prepare_model(scorer.model)
    if not tuning.compiled:
        return 0.0
    for scorer in scorers.values():
        compile_layers(scorer.model)
    started = time.monotonic()
    bucket = next(length_buckets(shards[0].lengths, tuning.batch_tokens))
    batch = next(scoring_batches(shards[0], [bucket], token_num_bytes_V))
    for scorer in scorers.values():
        sequence_log_probs(scorer.model, batch.input_ids_BT, batch.targets_BT, compiled=True)
    return time.monotonic() - started


def prepare_model(model: "PreTrainedModel") -> None:
    """Make a model, and on a CPU the allocator, ready to score at full speed."""
    if model.device.type == "cpu":
        keep_memory()
    use_blocked_attention(model)


def compile_layers(model: "PreTrainedModel") -> None:
    """Compile the layers of a model in place; layers of one kind are compiled once."""
    for blocks in model.modules():
        if isinstance(blocks, torch.nn.ModuleList):
            for block in blocks:
                block.compile(dynamic=True)


def _score_missing(
    scorers: Mapping[Path, ScoringModel],
    shard: Shard,
    token_num_bytes_V: NDArray[np.int64],
    tuning: Tuning,
    advance: Advance,
) -> None:
    """Score a shard with the models that have no table of it yet, and write their tables."""
    infos = {
        folder / f"{shard.prefix.name}.parquet": (
            scorer,
            ScoreInfo(scorer.name, scorer.fingerprint, scorer.dtype, shard.info.shard_hash),
        )
        for folder, scorer in scorers.items()
    }
    missing = {path: pair for path, pair in infos.items() if not is_scored(path, pair[1])}
    if not missing:
        advance(shard.num_ids - len(shard))
        return
    models = [scorer.model for scorer, _ in missing.values()]
    tables = score_rows(models, shard, token_num_bytes_V, tuning, advance)
    for (path, (_, info)), table in zip(missing.items(), tables, strict=True):
        write_scores(path, table, info)


def score_rows(
    models: Sequence["PreTrainedModel"],
    shard: Shard,
    token_num_bytes_V: NDArray[np.int64],
    tuning: Tuning,
    advance: Advance,
) -> list[pa.Table]:
    """The score table of one shard for each model, rows in the shard's order."""
    num_tokens = np.zeros(len(shard), dtype=np.int32)
    num_bytes = np.zeros(len(shard), dtype=np.int64)
    sums: list[list[torch.Tensor]] = [[] for _ in models]
    order = []
    buckets = length_buckets(shard.lengths, tuning.batch_tokens)
    with ahead(scoring_batches(shard, buckets, token_num_bytes_V), depth=2) as batches:
        for batch in batches:
            order.append(batch.places)
            num_tokens[batch.places] = batch.num_tokens_B
            num_bytes[batch.places] = batch.num_bytes_B
            for model, done in zip(models, sums, strict=True):
                done.append(
                    sequence_log_probs(
                        model, batch.input_ids_BT, batch.targets_BT, compiled=tuning.compiled
                    )
                )
            advance(batch.num_positions)
    places = np.concatenate(order)
    return [_table(shard, places, done, num_tokens, num_bytes) for done in sums]


def _table(
    shard: Shard,
    places: NDArray[np.int64],
    sums: Sequence[torch.Tensor],
    num_tokens: NDArray[np.int32],
    num_bytes: NDArray[np.int64],
) -> pa.Table:
    log_probs = np.empty(len(shard))
    log_probs[places] = torch.cat(list(sums)).cpu().numpy()
    finite = np.isfinite(log_probs)
    if not finite.all():
        bad = shard.sequence_ids[~finite]
        raise ModelError(
            f"{shard.prefix}: {len(bad)} sequences have no finite log-probability (ids "
            f"{bad[:5].tolist()}). The model's weights are damaged, or its numbers leave the range "
            "of scoring.dtype; try scoring.dtype=float32."
        )
    columns = [shard.sequence_ids, log_probs, num_tokens, num_bytes]
    return pa.Table.from_arrays([pa.array(column) for column in columns], schema=SCORE_SCHEMA)
