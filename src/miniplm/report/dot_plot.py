"""Rows of dots over one axis: estimates with their intervals, single measurements, a level each."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from miniplm.report import formats, svg
from miniplm.report.charts import WIDTH
from miniplm.report.line_chart import Scale
from miniplm.report.palette import Style
from miniplm.report.scales import tick_labels
from miniplm.report.svg import Element, Frame

_LANE, _GAP = 11.0, 14.0
_CHARACTER = 7.0
"""Width of a character of a name, in user units."""


@dataclass(frozen=True)
class Dot:
    """An estimate; `low` and `high` are the ends of its interval. `minor` ones are drawn small."""

    name: str
    value: float
    style: Style
    title: str
    low: float | None = None
    high: float | None = None
    minor: bool = False


@dataclass(frozen=True)
class DotRow:
    """A row: dots of one `lane` stand on one height, lanes below each other.

    `level` is marked by a tick over the whole row, such as what chance gives; `note` stands at
    the right end.
    """

    label: str
    lanes: Sequence[Sequence[Dot]]
    level: float | None = None
    note: str = ""


def dot_plot(
    rows: Sequence[DotRow], x: Scale, description: str, *, zero: bool = False, kind: str = "",
    left: float = 190, width: float = WIDTH,
) -> Markup:  # fmt: skip
    """Draw the rows from top to bottom.

    Args:
        rows: What is drawn.
        x: The axis of all rows.
        description: What is read out in place of the drawing.
        zero: Whether the level of zero is drawn as a line of its own.
        kind: Further classes of the drawing.
        left: Room for the names of the rows, in user units.
        width: Of the drawing, in user units; on a phone narrower than `WIDTH`.
    """
    heights = [max(24.0, _LANE * len(row.lanes) + _GAP) for row in rows]
    room = 20 + 7.4 * max((len(row.note) for row in rows), default=0)
    frame = Frame(x.axis, x.axis, width, sum(heights) + 46, left=left, right=room, top=4)
    parts = _axis(frame, x)
    if zero:
        level = frame.px(0)
        parts.append(svg.line(level, frame.top, level, frame.height - frame.bottom, "zero"))
    top = frame.top
    for row, height in zip(rows, heights, strict=True):
        parts.append(_row(frame, row, top, height))
        top += height
    classes = f"chart {'wide' if width >= WIDTH else 'half'} dot-plot {kind}".strip()
    return svg.document(width, frame.height, parts, classes, description, frame)


def _axis(frame: Frame, x: Scale) -> list[Element]:
    floor = frame.height - frame.bottom
    ticks = frame.x.ticks(8 if frame.width >= WIDTH else 3)
    parts = []
    for tick, label in zip(ticks, tick_labels(ticks, x.factor, log=frame.x.log), strict=True):
        parts.append(svg.line(frame.px(tick), frame.top, frame.px(tick), floor, "grid"))
        parts.append(svg.text(frame.px(tick), floor + 16, label, "middle", "tick"))
    middle = (frame.left + frame.width - frame.right) / 2
    parts.append(svg.text(middle, frame.height - 5, x.label, "middle", "axis-label"))
    return parts


def _row(frame: Frame, row: DotRow, top: float, height: float) -> Element:
    middle = top + height / 2
    label = formats.shorten(row.label, int((frame.left - 8) / _CHARACTER))
    name = svg.text(frame.left - 12, middle + 4, label, "end", "name")
    name.append(svg.title(row.label))
    right = frame.width - frame.right
    parts = [name, svg.line(frame.left, top + height, right, top + height, "grid")]
    if row.level is not None:
        level = frame.px(row.level)
        tick = svg.line(level, top + 3, level, top + height - 3, "level")
        tick.set("data-level", repr(row.level))
        parts.append(tick)
    if row.note:
        parts.append(svg.text(right + 10, middle + 4, row.note, "start", "tick"))
    start = middle - _LANE * (len(row.lanes) - 1) / 2
    for place, lane in enumerate(row.lanes):
        in_front = sorted(lane, key=lambda dot: not dot.minor)
        parts += [_dot(frame, dot, start + place * _LANE) for dot in in_front]
    return svg.node("g", *parts, class_="dot-row", **{"data-row": row.label})


def _dot(frame: Frame, dot: Dot, y: float) -> Element:
    parts = [svg.title(dot.title)]
    if dot.low is not None and dot.high is not None:
        parts.append(svg.line(frame.px(dot.low), y, frame.px(dot.high), y, "whisker"))
    size = 2.6 if dot.minor else 4.2
    parts.append(svg.marker(dot.style.marker, frame.px(dot.value), y, size))
    exact = {"data-name": dot.name, "data-value": repr(dot.value)}
    if dot.low is not None and dot.high is not None:
        exact |= {"data-low": repr(dot.low), "data-high": repr(dot.high)}
    kind = "minor" if dot.minor else "estimate"
    return svg.node("g", *parts, class_=f"{kind} {dot.style.colour}", **exact)
