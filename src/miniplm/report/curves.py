"""The figures of training: loss against tokens and FLOPs, and how far ahead of the baseline."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from markupsafe import Markup

from miniplm.report import formats, minis
from miniplm.report.charts import Line, Point, Scale, Style, line_chart
from miniplm.report.content import ReportContent
from miniplm.report.model_content import BITS, NATS, CurvePoint, TrainingCurves
from miniplm.report.scales import Axis, count_unit, si_unit
from miniplm.report.svg import MARKERS

STUDENT_COLOURS = ("c0", "c1", "c2", "c3", "c4")
MOST_POINTS = 400
"""Points drawn of one line; more cannot be told apart."""

PointT = TypeVar("PointT")
Position = Callable[[CurvePoint], float]


@dataclass(frozen=True)
class LegendEntry:
    """A line of the legend: the mark, the full name, and the held-out curve's last figure."""

    swatch: Markup
    name: str
    corpus: str
    final_loss: float | None


@dataclass(frozen=True)
class TrainingFigures:
    """Drawings and legends of the training section; None where there is nothing to draw."""

    by_tokens: Markup | None
    by_flops: Markup | None
    gap: Markup | None
    students: Sequence[LegendEntry]
    teachers_figure: Markup | None
    teachers: Sequence[LegendEntry]


def model_styles(content: ReportContent) -> dict[str, Style]:
    """How each model is drawn, the same all over the page; the baseline comes first."""
    models = [(model.name, model.role) for model in content.models]
    models += [(curve.model, curve.role) for curve in content.curves]
    students = dict.fromkeys(name for name, role in models if role == "student")
    ordered = sorted(students, key=lambda name: name != content.baseline)
    styles = {
        name: Style(STUDENT_COLOURS[place % len(STUDENT_COLOURS)], MARKERS[place % len(MARKERS)])
        for place, name in enumerate(ordered)
    }
    shapes = {"teacher": "square", "reference": "diamond"}
    return {name: Style(role, shapes[role]) for name, role in models if role in shapes} | styles


def training_figures(content: ReportContent, styles: Mapping[str, Style]) -> TrainingFigures:
    """All figures of the training section."""
    in_order = sorted(content.curves, key=lambda curve: list(styles).index(curve.model))
    students = [curve for curve in in_order if curve.role == "student"]
    teachers = [curve for curve in in_order if curve.role != "student"]
    final = [curve.train[-1].num_tokens for curve in teachers if curve.train]
    apart = len(final) > 1 and max(final) > 4 * min(final)
    return TrainingFigures(
        by_tokens=_loss_figure("loss-tokens", students, styles, _tokens),
        by_flops=_loss_figure("loss-flops", students, styles, _flops, wide=False),
        gap=_gap_figure(students, styles, content.baseline),
        students=[_legend_entry(curve, styles) for curve in students],
        teachers_figure=_loss_figure(
            "loss-teachers", teachers, styles, _tokens, wide=False, log=apart
        ),
        teachers=[_legend_entry(curve, styles) for curve in teachers],
    )


def _tokens(point: CurvePoint) -> float:
    return float(point.num_tokens)


def _flops(point: CurvePoint) -> float:
    return point.flops


def _legend_entry(curve: TrainingCurves, styles: Mapping[str, Style]) -> LegendEntry:
    final = curve.held_out[-1].loss if curve.held_out else None
    return LegendEntry(minis.swatch(styles[curve.model]), curve.model, curve.corpus, final)


def _loss_figure(
    slug: str, curves: Sequence[TrainingCurves], styles: Mapping[str, Style], position: Position,
    *, wide: bool = True, log: bool = False,
) -> Markup | None:  # fmt: skip
    lines = [
        Line(
            curve.model, styles[curve.model],
            points=_points(curve.model, "held-out", curve.held_out, position),
            pale=_training(curve, position),
        )
        for curve in curves
    ]  # fmt: skip
    drawn = [each for each in lines if each.points or each.pale]
    if not drawn:
        return None
    x = _position_scale(drawn, position, log=log)
    bits = any(curve.unit == BITS for curve in curves)
    label = f"held-out text, {BITS}, mean over domains" if bits else f"loss, {NATS}"
    y = Scale(_loss_axis(drawn), label)
    names = ", ".join(each.name for each in drawn)
    description = f"Loss against {x.label.partition(',')[0]} of {names}"
    return line_chart(slug, drawn, x, y, description, wide=wide)


def _training(curve: TrainingCurves, position: Position) -> list[Point]:
    """The training loss, if it is in the unit of the held-out one."""
    if curve.unit != NATS:
        return []
    return _points(curve.model, "training", thin(curve.train, MOST_POINTS), position)


def _points(model: str, kind: str, points: Iterable[CurvePoint], position: Position) -> list[Point]:
    return [
        Point(
            position(point), point.loss,
            f"{model}, step {point.step:,}: {kind} loss {formats.fixed(point.loss)} after "
            f"{formats.short(point.num_tokens)} tokens, {formats.flops(point.flops)}",
        )
        for point in points
        if math.isfinite(point.loss) and math.isfinite(point.flops)
    ]  # fmt: skip


def thin(points: Sequence[PointT], limit: int) -> Sequence[PointT]:
    """At most `limit` points spaced evenly, the first and the last among them."""
    if len(points) <= limit:
        return points
    return [points[round(place * (len(points) - 1) / (limit - 1))] for place in range(limit)]


def _position_scale(lines: Sequence[Line], position: Position, *, log: bool = False) -> Scale:
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
    if position is _flops:
        factor, prefix = si_unit(axis.high)
        return Scale(axis, f"training compute, {prefix}FLOPs", factor)
    factor, word = count_unit(axis.high)
    spacing = ", spaced by ratios" if log else ""
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
    students: Sequence[TrainingCurves], styles: Mapping[str, Style], baseline: str | None
) -> Markup | None:
    """Held-out loss of each student less the baseline's after the same number of tokens."""
    level = next((curve.held_out for curve in students if curve.model == baseline), ())
    lines = [
        Line(curve.model, styles[curve.model], gap_points(curve, level))
        for curve in students
        if curve.model != baseline
    ]
    drawn = [each for each in lines if each.points]
    if not drawn:
        return None
    x = _position_scale(drawn, _tokens)
    settled = [
        point.y for each in drawn for point in each.points if point.x >= 0.1 * each.points[-1].x
    ]
    y_label = f"held-out loss less that of {formats.shorten(baseline or '', 30)}"
    y = Scale(Axis.around([0.0, *settled], padding=0.12), y_label)
    description = f"Held-out loss less that of {baseline} against training tokens"
    return line_chart("gap", drawn, x, y, description, wide=False, zero=True)


def gap_points(curve: TrainingCurves, baseline: Sequence[CurvePoint]) -> list[Point]:
    """A student's held-out loss less the baseline's, where the baseline was measured as far.

    Between two evaluations of the baseline its loss is read off the straight line.
    """
    points = []
    for point in curve.held_out:
        level = _loss_at(baseline, point.num_tokens)
        if level is not None and math.isfinite(point.loss - level):
            gap = point.loss - level
            place = f"after {formats.short(point.num_tokens)} tokens"
            text = f"{curve.model}: {formats.signed(gap)} {place}"
            points.append(Point(point.num_tokens, gap, text))
    return points


def _loss_at(points: Sequence[CurvePoint], num_tokens: int) -> float | None:
    for point in points:
        if point.num_tokens == num_tokens:
            return point.loss
    for before, after in pairwise(points):
        if before.num_tokens < num_tokens < after.num_tokens:
            share = (num_tokens - before.num_tokens) / (after.num_tokens - before.num_tokens)
            return before.loss + share * (after.loss - before.loss)
    return None
