"""The tasks of a model, one after another: what is asked, what is kept, what comes of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from miniplm.data.parquet import follows_from
from miniplm.evaluation.asked_tasks import answer_settings, asked_tasks, harness_version
from miniplm.evaluation.config import EvaluationConfig
from miniplm.evaluation.harness import build_task, quiet_harness
from miniplm.evaluation.harness_model import HarnessModel
from miniplm.evaluation.task_files import TaskSource
from miniplm.evaluation.task_items import ask_items
from miniplm.evaluation.task_results import (
    FACT,
    TaskResult,
    TaskResults,
    results_as_fact,
    task_result,
    task_results,
)
from miniplm.evaluation.task_tables import items_path, keep_items, read_items, write_items
from miniplm.manifest import Outcome
from miniplm.model_checks import check_causal_head
from miniplm.model_size import size_of
from miniplm.runtime.log import logger
from miniplm.scoring.preparation import prepare_model
from miniplm.scoring.scoring_model import ScoringModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def evaluate_tasks(
    scorer: ScoringModel,
    tokenizer: "PreTrainedTokenizerBase",
    config: EvaluationConfig,
    folder: Path,
    memory_gb: float | None = None,
) -> Outcome:
    """Ask a model the tasks of a config; items go to `folder/items`, results into the manifest.

    A task whose items are there already, of this model and these settings, is not asked again.

    Args:
        scorer: The model, on the device it is to run on.
        tokenizer: Its own.
        config: Which tasks, and how.
        folder: Where items go.
        memory_gb: As `ScoringConfig.memory_gb`.

    Raises:
        ConfigError: A task cannot be had.
        DocumentError: Its items are damaged.
        ModelError: The model's logits are not those of its output layer, or not finite, or its
            tokenizer is another model's.
    """
    asked = asked_tasks(config)
    for task, reason in asked.left_out.items():
        logger.warning("%s is left out, and the average is without it: %s", task, reason)
    check_causal_head(scorer.model)
    prepare_model(scorer.model)
    with quiet_harness():
        model = HarnessModel(scorer.model, tokenizer, memory_gb)
        done = [_do_task(model, scorer, source, config, folder) for source in asked.sources]
    keep_items(folder, [source.task for source in asked.sources])
    results = task_results(
        [result for result, _ in done],
        config.num_fewshot,
        config.tasks_limit,
        asked.left_out,
        harness_version(),
    )
    return _outcome(scorer.model, results, pl.concat([items for _, items in done]))


def _do_task(
    model: HarnessModel,
    scorer: ScoringModel,
    source: TaskSource,
    config: EvaluationConfig,
    folder: Path,
) -> tuple[TaskResult, pl.DataFrame]:
    """Ask one task, unless its items are there."""
    path = items_path(folder, source.task)
    origin = {
        "model": scorer.fingerprint,
        "dtype": scorer.dtype,
        "max_length": model.limits.max_length,
        **answer_settings(config),
        "rows": source.fingerprint(config.num_fewshot),
    }
    if not follows_from(path, origin):
        task = build_task(source, config.num_fewshot)
        items = ask_items(model, task, source.task, config.num_fewshot, config.tasks_limit)
        write_items(path, items, origin)
    found = read_items(path)
    result = task_result(found, source.examples_from(config.num_fewshot))
    logger.info("%s", _sentence(result))
    return result, found


def _sentence(result: TaskResult) -> str:
    error = "" if result.standard_error is None else f" ± {result.standard_error:.3f}"
    cut = f"; {result.num_cut} cut on the left to fit" if result.num_cut else ""
    return (
        f"{result.task}: {result.metric} {result.accuracy:.3f}{error}, chance {result.chance:.3f}, "
        f"{result.num_items} items{cut}"
    )


def _outcome(model: "PreTrainedModel", results: TaskResults, items: pl.DataFrame) -> Outcome:
    num_tokens, num_targets = int(items["num_tokens"].sum()), int(items["num_targets"].sum())
    windows = int(items["log_probs"].list.len().sum())
    size = size_of(model, max(1, num_tokens // windows))
    body = size.forward_flops_per_token - size.output_flops_per_token
    counts: Mapping[str, int] = {
        "items": len(items),
        "tasks": len(results.tasks),
        "tasks_left_out": len(results.left_out),
        "cut": int(items["is_cut"].sum()),
    }
    return Outcome(
        counts=counts,
        num_tokens=num_tokens,
        flops=body * num_tokens + size.output_flops_per_token * num_targets,
        facts={FACT: results_as_fact(results)},
    )
