"""A study as one draws it: for each method and size the mean over the seeds."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from miniplm.report.content import ReportContent
from miniplm.report.model_content import CurvePoint, HeldOutRow, TrainingCurves
from miniplm.report.palette import COLOURS, Style, style
from miniplm.report.study_content import StudyContent, StudyRow
from miniplm.report.task_content import TaskContent, TaskResult


def seed_means(content: ReportContent) -> tuple[ReportContent, dict[str, Style]]:
    """The report with methods and sizes in the place of the study's students.

    That is so for curves, held-out text and tasks. A task's standard error is the mean of the
    seeds', which were all asked the same items; means have no differences of tasks.

    Args:
        content: The report; without a study it is returned as it is.

    Returns:
        The report, in which each is compared with the baseline of its size, and how they are drawn:
        a method has one colour, a size one shape.
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
    seeds = {_name(row): list(_members(row)) for row in study.rows}
    single = [name for name in content.held_out_models if name not in members]
    drawn = replace(
        content,
        curves=[*others, *means.values()],
        baselines=baselines,
        held_out=[_mean_row(row, seeds) for row in content.held_out],
        held_out_models=[*single, *seeds],
        tasks=_mean_tasks(content.tasks, seeds) if content.tasks else None,
        tokenizers={
            **content.tokenizers,
            **{
                name: content.tokenizers[own[0]]
                for name, own in seeds.items()
                if own[0] in content.tokenizers
            },
        },
    )
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


def _mean_row(row: HeldOutRow, seeds: Mapping[str, Sequence[str]]) -> HeldOutRow:
    return replace(
        row,
        loss=_with_means(row.loss, seeds),
        bits_per_byte=_with_means(row.bits_per_byte, seeds),
    )


def _with_means(
    values: Mapping[str, float], seeds: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """Figures of models, and of methods and sizes all of whose seeds have one."""
    return {
        **values,
        **{
            name: statistics.fmean(values[each] for each in own)
            for name, own in seeds.items()
            if all(each in values for each in own)
        },
    }


def _mean_tasks(tasks: TaskContent, seeds: Mapping[str, Sequence[str]]) -> TaskContent:
    members = {each for own in seeds.values() for each in own}
    single = [result for result in tasks.results if result.model not in members]
    by_place = {(result.model, result.task): result for result in tasks.results}
    means = [
        _mean_result(name, found)
        for name, own in seeds.items()
        for task in dict.fromkeys(result.task for result in tasks.results)
        if len(found := [by_place[each, task] for each in own if (each, task) in by_place])
        == len(own)
    ]
    differences = [each for each in tasks.differences if each.model not in members]
    return replace(tasks, results=[*single, *means], differences=differences)


def _mean_result(name: str, results: Sequence[TaskResult]) -> TaskResult:
    errors = [each.standard_error for each in results if each.standard_error is not None]
    return replace(
        results[0],
        model=name,
        value=statistics.fmean(each.value for each in results),
        standard_error=statistics.fmean(errors) if errors else None,
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
