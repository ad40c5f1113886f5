"""Where the items of a task come from: a folder of JSON lines, or the hub.

In a folder, `TASK.jsonl` holds the items that are asked, with the fields that the harness's own
prompts read. Solved examples come from `TASK-train.jsonl`, else from `TASK-validation.jsonl`, else
from `TASK.jsonl` itself, the item at hand left out.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from miniplm.errors import DocumentError, reason_of
from miniplm.evaluation.config import TaskName
from miniplm.known_files import fingerprint_files

_ARC = ("question", "choices", "answerKey")
_FIELDS: Mapping[TaskName, tuple[str, ...]] = {
    "hellaswag": ("activity_label", "ctx_a", "ctx_b", "endings", "label"),
    "lambada_openai": ("text",),
    "winogrande": ("sentence", "option1", "option2", "answer"),
    "openbookqa": ("question_stem", "choices", "answerKey"),
    "arc_easy": _ARC,
    "arc_challenge": _ARC,
    "piqa": ("goal", "sol1", "sol2", "label"),
    "social_iqa": ("context", "question", "answerA", "answerB", "answerC", "label"),
    "storycloze": (
        *(f"input_sentence_{number}" for number in range(1, 5)),
        "sentence_quiz1",
        "sentence_quiz2",
        "answer_right_ending",
    ),
}
"""What the harness's prompts read of an item."""

_EXAMPLE_FILES = ("train", "validation")
HUB = "hub"


@dataclass(frozen=True)
class TaskSource:
    """Where a task's items and solved examples come from.

    Args:
        task: Its name.
        folder: Of the files; None for the hub.
    """

    task: TaskName
    folder: Path | None

    @property
    def items_file(self) -> Path | None:
        """The items that are asked; None on the hub."""
        return self.folder / f"{self.task}.jsonl" if self.folder else None

    @cached_property
    def examples_file(self) -> Path | None:
        """The file that solved examples come from; None on the hub."""
        if self.folder is None:
            return None
        files = [self.folder / f"{self.task}-{split}.jsonl" for split in _EXAMPLE_FILES]
        return next((file for file in files if file.is_file()), self.items_file)

    def examples_from(self, num_fewshot: int) -> str:
        """In a word or two where solved examples come from; empty where there are none."""
        if num_fewshot == 0:
            return ""
        return self.examples_file.name if self.examples_file else HUB

    def fingerprint(self, num_fewshot: int) -> str:
        """Changes with the files that are read; the hub stands for itself."""
        if self.items_file is None or self.examples_file is None:
            return HUB
        files = [self.items_file] + [self.examples_file] * (num_fewshot > 0)
        return fingerprint_files(list(dict.fromkeys(files)))

    def rows(self, file: Path) -> list[dict[str, Any]]:
        """Items of one of the files.

        Raises:
            DocumentError: A line is no JSON object or lacks a field, or there is none.
        """
        return read_rows(file, _FIELDS[self.task])


def read_rows(file: Path, fields: tuple[str, ...]) -> list[dict[str, Any]]:
    """The JSON objects of a file, one a line, each with at least these fields.

    Raises:
        DocumentError: The file cannot be read, a line is no JSON object or lacks a field, or there
            is none.
    """
    rows = []
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    rows.append(_row(line, fields, f"{file}:{number}"))
    except (OSError, UnicodeDecodeError) as error:
        raise DocumentError(f"{file}: cannot be read ({reason_of(error)})") from error
    if not rows:
        raise DocumentError(f"{file}: holds no item; expected JSON lines with {', '.join(fields)}")
    return rows


def _row(line: str, fields: tuple[str, ...], place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DocumentError(f"{place}: is not JSON ({reason_of(error)})") from error
    missing = [field for field in fields if not isinstance(row, dict) or row.get(field) is None]
    if missing:
        raise DocumentError(
            f"{place}: has no {', '.join(missing)}; the harness's prompt reads {', '.join(fields)}"
        )
    return dict(row)
