"""A sample of the candidates, row by row, as plain data: what the scatter and the browser show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class SampledRow:
    """A candidate; losses are in the unit of the sample.

    `kept` has an entry for each selection of the sample, in their order. `text` may be cut; it is
    None where only the losses are shown.
    """

    sequence_id: int
    domain: str
    source: str
    teacher_loss: float
    reference_loss: float
    kept: Sequence[bool]
    text: str | None = None

    @property
    def difference_score(self) -> float:
        """How much better the teacher predicts it, uncalibrated."""
        return self.reference_loss - self.teacher_loss


@dataclass(frozen=True)
class SampledRows:
    """Some of the candidates, drawn without a look at their scores.

    `normalization` names the unit of the losses as in the recipe. `thresholds` holds the lowest
    kept difference score of the selections in this unit that keep exactly what lies above it.
    """

    normalization: str
    num_candidates: int
    selections: Sequence[str]
    rows: Sequence[SampledRow]
    thresholds: Mapping[str, float] = field(default_factory=dict)
