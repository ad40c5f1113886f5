"""Figures about a run's scores: quantiles, domains, and the rows nearest a score.

Counts, means and variances are of all rows. Quantiles are, too, up to four million rows; beyond
that they are of about a million that follow from ids.
"""

import difflib
from dataclasses import dataclass
from typing import Any

import polars as pl

from miniplm.data.chance import GOLDEN_RATIO_64
from miniplm.data.parquet import ID_COLUMN
from miniplm.errors import ConfigError
from miniplm.scoring.tables import PREDICTED_COLUMN
from miniplm.selection.score_query import as_rows, collect

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
MEASURES = ("difference_score", "teacher", "reference", "num_tokens", "num_bytes")
_ALL_ROWS = 1 << 22
_SAMPLE_ROWS = 1 << 20


@dataclass(frozen=True)
class DomainFigures:
    """A domain's rows.

    Args:
        domain: Its name.
        num_sequences: Rows.
        num_scored: Rows with a difference score.
        num_kept: Rows that the selection keeps; None without one.
        teacher: Mean loss of the teacher, nats per unit; None where nothing is scored.
        reference: The same of the reference.
        mean: Mean difference score.
        low: Its 5 % quantile.
        median: Its median.
        high: Its 95 % quantile.
        variance: Its variance.
    """

    domain: str
    num_sequences: int
    num_scored: int
    num_kept: int | None
    teacher: float | None
    reference: float | None
    mean: float | None
    low: float | None
    median: float | None
    high: float | None
    variance: float | None


@dataclass(frozen=True)
class Inspection:
    """Scores at a glance.

    Args:
        domains: Largest mean difference score first; those without one last.
        quantiles: For each of `MEASURES`, its values at `QUANTILES`; None where there are none.
        num_sampled: Rows that the quantiles are of.
        num_predicted: Rows whose teacher's loss a proxy predicted; None where there is no proxy.
    """

    domains: tuple[DomainFigures, ...]
    quantiles: dict[str, list[float | None]]
    num_sampled: int
    num_predicted: int | None = None

    @property
    def num_sequences(self) -> int:
        """Candidates."""
        return sum(domain.num_sequences for domain in self.domains)

    @property
    def num_scored(self) -> int:
        """Candidates with a difference score."""
        return sum(domain.num_scored for domain in self.domains)

    @property
    def num_kept(self) -> int | None:
        """Candidates that the selection keeps; None without one."""
        counts = [domain.num_kept for domain in self.domains]
        return None if None in counts else sum(count or 0 for count in counts)

    @property
    def median(self) -> float | None:
        """Of the difference score."""
        return self.quantiles["difference_score"][QUANTILES.index(0.5)]

    @property
    def variance_between_domains(self) -> float | None:
        """Share of the scores' variance that lies between domains, 0 to 1 (eta squared)."""
        scored = [d for d in self.domains if d.mean is not None and d.num_scored]
        count = sum(d.num_scored for d in scored)
        if not count:
            return None
        mean = sum(d.num_scored * (d.mean or 0.0) for d in scored) / count
        between = sum(d.num_scored * ((d.mean or 0.0) - mean) ** 2 for d in scored)
        within = sum(d.num_scored * (d.variance or 0.0) for d in scored)
        return between / (between + within) if between + within > 0 else 0.0


def inspect_scores(scores: pl.LazyFrame) -> Inspection:
    """Figures about the table `scores` of `score_frames`, or some rows of it."""
    totals = collect(scores.group_by("domain").agg(_totals(scores)))
    sample = _sample(scores, int(totals["num_sequences"].sum()))
    spread = collect(sample.group_by("domain").agg(_spread("difference_score")))
    ordered = totals.join(spread, on="domain", how="left", maintain_order="left").sort(
        ["mean", "domain"], descending=[True, False], nulls_last=True
    )
    quantiles, num_sampled = _quantiles(sample)
    return Inspection(
        tuple(DomainFigures(**row) for row in as_rows(ordered)),
        quantiles,
        num_sampled,
        _num_predicted(scores),
    )


def _num_predicted(scores: pl.LazyFrame) -> int | None:
    if PREDICTED_COLUMN not in scores.collect_schema().names():
        return None
    return int(collect(scores.select(pl.col(PREDICTED_COLUMN).sum())).item())


def _totals(scores: pl.LazyFrame) -> list[pl.Expr]:
    score = pl.col("difference_score")
    kept = "kept" in scores.collect_schema().names()
    return [
        pl.len().cast(pl.Int64).alias("num_sequences"),
        score.count().cast(pl.Int64).alias("num_scored"),
        (pl.col("kept").sum().cast(pl.Int64) if kept else pl.lit(None)).alias("num_kept"),
        pl.col("teacher", "reference").mean(),
        score.mean().alias("mean"),
        score.var(ddof=0).alias("variance"),
    ]


def _spread(name: str) -> list[pl.Expr]:
    levels = {"low": 0.05, "median": 0.5, "high": 0.95}
    return [pl.col(name).quantile(level, "linear").alias(key) for key, level in levels.items()]


def _sample(scores: pl.LazyFrame, num_rows: int) -> pl.LazyFrame:
    """All rows, or about `_SAMPLE_ROWS` that follow from their ids (Fibonacci hashing)."""
    if num_rows <= _ALL_ROWS:
        return scores
    limit = (_SAMPLE_ROWS << 64) // num_rows
    hashed = pl.col(ID_COLUMN).cast(pl.UInt64) * pl.lit(int(GOLDEN_RATIO_64), pl.UInt64)
    return scores.filter(hashed < pl.lit(limit, pl.UInt64))


def _quantiles(sample: pl.LazyFrame) -> tuple[dict[str, list[float | None]], int]:
    """Of each measure, and how many rows they are of."""
    levels = [
        pl.col(name).quantile(level, "linear").alias(f"{name} {level}")
        for name in MEASURES
        for level in QUANTILES
    ]
    (row,) = as_rows(collect(sample.select(pl.len().alias("rows"), *levels)))
    values = {name: [row[f"{name} {level}"] for level in QUANTILES] for name in MEASURES}
    return values, row["rows"]


def only_domain(scores: pl.LazyFrame, domain: str) -> pl.LazyFrame:
    """The rows of one domain.

    Raises:
        ConfigError: There are none; names the domains there are.
    """
    names = collect(scores.select(pl.col("domain").unique()))["domain"].sort().to_list()
    if domain not in names:
        near = difflib.get_close_matches(domain, names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
        raise ConfigError("--domain", [f"no sequence is of {domain!r}; {hint}"])
    return scores.filter(pl.col("domain") == domain)


def nearest(scores: pl.LazyFrame, score: float, count: int) -> list[dict[str, Any]]:
    """The rows whose difference score is nearest to a given one, in the order of their scores.

    Args:
        scores: The table, or some rows of it.
        score: A difference score.
        count: Rows wanted; of equally near ones, those with the lower ids.
    """
    distance = (pl.col("difference_score") - score).abs()
    scored = scores.filter(pl.col("difference_score").is_not_null())
    found = collect(scored.bottom_k(count, by=[distance, pl.col(ID_COLUMN)]))
    return list(as_rows(found.sort(["difference_score", ID_COLUMN])))
