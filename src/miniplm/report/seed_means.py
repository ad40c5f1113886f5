"""Curves of a study as one draws them: for each method and size the mean over the seeds."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace

from miniplm.report.content import ReportContent
from miniplm.report.model_content import CurvePoint, TrainingCurves
from miniplm.report.palette import COLOURS, Style, style
from miniplm.report.study_content import StudyContent, StudyRow


def seed_means(content: ReportContent) -> tuple[ReportContent, dict[str, Style]]:
    """The report with curves of methods and sizes in the place of the study's students.

    Args:
        content: The report; without a study it is returned as it is.

    Returns:
        The report, in which curves are compared with that of the baseline of their size, and how
        they are drawn: a method has one colour, a size one shape.
    """
    study = content.study
    if study is None:
        return content, {}
    curves = {curve.model: curve for curve in content.curves}
    means = {
        _name(row): _mean(row, own)
        for row in study.rows
        if (own := [curves[name] for name in _members(row) if name in curves])
    }
    members = {name for row in study.rows for name in _members(row)}
    others = [curve for curve in content.curves if curve.model not in members]
    baselines = {_name(row): f"{study.baseline}, {row.size}" for row in study.rows}
    drawn = replace(content, curves=[*others, *means.values()], baselines=baselines)
    return drawn, _styles(study)


def _name(row: StudyRow) -> str:
    return f"{row.method}, {row.size}"


def _members(row: StudyRow) -> Iterator[str]:
    """Names of a row's students, as `study.config.Member` has them."""
    return (f"{row.method}-{row.size}-s{seed}" for seed in row.values)


def _mean(row: StudyRow, curves: Sequence[TrainingCurves]) -> TrainingCurves:
    """The mean at the steps where all of the seeds were measured."""
    by_step = [{point.step: point for point in curve.held_out} for curve in curves]
    shared = [step for step in by_step[0] if all(step in points for points in by_step)]
    held_out = [_mean_point([points[step] for points in by_step]) for step in shared]
    return replace(curves[0], model=_name(row), train=[], held_out=held_out)


def _mean_point(points: Sequence[CurvePoint]) -> CurvePoint:
    return replace(
        points[0],
        num_tokens=round(statistics.fmean(point.num_tokens for point in points)),
        flops=statistics.fmean(point.flops for point in points),
        loss=statistics.fmean(point.loss for point in points),
    )


def _styles(study: StudyContent) -> dict[str, Style]:
    methods = list(dict.fromkeys(row.method for row in study.rows))
    methods.sort(key=lambda method: method != study.baseline)
    sizes = list(dict.fromkeys(row.size for row in study.rows))
    turns = -(-len(methods) // len(COLOURS)) * len(COLOURS)
    return {
        _name(row): style(methods.index(row.method) + turns * sizes.index(row.size))
        for row in study.rows
    }
