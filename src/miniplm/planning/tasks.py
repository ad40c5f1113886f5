"""What it costs to ask a model the tasks."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from miniplm.corpus_sizes import bytes_per_token
from miniplm.evaluation.asked_tasks import asked_tasks
from miniplm.evaluation.config import TaskName
from miniplm.evaluation.task_files import TaskSource
from miniplm.planning.basis import Basis
from miniplm.planning.cost import Cost, Load
from miniplm.planning.forward import forward_cost

_DISK_BYTES_PER_ITEM = 120
_LENGTH_WITHOUT_LIMIT = 2048
"""Positions that the harness takes a model to serve that says nothing of it."""


class _Size(NamedTuple):
    """Of a task: items that the hub has, choices of each, bytes of a choice, alone and prompted."""

    num_items: int
    num_choices: int
    choice: float
    prompted: float


_SIZES: Mapping[TaskName, _Size] = {
    "hellaswag": _Size(10_042, 4, 137, 366),
    "lambada_openai": _Size(5_153, 1, 7, 328),
    "winogrande": _Size(1_267, 2, 25, 106),
    "openbookqa": _Size(500, 4, 18, 73),
    "arc_easy": _Size(2_376, 4, 24, 155),
    "arc_challenge": _Size(1_172, 4, 30, 180),
    "piqa": _Size(1_838, 2, 99, 153),
    "social_iqa": _Size(1_954, 3, 20, 135),
    "storycloze": _Size(1_871, 2, 40, 230),
}
"""Bytes measured on the prompts of lm-eval 0.4.13 over the real items; of StoryCloze guessed."""


class _Read(NamedTuple):
    """What a model reads: tokens, those of choices alone, and items."""

    tokens: float
    targets: float
    items: int


def tasks_cost(basis: Basis, name: str) -> Cost:
    """Of asking a model the tasks; tokens are estimated from items and their usual lengths."""
    evaluation = basis.recipe.evaluation
    per_token = bytes_per_token(basis.corpora.vocab_size(basis.read_by(name)))
    served = getattr(basis.shape(name), "max_position_embeddings", None) or _LENGTH_WITHOUT_LIMIT
    read = [
        _read(source, evaluation.num_fewshot, evaluation.tasks_limit, per_token, served)
        for source in asked_tasks(evaluation).sources
    ]
    num_tokens = sum(one.tokens for one in read)
    forward = forward_cost(basis, name, num_tokens, evaluation.dtype)
    unseen = 1 - sum(one.targets for one in read) / num_tokens
    output_flops = basis.size(name).output_flops_per_token * (forward.num_tokens or 0.0)
    flops = (forward.flops or 0.0) - unseen * output_flops

    def load() -> Load:
        scoring = forward.load()
        return Load(scoring.seconds * flops / (forward.flops or 1.0), scoring.memory)

    num_items = sum(one.items for one in read)
    return replace(
        forward,
        flops=flops,
        num_bytes=_DISK_BYTES_PER_ITEM * num_items,
        load=load,
        note=f"{num_items:,} items of {len(read)} tasks; tokens are a rough guess",
    )


def _read(
    source: TaskSource, num_fewshot: int, limit: int | None, per_token: float, served: int
) -> _Read:
    size = _SIZES[source.task]
    there = _num_lines(source.items_file) if source.items_file else size.num_items
    num_items = min(there, limit or there)
    tokens = min(served, size.prompted * (1 + num_fewshot) / per_token)
    targets = min(served, size.choice / per_token)
    asked = num_items * size.num_choices
    return _Read(asked * tokens, asked * targets, num_items)


def _num_lines(file: Path) -> int:
    with file.open("rb") as lines:
        return sum(1 for line in lines if line.strip())
