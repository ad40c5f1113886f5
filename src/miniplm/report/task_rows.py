"""Accuracies on tasks as the report shows them, with differences on the same items."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from miniplm.evaluation.task_differences import task_differences
from miniplm.evaluation.task_results import TaskResults, read_task_results
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
    return [
        row
        for group in groups
        if (asked := [name for name in group if name in results])
        for student in asked[1:]
        for row in _against(record, student, asked[0], results[student])
    ]


def _against(
    record: RunRecord, student: str, baseline: str, results: TaskResults
) -> list[TaskDifference]:
    """By task, and of the average."""
    by_task, average = task_differences(
        _folder(record, student), _folder(record, baseline), results
    )
    return [
        TaskDifference(task, student, baseline, found.value, *found.interval)
        for task, found in {**by_task, results.average_of: average}.items()
        if found.interval is not None
    ]
