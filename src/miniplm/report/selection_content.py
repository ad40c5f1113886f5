"""What the page says of a selection, as plain data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from miniplm.report.effects_content import SelectionEffects


@dataclass(frozen=True)
class DomainRow:
    """What selection did to one domain; scores in the unit of the selection's `normalization`."""

    domain: str
    num_sequences: int
    num_kept: int
    kept_share: float
    mean_score: float
    share_before: float
    """Share of all candidate tokens that this domain holds."""
    share_after: float
    """Share of the refined corpus's tokens that this domain holds."""


@dataclass(frozen=True)
class Example:
    """A sequence with its scores; `text` may be shortened.

    Score and losses are in the unit of the selection's `normalization`. Where a selection has no
    threshold, the band `threshold` holds sequences from the middle of the scores.
    """

    band: Literal["bottom", "threshold", "top"]
    difference_score: float
    teacher_loss: float
    reference_loss: float
    domain: str
    source: str
    text: str


@dataclass(frozen=True)
class FittedLine:
    """Of calibration `residual`: teacher loss = intercept + slope * reference loss."""

    slope: float
    intercept: float


@dataclass(frozen=True)
class SelectionSummary:
    """One selection: how it was made, how scores are spread, what it kept.

    `policy` and `normalization` are the words of the recipe, `asked` is how much to keep, `dials`
    are the others that the policy reads, where they are not at their defaults. Scores are in nats
    per token or per byte, or in nats (`sum`). `histogram_edges` has one entry more than
    `histogram_counts`; the outermost bins hold all that lies beyond. `threshold` is the lowest kept
    score and `highest` the highest, where exactly what lies between them is kept; an end that is
    None is open, and where both are, `choice` says what decides.
    """

    name: str
    policy: str
    normalization: str
    asked: str
    num_candidates: int
    num_kept: int
    threshold: float | None
    histogram_edges: Sequence[float]
    histogram_counts: Sequence[int]
    mean_score: float
    share_below_zero: float
    variance_between_domains: float
    """Share of the score's variance that lies between domains, 0 to 1."""
    domains: Sequence[DomainRow]
    examples: Sequence[Example]
    warnings: Sequence[str]
    """Plain sentences, such as `Domain 'books' all but vanishes: 2 of 310 sequences are kept.`"""
    effects: SelectionEffects | None = None
    """What it did to the text, where that was measured."""
    highest: float | None = None
    choice: str = ""
    dials: Sequence[str] = ()
    line: FittedLine | None = None
    narrows: bool = False
    """Whether the share kept narrows in training; then all figures are of the end of it."""
