"""Asking a model the items of a task.

This module imports the harness; import it only where tasks are asked for.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask

from miniplm.errors import DocumentError, reason_of
from miniplm.evaluation.config import TaskName
from miniplm.evaluation.continuations import Answer
from miniplm.evaluation.harness import PROMPT_ERRORS
from miniplm.evaluation.harness_model import HarnessModel
from miniplm.evaluation.task_tables import ITEM_SCHEMA


class _Asked(NamedTuple):
    """An item with what is asked of the model."""

    place: int
    doc: dict[str, Any]
    instances: list[Instance]
    choices: list[str]
    gold: int


def ask_items(
    model: HarnessModel,
    task: ConfigurableTask,
    name: TaskName,
    num_fewshot: int,
    limit: int | None,
) -> pa.Table:
    """Ask a model the items of a task; a row for each, in order.

    Args:
        model: Answers.
        task: The harness's.
        name: Of the task.
        num_fewshot: Solved examples before each item.
        limit: Asks so many items only, the first ones.

    Raises:
        DocumentError: The prompts cannot use an item, or its answer is none of its choices.
        ModelError: The model does not answer in finite numbers, or has no memory for an item.
    """
    asked = list(_instances(task, name, num_fewshot, limit))
    answers = iter(model.ask([instance for item in asked for instance in item.instances]))
    rows = [_row(task, name, item, [next(answers) for _ in item.instances]) for item in asked]
    return pa.Table.from_pylist(rows, schema=ITEM_SCHEMA)


def _instances(
    task: ConfigurableTask, name: TaskName, num_fewshot: int, limit: int | None
) -> Iterator[_Asked]:
    """Items as the harness's own loop makes them, in its order: examples are drawn one by one."""
    for place, doc in task.doc_iterator(limit=limit):
        try:
            prefix = task.doc_to_prefix(doc)
            context = task.fewshot_context(doc=doc, num_fewshot=num_fewshot, gen_prefix=prefix)
            made = task.construct_requests(doc=doc, ctx=context, metadata=(name, place, 1))
            choices, gold = _choices(task, doc)
        except PROMPT_ERRORS as error:
            raise DocumentError(f"{name}, item {place}: {reason_of(error)}") from error
        yield _Asked(place, doc, made if isinstance(made, list) else [made], choices, gold)


def _row(
    task: ConfigurableTask, name: TaskName, item: _Asked, answers: Sequence[Answer]
) -> dict[str, Any]:
    metrics = task.process_results(item.doc, [answer[:2] for answer in answers])
    return {
        "task": name,
        "item": item.place,
        "item_hash": item_hash(item.doc),
        "gold": item.gold,
        "log_probs": [answer.log_prob for answer in answers],
        "is_greedy": [answer.is_greedy for answer in answers],
        "num_chars": [len(choice) for choice in item.choices],
        "num_bytes": [len(choice.encode()) for choice in item.choices],
        "acc": float(metrics["acc"]),
        "acc_norm": float(metrics["acc_norm"]) if "acc_norm" in metrics else None,
        "is_cut": any(answer.is_cut for answer in answers),
        "num_tokens": sum(answer.num_positions for answer in answers),
        "num_targets": sum(answer.num_targets for answer in answers),
    }


def _choices(task: ConfigurableTask, doc: dict[str, Any]) -> tuple[list[str], int]:
    """Texts of the choices, and which is right; of a text to be continued, its only one.

    Raises:
        ValueError: The right one is none of them, which the harness counts as wrong.
    """
    if task.OUTPUT_TYPE == "loglikelihood":
        return [task.doc_to_target(doc)], 0
    choices = task.doc_to_choice(doc)
    gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    if not isinstance(gold, int) or not 0 <= gold < len(choices):
        raise ValueError(
            f"its answer is {gold!r} and it has {len(choices)} choices; the answer has to be one "
            "of them"
        )
    return choices, gold


def item_hash(doc: dict[str, Any]) -> str:
    """SHA-256 of an item as the harness has it in the samples that it logs."""
    text = json.dumps(doc, indent=2, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
