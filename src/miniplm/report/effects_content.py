"""What the page says of the effects of a selection, as plain data, and where it is read from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TextFigures:
    """Of candidates or kept rows; what could not be measured is None.

    Counts are of rows with their copies; tokens are ids; lengths are in ids: a tenth of the rows
    are no longer than `length[0]`, half no longer than `length[1]`, nine tenths than `length[2]`.
    """

    num_rows: int
    num_tokens: int
    num_bytes: int
    length: Sequence[int | None]
    row_compression: float | None
    block_compression: float | None
    distinct: Sequence[float | None]
    """Distinct n-grams over n-grams, for n from 1."""
    self_similarity: float | None
    loss: float | None
    """Nats per token under a model of text held apart."""


@dataclass(frozen=True)
class Change:
    """Candidates and kept rows of a domain, or of all (an empty name)."""

    domain: str
    candidates: TextFigures
    kept: TextFigures


@dataclass(frozen=True)
class Agreement:
    """A baseline that keeps as many rows: its share of the kept rows, and the Jaccard index."""

    baseline: str
    overlap: float
    jaccard: float


@dataclass(frozen=True)
class Followed:
    """A quantity: its rank correlation with the score, and how often kept rows have more of it."""

    quantity: str
    spearman: float | None
    kept_has_more: float | None


@dataclass(frozen=True)
class SelectionEffects:
    """What a selection did to the text."""

    overall: Change
    num_distinct_rows: int
    domains: Sequence[Change]
    agreements: Sequence[Agreement]
    followed: Sequence[Followed]
    compressor: str
    block_bytes: int


def read_effects(facts: Mapping[str, Any]) -> SelectionEffects:
    """From the facts of the describe stage (`selection.effects`)."""
    agreement, measured = facts["agreement"], facts["measured"]
    return SelectionEffects(
        overall=_change("", facts["overall"]),
        num_distinct_rows=facts["overall"]["num_distinct_rows"],
        domains=[_change(domain, record) for domain, record in facts["domains"].items()],
        agreements=[
            Agreement(name, both["overlap"], both["jaccard"])
            for name, both in agreement["baselines"].items()
        ],
        followed=[
            Followed(name, both["spearman"], both["kept_has_more"])
            for name, both in agreement["follows"].items()
        ],
        compressor=measured["compressor"],
        block_bytes=measured["block_bytes"],
    )


def _change(domain: str, record: Mapping[str, Any]) -> Change:
    return Change(domain, _figures(record["candidates"]), _figures(record["kept"]))


def _figures(record: Mapping[str, Any]) -> TextFigures:
    return TextFigures(
        num_rows=record["num_rows"],
        num_tokens=record["num_tokens"],
        num_bytes=record["num_bytes"],
        length=list(record["length"].values()),
        row_compression=record["row_compression"],
        block_compression=record["block_compression"],
        distinct=record["distinct"],
        self_similarity=record["self_similarity"],
        loss=record["loss"],
    )
