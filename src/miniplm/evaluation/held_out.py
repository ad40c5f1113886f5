"""Held-out loss, perplexity and bits per byte, per domain and averaged.

- loss: nats per token, a mean over the domain's targets;
- perplexity: exp(loss);
- bits_per_byte: bits to encode a byte of text, comparable across tokenizers.

Two averages: `average of domains` counts each domain once, `all text` each token (or byte) once.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from miniplm.data.shards import open_shards
from miniplm.errors import ArtefactError
from miniplm.manifest import Outcome
from miniplm.scoring.config import ScoringConfig
from miniplm.scoring.scorer import score_shards
from miniplm.scoring.scoring_model import ScoringModel
from miniplm.scoring.tables import read_scores

AVERAGE = "average of domains"
OVERALL = "all text"
SCORES_FOLDER = "scores"


@dataclass(frozen=True)
class HeldOutScore:
    """One line of the table; see the module for the units."""

    domain: str
    num_tokens: int
    num_bytes: int
    loss: float
    perplexity: float
    bits_per_byte: float


def evaluate_model(
    scorer: ScoringModel,
    held_out_folder: Path,
    token_num_bytes_V: NDArray[np.int64],
    folder: Path,
    memory_gb: float | None = None,
) -> Outcome:
    """Score the held-out shards and summarise them, in `folder/scores` and in the manifest.

    Args:
        scorer: The model, on the device it is to run on.
        held_out_folder: The held-out token shards.
        token_num_bytes_V: Bytes of text that each id stands for, `[V]`.
        folder: Where the scores go.
        memory_gb: As `ScoringConfig.memory_gb`.

    Raises:
        ArtefactError: There is no held-out text, or it is damaged.
        ModelError: The model does not fit it.
    """
    outcome = score_shards(
        scorer,
        held_out_folder,
        token_num_bytes_V,
        ScoringConfig(dtype=scorer.dtype, memory_gb=memory_gb),
        folder / SCORES_FOLDER,
    )
    table = summarise(read_held_out_scores(held_out_folder, folder / SCORES_FOLDER))
    return Outcome(
        counts=outcome.counts,
        num_tokens=outcome.num_tokens,
        flops=outcome.flops,
        facts={"held_out": [asdict(line) for line in table]},
    )


def read_held_out_scores(shards_folder: Path, scores_folder: Path) -> pl.DataFrame:
    """domain, log_prob, num_tokens and num_bytes of every held-out sequence."""
    frames = []
    for shard in open_shards(shards_folder):
        path = scores_folder / f"{shard.prefix.name}.parquet"
        scores = pl.from_arrow(read_scores(path, shard.info.shard_hash))
        domains = pl.from_arrow(shard.sidecar.select(["sequence_id", "domain"]))
        assert isinstance(scores, pl.DataFrame)
        assert isinstance(domains, pl.DataFrame)
        domains = domains.with_columns(pl.col("domain").cast(pl.String))
        frames.append(domains.join(scores, on="sequence_id"))
    return pl.concat(frames)


def summarise(scores: pl.DataFrame) -> list[HeldOutScore]:
    """The table: one line per domain in order of name, then the two averages.

    Raises:
        ArtefactError: Not a single target was scored.
    """
    sums = (
        scores.group_by("domain")
        .agg(pl.col("log_prob", "num_tokens", "num_bytes").sum())
        .filter((pl.col("num_tokens") > 0) & (pl.col("num_bytes") > 0))
        .sort("domain")
    )
    if sums.is_empty():
        raise ArtefactError("the held-out sequences hold no token that can be predicted")
    lines = [_score(*row) for row in sums.iter_rows()]
    mean_loss = sum(line.loss for line in lines) / len(lines)
    average = HeldOutScore(
        domain=AVERAGE,
        num_tokens=sum(line.num_tokens for line in lines),
        num_bytes=sum(line.num_bytes for line in lines),
        loss=mean_loss,
        perplexity=math.exp(mean_loss),
        bits_per_byte=sum(line.bits_per_byte for line in lines) / len(lines),
    )
    overall = _score(OVERALL, float(sums["log_prob"].sum()), average.num_tokens, average.num_bytes)
    return [*lines, average, overall]


def _score(domain: str, log_prob: float, num_tokens: int, num_bytes: int) -> HeldOutScore:
    loss = -log_prob / num_tokens
    return HeldOutScore(
        domain=domain,
        num_tokens=num_tokens,
        num_bytes=num_bytes,
        loss=loss,
        perplexity=math.exp(min(loss, 700.0)),
        bits_per_byte=-log_prob / (num_bytes * math.log(2)),
    )
