"""Accuracies of several models as lines of a table: a task each, then the average."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from miniplm.evaluation.config import NINE
from miniplm.evaluation.difference import Difference
from miniplm.evaluation.measured_models import short_names
from miniplm.evaluation.task_differences import task_differences
from miniplm.evaluation.task_results import TaskResult, TaskResults

CUT = "prompts cut"


def task_lines(results: Mapping[str, TaskResults]) -> list[list[str]]:
    """Lines of words, headings first; accuracies in per cent with their standard errors.

    Args:
        results: By name or folder of the model, all of the same tasks.
    """
    by_task = [{task.task: task for task in found.tasks} for found in results.values()]
    tasks = [task for task in NINE if task in by_task[0]]
    first = next(iter(results.values()))
    lines = [["task", "metric", "items", *short_names(list(results)), "chance"]]
    lines += [_line([tasks_of[task] for tasks_of in by_task]) for task in tasks]
    averages = [_cell(found.average, found.standard_error) for found in results.values()]
    lines.append([first.average_of, "", "", *averages, f"{100 * first.chance:.1f}"])
    cut = [sum(task.num_cut for task in found.tasks) for found in results.values()]
    if any(cut):
        total = sum(task.num_items for task in first.tasks)
        lines.append([CUT, "", f"{total:,}", *(f"{count:,}" for count in cut), ""])
    return lines


def difference_lines(
    results: Mapping[str, TaskResults], folders: Mapping[str, Path]
) -> list[list[str]]:
    """Lines of words, headings first: points of accuracy that models have more than the first.

    Args:
        results: By name or folder of the model, two at least, all of the same tasks.
        folders: Where each model's results are.

    Raises:
        ArtefactError: A file is missing or damaged, or models were not asked the same items.
    """
    first, *others = results
    found = [task_differences(folders[name], folders[first], results[name]) for name in others]
    lines = [
        [task.task, *(_points(by_task[task.task]) for by_task, _ in found)]
        for task in results[first].tasks
    ]
    headings = ["task", *short_names(list(results))[1:]]
    return [headings, *lines, [results[first].average_of, *(_points(each) for _, each in found)]]


def _points(found: Difference) -> str:
    ends = ", ".join(f"{100 * end:+.1f}" for end in found.interval or ())
    return f"{100 * found.value:+.1f}" + (f" [{ends}]" if ends else "")


def _line(results: Sequence[TaskResult]) -> list[str]:
    cells = [_cell(result.accuracy, result.standard_error) for result in results]
    task = results[0]
    return [task.task, task.metric, f"{task.num_items:,}", *cells, f"{100 * task.chance:.1f}"]


def _cell(accuracy: float, standard_error: float | None) -> str:
    """Such as `25.3 ± 1.2`.

    Example:
        >>> _cell(0.2534, 0.0123), _cell(1.0, None)
        ('25.3 ± 1.2', '100.0')
    """
    error = "" if standard_error is None else f" ± {100 * standard_error:.1f}"
    return f"{100 * accuracy:.1f}{error}"
