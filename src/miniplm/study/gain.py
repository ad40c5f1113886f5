"""Whether the difference score ranks candidates as a student gains from training.

Two students are trained on text that is held apart from the candidates, one on a quarter of what
the other gets, each with a learning rate that falls to its end. What the longer training buys on a
candidate is its gain: the shorter one's loss less the longer one's. A score that is to tell what is
worth learning should rank candidates alike.

Axes: R sampled rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miniplm.data.parquet import ColumnFile
from miniplm.data.shards import Shard, open_shards
from miniplm.scoring.agreement import spearman
from miniplm.scoring.config import ScoringConfig
from miniplm.scoring.proxy_sample import SampleChoice, score_sample
from miniplm.scoring.scoring_model import ScoringModel
from miniplm.scoring.shard_scorer import ShardScorer
from miniplm.scoring.tables import MEAN_COLUMN, open_scores
from miniplm.selection.difference import Normalization
from miniplm.selection.scores import scored_shards

FEWEST_ROWS = 20
"""Rows of a domain from which on a rank correlation in it says something."""


@dataclass(frozen=True)
class Sampled:
    """Sampled candidates.

    Args:
        domains: Names.
        numbers: Which of them each row belongs to, `[R]`.
        difference: The difference score of each row, `[R]`.
        gain: What a student held apart gains on it, in nats per token, `[R]`.
    """

    domains: tuple[str, ...]
    numbers: NDArray[np.int64]
    difference: NDArray[np.float64]
    gain: NDArray[np.float64]


@dataclass(frozen=True)
class GainCorrelation:
    """Spearman correlations of difference score and gain.

    Args:
        num_rows: Rows compared.
        overall: Over all of them.
        within: Mean over domains of those in each, weighted by rows; None where no domain has
            enough.
        by_domain: In each domain that has enough rows.
        mean_gain: Mean gain of each domain, in nats per token.
    """

    num_rows: int
    overall: float
    within: float | None
    by_domain: Mapping[str, float]
    mean_gain: Mapping[str, float]


def sample_choice(shards: Sequence[Shard], num_rows: int, seed: int) -> SampleChoice:
    """About so many rows, by hash of their ids."""
    total = sum(map(len, shards))
    return SampleChoice(min(1.0, num_rows / max(1, total)), seed, held_out=0.0)


def score_gain(
    scorers: Mapping[str, ScoringModel],
    shards_folder: Path,
    choice: SampleChoice,
    token_num_bytes_V: NDArray[np.int64],
    config: ScoringConfig,
    folder: Path,
) -> float:
    """Score the sampled candidates with each model, in `folder/<its name here>`.

    Scores that are there already are kept.

    Returns:
        FLOPs of all scores.

    Raises:
        ModelError: A model does not fit the shards, or a score is not finite.
        ArtefactError: A shard is damaged.
    """
    shards, flops = open_shards(shards_folder), 0.0
    for name, scorer in scorers.items():
        work = ShardScorer(scorer, shards, token_num_bytes_V, config, choice.share)
        score_sample(work, shards, choice, folder / name)
        tables = [ColumnFile(folder / name / f"{shard.prefix.name}.parquet") for shard in shards]
        flops += work.flops_per_token * sum(table.origin["positions"] for table in tables)
    return flops


def read_sampled(
    shards_folder: Path,
    scores: tuple[Path, Path],
    gain: tuple[Path, Path],
    normalization: Normalization,
) -> Sampled:
    """The sampled candidates with their difference score and gain; those without are left out.

    Args:
        shards_folder: The candidates' token shards.
        scores: Folders of the teacher's and the reference's score tables.
        gain: Folders of the shorter and the longer training's, of sampled rows.
        normalization: Of the difference score.

    Raises:
        ArtefactError: A table is missing or damaged, or belongs to other shards.
    """
    places: dict[str, int] = {}
    parts: list[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]] = []
    for shard in scored_shards(shards_folder, *scores, normalization):
        opened = shard.open()
        ids, gains = _gains(shard.name, gain, opened.shard_hash)
        for block in opened.blocks(described=True):
            _, rows, found = np.intersect1d(
                block.sequence_ids, ids, assume_unique=True, return_indices=True
            )
            difference = (block.teacher - block.reference)[rows]
            numbers = [places.setdefault(name, len(places)) for name in block.domains]
            domains = np.array(numbers, dtype=np.int64)[block.domain_numbers[rows]]
            known = np.isfinite(difference) & np.isfinite(gains[found])
            parts.append((domains[known], difference[known], gains[found][known]))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return Sampled(tuple(places), *columns)


def _gains(
    name: str, folders: tuple[Path, Path], shard_hash: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Ids of a shard's sampled rows, and the gain on each."""
    tables = [open_scores(folder / f"{name}.parquet", shard_hash) for folder in folders]
    shorter, longer = (table.array(MEAN_COLUMN) for table in tables)
    return tables[0].sequence_ids(), longer - shorter


def correlate(sampled: Sampled) -> GainCorrelation:
    """Rank correlations of difference score and gain, over all rows and in each domain."""
    by_domain, mean_gain, weights = {}, {}, []
    for number, name in sorted(enumerate(sampled.domains), key=lambda pair: pair[1]):
        rows = sampled.numbers == number
        if rows.any():
            mean_gain[name] = float(sampled.gain[rows].mean())
        if np.count_nonzero(rows) >= FEWEST_ROWS:
            by_domain[name] = spearman(sampled.difference[rows], sampled.gain[rows])
            weights.append(np.count_nonzero(rows))
    values = list(by_domain.values())
    return GainCorrelation(
        num_rows=len(sampled.gain),
        overall=spearman(sampled.difference, sampled.gain) if len(sampled.gain) > 1 else 0.0,
        within=float(np.average(values, weights=weights)) if values else None,
        by_domain=by_domain,
        mean_gain=mean_gain,
    )
