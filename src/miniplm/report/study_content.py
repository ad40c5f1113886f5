"""The outcome of a study, as plain data: each method and size over several seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class StudyRow:
    """A method at a size; the measure is the study's, lower is better.

    `values` are by seed. `difference` is the mean of the baseline's of the same size taken from
    this one's seed by seed, `low` and `high` the ends of its 95 % interval; None for the baseline.
    `compute_saved` says how many times less training compute it needed to the same loss (a
    geometric mean over seeds), and `compute_saved_by_seed` of each; `is_at_equal_compute`, whether
    its students were trained with as much as the baseline's, and `relative_compute`, with how many
    times as much.
    """

    method: str
    size: str
    mean: float
    standard_deviation: float | None
    values: Mapping[int, float]
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    compute_saved: float | None = None
    compute_saved_by_seed: Sequence[float] = ()
    is_at_equal_compute: bool = True
    relative_compute: float = 1.0
    num_params: int | None = None
    seeds_better: int | None = None

    @property
    def num_seeds(self) -> int:
        """Seeds that the mean is over."""
        return len(self.values)

    @property
    def is_told_apart(self) -> bool:
        """Whether the interval leaves out zero; not known of a single seed."""
        return self.low is not None and self.high is not None and self.low * self.high > 0


@dataclass(frozen=True)
class LeadRow:
    """Teacher and reference on the candidates of a domain, before students were trained.

    Losses in nats per unit of the normalisation. `ahead` is the mean difference score, `deviation`
    its spread within the domain, `behind` the share of rows with a score below 0. `gain` is what a
    student held apart gained on the sampled rows, `rank` the rank correlation of score and gain.
    """

    domain: str
    num_rows: int
    teacher: float
    reference: float
    ahead: float
    deviation: float
    behind: float
    gain: float | None = None
    rank: float | None = None


@dataclass(frozen=True)
class LeadContent:
    """What was known of the scores before students were trained; the largest lead first."""

    rows: Sequence[LeadRow]
    unit: str
    findings: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True)
class StudyContent:
    """A study; `measure` names what was measured, with its unit, `findings` are sentences."""

    measure: str
    baseline: str
    rows: Sequence[StudyRow]
    findings: Sequence[str] = field(default_factory=tuple)
    lead: LeadContent | None = None
