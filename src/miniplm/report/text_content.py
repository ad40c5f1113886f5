"""Bits per byte on further texts, as plain data."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TextResult:
    """What one model makes of one domain of a text, or of an average over domains.

    `bits_per_byte` has a 95 % interval over documents, None where there are too few;
    `perplexity` is per token of the model's own tokenizer.
    """

    model: str
    domain: str
    bits_per_byte: float
    low: float | None
    high: float | None
    perplexity: float
    num_documents: int


@dataclass(frozen=True)
class TextDifference:
    """A model's bits per byte less a baseline's on the same documents, with a 95 % interval."""

    model: str
    baseline: str
    domain: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class TextContent:
    """One text: domains, then averages over them, the same for all models.

    `averages` names the lines that are averages; `not_compared` says why differences are missing,
    where they are.
    """

    name: str
    results: Sequence[TextResult]
    differences: Sequence[TextDifference] = ()
    averages: Sequence[str] = ()
    not_compared: Sequence[str] = ()
