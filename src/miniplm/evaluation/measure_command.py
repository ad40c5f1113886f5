"""The work of `miniplm measure`: tasks and text, measured and printed side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from miniplm.evaluation.measure import measure_tasks, task_folders, tasks_config
from miniplm.evaluation.measure_text import measure_text, text_question
from miniplm.evaluation.measured_models import MeasuredModel, measured_models, short_names
from miniplm.evaluation.task_table import difference_lines, task_lines
from miniplm.evaluation.text_table import text_lines
from miniplm.model import Dtype
from miniplm.runtime.lock import locked
from miniplm.terminal import print_lines


@dataclass(frozen=True)
class MeasureQuestion:
    """What is asked of models.

    Args:
        tasks: `all`, or names with commas between them; None: no tasks.
        tasks_dir: Folder of the tasks' items as JSON lines; None: those of the hub.
        num_fewshot: Solved examples before each item.
        limit: First items of each task; None: all.
        texts: Files, folders and globs of text; none: no text.
        text_field: Of JSON lines and Parquet, the field with the text.
        domain_field: Of JSON lines and Parquet, the field with the domain; None: by file.
        window: Tokens that a model sees of a text; None: what it serves, 2,048 at most.
        stride: Tokens from one window to the next; None: side by side.
        set_apart: Domains (globs) that averages leave out.
        dtype: What the models compute in.
    """

    tasks: str | None = None
    tasks_dir: str | None = None
    num_fewshot: int = 0
    limit: int | None = None
    texts: tuple[str, ...] = ()
    text_field: str = "text"
    domain_field: str | None = None
    window: int | None = None
    stride: int | None = None
    set_apart: tuple[str, ...] = ()
    dtype: Dtype = "float32"


def print_measured(models: Sequence[str], question: MeasureQuestion, out: Path) -> None:
    """Measure models, and print tables; what is complete in the folder is not measured again.

    Args:
        models: Hub names or folders.
        question: What is asked.
        out: Folder of the results.

    Raises:
        MiniPLMError: A model, a task or a text cannot be read, or options do not fit.
    """
    named = measured_models(models)
    tasks = question.tasks and tasks_config(
        question.tasks, question.tasks_dir, question.num_fewshot, question.limit, question.dtype
    )
    fields = {"text_field": question.text_field, "domain_field": question.domain_field}
    text = question.texts and text_question(
        question.texts, fields, question.dtype, question.window, question.stride,
        question.set_apart,
    )  # fmt: skip
    with locked(out, "--out"):
        if tasks:
            asked = measure_tasks(named, tasks, out)
            title = "Tasks: accuracy in per cent, with its standard error"
            print_lines(title, task_lines(asked))
            if len(named) > 1:
                _print_differences(named, difference_lines(asked, task_folders(named, out)))
        if text:
            lines = text_lines(measure_text(named, text, out))
            print_lines("Text: bits per byte, with 95 % intervals over documents", lines)


def _print_differences(named: Sequence[MeasuredModel], lines: Sequence[Sequence[str]]) -> None:
    first = short_names([model.name for model in named])[0]
    title = f"Points more than {first} on the same items, with 95 % intervals"
    print_lines(title, lines, num_names=1)
