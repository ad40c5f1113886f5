"""Accuracy on tasks: of each, and the average, with standard errors and what chance gives."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from miniplm.manifest import read_manifest

FACT = "tasks"


@dataclass(frozen=True)
class TaskResult:
    """A model's accuracy on a task.

    Args:
        task: Its name.
        metric: `acc_norm` where the task has it (log-probabilities of choices are divided by the
            length of their text), else `acc`.
        accuracy: By that metric, from 0 to 1.
        standard_error: Of the accuracy, over items; None of a single one.
        chance: What guessing gives: the mean of 1 / choices; 0 where a word is asked for.
        acc: Accuracy by plain log-probabilities.
        acc_norm: By those divided by length, where the task has it.
        num_items: Items asked.
        num_cut: Of these, how many had a prompt that did not fit and lost its beginning.
        examples_from: File of the solved examples, or `hub`; empty where there were none.
    """

    task: str
    metric: str
    accuracy: float
    standard_error: float | None
    chance: float
    acc: float
    acc_norm: float | None
    num_items: int
    num_cut: int
    examples_from: str = ""


@dataclass(frozen=True)
class TaskResults:
    """A model's accuracy on several tasks.

    Args:
        tasks: One result a task.
        average: Mean of the accuracies, each task counting once.
        standard_error: Of the average; tasks are independent samples.
        chance: Mean of what guessing gives.
        num_fewshot: Solved examples before each item.
        limit: Items asked of each task at most; None for all.
        left_out: Tasks of `all` that could not be had, with the reason.
        harness: Version of lm-evaluation-harness.
    """

    tasks: tuple[TaskResult, ...]
    average: float
    standard_error: float | None
    chance: float
    num_fewshot: int
    limit: int | None
    left_out: Mapping[str, str]
    harness: str

    @property
    def average_of(self) -> str:
        """What the average is over, such as `average of 8`."""
        return f"average of {len(self.tasks)}"


def task_result(items: pl.DataFrame, examples_from: str) -> TaskResult:
    """The accuracy on one task.

    Args:
        items: As `task_items.read_items` gives them.
        examples_from: As in the result.
    """
    has_norm = items["acc_norm"].null_count() == 0
    metric = "acc_norm" if has_norm else "acc"
    num_choices = items["log_probs"].list.len().to_list()
    chances = [0.0 if count == 1 else 1 / count for count in num_choices]
    return TaskResult(
        task=items["task"][0],
        metric=metric,
        accuracy=_mean(items[metric].to_list()),
        standard_error=standard_error(items[metric].to_list()),
        chance=_mean(chances),
        acc=_mean(items["acc"].to_list()),
        acc_norm=_mean(items["acc_norm"].to_list()) if has_norm else None,
        num_items=len(items),
        num_cut=int(items["is_cut"].sum()),
        examples_from=examples_from,
    )


def task_results(
    tasks: Sequence[TaskResult],
    num_fewshot: int,
    limit: int | None,
    left_out: Mapping[str, str],
    harness: str,
) -> TaskResults:
    """Results of several tasks with their average; arguments are the fields of the result."""
    errors = [task.standard_error for task in tasks]
    known = [error for error in errors if error is not None]
    return TaskResults(
        tasks=tuple(tasks),
        average=_mean([task.accuracy for task in tasks]),
        standard_error=math.hypot(*known) / len(tasks) if len(known) == len(tasks) else None,
        chance=_mean([task.chance for task in tasks]),
        num_fewshot=num_fewshot,
        limit=limit,
        left_out=left_out,
        harness=harness,
    )


def standard_error(values: Sequence[float]) -> float | None:
    """Of the mean: the sample's standard deviation over the root of its size; None of one value.

    Example:
        >>> round(standard_error([0.0, 1.0, 1.0, 0.0, 1.0]), 6)
        0.244949
    """
    if len(values) < 2:
        return None
    mean = _mean(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return math.sqrt(variance / len(values))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def results_as_fact(results: TaskResults) -> dict[str, Any]:
    """Plain values for a manifest."""
    return asdict(results)


def read_task_results(folder: Path) -> TaskResults | None:
    """A model's results from the folder of its step, such as `RUN/tasks/plain`.

    Args:
        folder: Has a manifest; the items of each task are beside it (`task_items.items_path`).

    Returns:
        None where the step has not finished.

    Raises:
        ArtefactError: The manifest is damaged.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        return None
    fields = dict(manifest.facts[FACT])
    return TaskResults(**fields | {"tasks": tuple(TaskResult(**task) for task in fields["tasks"])})
