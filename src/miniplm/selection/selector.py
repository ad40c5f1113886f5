"""The select stage: two score tables in, the kept sequences and what selection did out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from miniplm.data.shards import open_shards, write_parquet
from miniplm.errors import ArtefactError
from miniplm.manifest import Outcome
from miniplm.runtime.log import logger
from miniplm.scoring.tables import read_scores
from miniplm.selection.config import SelectionConfig
from miniplm.selection.difference import (
    Normalization,
    normalized_log_prob,
    variance_between_groups,
)
from miniplm.selection.policies import ranking_values, top_ratio

SELECTION_NAME = "selection.parquet"
VANISHING = 0.1
"""A domain all but vanishes when its kept share is under this part of the selection ratio."""


@dataclass(frozen=True)
class ScoredRows:
    """Candidates with both models' scores, one entry per row, sorted by sequence id.

    `teacher` and `reference` are normalised log-probabilities; NaN where a row has no target.
    """

    sequence_ids: NDArray[np.int64]
    domains: list[str]
    domain_numbers: NDArray[np.int64]
    num_tokens: NDArray[np.int64]
    teacher: NDArray[np.float64]
    reference: NDArray[np.float64]

    @property
    def difference(self) -> NDArray[np.float64]:
        """Difference scores, `[rows]`, nats per unit of the normalisation."""
        return self.teacher - self.reference


def read_scored_rows(
    shards_folder: Path,
    teacher_folder: Path,
    reference_folder: Path,
    normalization: Normalization,
) -> ScoredRows:
    """Join the sidecars and both score tables of all shards by sequence id.

    Raises:
        ArtefactError: A table is missing, belongs to another shard, or lacks a sequence.
    """
    frames = []
    for shard in open_shards(shards_folder):
        name = f"{shard.prefix.name}.parquet"
        frame = pl.from_arrow(shard.sidecar.select(["sequence_id", "domain"]))
        assert isinstance(frame, pl.DataFrame)
        for role, folder in (("teacher", teacher_folder), ("reference", reference_folder)):
            scores = pl.from_arrow(read_scores(folder / name, shard.info.shard_hash))
            assert isinstance(scores, pl.DataFrame)
            frame = frame.join(scores, on="sequence_id", how="left", suffix=f"_{role}")
            if frame[scores.columns[1] if role == "teacher" else "log_prob_reference"].has_nulls():
                raise ArtefactError(
                    f"{folder / name}: has no score for some sequences of {shard.prefix}. "
                    "Score these shards again."
                )
        frames.append(frame.with_columns(pl.col("domain").cast(pl.String)))
    return _scored_rows(pl.concat(frames).sort("sequence_id"), normalization)


def _scored_rows(frame: pl.DataFrame, normalization: Normalization) -> ScoredRows:
    domains = sorted(frame["domain"].unique().to_list())
    numbers = {domain: number for number, domain in enumerate(domains)}

    def scores(suffix: str) -> NDArray[np.float64]:
        return normalized_log_prob(
            frame[f"log_prob{suffix}"].to_numpy(),
            frame[f"num_tokens{suffix}"].to_numpy().astype(np.int64),
            frame[f"num_bytes{suffix}"].to_numpy(),
            normalization,
        )

    return ScoredRows(
        sequence_ids=frame["sequence_id"].to_numpy(),
        domains=domains,
        domain_numbers=frame["domain"].replace_strict(numbers, return_dtype=pl.Int64).to_numpy(),
        num_tokens=frame["num_tokens"].to_numpy().astype(np.int64),
        teacher=scores(""),
        reference=scores("_reference"),
    )


def select_sequences(
    shards_folder: Path,
    teacher_folder: Path,
    reference_folder: Path,
    config: SelectionConfig,
    seed: int,
    folder: Path,
) -> Outcome:
    """Write `folder/selection.parquet`: sequence_id, difference_score and weight of kept rows.

    Raises:
        ArtefactError: Scores are missing or belong to other shards, or none can be compared.
    """
    rows = read_scored_rows(shards_folder, teacher_folder, reference_folder, config.normalization)
    values = ranking_values(config.policy, rows.teacher, rows.reference, rows.sequence_ids, seed)
    values = np.where(np.isnan(rows.difference), np.nan, values)
    keep = top_ratio(values, rows.sequence_ids, config.ratio)
    if not keep.any():
        raise ArtefactError(f"{shards_folder}: no sequence has a scored token; nothing to select")
    table = pa.table(
        {
            "sequence_id": rows.sequence_ids[keep],
            "difference_score": rows.difference[keep],
            "weight": np.ones(int(keep.sum())),
        }
    )
    write_parquet(folder / SELECTION_NAME, table, config.model_dump(mode="json"))
    facts = describe_selection(rows, values, keep, config)
    for warning in facts["warnings"]:
        logger.warning("selection: %s", warning)
    return Outcome(
        counts={
            "sequences": len(keep),
            "kept": int(keep.sum()),
            "not_comparable": int(np.isnan(values).sum()),
        },
        num_tokens=int(rows.num_tokens[keep].sum()),
        facts=facts,
    )


def describe_selection(
    rows: ScoredRows, values: NDArray[np.float64], keep: NDArray[np.bool_], config: SelectionConfig
) -> dict[str, Any]:
    """What selection did, for the manifest: threshold, spread of scores, shares per domain."""
    usable = ~np.isnan(rows.difference)
    difference = rows.difference[usable]
    domains = {
        domain: _describe_domain(rows, keep, rows.domain_numbers == number)
        for number, domain in enumerate(rows.domains)
    }
    return {
        "threshold": float(values[keep].min()) if config.policy == "top_ratio" else None,
        "mean_score": float(difference.mean()),
        "share_below_zero": float((difference < 0).mean()),
        "variance_between_domains": variance_between_groups(
            difference, rows.domain_numbers[usable]
        ),
        "domains": domains,
        "warnings": _warnings(domains, float(keep.mean())),
    }


def _describe_domain(
    rows: ScoredRows, keep: NDArray[np.bool_], here: NDArray[np.bool_]
) -> dict[str, float]:
    kept = keep & here
    scores = rows.difference[here & ~np.isnan(rows.difference)]
    return {
        "num_sequences": int(here.sum()),
        "num_kept": int(kept.sum()),
        "num_tokens": int(rows.num_tokens[here].sum()),
        "num_tokens_kept": int(rows.num_tokens[kept].sum()),
        "mean_score": float(scores.mean()) if len(scores) else 0.0,
    }


def _warnings(domains: dict[str, dict[str, float]], overall: float) -> list[str]:
    warnings = []
    for domain, counts in domains.items():
        share = counts["num_kept"] / counts["num_sequences"]
        if share < VANISHING * overall:
            warnings.append(
                f"Domain {domain!r} all but vanishes: {counts['num_kept']} of "
                f"{counts['num_sequences']} sequences are kept ({share:.1%}, against "
                f"{overall:.0%} overall)."
            )
    return warnings
