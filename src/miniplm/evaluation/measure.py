"""Measuring several models with one command, without a recipe.

Each kind of measurement is a function of (models, config, folder) that keeps what it does in
`folder/KIND/MODEL/`, skips what is there, and adds its figures to `folder/results.json`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from miniplm.config import validate
from miniplm.errors import ArtefactError
from miniplm.evaluation.asked_tasks import check_tasks, item_fingerprints, step_settings
from miniplm.evaluation.config import EvaluationConfig
from miniplm.evaluation.measured_models import MeasuredModel
from miniplm.evaluation.task_results import FACT, TaskResults, read_task_results
from miniplm.evaluation.task_tables import ITEMS_FOLDER
from miniplm.manifest import Outcome, StageSpec, write_json
from miniplm.runtime.log import logger
from miniplm.stage_runner import run_stage

RESULTS_NAME = "results.json"
SUPERSEDED = "superseded"
"""Folder of measurements of other settings, beside those of today."""


def tasks_config(
    tasks: str, tasks_dir: str | None, num_fewshot: int, limit: int | None, dtype: str
) -> EvaluationConfig:
    """The config of a measurement, checked.

    Args:
        tasks: `all`, or names with commas between them.
        tasks_dir: As in the config, and so are the others.
        num_fewshot: Solved examples before each item.
        limit: First items of each task.
        dtype: That the models compute in.

    Raises:
        ConfigError: A value is wrong, a task cannot be had, or the harness is not installed.
    """
    names = [name.strip() for name in tasks.split(",")]
    content = {
        "tasks": "all" if names == ["all"] else names,
        "tasks_dir": tasks_dir,
        "num_fewshot": num_fewshot,
        "tasks_limit": limit,
        "dtype": dtype,
    }
    config = validate(EvaluationConfig, content, "measure")
    check_tasks(config)
    return config


def measure_tasks(
    models: Sequence[MeasuredModel], config: EvaluationConfig, folder: Path
) -> dict[str, TaskResults]:
    """Ask models the tasks of a config; a model that was asked already is skipped.

    Args:
        models: Each once.
        config: Which tasks, and how.
        folder: Of all measurements.

    Returns:
        Results by the name of the model, in order.

    Raises:
        ConfigError: A task cannot be had.
        DocumentError: Items are damaged.
        ModelError: A model cannot be read or asked.
    """
    found = {model.name: _ask(model, config, folder) for model in models}
    content = {name: asdict(results) for name, results in found.items()}
    add_results(folder, FACT, content)
    return found


def task_folders(models: Sequence[MeasuredModel], folder: Path) -> dict[str, Path]:
    """Where the results of models are, by their names.

    Args:
        models: Each once.
        folder: Of all measurements.
    """
    return {model.name: folder / FACT / model.folder_name for model in models}


def _ask(model: MeasuredModel, config: EvaluationConfig, folder: Path) -> TaskResults:
    """Ask one model, in a folder of its own."""
    place = task_folders([model], folder)[model.name]

    def work(into: Path) -> Outcome:
        from miniplm.evaluation.tasks import evaluate_tasks

        logger.info("%s: tasks", model.name)
        return evaluate_tasks(model.load(config.dtype), model.tokenizer(), config, into)

    run_stage(
        place, _task_spec(model, config), work, set_aside=folder / SUPERSEDED,
        judged=(ITEMS_FOLDER,),
    )  # fmt: skip
    results = read_task_results(place)
    assert results is not None
    return results


def _task_spec(model: MeasuredModel, config: EvaluationConfig) -> StageSpec:
    inputs = {"model": model.config.origin_fingerprint, **item_fingerprints(config)}
    return StageSpec(f"{FACT}/{model.folder_name}", step_settings(config), inputs)


def add_results(folder: Path, kind: str, content: Mapping[str, Any]) -> None:
    """Add the figures of one kind of measurement to `results.json`; those of others stay.

    Args:
        folder: Of all measurements.
        kind: Such as `tasks`.
        content: Figures by the name of the model; models of an earlier call stay.

    Raises:
        ArtefactError: The file that is there is damaged.
    """
    path = folder / RESULTS_NAME
    try:
        results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise ArtefactError(f"{path} is damaged ({error}). Remove it and measure again.") from error
    results[kind] = results.get(kind, {}) | content
    write_json(path, results)
