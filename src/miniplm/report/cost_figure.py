"""Cost of a student against the number of students that share the scores."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from markupsafe import Markup

from miniplm.report import formats, minis
from miniplm.report.cost_content import CostContent, Method, StudentCost
from miniplm.report.line_chart import Line, Point, Scale, line_chart
from miniplm.report.palette import Style
from miniplm.report.scales import Axis, si_unit

MOST_STUDENTS = 50
SHOWN = (1, 2, 5, 10, 50)
"""Columns of the table."""

NAMES: dict[Method, str] = {
    "miniplm": "MiniPLM",
    "kd": "teacher in the loop",
    "plain": "no teacher",
}
_STYLES: dict[Method, Style] = {
    "miniplm": Style("c1", "circle"),
    "kd": Style("c2", "square", "dashed"),
    "plain": Style("c0", "diamond", "dotted"),
}


@dataclass(frozen=True)
class CostRow:
    """A method with what a student costs at each of `SHOWN`."""

    method: Method
    name: str
    swatch: Markup
    costs: Sequence[float]


@dataclass(frozen=True)
class CostView:
    """A student's cost drawn, told and as rows; `data` is JSON for the page's script."""

    cost: StudentCost
    data: str
    figure: Markup
    rows: Sequence[CostRow]


def cost_views(content: CostContent | None) -> list[CostView]:
    """A view of each student."""
    students = content.students if content else ()
    return [_view(place, cost) for place, cost in enumerate(students)]


def _view(place: int, cost: StudentCost) -> CostView:
    methods = [method for method in NAMES if method != "kd" or cost.teacher_beside > 0]
    lines = [Line(NAMES[method], _STYLES[method], _points(cost, method)) for method in methods]
    highest = max(point.y for each in lines for point in each.points)
    factor, prefix = si_unit(highest)
    figure = line_chart(
        f"cost-{place}", lines,
        Scale(Axis(1, MOST_STUDENTS, log=True), "students trained on the same scores"),
        Scale(Axis(0, 1.05 * highest), f"compute per student, {prefix}FLOPs", factor),
        f"Compute per student like {cost.student} against the number of students",
        kind="cost-figure",
    )  # fmt: skip
    rows = [
        CostRow(
            method, NAMES[method], minis.swatch(_STYLES[method]),
            [cost.per_student(method, number) for number in SHOWN],
        )
        for method in methods
    ]  # fmt: skip
    return CostView(cost, json.dumps(asdict(cost)), figure, rows)


def _points(cost: StudentCost, method: Method) -> list[Point]:
    return [
        Point(number, value, f"{NAMES[method]}, {number} students: {formats.flops(value)} each")
        for number in (1, 2, 3, 5, 7, 10, 15, 20, 30, 50)
        for value in (cost.per_student(method, number),)
    ]
