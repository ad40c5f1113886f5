"""Which tasks a config asks for, and what can be known to be wrong with them beforehand."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from miniplm.errors import ConfigError
from miniplm.evaluation.config import NINE, EvaluationConfig, TaskName
from miniplm.evaluation.task_files import TaskSource

_NOT_ON_THE_HUB: Mapping[TaskName, str] = {
    "storycloze": "its authors give it out on request only; ask them, and put storycloze.jsonl "
    "into a folder for evaluation.tasks_dir",
}


@dataclass(frozen=True)
class Asked:
    """The tasks that are asked for and can be had.

    Args:
        sources: Where each comes from, in the order of `NINE`.
        left_out: Of `all`, those that cannot be had, with the reason.
    """

    sources: list[TaskSource]
    left_out: dict[str, str]


def asked_tasks(config: EvaluationConfig) -> Asked:
    """Which tasks to do, of those that a config asks for.

    Raises:
        ConfigError: The folder is missing, one that is asked for by name is not in it, or none of
            `all` is.
    """
    wanted = NINE if config.tasks == "all" else [task for task in NINE if task in config.tasks]
    folder = Path(config.tasks_dir).expanduser() if config.tasks_dir else None
    if wanted and folder and not folder.is_dir():
        raise ConfigError("evaluation", [f"evaluation.tasks_dir: there is no folder {folder}"])
    absent: dict[str, str] = {task: reason for task in wanted if (reason := _absence(task, folder))}
    found = [TaskSource(task, folder) for task in wanted if task not in absent]
    if absent and (config.tasks != "all" or not found):
        raise ConfigError("evaluation", _absence_faults(absent, folder))
    return Asked(found, absent)


def _absence(task: TaskName, folder: Path | None) -> str:
    """Why a task cannot be had; empty if it can."""
    if folder is None:
        return _NOT_ON_THE_HUB.get(task, "")
    return "" if (folder / f"{task}.jsonl").is_file() else f"no {task}.jsonl in {folder}"


def _absence_faults(absent: Mapping[str, str], folder: Path | None) -> list[str]:
    there = [task for task in NINE if folder and not _absence(task, folder)]
    hint = f"; there: {', '.join(there) or 'none of the nine'}" if folder else ""
    return [f"evaluation.tasks: {task}: {reason}{hint}" for task, reason in absent.items()]


def check_tasks(config: EvaluationConfig) -> None:
    """Find out, before any work is done, what is wrong with the tasks that a config asks for.

    Raises:
        ConfigError: The harness is not installed, a file is missing or damaged, or there are too
            few solved examples.
    """
    if not config.tasks:
        return
    harness_version()
    for source in asked_tasks(config).sources:
        if source.items_file and source.examples_file:
            _check_files(source, source.items_file, source.examples_file, config.num_fewshot)


def _check_files(source: TaskSource, items: Path, examples: Path, num_fewshot: int) -> None:
    source.rows(items)
    if num_fewshot == 0:
        return
    spare = len(source.rows(examples)) - (examples == items)
    if spare < num_fewshot:
        beside = " beside the item at hand" if examples == items else ""
        raise ConfigError(
            "evaluation",
            [
                f"evaluation.num_fewshot: {source.task}: {num_fewshot} solved examples are asked "
                f"for and {examples} has {spare}{beside}; give more as "
                f"{source.task}-validation.jsonl, or ask for fewer"
            ],
        )


def answer_settings(config: EvaluationConfig) -> dict[str, Any]:
    """What answers to the items of a task depend on, beside model, dtype and items."""
    return {
        "num_fewshot": config.num_fewshot,
        "limit": config.tasks_limit,
        "harness": harness_version(),
    }


def step_settings(config: EvaluationConfig) -> dict[str, Any]:
    """What a model's results depend on, beside the model and `item_fingerprints`."""
    tasks = [source.task for source in asked_tasks(config).sources]
    return {"dtype": config.dtype, "tasks": tasks, **answer_settings(config)}


def item_fingerprints(config: EvaluationConfig) -> dict[str, str]:
    """Fingerprints of the items of each task, and of its solved examples."""
    return {
        f"items/{source.task}": source.fingerprint(config.num_fewshot)
        for source in asked_tasks(config).sources
    }


def harness_version() -> str:
    """Version of lm-evaluation-harness, which is not imported for it.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        return metadata.version("lm_eval")
    except metadata.PackageNotFoundError:
        raise ConfigError(
            "evaluation",
            [
                "evaluation.tasks: tasks need lm-evaluation-harness, which is not installed: "
                "pip install 'miniplm[tasks]', or take the tasks out"
            ],
        ) from None
