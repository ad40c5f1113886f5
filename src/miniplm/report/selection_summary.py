"""What a selection did, for the report: spread of scores, domains, readable examples."""

from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from miniplm.data.loader import SequenceStore
from miniplm.data.shards import open_shards
from miniplm.data.tokenizer import load_tokenizer
from miniplm.export.text import split_at_eos
from miniplm.manifest import Manifest
from miniplm.report.content import DomainRow, Example, SelectionSummary
from miniplm.selection.config import SelectionConfig
from miniplm.selection.selector import SELECTION_NAME, ScoredRows, read_scored_rows

_BINS = 48
_EXAMPLES = 5
_SHOWN_CHARACTERS = 1500
_TAIL = 0.05
"""Examples of the bottom and the top come from this share of the rows at either end."""


def summarise_selection(
    name: str,
    config: SelectionConfig,
    manifest: Manifest,
    *,
    shards_folder: Path,
    tokenizer_folder: Path,
    teacher_folder: Path,
    reference_folder: Path,
    selection_folder: Path,
) -> SelectionSummary:
    """Summarise one selection from its manifest, the score tables and the shards."""
    rows = read_scored_rows(shards_folder, teacher_folder, reference_folder, config.normalization)
    facts = manifest.facts
    edges, counts = histogram(rows.difference[~np.isnan(rows.difference)])
    kept_ids = pq.read_table(selection_folder / SELECTION_NAME)["sequence_id"].to_numpy()
    threshold = facts["threshold"]
    centre = threshold if threshold is not None else float(np.nanmedian(rows.difference))
    return SelectionSummary(
        name=name,
        policy=config.policy,
        normalization=config.normalization,
        ratio=config.ratio,
        num_candidates=manifest.counts["sequences"],
        num_kept=len(kept_ids),
        threshold=threshold,
        histogram_edges=edges,
        histogram_counts=counts,
        mean_score=facts["mean_score"],
        share_below_zero=facts["share_below_zero"],
        variance_between_domains=facts["variance_between_domains"],
        domains=_domain_rows(facts["domains"]),
        examples=_examples(rows, centre, shards_folder, tokenizer_folder),
        warnings=facts["warnings"],
    )


def histogram(scores: NDArray[np.float64]) -> tuple[list[float], list[int]]:
    """Edges and counts of `_BINS` bins from the 0.5 % to the 99.5 % quantile.

    Scores beyond go into the outermost bins.
    """
    low, high = np.quantile(scores, [0.005, 0.995])
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _BINS + 1)
    counts, _ = np.histogram(np.clip(scores, low, high), bins=edges)
    return edges.tolist(), counts.tolist()


def _domain_rows(domains: dict[str, dict[str, float]]) -> list[DomainRow]:
    before = sum(counts["num_tokens"] for counts in domains.values())
    after = sum(counts["num_tokens_kept"] for counts in domains.values())
    return [
        DomainRow(
            domain=domain,
            num_sequences=int(counts["num_sequences"]),
            num_kept=int(counts["num_kept"]),
            kept_share=counts["num_kept"] / counts["num_sequences"],
            mean_score=counts["mean_score"],
            share_before=counts["num_tokens"] / before,
            share_after=counts["num_tokens_kept"] / after,
        )
        for domain, counts in domains.items()
    ]


def _examples(
    rows: ScoredRows, threshold: float, shards_folder: Path, tokenizer_folder: Path
) -> list[Example]:
    order = np.argsort(np.where(np.isnan(rows.difference), np.inf, rows.difference), kind="stable")
    order = order[: int((~np.isnan(rows.difference)).sum())]
    tail = max(1, int(len(order) * _TAIL))
    middle = int(np.searchsorted(rows.difference[order], threshold))
    near = order[max(0, middle - tail // 10 - 1) : middle + tail // 10 + 2]
    store = SequenceStore(open_shards(shards_folder))
    tokenizer = load_tokenizer(tokenizer_folder)

    def example(index: int, band: Literal["bottom", "threshold", "top"]) -> Example:
        place = int(rows.sequence_ids[index])
        pieces = split_at_eos(store.row(place), store.eos_id)
        text = "\n\n[next document]\n\n".join(tokenizer.decode(p) for p in pieces if len(p))
        return Example(
            band=band,
            difference_score=float(rows.difference[index]),
            teacher_loss=-float(rows.teacher[index]),
            reference_loss=-float(rows.reference[index]),
            domain=rows.domains[rows.domain_numbers[index]],
            source=", ".join(store.source_ids(place)),
            text=text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + " ...",
        )

    bottom, top = _spread(order[:tail]), _spread(order[-tail:])[::-1]
    return [
        *(example(index, "bottom") for index in bottom),
        *(example(index, "threshold") for index in _spread(near)),
        *(example(index, "top") for index in top),
    ]


def _spread(indices: NDArray[np.int64]) -> list[int]:
    """Up to `_EXAMPLES` of the indices, evenly spaced."""
    places = np.linspace(0, len(indices) - 1, min(_EXAMPLES, len(indices))).astype(int)
    return [int(indices[place]) for place in places]
