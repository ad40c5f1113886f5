"""Small drawings inside table cells and legends, each beside the number it shows."""

from markupsafe import Markup

from miniplm.report import svg
from miniplm.report.palette import Style
from miniplm.report.scales import Axis

WIDTH = 120
HEIGHT = 16
_MIDDLE = HEIGHT / 2


def share_bar(share: float, mark: float, description: str) -> Markup:
    """A share as a bar on a track from 0 to 1, with a tick at `mark`."""
    start, end, cut, tick = (_at(Axis(0, 1), value) for value in (0, 1, share, mark))
    parts = [
        svg.title(description),
        svg.node("rect", x=start, y=3, width=end - start, height=10, class_="dropped"),
        svg.node("rect", x=start, y=3, width=cut - start, height=10, class_="kept"),
        svg.line(tick, 0, tick, HEIGHT, "threshold"),
    ]
    return _mini(parts, description)


def dot_on_axis(value: float, axis: Axis, mark: float | None, description: str) -> Markup:
    """A value as a dot on a line that spans `axis`, with a tick at `mark`."""
    parts = [
        svg.title(description),
        _track(),
    ]
    if mark is not None:
        tick = _at(axis, mark)
        parts.append(svg.line(tick, 0, tick, HEIGHT, "threshold"))
    parts.append(svg.node("g", svg.marker("circle", _at(axis, value), _MIDDLE, 4), class_="c0"))
    return _mini(parts, description)


def dumbbell(before: float, after: float, axis: Axis, description: str) -> Markup:
    """A change as a line from a hollow to a full dot."""
    start, end = _at(axis, before), _at(axis, after)
    parts = [
        svg.title(description),
        _track(),
        svg.line(start, _MIDDLE, end, _MIDDLE, "change"),
        svg.node("circle", cx=start, cy=_MIDDLE, r=3.4, class_="hollow"),
        svg.node("circle", cx=end, cy=_MIDDLE, r=4, class_="kept"),
    ]
    return _mini(parts, description)


def swatch(style: Style) -> Markup:
    """A piece of a model's line with its marker, for legends."""
    parts = [
        svg.node("g", svg.line(1, 6, 25, 6, f"line {style.dash}".strip()),
                 svg.marker(style.marker, 13, 6, 3.8), class_=style.colour)
    ]  # fmt: skip
    return svg.document(26, 12, parts, "swatch", "")


def dot(style: Style) -> Markup:
    """A mark of a scatter, for legends."""
    mark = svg.node("g", svg.marker(style.marker, 7, 7, 4.2), class_=style.colour)
    return svg.document(14, 14, [mark], "patch", "")


def patch(class_: str) -> Markup:
    """A filled square, for legends of bars."""
    square = svg.node("rect", x=1, y=1, width=11, height=11, class_=class_)
    return svg.document(13, 13, [square], "patch", "")


def _track() -> svg.Element:
    return svg.line(5, _MIDDLE, WIDTH - 5, _MIDDLE, "track")


def _at(axis: Axis, value: float) -> float:
    """Where a value is drawn, with room for a dot at both ends."""
    return 5 + axis.share(value) * (WIDTH - 10)


def _mini(parts: list[svg.Element], description: str) -> Markup:
    return svg.document(WIDTH, HEIGHT, parts, "mini", description)
