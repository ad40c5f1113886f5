"""The score stage: every sequence of some token shards under one model, once.

Axes: B sequences, T positions, N = B * T positions, D hidden width.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from miniplm.data.loader import IGNORED, make_batch, padded_width
from miniplm.data.shards import Shard, open_shards
from miniplm.errors import ModelError
from miniplm.manifest import Outcome
from miniplm.model import Dtype, hidden_states, output_layer
from miniplm.model_checks import check_causal_head, check_length, check_vocabulary
from miniplm.model_size import size_of
from miniplm.runtime.progress import Advance, progress
from miniplm.scoring.config import ScoringConfig
from miniplm.scoring.log_probs import target_log_probs
from miniplm.scoring.tables import SCORE_SCHEMA, ScoreInfo, is_scored, write_scores

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
        config: Batch size; the dtype is the scorer's.
        folder: Where the tables go.

    Raises:
        ModelError: The model's vocabulary or length is smaller than that of the shards, its
            logits are not those of its output layer, or its scores are not finite.
        ArtefactError: A shard is damaged.
    """
    shards = open_shards(shards_folder)
    check_vocabulary(scorer.model, shards[0].info.vocab_size, scorer.name)
    check_length(scorer.model, shards[0].info.max_length, scorer.name)
    check_causal_head(scorer.model)
    total = sum(shard.num_ids - len(shard) for shard in shards)
    with progress(f"score {scorer.name}", total, "tokens") as advance:
        for shard in shards:
            path = folder / f"{shard.prefix.name}.parquet"
            info = ScoreInfo(scorer.name, scorer.fingerprint, scorer.dtype, shard.info.shard_hash)
            if is_scored(path, info):
                advance(shard.num_ids - len(shard))
                continue
            table = score_rows(scorer.model, shard, token_num_bytes_V, config, advance)
            write_scores(path, table, info)
    length = int(np.mean([shard.lengths.mean() for shard in shards]))
    flops = size_of(scorer.model, length).forward_flops_per_token * total
    return Outcome(
        counts={"sequences": sum(len(shard) for shard in shards)}, num_tokens=total, flops=flops
    )


def score_rows(
    model: "PreTrainedModel",
    shard: Shard,
    token_num_bytes_V: NDArray[np.int64],
    config: ScoringConfig,
    advance: Advance,
) -> pa.Table:
    """The score table of one shard, rows in the shard's order."""
    log_probs = np.zeros(len(shard))
    num_tokens = np.zeros(len(shard), dtype=np.int32)
    num_bytes = np.zeros(len(shard), dtype=np.int64)
    for indices in length_buckets(shard.lengths, config.batch_tokens):
        rows = [shard.row(int(index)) for index in indices]
        width = padded_width(int(shard.lengths[indices].max()) - 1, shard.info.max_length)
        batch = make_batch(rows, shard.info.eos_id, width)
        counted_BT = (batch.targets_BT != IGNORED).numpy()
        targets_BT = np.where(counted_BT, batch.targets_BT.numpy(), 0)
        log_probs[indices] = sequence_log_probs(model, batch.input_ids_BT, batch.targets_BT)
        num_tokens[indices] = counted_BT.sum(axis=1)
        num_bytes[indices] = (token_num_bytes_V[targets_BT] * counted_BT).sum(axis=1)
        advance(int(sum(len(row) - 1 for row in rows)))
    if not np.isfinite(log_probs).all():
        bad = shard.sequence_ids[~np.isfinite(log_probs)]
        raise ModelError(
            f"{shard.prefix}: {len(bad)} sequences have no finite log-probability (ids "
            f"{bad[:5].tolist()}). The model's weights are damaged, or its numbers leave the range "
            "of scoring.dtype; try scoring.dtype=float32."
        )
    columns = [shard.sequence_ids, log_probs, num_tokens, num_bytes]
    return pa.Table.from_arrays([pa.array(column) for column in columns], schema=SCORE_SCHEMA)


def length_buckets(lengths: NDArray[np.int32], batch_tokens: int) -> Iterator[NDArray[np.int64]]:
    """Group rows of near lengths so that a padded batch holds at most `batch_tokens` positions.

    Longest first, so that memory runs out at once or not at all. A row longer than the limit
    makes a batch of its own.
    """
    order = np.argsort(-lengths, kind="stable")
    begin = 0
    while begin < len(order):
        positions = max(1, int(lengths[order[begin]]) - 1)
        size = max(1, batch_tokens // positions)
        yield order[begin : begin + size]
        begin += size


@torch.inference_mode()
def sequence_log_probs(
    model: "PreTrainedModel", input_ids_BT: torch.Tensor, targets_BT: torch.Tensor
) -> NDArray[np.float64]:
    """Sum over each sequence's targets of their log-probabilities, `[B]`, nats.

    Args:
        model: A causal model.
        input_ids_BT: Ids, padded on the right.
        targets_BT: The id to predict at each position, or `IGNORED`.
    """
    input_ids_BT = input_ids_BT.to(model.device)
    targets_BT = targets_BT.to(model.device)
    weight_VD, bias_V = output_layer(model)
    hidden_BTD = hidden_states(model, input_ids_BT).to(weight_VD.dtype)
    log_probs_N = target_log_probs(
        hidden_BTD.flatten(0, 1), weight_VD, targets_BT.clamp(min=0).flatten(), bias_V
    )
    log_probs_BT = log_probs_N.view(targets_BT.shape).masked_fill(targets_BT == IGNORED, 0.0)
    sums: NDArray[np.float64] = log_probs_BT.sum(dim=1, dtype=torch.float64).cpu().numpy()
    return sums
