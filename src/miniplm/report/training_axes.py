"""The axes that training is drawn over."""

from collections.abc import Callable, Sequence
from typing import Literal

from miniplm.report.line_chart import Line, Scale
from miniplm.report.model_content import CurvePoint
from miniplm.report.scales import Axis, count_unit, si_unit

AxisName = Literal["tokens", "flops"]
Position = Callable[[CurvePoint], float]
POSITIONS: dict[AxisName, Position] = {
    "tokens": lambda point: float(point.num_tokens),
    "flops": lambda point: point.flops,
}


def position_scale(lines: Sequence[Line], name: AxisName, *, log: bool = False) -> Scale:
    """The axis that holds all lines, with its label.

    Args:
        lines: What is drawn over it.
        name: Of the axis.
        log: Whether it is spaced by ratios.
    """
    # Ratios stretch the first steps over half of the figure, so these are left out.
    start = 0.03 if log else 0.0
    values = [
        point.x
        for each in lines
        for points in (each.points, each.pale)
        for point in points
        if point.x >= start * points[-1].x
    ]
    axis = Axis.around(values if log else [0.0, *values], log=log)
    spacing = ", spaced by ratios" if log else ""
    if name == "flops":
        factor, prefix = si_unit(axis.high)
        return Scale(axis, f"training compute, {prefix}FLOPs{spacing}", factor)
    factor, word = count_unit(axis.high)
    return Scale(axis, f"training tokens{f', {word}s' if word else ''}{spacing}", factor)
