"""What the report says, as plain data: gathered by `collect`, drawn by `page`.

Losses are in nats per token, means over tokens. FLOPs are counted from the shapes. Everything
here can be shown as it is; nothing is computed when the page is drawn but positions and colours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from miniplm.report.candidate_tables import CandidateTables
from miniplm.report.effects_content import SelectionEffects

Role = Literal["teacher", "reference", "student"]


@dataclass(frozen=True)
class StageRow:
    """One stage of the run; `kind` is the part before the slash (`score` of `score/teacher`)."""

    name: str
    kind: str
    seconds: float
    num_tokens: int
    flops: float
    summary: str
    """Counts in and out in a few words, such as `412 documents dropped: 400 empty, 12 bad JSON`."""


@dataclass(frozen=True)
class ModelRow:
    """A model of the run. Fields that are not known (a released teacher's tokens) are None.

    Loss and bits per byte are averages over the domains of the held-out text.
    """

    name: str
    role: Role
    origin: str
    """Where it comes from: `trained from scratch on the teacher split`, or a hub name."""
    num_params: int | None
    num_tokens_trained: int | None
    tokens_per_param: float | None
    held_out_loss: float | None
    bits_per_byte: float | None
    training_flops: float | None = None
    """A teacher in the loop included."""
    preparation_flops: float | None = None
    """Of what its data and its method build on: the reference's training, scoring, capturing,
    generating. The teacher's own training is not counted."""
    shared_preparation_flops: float | None = None
    """The same, with each part divided among the students that build on it."""
    training_seconds: float | None = None

    @property
    def total_flops(self) -> float | None:
        """Of training and of everything it builds on, as if it were the only student."""
        if self.training_flops is None:
            return None
        return self.training_flops + (self.preparation_flops or 0.0)

    @property
    def shared_flops(self) -> float | None:
        """Of training, and its part of what it shares with other students."""
        if self.training_flops is None:
            return None
        return self.training_flops + (self.shared_preparation_flops or 0.0)


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
class SelectionSummary:
    """One selection: how it was made, how scores are spread, what it kept.

    `policy` and `normalization` are the words of the recipe, `asked` is how much to keep; scores
    are in nats per token or per byte, or in nats (`sum`). `histogram_edges` has one entry more than
    `histogram_counts`; the outermost bins hold all that lies beyond. `threshold` is the lowest kept
    score, None where the policy does not go by the score.
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


@dataclass(frozen=True)
class CurvePoint:
    """A point of a training curve."""

    step: int
    num_tokens: int
    flops: float
    loss: float


@dataclass(frozen=True)
class TrainingCurves:
    """Curves of one trained model; `train` is smoothed for drawing, `held_out` is as measured."""

    model: str
    role: Role
    corpus: str
    train: Sequence[CurvePoint]
    held_out: Sequence[CurvePoint]


@dataclass(frozen=True)
class HeldOutRow:
    """One domain (or the average over domains) for every model.

    `loss` and `bits_per_byte` map model names to values; `num_bytes` is the text they were
    measured on.
    """

    domain: str
    num_bytes: int
    loss: Mapping[str, float]
    bits_per_byte: Mapping[str, float]


@dataclass(frozen=True)
class EqualLossRow:
    """Training compute that two students need for the same held-out loss, read off the curves."""

    student: str
    baseline: str
    loss: float
    """The loss compared at: the baseline's final held-out loss, or the student's where that is
    higher."""
    student_flops: float | None
    baseline_flops: float | None
    sentence: str
    """The finding in plain words, whichever way it went."""


@dataclass(frozen=True)
class ReportContent:
    """The whole page.

    `verdict` is the outcome in one to four plain sentences, first thing on the page; it says so
    where MiniPLM lost. `regime` says how far the run is from the paper's regime (tokens per
    parameter). Texts may hold anything, markup and control characters too; `extra` is not drawn.
    """

    title: str
    created: str
    verdict: Sequence[str]
    regime: Sequence[str]
    stages: Sequence[StageRow]
    models: Sequence[ModelRow]
    selections: Sequence[SelectionSummary]
    curves: Sequence[TrainingCurves]
    baseline: str | None
    """Name of the student that the others are compared with."""
    held_out: Sequence[HeldOutRow]
    """One row per domain, then `average of domains`, then `all text`."""
    held_out_models: Sequence[str]
    equal_loss: Sequence[EqualLossRow]
    flops_by_share: Mapping[str, float]
    """FLOPs by who they serve: `teacher`, `reference`, `scoring`, `students`, `evaluation`."""
    dropped: Mapping[str, int]
    """Documents and sequences left out, by reason."""
    recipe_yaml: str
    versions: Mapping[str, str]
    notes: Sequence[str] = field(default_factory=tuple)
    candidates: CandidateTables = field(default_factory=CandidateTables)
    """Near-duplicates and groups, where they were looked for."""
    extra: Mapping[str, Any] = field(default_factory=dict)
