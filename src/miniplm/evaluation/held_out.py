"""Held-out loss, perplexity and bits per byte, per domain and averaged.

- loss: nats per token, a mean over the domain's targets;
- perplexity: exp(loss);
- bits_per_byte: bits to encode a byte of text, comparable across tokenizers.

Averages: `average of domains` counts each domain once, `all text` each token (or byte) once.
Domains that are set apart have an average of their own, `average of domains set apart`.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from miniplm.data.loader import SequenceStore
from miniplm.data.shards import open_shards
from miniplm.errors import ArtefactError
from miniplm.evaluation.averages import (
    APART,
    AVERAGE,
    OVERALL,
    domains_apart,
    mean_over_domains,
)
from miniplm.manifest import Outcome
from miniplm.scoring.config import ScoringConfig
from miniplm.scoring.scorer import score_shards
from miniplm.scoring.scoring_model import ScoringModel
from miniplm.scoring.tables import read_scores

SCORES_FOLDER = "scores"
_LARGEST_LOSS = 700.0  # a larger one has no perplexity that is a number


@dataclass(frozen=True)
class HeldOutScore:
    """One line of the table; see the module for the units."""

    domain: str
    num_tokens: int
    num_bytes: int
    loss: float
    perplexity: float
    bits_per_byte: float
    set_apart: bool = False


def evaluate_model(
    scorer: ScoringModel,
    held_out_folder: Path,
    token_num_bytes_V: NDArray[np.int64],
    folder: Path,
    memory_gb: float | None = None,
    set_apart: Sequence[str] = (),
) -> Outcome:
    """Score the held-out shards and summarise them, in `folder/scores` and in the manifest.

    Args:
        scorer: The model, on the device it is to run on.
        held_out_folder: The held-out token shards.
        token_num_bytes_V: Bytes of text that each id stands for, `[V]`.
        folder: Where the scores go.
        memory_gb: As `ScoringConfig.memory_gb`.
        set_apart: As `EvaluationConfig.set_apart`.

    Raises:
        ArtefactError: There is no held-out text, it is damaged, or all of it is set apart.
        ModelError: The model does not fit it.
    """
    domains_apart(SequenceStore(open_shards(held_out_folder)).domains()[0], set_apart)
    outcome = score_shards(
        scorer,
        held_out_folder,
        token_num_bytes_V,
        ScoringConfig(dtype=scorer.dtype, memory_gb=memory_gb),
        folder / SCORES_FOLDER,
    )
    table = summarise(read_held_out_scores(held_out_folder, folder / SCORES_FOLDER), set_apart)
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


def summarise(scores: pl.DataFrame, set_apart: Sequence[str] = ()) -> list[HeldOutScore]:
    """The table: one line per domain in order of name, then the averages.

    Args:
        scores: domain, log_prob, num_tokens and num_bytes of sequences.
        set_apart: Globs of domains that `average of domains` leaves out.

    Raises:
        ArtefactError: Not a single target was scored, or all domains are set apart.
    """
    sums = (
        scores.group_by("domain")
        .agg(pl.col("log_prob", "num_tokens", "num_bytes").sum())
        .filter((pl.col("num_tokens") > 0) & (pl.col("num_bytes") > 0))
        .sort("domain")
    )
    if sums.is_empty():
        raise ArtefactError("the held-out sequences hold no token that can be predicted")
    apart = domains_apart(sums["domain"], set_apart)
    lines = [replace(_score(*row), set_apart=row[0] in apart) for row in sums.iter_rows()]
    averages = [_average(AVERAGE, [line for line in lines if not line.set_apart])]
    if apart:
        averages.append(_average(APART, [line for line in lines if line.set_apart]))
    log_prob, num_tokens, num_bytes = sums.select(pl.exclude("domain").sum()).row(0)
    return [*lines, *averages, _score(OVERALL, log_prob, num_tokens, num_bytes)]


def _average(name: str, lines: Sequence[HeldOutScore]) -> HeldOutScore:
    """Each line counted once."""
    mean_loss = mean_over_domains({line.domain: line.loss for line in lines})
    return HeldOutScore(
        domain=name,
        num_tokens=sum(line.num_tokens for line in lines),
        num_bytes=sum(line.num_bytes for line in lines),
        loss=mean_loss,
        perplexity=math.exp(min(mean_loss, _LARGEST_LOSS)),
        bits_per_byte=mean_over_domains({line.domain: line.bits_per_byte for line in lines}),
        set_apart=name == APART,
    )


def _score(domain: str, log_prob: float, num_tokens: int, num_bytes: int) -> HeldOutScore:
    loss = -log_prob / num_tokens
    return HeldOutScore(
        domain=domain,
        num_tokens=num_tokens,
        num_bytes=num_bytes,
        loss=loss,
        perplexity=math.exp(min(loss, _LARGEST_LOSS)),
        bits_per_byte=-log_prob / (num_bytes * math.log(2)),
    )
