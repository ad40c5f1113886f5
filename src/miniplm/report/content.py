"""What the report says, as plain data: gathered by `collect`, drawn by `page`.

Losses are in nats per token, means over tokens. FLOPs are counted from the shapes. Everything
here can be shown as it is; nothing is computed when the page is drawn but positions and colours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from miniplm.evaluation.difference import Difference
from miniplm.report.candidate_tables import CandidateTables
from miniplm.report.cost_content import CostContent
from miniplm.report.model_content import EqualLossRow, HeldOutRow, ModelRow, TrainingCurves
from miniplm.report.proxy_content import PredictedScores
from miniplm.report.rows_content import SampledRows
from miniplm.report.scaling_content import ScalingContent
from miniplm.report.selection_content import SelectionSummary
from miniplm.report.study_content import StudyContent
from miniplm.report.task_content import TaskContent
from miniplm.report.text_content import TextContent


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
    """Name of the first student, which others are compared with but for `baselines`."""
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
    predicted: PredictedScores | None = None
    """How the teacher's scores were predicted, where they were."""
    notes: Sequence[str] = field(default_factory=tuple)
    candidates: CandidateTables = field(default_factory=CandidateTables)
    """Near-duplicates and groups, where they were looked for."""
    rows: SampledRows | None = None
    """Some of the candidates, to be looked at one by one."""
    cost: CostContent | None = None
    differences: Mapping[str, Difference] = field(default_factory=dict)
    """Of students from the baseline on the same documents: bits per byte averaged over domains."""
    texts: Sequence[TextContent] = field(default_factory=tuple)
    """Further texts that models were measured on."""
    tasks: TaskContent | None = None
    scaling: ScalingContent | None = None
    study: StudyContent | None = None
    tokenizers: Mapping[str, str] = field(default_factory=dict)
    """What each model reads, by any name; losses per token compare where it is the same."""
    baselines: Mapping[str, str | None] = field(default_factory=dict)
    """Students that are compared with another than `baseline`, or with none: the first of their own
    shape, tokenizer and seed."""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def baseline_of(self, student: str) -> str | None:
        """What a student is compared with; itself, where it is a baseline."""
        return self.baselines.get(student, self.baseline)

    @property
    def has_baselines(self) -> bool:
        """Whether students are not all compared with one."""
        return bool({*self.baselines.values()} - {self.baseline, None})

    @property
    def baseline_words(self) -> str:
        """What each student is compared with, to be read."""
        return "its baseline" if self.has_baselines else self.baseline or ""

    def share_tokens(self, model: str, other: str | None) -> bool:
        """Whether two models read the same tokenizer, so that their losses compare."""
        return self.tokenizers.get(model) == self.tokenizers.get(other or "")
