"""What a selection did, for the report: spread of scores, domains, readable examples.

Spread and examples come from the sample that the select stage left, so that no more than that is
ever in memory; up to 65,536 candidates the sample is all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from miniplm.data.shards import Shard
from miniplm.data.tokenizer import load_tokenizer
from miniplm.manifest import Manifest
from miniplm.report.choice_words import asked_in_words, choice_in_words, dials_in_words, kept_range
from miniplm.report.selection_content import DomainRow, Example, FittedLine, SelectionSummary
from miniplm.selection.config import SelectionConfig
from miniplm.selection.row_text import row_text
from miniplm.selection.sample import read_sample

_BINS = 48
_EXAMPLES = 5
_SHOWN_CHARACTERS = 1500
_TAIL = 0.05
"""Examples of the bottom and the top come from this share of the rows at either end."""


@dataclass(frozen=True)
class _Sample:
    """Rows with a difference score, lowest first."""

    sequence_ids: NDArray[np.int64]
    shards: list[str]
    teacher: NDArray[np.float64]
    reference: NDArray[np.float64]
    difference: NDArray[np.float64]


def summarise_selection(
    name: str,
    config: SelectionConfig,
    manifest: Manifest,
    *,
    shards_folder: Path,
    tokenizer_folder: Path,
    selection_folder: Path,
) -> SelectionSummary:
    """Summarise one selection from its manifest, its sample and the shards."""
    sample = _read(selection_folder)
    facts, counts = manifest.facts, manifest.counts
    edges, bars = histogram(sample.difference, counts["sequences"] - counts["not_comparable"])
    threshold, highest = kept_range(config, counts, facts.get("threshold"))
    centre = threshold if threshold is not None else float(np.median(sample.difference))
    return SelectionSummary(
        name=name,
        policy=config.policy,
        normalization=config.normalization,
        asked=asked_in_words(config, counts),
        dials=dials_in_words(config),
        num_candidates=counts["sequences"],
        num_kept=counts.get("kept_to_the_end", counts["kept"]),
        threshold=threshold,
        highest=highest,
        line=fitted_line(config, facts),
        choice=choice_in_words(config, counts),
        histogram_edges=edges,
        histogram_counts=bars,
        mean_score=facts["mean_score"],
        share_below_zero=facts["share_below_zero"],
        variance_between_domains=facts["variance_between_domains"],
        domains=_domain_rows(facts["domains"]),
        examples=_examples(sample, centre, shards_folder, tokenizer_folder),
        warnings=facts["warnings"],
        narrows=bool(config.schedule),
    )


def fitted_line(config: SelectionConfig, facts: Mapping[str, Any]) -> FittedLine | None:
    """The line that a selection's calibration fitted, from the facts of its manifest."""
    fitted = facts.get("calibration")
    if config.calibration != "residual" or not fitted:
        return None
    return FittedLine(fitted["slope"], fitted["intercept"])


def _read(selection_folder: Path) -> _Sample:
    table = read_sample(selection_folder)
    teacher, reference = table["teacher"].to_numpy(), table["reference"].to_numpy()
    difference = teacher - reference
    order = np.argsort(difference, kind="stable")[: np.count_nonzero(~np.isnan(difference))]
    return _Sample(
        table["sequence_id"].to_numpy()[order],
        table["shard"].take(order).to_pylist(),
        teacher[order],
        reference[order],
        difference[order],
    )


def histogram(scores: NDArray[np.float64], total: int) -> tuple[list[float], list[int]]:
    """Edges and counts of `_BINS` bins from the 0.5 % to the 99.5 % quantile.

    Args:
        scores: A sample; those beyond the quantiles go into the outermost bins.
        total: Scores that the sample stands for: counts are scaled up to it, and rounded.
    """
    low, high = np.quantile(scores, [0.005, 0.995])
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _BINS + 1)
    counts, _ = np.histogram(np.clip(scores, low, high), bins=edges)
    return edges.tolist(), np.rint(counts * (total / len(scores))).astype(int).tolist()


def _domain_rows(domains: dict[str, dict[str, float]]) -> list[DomainRow]:
    before = sum(counts["num_tokens"] for counts in domains.values())
    after = sum(_tokens_counted(counts) for counts in domains.values())
    return [
        DomainRow(
            domain=domain,
            num_sequences=int(counts["num_sequences"]),
            num_kept=int(_kept(counts)),
            kept_share=_kept(counts) / counts["num_sequences"],
            mean_score=counts["mean_score"],
            share_before=counts["num_tokens"] / before,
            share_after=_tokens_counted(counts) / after,
        )
        for domain, counts in domains.items()
    ]


def _kept(counts: dict[str, float]) -> float:
    """Different rows that take part to the end of training."""
    return min(counts["num_kept"], counts.get("num_counted", counts["num_kept"]))


def _tokens_counted(counts: dict[str, float]) -> float:
    """Tokens at the end of training; selections of before they were counted say what is kept."""
    return counts.get("num_tokens_counted", counts["num_tokens_kept"])


def _examples(
    sample: _Sample, threshold: float, shards_folder: Path, tokenizer_folder: Path
) -> list[Example]:
    order = np.arange(len(sample.difference))
    tail = max(1, int(len(order) * _TAIL))
    middle = int(np.searchsorted(sample.difference, threshold))
    near = order[max(0, middle - tail // 10 - 1) : middle + tail // 10 + 2]
    tokenizer = load_tokenizer(tokenizer_folder)

    def example(index: int, band: Literal["bottom", "threshold", "top"]) -> Example:
        row = _row(shards_folder / sample.shards[index], int(sample.sequence_ids[index]))
        text = row_text(row.ids, row.eos_id, tokenizer)
        return Example(
            band=band,
            difference_score=float(sample.difference[index]),
            teacher_loss=-float(sample.teacher[index]),
            reference_loss=-float(sample.reference[index]),
            domain=row.facts["domain"],
            source=", ".join(row.facts["source_ids"]),
            text=text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + " ...",
        )

    bottom, top = _spread(order[:tail]), _spread(order[-tail:])[::-1]
    return [
        *(example(index, "bottom") for index in bottom),
        *(example(index, "threshold") for index in _spread(near)),
        *(example(index, "top") for index in top),
    ]


@dataclass(frozen=True)
class _Row:
    ids: NDArray[np.int64]
    eos_id: int
    facts: dict[str, Any]


def _row(prefix: Path, sequence_id: int) -> _Row:
    """A row of a shard with its line of the sidecar; the shard is closed again."""
    shard = Shard(prefix)
    place = int(np.flatnonzero(shard.sequence_ids == sequence_id)[0])
    facts = shard.sidecar.slice(place, 1).select(["domain", "source_ids"]).to_pylist()[0]
    return _Row(shard.row(place), shard.info.eos_id, facts)


def _spread(indices: NDArray[np.int64]) -> list[int]:
    """Up to `_EXAMPLES` of the indices, evenly spaced."""
    places = np.linspace(0, len(indices) - 1, min(_EXAMPLES, len(indices))).astype(int)
    return [int(indices[place]) for place in places]
