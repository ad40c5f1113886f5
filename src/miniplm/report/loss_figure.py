"""Loss against tokens or FLOPs: what was measured on held-out text, and training loss behind it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from markupsafe import Markup

from miniplm.report import formats
from miniplm.report.line_chart import Line, Point, Scale, line_chart
from miniplm.report.model_content import CurvePoint, TrainingCurves
from miniplm.report.palette import Style
from miniplm.report.scales import Axis
from miniplm.report.training_axes import POSITIONS, AxisName, position_scale

MOST_POINTS = 400
"""Points drawn of one line; more cannot be told apart."""
MOST_PALE = 4
"""Models whose training loss is drawn too; of more it would hide what is to be compared."""

PointT = TypeVar("PointT")


def loss_figure(
    slug: str, curves: Sequence[TrainingCurves], styles: Mapping[str, Style], axis: AxisName,
    *, wide: bool = True, log: bool = False,
) -> Markup | None:  # fmt: skip
    """Draw the curves of some models; None where there is nothing to draw.

    Args:
        slug: Name of the figure, unique on the page but for its axis.
        curves: What is drawn, the first one in front.
        styles: How each model is drawn.
        axis: What it is drawn over.
        wide: Whether it takes the whole column.
        log: Whether the axis is spaced by ratios.
    """
    say = axis == "tokens" and not (wide and log)
    pale = len(curves) <= MOST_PALE or not any(curve.held_out for curve in curves)
    lines = [
        Line(
            curve.model, styles[curve.model],
            points=_points(curve.model, thin(curve.held_out, MOST_POINTS), axis, say=say),
            pale=_points(curve.model, thin(curve.train, MOST_POINTS), axis) if pale else (),
        )
        for curve in curves
    ]  # fmt: skip
    drawn = [each for each in lines if each.points or each.pale]
    if not drawn:
        return None
    x = position_scale(drawn, axis, log=log)
    y = Scale(_loss_axis(drawn), "loss, nats per token")
    names = ", ".join(each.name for each in drawn)
    description = f"Loss against {x.label.partition(',')[0]} of {names}"
    return line_chart(f"{slug}-{axis}-{log:d}", drawn, x, y, description, wide=wide)


def _points(
    model: str, points: Iterable[CurvePoint], axis: AxisName, *, say: bool = False
) -> list[Point]:
    """Where they are drawn; with `say` they have titles."""
    position = POSITIONS[axis]
    return [
        Point(position(point), point.loss, _title(model, point) if say else "")
        for point in points
        if math.isfinite(point.loss) and math.isfinite(point.flops)
    ]


def _title(model: str, point: CurvePoint) -> str:
    return (
        f"{model}, step {point.step:,}: held-out loss {formats.fixed(point.loss)} after "
        f"{formats.short(point.num_tokens)} tokens, {formats.flops(point.flops)}"
    )


def thin(points: Sequence[PointT], limit: int) -> Sequence[PointT]:
    """At most `limit` points spaced evenly, the first and the last among them."""
    if len(points) <= limit:
        return points
    return [points[round(place * (len(points) - 1) / (limit - 1))] for place in range(limit)]


def _loss_axis(lines: Sequence[Line]) -> Axis:
    """The range of losses once training has settled; the steep start would flatten the rest."""
    settled = [
        point.y
        for each in lines
        for points, start in ((each.points, 0.2), (each.pale, 0.5))
        for point in points
        if point.x >= start * points[-1].x
    ]
    return Axis.around(settled, padding=0.06)
