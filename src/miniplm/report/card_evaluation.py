"""The evaluation of a student in its model card, as the hub and a reader read it.

A card says what it said; its section "Evaluation" and the `model-index` of its metadata are
replaced, so writing the same figures again changes nothing.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from miniplm.errors import ArtefactError, reason_of
from miniplm.manifest import write_atomically
from miniplm.report.formats import readable
from miniplm.report.model_content import HeldOutRow
from miniplm.report.results import RESULTS_NAME, read_results
from miniplm.report.task_content import TaskResult

CARD_NAME = "README.md"
_BEGIN, _END = "<!-- evaluation -->", "<!-- end of evaluation -->"
_FRONT = re.compile(r"\A---\n(.*?\n)---\n", re.DOTALL)
_SECTION = re.compile(rf"\n*{_BEGIN}\n.*?{_END}\n", re.DOTALL)
_METRICS = {"acc": "accuracy", "acc_norm": "accuracy (normalised)"}


def write_evaluations(run_dir: Path) -> None:
    """Put the figures of a run's report into the cards of its students.

    A report may come back from where it was set aside, and then its figures do, too. Without a
    report, or a card, nothing is done.

    Raises:
        ArtefactError: The metadata of a card cannot be read; it stays as it is.
    """
    if not (run_dir / "report" / RESULTS_NAME).is_file():
        return
    results = read_results(run_dir)
    for model in results.models:
        path = run_dir / "train" / model.name / "model" / CARD_NAME
        if model.role != "student" or not path.is_file():
            continue
        answered = results.tasks.results if results.tasks else ()
        tasks = [result for result in answered if result.model == model.name]
        before = path.read_text(encoding="utf-8")
        try:
            after = with_evaluation(before, model.name, results.held_out, tasks)
        except yaml.YAMLError as error:
            raise ArtefactError(
                f"{path}: the metadata between its first two lines of --- is no YAML "
                f"({reason_of(error)}). Mend it, and run `miniplm report` again."
            ) from error
        if after != before:
            write_atomically(path, after)


def with_evaluation(
    card: str, model: str, held_out: Sequence[HeldOutRow], tasks: Sequence[TaskResult]
) -> str:
    """A card with the figures of a model; others that it had are gone.

    Args:
        card: Markdown, with or without metadata before it.
        model: Its name.
        held_out: Loss and bits per byte on held-out text, of this model and others.
        tasks: Its results on tasks.
    """
    rows = [row for row in held_out if model in row.loss and model in row.bits_per_byte]
    metadata, body = _split(_SECTION.sub("\n", card))
    metadata.pop("model-index", None)
    if not rows and not tasks:
        return _joined(metadata, body)
    metadata["model-index"] = [{"name": model, "results": _index(model, rows, tasks)}]
    section = f"{_BEGIN}\n{_section(model, rows, tasks)}{_END}\n"
    return f"{_joined(metadata, body).rstrip()}\n\n{section}"


def _split(card: str) -> tuple[dict[str, Any], str]:
    """Metadata and text of a card."""
    front = _FRONT.match(card)
    if front is None:
        return {}, card
    metadata = yaml.safe_load(front[1])
    return (dict(metadata) if isinstance(metadata, Mapping) else {}), card[front.end() :]


def _joined(metadata: Mapping[str, Any], body: str) -> str:
    if not metadata:
        return body
    written = yaml.safe_dump(dict(metadata), sort_keys=False, allow_unicode=True)
    return f"---\n{written}---\n{body}"


def _index(
    model: str, rows: Sequence[HeldOutRow], tasks: Sequence[TaskResult]
) -> list[dict[str, Any]]:
    """Results as the hub's metadata has them."""
    measured = [
        _entry(
            f"held-out text, {row.domain}",
            f"held-out-{_slug(row.domain)}",
            [
                {
                    "type": "bits_per_byte",
                    "name": "bits per byte",
                    "value": row.bits_per_byte[model],
                },
                {"type": "loss", "name": "loss, nats per token", "value": row.loss[model]},
            ],
        )
        for row in rows
    ]
    answered = [
        _entry(
            result.task,
            _slug(result.task),
            [
                {
                    "type": result.metric,
                    "name": _METRICS.get(result.metric, result.metric),
                    "value": result.value,
                }
            ],
        )
        for result in tasks
    ]
    return measured + answered


def _entry(name: str, type_: str, metrics: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "task": {"type": "text-generation", "name": "language modelling"},
        "dataset": {"name": _line(name), "type": type_},
        "metrics": metrics,
    }


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "unnamed"


def _section(model: str, rows: Sequence[HeldOutRow], tasks: Sequence[TaskResult]) -> str:
    lines = ["## Evaluation", ""]
    if rows:
        lines += [
            "On held-out text, lower is better; the average counts every domain alike.",
            "",
            "| domain | bytes | bits per byte | loss, nats per token |",
            "|---|---:|---:|---:|",
            *(
                f"| {_cell(row.domain)} | {row.num_bytes:,} | {row.bits_per_byte[model]:.4f} | "
                f"{row.loss[model]:.4f} |"
                for row in rows
            ),
            "",
        ]
    if tasks:
        lines += [
            "On tasks, accuracy with its standard error.",
            "",
            "| task | metric | items | accuracy | standard error | chance |",
            "|---|---|---:|---:|---:|---:|",
            *(_task_line(result) for result in tasks),
            "",
        ]
    return "\n".join(lines)


def _task_line(result: TaskResult) -> str:
    items = "" if result.num_items is None else f"{result.num_items:,}"
    chance = "" if result.chance is None else f"{result.chance:.3f}"
    error = "" if result.standard_error is None else f"{result.standard_error:.4f}"
    return (
        f"| {_cell(result.task)} | {result.metric} | {items} | {result.value:.4f} | {error} | "
        f"{chance} |"
    )


def _cell(text: str) -> str:
    """Text that ends neither a cell nor a comment, and opens no tag."""
    return re.sub(r"([\\`*_{}\[\]<>|])", r"\\\1", _line(text))


def _line(text: str) -> str:
    return " ".join(readable(text).split())
