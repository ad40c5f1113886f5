"""How far each student is from the baseline while they train."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from markupsafe import Markup

from miniplm.report import formats
from miniplm.report.line_chart import Line, Point, Scale, line_chart
from miniplm.report.model_content import CurvePoint, TrainingCurves
from miniplm.report.palette import Style
from miniplm.report.scales import Axis
from miniplm.report.training_axes import POSITIONS, AxisName, Position, position_scale


def gap_figure(
    students: Sequence[TrainingCurves], styles: Mapping[str, Style], baseline: str | None,
    axis: AxisName, *, log: bool,
) -> Markup | None:  # fmt: skip
    """Held-out loss of each student less the baseline's at the same place of the axis.

    Args:
        students: What is drawn, the baseline among them.
        styles: How each model is drawn.
        baseline: The student that the others are compared with.
        axis: What it is drawn over.
        log: Whether the axis is spaced by ratios.
    """
    level = next((curve.held_out for curve in students if curve.model == baseline), ())
    lines = [
        Line(curve.model, styles[curve.model], gap_points(curve, level, axis))
        for curve in students
        if curve.model != baseline
    ]
    drawn = [each for each in lines if each.points]
    if not drawn:
        return None
    x = position_scale(drawn, axis, log=log)
    settled = [
        point.y for each in drawn for point in each.points if point.x >= 0.1 * each.points[-1].x
    ]
    unit = next(curve.unit for curve in students)
    y_label = f"held-out loss less that of {formats.shorten(baseline or '', 30)}, {unit}"
    y = Scale(Axis.around([0.0, *settled], padding=0.12), y_label)
    description = f"Held-out loss less that of {baseline} against training {axis}"
    return line_chart(f"gap-{axis}-{log:d}", drawn, x, y, description, zero=True, kind="gap")


def gap_points(
    curve: TrainingCurves, baseline: Sequence[CurvePoint], axis: AxisName = "tokens"
) -> list[Point]:
    """A student's held-out loss less the baseline's, where the baseline was measured as far.

    Between two evaluations of the baseline its loss is read off the straight line.
    """
    points, position = [], POSITIONS[axis]
    for point in curve.held_out:
        level = _loss_at(baseline, position(point), position)
        if level is not None and math.isfinite(point.loss - level):
            gap = point.loss - level
            place = f"after {formats.short(point.num_tokens)} tokens"
            text = f"{curve.model}: {formats.signed(gap)} {place}"
            points.append(Point(position(point), gap, text if axis == "tokens" else ""))
    return points


def _loss_at(points: Sequence[CurvePoint], wanted: float, position: Position) -> float | None:
    """The loss at a place of the axis."""
    for point in points:
        if position(point) == wanted:
            return point.loss
    for before, after in pairwise(points):
        start, end = position(before), position(after)
        if start < wanted < end:
            return before.loss + (wanted - start) / (end - start) * (after.loss - before.loss)
    return None
