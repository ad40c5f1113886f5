"""The capture stage: a few entries of the teacher's distribution at every predicted position.

The distribution is over the ids of the tokenizer: rows that pad the teacher's output layer take
no part, so that a student padded otherwise can be trained on it. Logits are rounded to the dtype
that the teacher runs in, as a whole output layer's are.

Axes: B sequences, T positions, N positions that have a target, C positions of a chunk, D hidden
width, V vocabulary, E entries of all positions.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from miniplm.data.chance import uniform_by_position
from miniplm.data.loader import IGNORED
from miniplm.data.shards import Shard, open_shards
from miniplm.errors import ModelError
from miniplm.manifest import Outcome
from miniplm.model import hidden_states, output_layer
from miniplm.runtime.ahead import ahead
from miniplm.runtime.progress import Advance, progress
from miniplm.scoring.batches import RowBatch, length_buckets, row_batches
from miniplm.scoring.capture_config import CaptureConfig
from miniplm.scoring.captures import (
    Capture,
    CapturedRow,
    CaptureInfo,
    is_captured,
    writing_capture,
)
from miniplm.scoring.config import ScoringConfig
from miniplm.scoring.log_probs import chunk_length
from miniplm.scoring.preparation import check_and_count, compile_models, prepare_model
from miniplm.scoring.sampling import BLOCK, Entries, sampled_entries, top_entries
from miniplm.scoring.scorer import ScoringModel
from miniplm.scoring.tuning import Tuning, halving_batches, tune

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_BLOCK_ENTRIES = 1 << 24
"""Most entries of the rows that are in memory at a time, and in one record batch of the file."""


def capture_shards(
    scorer: ScoringModel,
    shards_folder: Path,
    config: CaptureConfig,
    scoring: ScoringConfig,
    folder: Path,
    seed: int,
) -> Outcome:
    """Write `folder/data_N.arrow` for every token shard; captures already there are kept.

    Args:
        scorer: The teacher, on the device it is to run on.
        shards_folder: Folder of token shards.
        config: What to keep of a distribution.
        scoring: Limits; the dtype is the teacher's.
        folder: Where the captures go.
        seed: Of the draws.

    Raises:
        ModelError: The teacher's vocabulary or length is smaller than that of the shards, its
            logits are not those of its output layer, or they are not finite.
        ArtefactError: A shard is damaged.
    """
    shards = open_shards(shards_folder)
    total = sum(shard.num_ids - len(shard) for shard in shards)
    flops_per_token = check_and_count(scorer.model, scorer.name, shards)
    paths = {shard: folder / f"{shard.prefix.name}.arrow" for shard in shards}
    missing = [s for s in shards if not is_captured(paths[s], _info(scorer, s, config, seed))]
    num_left = sum(shard.num_ids - len(shard) for shard in missing)
    prepare_model(scorer.model)
    tuning = tune(scorer.model, num_left * flops_per_token, scoring.memory_gb)
    compile_seconds = 0.0
    if tuning.compiled:
        tuning, compile_seconds = _compile(scorer.model, missing[0], tuning)
    with progress(f"capture {scorer.name}", total, "tokens") as advance:
        advance(total - num_left)
        for shard in missing:
            info = _info(scorer, shard, config, seed)
            work = partial(_capture_shard, scorer.model, shard, info, paths[shard], advance)
            _, tuning = halving_batches(work, shard, tuning)
    return Outcome(
        counts={"sequences": sum(len(shard) for shard in shards)},
        num_tokens=total,
        flops=total * flops_per_token,
        facts={
            **_sizes(paths, total),
            "batch_tokens": tuning.batch_tokens,
            "compiled": tuning.compiled,
            "compile_seconds": round(compile_seconds, 1),
        },
    )


def _info(scorer: ScoringModel, shard: Shard, config: CaptureConfig, seed: int) -> CaptureInfo:
    return CaptureInfo(
        shard_hash=shard.info.shard_hash,
        model=scorer.name,
        model_fingerprint=scorer.fingerprint,
        dtype=scorer.dtype,
        vocab_size=shard.info.vocab_size,
        method=config.method,
        entries=config.entries,
        temperature=config.temperature,
        seed=seed,
    )


def _sizes(paths: dict[Shard, Path], num_tokens: int) -> dict[str, float]:
    num_bytes = sum(path.stat().st_size for path in paths.values())
    num_entries = sum(Capture(path, shard).num_entries for shard, path in paths.items())
    return {
        "bytes_per_token": round(num_bytes / max(1, num_tokens), 2),
        "entries_per_token": round(num_entries / max(1, num_tokens), 2),
    }


def _compile(model: "PreTrainedModel", shard: Shard, tuning: Tuning) -> tuple[Tuning, float]:
    bucket = next(length_buckets(shard.lengths, tuning.batch_tokens, shard.info.max_length))
    batch = next(row_batches(shard, [bucket]))

    def first() -> None:
        with torch.inference_mode():
            hidden_states(model, batch.input_ids_BT.to(model.device))

    return compile_models([model], tuning, first)


def _capture_shard(
    model: "PreTrainedModel",
    shard: Shard,
    info: CaptureInfo,
    path: Path,
    advance: Advance,
    tuning: Tuning,
) -> None:
    """Write the capture of one shard: by blocks of its rows, batched by length inside a block."""
    with writing_capture(path, info) as writer:
        for begin, end in _row_blocks(shard.lengths, _BLOCK_ENTRIES // info.entries):
            rows: dict[int, CapturedRow] = {}
            buckets = length_buckets(
                shard.lengths[begin:end], tuning.batch_tokens, shard.info.max_length
            )
            batches = row_batches(shard, (begin + places for places in buckets))
            with ahead(batches, depth=2) as waiting:
                for batch in waiting:
                    places = batch.places
                    captured = capture_batch(
                        model, batch, shard.sequence_ids[places], shard.lengths[places], info
                    )
                    rows.update(zip(places.tolist(), captured, strict=True))
                    advance(batch.num_positions)
            writer.write(shard.sequence_ids[begin:end], [rows[n] for n in range(begin, end)])


def _row_blocks(lengths: NDArray[np.int32], most_positions: int) -> Iterator[tuple[int, int]]:
    """First row, and one more than the last, of neighbours with so many positions at most."""
    ends = np.cumsum(lengths - 1, dtype=np.int64)
    begin = 0
    while begin < len(lengths):
        before = ends[begin - 1] if begin else 0
        within = int(np.searchsorted(ends, before + most_positions, side="right"))
        end = max(begin + 1, within)
        yield begin, end
        begin = end


@torch.inference_mode()
def capture_batch(
    model: "PreTrainedModel",
    batch: RowBatch,
    sequence_ids_B: NDArray[np.int64],
    lengths_B: NDArray[np.int32],
    info: CaptureInfo,
) -> list[CapturedRow]:
    """The entries of some rows, in their order.

    Args:
        model: The teacher, on the device it is to run on.
        batch: The rows.
        sequence_ids_B: Their ids.
        lengths_B: Their numbers of ids.
        info: What to keep, and the seed.

    Raises:
        ModelError: A logit is not finite.
    """
    counted_BT = batch.targets_BT != IGNORED
    hidden_BTD = hidden_states(model, batch.input_ids_BT.to(model.device, non_blocking=True))
    weight_VD, bias_V = output_layer(model)
    weight_VD = weight_VD[: info.vocab_size]
    bias_V = None if bias_V is None else bias_V[: info.vocab_size]
    hidden_ND = hidden_BTD.to(weight_VD)[counted_BT.to(weight_VD.device)]
    uniform_BT = uniform_by_position(sequence_ids_B, counted_BT.shape[1], info.seed)
    uniform_N = torch.from_numpy(uniform_BT)[counted_BT].to(weight_VD.device)
    # the blocks that draws fall into take memory beside the logits
    length = chunk_length(max(info.vocab_size, 2 * info.entries * BLOCK), hidden_ND.device)
    parts = []
    chunks = zip(torch.split(hidden_ND, length), torch.split(uniform_N, length), strict=True)
    for hidden_CD, uniform_C in chunks:
        logits_CV = torch.mm(hidden_CD, weight_VD.t()).float()
        if bias_V is not None:
            logits_CV += bias_V
        largest_C1 = logits_CV.amax(dim=1, keepdim=True)
        if not largest_C1.isfinite().all():
            raise ModelError(_not_finite(sequence_ids_B, info))
        parts.append(_entries(logits_CV.sub_(largest_C1), uniform_C, info))
    return _rows(parts, counted_BT.numpy(), lengths_B - 1)


def _entries(centred_CV: torch.Tensor, uniform_C: torch.Tensor, info: CaptureInfo) -> Entries:
    if info.method == "top_k":
        return top_entries(centred_CV, info.entries)
    return sampled_entries(centred_CV, uniform_C, info.entries, info.temperature)


def _rows(
    parts: list[Entries], counted_BT: NDArray[np.bool_], num_positions_B: NDArray[np.int32]
) -> list[CapturedRow]:
    """The entries of positions with a target, by rows."""
    num_entries_BT = np.zeros(counted_BT.shape, dtype=np.int32)
    num_entries_BT[counted_BT] = _joined([part.num_entries_C for part in parts])
    ends_B = num_entries_BT.sum(axis=1, dtype=np.int64).cumsum()
    ids = np.split(_joined([part.ids_E for part in parts]), ends_B[:-1])
    weights = np.split(_joined([part.weights_E for part in parts]), ends_B[:-1])
    lengths = num_positions_B.tolist()
    numbers = [row[:length] for row, length in zip(num_entries_BT, lengths, strict=True)]
    return [CapturedRow(*columns) for columns in zip(numbers, ids, weights, strict=True)]


def _joined(parts: list[torch.Tensor]) -> NDArray[np.generic]:
    """Parts as one array on the host, in half of the space that torch's whole numbers take."""
    joined = torch.cat(parts)
    narrow = joined if joined.is_floating_point() else joined.to(torch.int32)
    array: NDArray[np.generic] = narrow.cpu().numpy()
    return array


def _not_finite(sequence_ids_B: NDArray[np.int64], info: CaptureInfo) -> str:
    return (
        f"{info.model}: a logit is not finite in one of the sequences {sequence_ids_B[:5].tolist()}"
        f"{', ...' if len(sequence_ids_B) > 5 else ''}. The model's weights are damaged, or its "
        "numbers leave the range of scoring.dtype; try scoring.dtype=float32."
    )
