"""Held-out text by its own difference score: where students of a method gain, and where they lose.

A selection by score shifts what a student reads, between domains and within them. So the held-out
documents of each domain are cut into the half on which the teacher is less far ahead of the
reference, and the half on which it is further ahead. Students lean to what their text is like; a
control with rows by chance (`mix_of`) tells how much of that is the score's doing.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from miniplm.evaluation.documents import Documents

_KEY = ("domain", "document")


@dataclass(frozen=True)
class HalvesDifference:
    """A student less its baseline, bits per byte, means over domains; below 0 it is better.

    Args:
        low: On the documents of each domain that score lower.
        high: On those that score higher.
    """

    low: float
    high: float


@dataclass(frozen=True)
class ScoreHalves:
    """The held-out documents in two halves.

    Args:
        table: domain, document, is_high; domains of a single document are left out.
    """

    table: pl.DataFrame

    @classmethod
    def of(cls, teacher: Documents, reference: Documents) -> "ScoreHalves":
        """Cut each domain at the median of its documents' scores, nats per byte.

        Per byte, so that teacher and reference may read different tokens. Documents that either
        has not measured are left out.
        """
        both = teacher.table.join(reference.table, on=_KEY, suffix="_reference").filter(
            pl.col("num_bytes") > 0, pl.col("num_bytes_reference") > 0
        )
        ahead = pl.col("log_prob") / pl.col("num_bytes")
        ahead -= pl.col("log_prob_reference") / pl.col("num_bytes_reference")
        rank = ahead.rank("ordinal").over("domain")
        kept = both.with_columns(is_high=rank > pl.len().over("domain") / 2)
        return cls(kept.filter(pl.len().over("domain") > 1).select(*_KEY, "is_high"))

    def difference(
        self, student: Documents, baseline: Documents, apart: Collection[str] = ()
    ) -> HalvesDifference | None:
        """How far a student is from its baseline on either half, on documents both measured.

        Args:
            student: Sums of the held-out documents.
            baseline: The same of the baseline.
            apart: Domains that are not averaged over.

        Returns:
            None where no domain has documents in both halves that both measured.
        """
        both = self.table.join(student.table, on=_KEY).join(baseline.table, on=_KEY, suffix="_b")
        measured = both.filter(
            ~pl.col("domain").is_in(list(apart)), pl.col("num_bytes") > 0, pl.col("num_bytes_b") > 0
        )
        sums = measured.group_by("domain", "is_high").agg(
            pl.col("log_prob", "num_bytes", "log_prob_b", "num_bytes_b").sum()
        )
        bits = sums.select("domain", "is_high", difference=_bits("") - _bits("_b"))
        bits = bits.filter(pl.len().over("domain") == 2)
        if bits.is_empty():
            return None
        low, high = (
            float(bits.filter(pl.col("is_high") == is_high)["difference"].mean())  # type: ignore[arg-type]
            for is_high in (False, True)
        )
        return HalvesDifference(low, high)


def _bits(suffix: str) -> pl.Expr:
    """Bits per byte of sums."""
    return -pl.col(f"log_prob{suffix}") / pl.col(f"num_bytes{suffix}") / math.log(2)
