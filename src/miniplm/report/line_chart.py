"""Lines over two axes. Each has a colour, a shape and a dash; its marks carry exact figures."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from miniplm.report import formats, svg
from miniplm.report.charts import HALF_WIDTH, WIDTH
from miniplm.report.formats import readable
from miniplm.report.palette import Style
from miniplm.report.scales import Axis, spread
from miniplm.report.svg import Element, Frame


@dataclass(frozen=True)
class Point:
    """A point of a line and what its hover title says, if it has one."""

    x: float
    y: float
    title: str = ""


@dataclass(frozen=True)
class Line:
    """One model in a line chart: `points` with markers, `pale` as a thin line behind them."""

    name: str
    style: Style
    points: Sequence[Point]
    pale: Sequence[Point] = ()


@dataclass(frozen=True)
class Scale:
    """An axis with its label; tick numbers are divided by `factor`."""

    axis: Axis
    label: str
    factor: float = 1.0


def line_chart(
    slug: str, lines: Sequence[Line], x: Scale, y: Scale, description: str, *, wide: bool = True,
    zero: bool = False, kind: str = "",
) -> Markup:  # fmt: skip
    """Lines over a common axis; what lies outside the axes is cut off.

    Args:
        slug: Name of the figure, unique on the page.
        lines: What to draw, the first one in front.
        x: The horizontal axis.
        y: The vertical axis.
        description: What is read out in place of the drawing.
        wide: Whether the figure takes the whole column and names its lines at their ends.
        zero: Whether the level of zero is drawn as a line of its own.
        kind: Further classes of the drawing.
    """
    frame = Frame(
        x.axis, y.axis, *((WIDTH, 380) if wide else (HALF_WIDTH, 280)), right=188 if wide else 14
    )
    clip = svg.node(
        "clipPath",
        svg.node(
            "rect", x=frame.left - 5, y=frame.top - 5, height=frame.inner_height + 10,
            width=frame.width - frame.left - frame.right + 10,
        ),
        id=f"clip-{slug}",
    )  # fmt: skip
    parts = [clip, *frame.grid(x.label, y.label, x.factor, y.factor)]
    if zero:
        level = frame.py(0)
        parts.append(svg.line(frame.left, level, frame.width - frame.right, level, "zero"))
    drawn = [
        *(_draw_path(frame, each.pale, "pale", each) for each in lines),
        *(part for each in reversed(lines) for part in _draw_line(frame, each)),
    ]
    parts.append(svg.node("g", *drawn, clip_path=f"url(#clip-{slug})"))
    if wide:
        parts.extend(_end_labels(frame, lines))
    size = "wide" if wide else "half"
    return svg.document(
        frame.width, frame.height, parts, f"chart lines {size} {kind}".strip(), description, frame
    )


def _draw_line(frame: Frame, drawn: Line) -> list[Element]:
    parts = [_draw_path(frame, drawn.points, f"line {drawn.style.dash}".strip(), drawn)]
    size = 3.6 if len(drawn.points) <= 30 else 2.0
    for point in drawn.points:
        if frame.x.holds(point.x):
            mark = svg.marker(drawn.style.marker, frame.px(point.x), frame.unclamped(point.y), size)
            hover = [svg.title(point.title)] if point.title else []
            exact = {"data-model": drawn.name, "data-x": repr(point.x), "data-y": repr(point.y)}
            parts.append(svg.node("g", *hover, mark, class_=f"point {drawn.style.colour}", **exact))
    return parts


def _draw_path(frame: Frame, points: Sequence[Point], class_: str, drawn: Line) -> Element:
    # Heights not through `frame.py`, which clamps: the clip path is what cuts a line off.
    places = [
        (frame.px(point.x), frame.unclamped(point.y)) for point in points if frame.x.holds(point.x)
    ]
    path = svg.polyline(places, f"{class_} {drawn.style.colour}")
    path.set("data-model", readable(drawn.name))
    return path


def _end_labels(frame: Frame, lines: Sequence[Line]) -> list[Element]:
    """The names of the lines beside their last points, moved apart where they would touch."""
    ended = [(each, (each.points or each.pale)[-1]) for each in lines if each.points or each.pale]
    if not ended:
        return []
    floor = frame.height - frame.bottom
    levels = spread([frame.py(point.y) for _, point in ended], 16, frame.top, floor)
    parts = []
    for (each, point), level in zip(ended, levels, strict=True):
        x, edge = frame.px(point.x), frame.width - frame.right
        leader = [(x + 7, frame.py(point.y)), (edge + 11, level), (edge + 16, level)]
        name = svg.text(edge + 32, level + 4, formats.shorten(each.name, 20), class_="name")
        name.append(svg.title(each.name))
        mark = svg.marker(each.style.marker, edge + 23, level)
        line = svg.polyline(leader, "leader")
        of = {"data-model": each.name}
        parts.append(svg.node("g", line, mark, name, class_=f"end {each.style.colour}", **of))
    return parts
