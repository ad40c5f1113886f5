"""The capture stage: a few entries of the teacher's distribution at every predicted position."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from miniplm.data.shards import Shard, open_shards
from miniplm.manifest import Outcome
from miniplm.model import hidden_states
from miniplm.runtime.ahead import ahead
from miniplm.runtime.progress import Advance, progress
from miniplm.scoring.batches import length_buckets, row_batches
from miniplm.scoring.capture_config import CaptureConfig
from miniplm.scoring.capture_files import (
    Capture,
    CapturedRow,
    CaptureInfo,
    is_captured,
    writing_capture,
)
from miniplm.scoring.capture_forward import captured_rows
from miniplm.scoring.config import ScoringConfig
from miniplm.scoring.preparation import check_and_count, compile_models, prepare_model
from miniplm.scoring.scoring_model import ScoringModel
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
                    captured = captured_rows(
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
