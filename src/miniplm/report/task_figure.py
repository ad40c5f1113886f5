"""Task accuracies as rows of dots with error bars, and as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from miniplm.report import formats, minis
from miniplm.report.dot_plot import Dot, DotRow, dot_plot
from miniplm.report.line_chart import Scale
from miniplm.report.palette import Style
from miniplm.report.scales import Axis
from miniplm.report.task_content import TaskContent, TaskDifference, TaskResult

_ERRORS = 1.96
"""Standard errors that a bar reaches to either side: 95 % of normal estimates."""


@dataclass(frozen=True)
class TaskCell:
    """A model's result on a task; the difference is from the baseline, where it was tested."""

    result: TaskResult | None
    difference: TaskDifference | None

    @property
    def differs(self) -> str:
        """`better` or `worse` where the interval of the difference leaves out zero."""
        if self.difference is None or self.difference.low <= 0 <= self.difference.high:
            return ""
        return "better" if self.difference.value > 0 else "worse"


@dataclass(frozen=True)
class TaskLine:
    """A row of the table; the figures of the first result stand for all models."""

    task: str
    metric: str
    chance: float | None
    num_items: int | None
    is_average: bool
    cells: Sequence[TaskCell]


@dataclass(frozen=True)
class TaskView:
    """Drawing, legend and table."""

    figure: Markup
    models: Sequence[tuple[str, Markup]]
    lines: Sequence[TaskLine]
    num_fewshot: int


def task_view(content: TaskContent | None, styles: Mapping[str, Style]) -> TaskView | None:
    """Draw the accuracies; None where there are none.

    Args:
        content: The results.
        styles: How each model is drawn.
    """
    if content is None or not content.results:
        return None
    models = list(dict.fromkeys(result.model for result in content.results))
    drawn = {model: styles.get(model, Style("c0", "circle")) for model in models}
    by_place = {(result.task, result.model): result for result in content.results}
    tasks = list(dict.fromkeys(result.task for result in content.results))
    lines = [_line(task, models, by_place, content) for task in tasks]
    keys = [(model, minis.dot(drawn[model])) for model in models]
    return TaskView(_figure(lines, drawn), keys, lines, content.num_fewshot)


def _line(
    task: str, models: Sequence[str], by_place: Mapping[tuple[str, str], TaskResult],
    content: TaskContent,
) -> TaskLine:  # fmt: skip
    differences = {row.model: row for row in content.differences if row.task == task}
    cells = [TaskCell(by_place.get((task, model)), differences.get(model)) for model in models]
    first = next(cell.result for cell in cells if cell.result)
    is_average = task == content.average
    return TaskLine(task, first.metric, first.chance, first.num_items, is_average, cells)


def _figure(lines: Sequence[TaskLine], styles: Mapping[str, Style]) -> Markup:
    rows = [
        DotRow(
            line.task,
            [[_dot(cell.result, styles[cell.result.model])] for cell in line.cells if cell.result],
            level=line.chance,
        )
        for line in lines
    ]
    dots = [dot for row in rows for lane in row.lanes for dot in lane]
    levels = [line.chance for line in lines if line.chance is not None]
    ends = [end for dot in dots for end in (dot.low, dot.high, dot.value) if end is not None]
    x = Scale(Axis.around([*ends, *levels], padding=0.04), "accuracy, %", 0.01)
    return dot_plot(
        rows, x, "Accuracy of each model on each task, with 95 % intervals", kind="tasks"
    )


def _dot(result: TaskResult, style: Style) -> Dot:
    value, said = result.value, formats.fixed(100 * result.value, 1)
    name = f"{result.model}, {result.task}"
    if result.standard_error is None:
        return Dot(result.model, value, style, f"{name}: {said} %")
    reach = _ERRORS * result.standard_error
    title = f"{name}: {said} ± {formats.fixed(100 * reach, 1)} %"
    return Dot(result.model, value, style, title, max(0.0, value - reach), min(1.0, value + reach))
