"""Accuracies on tasks as the report shows them, with differences on the same items."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from miniplm.evaluation.config import TaskName
from miniplm.evaluation.paired_items import paired_items
from miniplm.evaluation.task_results import TaskResults, read_task_results
from miniplm.evaluation.task_tables import items_path, read_items
from miniplm.report.run_record import RunRecord
from miniplm.report.task_content import TaskContent, TaskDifference, TaskResult

FOLDER = "tasks"


def read_tasks(record: RunRecord, groups: Sequence[Sequence[str]]) -> TaskContent | None:
    """The tasks of a run; None where none were asked.

    Args:
        record: Of the run.
        groups: Students that are compared, the baseline first.

    Raises:
        ArtefactError: A file is missing or damaged.
    """
    found = {
        name: read_task_results(_folder(record, name))
        for name in record.roles
        if f"{FOLDER}/{name}" in record.manifests  # or they are of another recipe
    }
    results = {name: result for name, result in found.items() if result is not None}
    if not results:
        return None
    first = next(iter(results.values()))
    return TaskContent(
        results=[row for name, result in results.items() for row in _rows(name, result)],
        num_fewshot=first.num_fewshot,
        average=first.average_of,
        differences=_differences(record, results, groups),
    )


def _folder(record: RunRecord, model: str) -> Path:
    return record.run.run_dir / FOLDER / model


def _rows(model: str, results: TaskResults) -> list[TaskResult]:
    rows = [
        TaskResult(
            task=task.task,
            model=model,
            metric=task.metric,
            value=task.accuracy,
            standard_error=task.standard_error,
            chance=task.chance or None,
            num_items=task.num_items,
        )
        for task in results.tasks
    ]
    average = TaskResult(
        task=results.average_of,
        model=model,
        metric="mean",
        value=results.average,
        standard_error=results.standard_error,
        chance=results.chance,
        num_items=None,
    )
    return [*rows, average]


def _differences(
    record: RunRecord, results: Mapping[str, TaskResults], groups: Sequence[Sequence[str]]
) -> list[TaskDifference]:
    """Each student against the first of its group, task by task, on the items of both; those of
    too few items for an interval are left out.
    """
    found = [
        _difference(record, task.task, task.metric, student, asked[0])
        for group in groups
        if (asked := [name for name in group if name in results])
        for student in asked[1:]
        for task in results[student].tasks
    ]
    return [difference for difference in found if difference]


def _difference(
    record: RunRecord, task: str, metric: str, student: str, baseline: str
) -> TaskDifference | None:
    found = paired_items(
        _correct(record, student, task, metric), _correct(record, baseline, task, metric)
    )
    if found.interval is None:
        return None
    return TaskDifference(task, student, baseline, found.value, *found.interval)


def _correct(record: RunRecord, model: str, task: str, metric: str) -> NDArray[np.float64]:
    """Whether a model was right on each item, `[N]`, in the order of the items."""
    items = read_items(items_path(_folder(record, model), cast(TaskName, task))).sort("item")
    return items[metric].to_numpy().astype(np.float64)
