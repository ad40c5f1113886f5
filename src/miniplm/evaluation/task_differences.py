"""Two models on the same items of tasks: paired differences of each task, and of their average."""

from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from miniplm.errors import ArtefactError
from miniplm.evaluation.config import TaskName
from miniplm.evaluation.difference import Difference
from miniplm.evaluation.paired_items import paired_average, paired_items
from miniplm.evaluation.task_results import TaskResults
from miniplm.evaluation.task_tables import items_path, read_items


def task_differences(
    ours: Path, theirs: Path, results: TaskResults
) -> tuple[dict[str, Difference], Difference]:
    """How much more often a model is right than another, by task and averaged over tasks.

    Args:
        ours: Folder of a model's results.
        theirs: Of the model it is compared with, which was asked the same.
        results: Of either; names the tasks and their metrics.

    Returns:
        The differences in accuracy, from -1 to 1, by task, and that of the average.

    Raises:
        ArtefactError: A file is missing or damaged, or the items are not the same.
    """
    pairs = {task.task: _correct(ours, theirs, task.task, task.metric) for task in results.tasks}
    by_task = {name: paired_items(*pair) for name, pair in pairs.items()}
    return by_task, paired_average(list(pairs.values()))


def _correct(
    ours: Path, theirs: Path, task: str, metric: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Whether each model was right on each item, `[N]`, in the order of the items."""
    mine, other = (
        read_items(items_path(folder, cast(TaskName, task))).sort("item")
        for folder in (ours, theirs)
    )
    if mine["item_hash"].to_list() != other["item_hash"].to_list():
        raise ArtefactError(f"{ours} and {theirs} were asked other items of {task}; ask again")
    first, second = (table[metric].to_numpy().astype(np.float64) for table in (mine, other))
    return first, second
