"""The figures of training: loss against tokens and FLOPs, and how far ahead of the baseline."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeVar

from markupsafe import Markup

from miniplm.report import formats, minis, palette
from miniplm.report.content import ReportContent
from miniplm.report.line_chart import Line, Point, Scale, line_chart
from miniplm.report.model_content import BITS, NATS, CurvePoint, TrainingCurves
from miniplm.report.palette import Style
from miniplm.report.scales import Axis, count_unit, si_unit

MOST_POINTS = 400
"""Points drawn of one line; more cannot be told apart."""
MOST_PALE = 4
"""Students whose training loss is drawn too; of more it would hide what is to be compared."""

PointT = TypeVar("PointT")
AxisName = Literal["tokens", "flops"]
Position = Callable[[CurvePoint], float]
_POSITIONS: dict[AxisName, Position] = {
    "tokens": lambda point: float(point.num_tokens),
    "flops": lambda point: point.flops,
}


@dataclass(frozen=True)
class LegendEntry:
    """A line of the legend: the mark, the full name, and the held-out curve's last figure."""

    swatch: Markup
    name: str
    corpus: str
    final_loss: float | None


@dataclass(frozen=True)
class Variant:
    """A drawing over one of the axes that a reader can choose: `tokens` or `flops`, `log` or not.

    `printed` ones are shown where nothing can be chosen, too.
    """

    axis: AxisName
    log: bool
    figure: Markup

    @property
    def printed(self) -> bool:
        """Whether it is spaced evenly."""
        return not self.log


@dataclass(frozen=True)
class TrainingFigures:
    """Drawings and legends of the training section; empty or None where nothing can be drawn."""

    losses: Sequence[Variant]
    gaps: Sequence[Variant]
    students: Sequence[LegendEntry]
    has_pale: bool
    """Whether training losses are drawn."""
    teachers_figure: Markup | None
    teachers: Sequence[LegendEntry]


def model_styles(content: ReportContent) -> dict[str, Style]:
    """How each model is drawn, the same all over the page; the baseline comes first."""
    models = [(model.name, model.role) for model in content.models]
    models += [(curve.model, curve.role) for curve in content.curves]
    students = dict.fromkeys(name for name, role in models if role == "student")
    ordered = sorted(students, key=lambda name: name != content.baseline)
    shapes = {"teacher": "square", "reference": "diamond"}
    scorers = {name: Style(role, shapes[role]) for name, role in models if role in shapes}
    return scorers | palette.styles(ordered)


def training_figures(content: ReportContent, styles: Mapping[str, Style]) -> TrainingFigures:
    """All figures of the training section."""
    in_order = sorted(content.curves, key=lambda curve: list(styles).index(curve.model))
    students = [curve for curve in in_order if curve.role == "student"]
    teachers = [curve for curve in in_order if curve.role != "student"]
    final = [curve.train[-1].num_tokens for curve in teachers if curve.train]
    apart = len(final) > 1 and max(final) > 4 * min(final)
    return TrainingFigures(
        losses=_variants(lambda axis, log: _loss_figure("loss", students, styles, axis, log=log)),
        gaps=_variants(
            lambda axis, log: _gap_figure(students, styles, content.baseline, axis, log=log)
        ),
        students=[_legend_entry(curve, styles) for curve in students],
        has_pale=len(students) <= MOST_PALE and all(curve.unit == NATS for curve in students),
        teachers_figure=_loss_figure("teachers", teachers, styles, "tokens", wide=False, log=apart),
        teachers=[_legend_entry(curve, styles) for curve in teachers],
    )


def _variants(draw: Callable[[AxisName, bool], Markup | None]) -> list[Variant]:
    """A drawing over each axis, spaced evenly and by ratios."""
    drawn = [(axis, log, draw(axis, log)) for axis in _POSITIONS for log in (False, True)]
    return [Variant(axis, log, figure) for axis, log, figure in drawn if figure is not None]


def _legend_entry(curve: TrainingCurves, styles: Mapping[str, Style]) -> LegendEntry:
    final = curve.held_out[-1].loss if curve.held_out else None
    return LegendEntry(minis.swatch(styles[curve.model]), curve.model, curve.corpus, final)


def _loss_figure(
    slug: str, curves: Sequence[TrainingCurves], styles: Mapping[str, Style], axis: AxisName,
    *, wide: bool = True, log: bool = False,
) -> Markup | None:  # fmt: skip
    say = axis == "tokens" and not (wide and log)
    pale = len(curves) <= MOST_PALE or not any(curve.held_out for curve in curves)
    lines = [
        Line(
            curve.model, styles[curve.model],
            points=_points(curve, thin(curve.held_out, MOST_POINTS), axis, say=say),
            pale=_pale(curve, axis) if pale else (),
        )
        for curve in curves
    ]  # fmt: skip
    drawn = [each for each in lines if each.points or each.pale]
    if not drawn:
        return None
    x = _position_scale(drawn, axis, log=log)
    bits = any(curve.unit == BITS for curve in curves)
    label = f"held-out text, {BITS}, mean over domains" if bits else f"loss, {NATS}"
    y = Scale(_loss_axis(drawn), label)
    names = ", ".join(each.name for each in drawn)
    description = f"Loss against {x.label.partition(',')[0]} of {names}"
    return line_chart(f"{slug}-{axis}-{log:d}", drawn, x, y, description, wide=wide)


def _pale(curve: TrainingCurves, axis: AxisName) -> list[Point]:
    """The training loss, if it is in the unit of the held-out one."""
    return _points(curve, thin(curve.train, MOST_POINTS), axis) if curve.unit == NATS else []


def _points(
    curve: TrainingCurves, points: Iterable[CurvePoint], axis: AxisName, *, say: bool = False
) -> list[Point]:
    """Where they are drawn; with `say` they have titles."""
    position = _POSITIONS[axis]
    return [
        Point(position(point), point.loss, _title(curve, point) if say else "")
        for point in points
        if math.isfinite(point.loss) and math.isfinite(point.flops)
    ]


def _title(curve: TrainingCurves, point: CurvePoint) -> str:
    return (
        f"{curve.model}, step {point.step:,}: {formats.fixed(point.loss)} {curve.unit} after "
        f"{formats.short(point.num_tokens)} tokens, {formats.flops(point.flops)}"
    )


def thin(points: Sequence[PointT], limit: int) -> Sequence[PointT]:
    """At most `limit` points spaced evenly, the first and the last among them."""
    if len(points) <= limit:
        return points
    return [points[round(place * (len(points) - 1) / (limit - 1))] for place in range(limit)]


def _position_scale(lines: Sequence[Line], name: AxisName, *, log: bool = False) -> Scale:
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


def _gap_figure(
    students: Sequence[TrainingCurves], styles: Mapping[str, Style], baseline: str | None,
    axis: AxisName, *, log: bool,
) -> Markup | None:  # fmt: skip
    """Held-out loss of each student less the baseline's at the same place of the axis."""
    level = next((curve.held_out for curve in students if curve.model == baseline), ())
    lines = [
        Line(curve.model, styles[curve.model], gap_points(curve, level, axis))
        for curve in students
        if curve.model != baseline
    ]
    drawn = [each for each in lines if each.points]
    if not drawn:
        return None
    x = _position_scale(drawn, axis, log=log)
    settled = [
        point.y for each in drawn for point in each.points if point.x >= 0.1 * each.points[-1].x
    ]
    y_label = f"held-out loss less that of {formats.shorten(baseline or '', 30)}, nats per token"
    y = Scale(Axis.around([0.0, *settled], padding=0.12), y_label)
    description = f"Held-out loss less that of {baseline} against training {axis}"
    return line_chart(f"gap-{axis}-{log:d}", drawn, x, y, description, zero=True, kind="gap")


def gap_points(
    curve: TrainingCurves, baseline: Sequence[CurvePoint], axis: AxisName = "tokens"
) -> list[Point]:
    """A student's held-out loss less the baseline's, where the baseline was measured as far.

    Between two evaluations of the baseline its loss is read off the straight line.
    """
    points, position = [], _POSITIONS[axis]
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
