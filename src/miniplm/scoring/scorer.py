"""The score stage: every sequence of some token shards under a model, once.

Axes: B sequences, V vocabulary.
"""

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
from miniplm.runtime.ahead import ahead
from miniplm.runtime.progress import Advance, progress
from miniplm.scoring.batches import length_buckets, scoring_batches
from miniplm.scoring.config import ScoringConfig
from miniplm.scoring.forward import sequence_log_probs, token_log_probs
from miniplm.scoring.preparation import check_and_count, compile_models, prepare_model
from miniplm.scoring.tables import SCORE_SCHEMA, TOKENS_FIELD, ScoreInfo, is_scored, write_scores
from miniplm.scoring.tuning import Tuning, halving_batches, tune

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
    smallest.

    Args:
        scorers: Each model under the folder its tables go to.
        shards_folder: Folder of token shards.
        token_num_bytes_V: Bytes of text that each id stands for, `[V]`.
        config: Limits; dtypes are the scorers'.

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
    missing = [(shard, tables) for shard in shards if (tables := _missing(scorers, shard, config))]
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
    batch = next(scoring_batches(shard, [bucket], token_num_bytes_V))

    def first() -> None:
        for model in models:
            sequence_log_probs(model, batch.input_ids_BT, batch.targets_BT, compiled=True)

    return compile_models(models, tuning, first)


def _missing(
    scorers: Mapping[Path, ScoringModel], shard: Shard, config: ScoringConfig
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
    per_token = any(info.per_token for _, info in missing.values())
    tables, tuning = halving_batches(
        lambda tuned: score_rows(
            models, shard, token_num_bytes_V, tuned, advance, per_token=per_token
        ),
        shard,
        tuning,
    )
    for (path, (_, info)), table in zip(missing.items(), tables, strict=True):
        write_scores(path, table, info)
    return tuning


@torch.inference_mode()
def score_rows(
    models: Sequence["PreTrainedModel"],
    shard: Shard,
    token_num_bytes_V: NDArray[np.int64],
    tuning: Tuning,
    advance: Advance,
    *,
    per_token: bool = False,
) -> list[pa.Table]:
    """The score table of one shard for each model, rows in the shard's order.

    Args:
        models: On the devices they are to run on.
        shard: The rows.
        token_num_bytes_V: Bytes of text that each id stands for, `[V]`.
        tuning: Size of batches, and whether the models were compiled.
        advance: Is told of positions as they are done.
        per_token: With the column `token_log_probs`.

    Raises:
        ModelError: A score is not finite.
        torch.OutOfMemoryError: A batch does not fit on the device.
    """
    num_tokens = np.zeros(len(shard), dtype=np.int32)
    num_bytes = np.zeros(len(shard), dtype=np.int64)
    sums: list[list[torch.Tensor]] = [[] for _ in models]
    tokens: list[dict[int, NDArray[np.float16]]] = [{} for _ in models]
    order = []
    buckets = length_buckets(shard.lengths, tuning.batch_tokens, shard.info.max_length)
    with ahead(scoring_batches(shard, buckets, token_num_bytes_V), depth=2) as batches:
        for batch in batches:
            order.append(batch.places)
            num_tokens[batch.places] = batch.num_tokens_B
            num_bytes[batch.places] = batch.num_bytes_B
            for model, done, kept in zip(models, sums, tokens, strict=True):
                log_probs_BT = token_log_probs(
                    model, batch.input_ids_BT, batch.targets_BT, compiled=tuning.compiled
                )
                done.append(log_probs_BT.sum(dim=1, dtype=torch.float64))
                if per_token:
                    kept.update(_by_row(log_probs_BT, batch.places, shard.lengths))
            advance(batch.num_positions)
    places = np.concatenate([*order, np.empty(0, np.int64)])
    tables = [_table(shard, places, done, num_tokens, num_bytes) for done in sums]
    if not per_token:
        return tables
    return [
        table.append_column(TOKENS_FIELD, _token_column(kept))
        for table, kept in zip(tables, tokens, strict=True)
    ]


def _by_row(
    log_probs_BT: torch.Tensor, places_B: NDArray[np.int64], lengths: NDArray[np.int32]
) -> dict[int, NDArray[np.float16]]:
    """The log-probabilities of each row's predicted tokens, by its place in the shard."""
    rows = log_probs_BT.half().cpu().numpy()
    return {
        place: row[: lengths[place] - 1].copy()
        for place, row in zip(places_B.tolist(), rows, strict=True)
    }


def _token_column(rows: Mapping[int, NDArray[np.float16]]) -> pa.LargeListArray:
    """Lists of numbers in the order of places."""
    ordered = [rows[place] for place in range(len(rows))]
    ends = np.cumsum([0, *map(len, ordered)])
    values = np.concatenate([np.empty(0, np.float16), *ordered])
    return pa.LargeListArray.from_arrays(pa.array(ends), pa.array(values))


def _table(
    shard: Shard,
    places: NDArray[np.int64],
    sums: Sequence[torch.Tensor],
    num_tokens: NDArray[np.int32],
    num_bytes: NDArray[np.int64],
) -> pa.Table:
    log_probs = np.empty(len(shard))
    log_probs[places] = torch.cat(
        [torch.empty(0, dtype=torch.float64), *(part.cpu() for part in sums)]
    ).numpy()
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
