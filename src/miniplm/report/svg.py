"""SVG as trees of elements: escaped and well-formed by construction, coloured by CSS classes.

Lengths are in user units; one unit is about one CSS pixel where a figure has its full width.
A colour class (`c0` to `c4`, `teacher`, `kept`, ...) sets the CSS variable `--c`, and the page's
style sheet says which part of a mark takes it, in light and in dark.
"""

import json
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from miniplm.report.formats import readable
from miniplm.report.scales import Axis, tick_labels

Element = ET.Element


def node(tag: str, *children: Element | str, **attributes: str | float) -> Element:
    """An element; `class_` stands for `class`, `data_row` for `data-row`.

    Text is made readable first, numbers keep two decimals.
    """
    element = ET.Element(tag)
    for name, value in attributes.items():
        text = readable(value) if isinstance(value, str) else f"{round(value, 2) + 0.0:g}"
        element.set(name.rstrip("_").replace("_", "-"), text)
    for child in children:
        if isinstance(child, str):
            element.text = readable(child)
        else:
            element.append(child)
    return element


def text(x: float, y: float, content: str, anchor: str = "start", class_: str = "") -> Element:
    """A line of text whose baseline is at `y`; `anchor` is start, middle or end."""
    return node("text", content, x=x, y=y, text_anchor=anchor, class_=class_ or "label")


def title(content: str) -> Element:
    """What a browser shows while the pointer rests on the parent."""
    return node("title", content)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Element:
    """A straight line."""
    return node("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def polyline(points: Sequence[tuple[float, float]], class_: str) -> Element:
    """Straight lines from point to point."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return node("polyline", points=path, class_=class_)


def document(
    width: float, height: float, children: Sequence[Element], class_: str, description: str,
    frame: "Frame | None" = None,
) -> Markup:  # fmt: skip
    """A whole drawing that scales with its container.

    Args:
        width: Width in user units.
        height: Height in user units.
        children: What is drawn, from back to front.
        class_: Names for the style sheet.
        description: What is read out in place of the drawing; empty where it is an ornament.
        frame: The plot's box, for scripts that tell values by their places.
    """
    root = node("svg", *children, viewBox=f"0 0 {width:g} {height:g}", class_=class_)
    if description:
        root.attrib |= {"role": "img", "aria-label": readable(description)}
    else:
        root.set("aria-hidden", "true")
    if frame is not None:
        root.set("data-frame", json.dumps(frame.in_figures()))
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704  (ElementTree escapes)


MARKERS = ("circle", "square", "triangle", "diamond")


def marker(shape: str, x: float, y: float, size: float = 3.4) -> Element:
    """A mark centred at a point: one of `MARKERS`, all of about the same area."""
    if shape == "circle":
        return node("circle", cx=x, cy=y, r=size, class_="mark")
    corners = {
        "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        "triangle": [(0, -1.25), (1.2, 0.9), (-1.2, 0.9)],
        "diamond": [(0, -1.35), (1.25, 0), (0, 1.35), (-1.25, 0)],
    }[shape]
    path = " ".join(f"{x + size * dx:.1f},{y + size * dy:.1f}" for dx, dy in corners)
    return node("polygon", points=path, class_="mark")


@dataclass(frozen=True)
class Frame:
    """The box of a plot: its outer size, its margins, and the axes along its sides."""

    x: Axis
    y: Axis
    width: float
    height: float
    left: float = 46
    right: float = 14
    top: float = 30
    bottom: float = 42

    def px(self, value: float) -> float:
        """Where a value of the horizontal axis is drawn."""
        return self.left + self.x.share(value) * (self.width - self.left - self.right)

    def py(self, value: float) -> float:
        """Where a value of the vertical axis is drawn."""
        return self.height - self.bottom - self.y.share(value) * self.inner_height

    def unclamped(self, value: float) -> float:
        """Like `py`, but beyond the plot for what lies beyond the axis."""
        low, high = self.y.low, self.y.high
        return self.height - self.bottom - (value - low) / (high - low) * self.inner_height

    @property
    def inner_height(self) -> float:
        """Height of the plot without its margins."""
        return self.height - self.top - self.bottom

    def in_figures(self) -> dict[str, object]:
        """Of each axis: its ends, where these are drawn, and whether it is spaced by ratios."""
        return {
            "x": [self.x.low, self.x.high, self.left, self.width - self.right, self.x.log],
            "y": [self.y.low, self.y.high, self.height - self.bottom, self.top, self.y.log],
        }

    def grid(
        self, x_label: str, y_label: str, x_factor: float = 1.0, y_factor: float = 1.0
    ) -> list[Element]:
        """Grid lines, ticks and the two axis labels; tick numbers are divided by the factors."""
        right, floor = self.width - self.right, self.height - self.bottom
        x_ticks = self.x.ticks(max(3, round((right - self.left) / 70)))
        y_ticks = self.y.ticks(max(3, round(self.inner_height / 38)))
        parts = []
        x_labels = tick_labels(x_ticks, x_factor, log=self.x.log)
        for tick, label in zip(y_ticks, tick_labels(y_ticks, y_factor), strict=True):
            parts.append(line(self.left, self.py(tick), right, self.py(tick), "grid"))
            parts.append(text(self.left - 7, self.py(tick) + 4, label, "end", "tick"))
        for tick, label in zip(x_ticks, x_labels, strict=True):
            parts.append(line(self.px(tick), floor, self.px(tick), floor + 4, "axis"))
            parts.append(text(self.px(tick), floor + 17, label, "middle", "tick"))
        parts.append(line(self.left, floor, right, floor, "axis"))
        parts.append(
            text((self.left + right) / 2, self.height - 6, x_label, "middle", "axis-label")
        )
        parts.append(text(2, 13, y_label, "start", "axis-label"))
        return parts
