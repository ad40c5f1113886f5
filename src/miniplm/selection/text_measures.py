"""What two samples of rows, before and after selection, say of their text."""

from collections.abc import Sequence
from dataclasses import dataclass

from miniplm.selection.compression import block_ratio
from miniplm.selection.diversity import distinct_shares, self_similarity
from miniplm.selection.text_sample import SampledRow

ORDERS = (1, 2, 3, 4)
"""Lengths of the n-grams that are counted."""


@dataclass(frozen=True)
class TextMeasures:
    """Of the text of some rows. What cannot be measured, as there is too little, is None.

    Args:
        num_sampled: Rows in the sample.
        row_compression: Bytes over compressed bytes, each row by itself.
        block_compression: The same of rows put one after another, in blocks of one size.
        distinct: Distinct n-grams over n-grams, for each of `ORDERS`.
        self_similarity: Mean cosine between the bigram counts of two rows.
        loss: Nats per token under the model of text held apart.
    """

    num_sampled: int
    row_compression: float | None
    block_compression: float | None
    distinct: tuple[float | None, ...]
    self_similarity: float | None
    loss: float | None


@dataclass(frozen=True)
class Compared:
    """Measures before and after.

    Args:
        candidates: Of all rows.
        kept: Of the kept rows.
        num_ngrams: N-grams counted on both sides, for each of `ORDERS`.
    """

    candidates: TextMeasures
    kept: TextMeasures
    num_ngrams: tuple[int, ...]


def compare_texts(before: Sequence[SampledRow], after: Sequence[SampledRow]) -> Compared:
    """Measure two samples, n-grams at equal numbers of them."""
    counted = [
        distinct_shares([row.ids for row in before], [row.ids for row in after], n) for n in ORDERS
    ]
    first, second = (
        _measures(rows, tuple(pair[side] if number else None for *pair, number in counted))
        for side, rows in enumerate((before, after))
    )
    return Compared(first, second, tuple(number for *_, number in counted))


def _measures(rows: Sequence[SampledRow], distinct: tuple[float | None, ...]) -> TextMeasures:
    num_compressed = sum(row.num_compressed for row in rows)
    num_targets = sum(row.num_targets for row in rows)
    return TextMeasures(
        num_sampled=len(rows),
        row_compression=_over(sum(len(row.text) for row in rows), num_compressed),
        block_compression=block_ratio([row.text for row in rows]),
        distinct=distinct,
        self_similarity=self_similarity([row.ids for row in rows]),
        loss=_over(sum(row.loss for row in rows), num_targets),
    )


def _over(amount: float, units: int) -> float | None:
    return amount / units if units else None
