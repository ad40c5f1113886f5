"""Scaling fits: measured losses, the fitted curve with its band, dashed where extrapolated."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from miniplm.report import formats, minis, palette, svg
from miniplm.report.charts import WIDTH
from miniplm.report.palette import Style
from miniplm.report.scales import Axis
from miniplm.report.scaling_content import FittedLoss, ScalingContent, ScalingFit
from miniplm.report.svg import Element, Frame


@dataclass(frozen=True)
class ScalingView:
    """The drawing (None where nothing was measured) and a line of the legend for each method."""

    content: ScalingContent
    figure: Markup | None
    keys: Sequence[tuple[ScalingFit, Markup]]


def scaling_view(content: ScalingContent | None) -> ScalingView | None:
    """Draw the fits; None where there are none."""
    if content is None or not content.fits:
        return None
    styles = palette.styles(fit.method for fit in content.fits)
    keys = [(fit, minis.swatch(styles[fit.method])) for fit in content.fits]
    return ScalingView(content, _figure(content, styles), keys)


def _figure(content: ScalingContent, styles: Mapping[str, Style]) -> Markup | None:
    places = _places(content)
    if not places:
        return None
    x = Axis.around([flops for flops, _ in places], log=True)
    frame = Frame(x, Axis.around([loss for _, loss in places], padding=0.04), WIDTH, 420, right=26)
    parts = frame.grid("training compute, FLOPs, spaced by ratios", f"loss, {content.unit}")
    parts += [_band(frame, fit, styles[fit.method]) for fit in content.fits if fit.grid]
    parts += [part for fit in content.fits for part in _curve(frame, fit, styles[fit.method])]
    names = ", ".join(fit.method for fit in content.fits)
    return svg.document(
        WIDTH, 420, parts, "chart wide scaling", f"Loss against training compute of {names}", frame
    )


def _places(content: ScalingContent) -> list[tuple[float, float]]:
    """FLOPs and losses that need room: what was fitted, extrapolations, and not far above these.

    A steep start, and a band that is wide there, would leave no room for the rest.
    """
    points = [point for fit in content.fits for point in fit.points]
    ahead = [g for fit in content.fits for g in fit.grid if g.flops > fit.measured_to]
    losses = [point.loss for point in points if point.fitted] + [g.loss for g in ahead]
    limit = 2 * max(losses) - min(losses) if losses else math.inf
    measured = [(point.flops, point.loss) for point in points if point.loss <= limit]
    return measured + [(g.flops, g.loss) for g in ahead]


def _band(frame: Frame, fit: ScalingFit, style: Style) -> Element:
    upper = [(frame.px(g.flops), frame.py(g.high)) for g in fit.grid]
    lower = [(frame.px(g.flops), frame.py(g.low)) for g in reversed(fit.grid)]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in upper + lower)
    return svg.node("polygon", points=points, class_=f"band-of {style.colour}")


def _curve(frame: Frame, fit: ScalingFit, style: Style) -> list[Element]:
    """The fitted line, dashed where it is extrapolated, and the measured marks."""
    inside = [g for g in fit.grid if g.flops <= fit.measured_to]
    beyond = [*inside[-1:], *(g for g in fit.grid if g.flops > fit.measured_to)]
    parts = [
        _path(frame, part, f"{kind} {style.colour}")
        for part, kind in ((inside, "line"), (beyond, "line dashed"))
        if len(part) > 1
    ]
    for point in fit.points:
        if not (frame.x.holds(point.flops) and frame.y.holds(point.loss)):
            continue
        title = f"{fit.method}: {formats.fixed(point.loss)} after {formats.flops(point.flops)}"
        mark = svg.marker(style.marker, frame.px(point.flops), frame.py(point.loss), 3.6)
        exact = {"data-method": fit.method, "data-x": repr(point.flops), "data-y": repr(point.loss)}
        kind = "measured" if point.fitted else "measured left"
        parts.append(
            svg.node("g", svg.title(title), mark, class_=f"{kind} {style.colour}", **exact)
        )
    return parts


def _path(frame: Frame, points: Sequence[FittedLoss], class_: str) -> Element:
    shown = [g for g in points if frame.x.holds(g.flops) and frame.y.holds(g.loss)]
    return svg.polyline([(frame.px(g.flops), frame.py(g.loss)) for g in shown], class_)
