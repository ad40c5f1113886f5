"""Accuracies on tasks, as plain data."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TaskResult:
    """How one model did on one task.

    Accuracies are shares from 0 to 1; `metric` is `acc_norm` or `acc`, `chance` what guessing
    gives, None where that says nothing (LAMBADA). `num_items` is None for an average of tasks,
    `standard_error` for a task of a single item.
    """

    task: str
    model: str
    metric: str
    value: float
    standard_error: float | None
    chance: float | None
    num_items: int | None


@dataclass(frozen=True)
class TaskDifference:
    """A model's accuracy less a baseline's on the same items, with a 95 % interval."""

    task: str
    model: str
    baseline: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class TaskContent:
    """All results, in the order that tasks and models are shown in; `average` names the last task.

    `differences` come from a paired test over items.
    """

    results: Sequence[TaskResult]
    num_fewshot: int = 0
    average: str | None = None
    differences: Sequence[TaskDifference] = field(default_factory=tuple)
