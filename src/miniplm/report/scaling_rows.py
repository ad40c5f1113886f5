"""Scaling of a run's students as the report shows it: laws, bands, refusals and savings."""

import math
from collections.abc import Sequence

from miniplm.report.model_content import BITS, TrainingCurves
from miniplm.report.run_record import RunRecord
from miniplm.report.scaling_content import FittedLoss, MeasuredLoss, ScalingContent, ScalingFit
from miniplm.scaling.content import (
    Factor,
    FittedSaving,
    MeasuredSaving,
    ScalingFindings,
    SeriesContent,
)
from miniplm.scaling.curves import CurvePoint, LossCurve
from miniplm.scaling.findings import scaling_findings
from miniplm.scaling.held_out_values import BITS_PER_BYTE, HELD_OUT_LOSS, LossKind
from miniplm.scaling.words import constant_text, count, factor_text, series_name

MOST_METHODS = 10
"""More laws than that are for `miniplm scaling`, which can choose among them."""
_FURTHER = 10.0
"""The laws are asked for so many times the tokens that students were trained on."""
_READINGS = {"about": "", "at least": "at least ", "at most": "at most ", "unknown": "about "}


def read_scaling(record: RunRecord, curves: Sequence[TrainingCurves]) -> ScalingContent | None:
    """Laws of the students' curves; None where there are no curves, or too many methods.

    Args:
        record: Of the run; in a study the seeds of a method and size are fitted together.
        curves: As the report draws them, in one unit.
    """
    students = [curve for curve in curves if curve.role == "student"]
    methods: dict[str, list[LossCurve]] = {}
    for curve in students:
        found = _loss_curve(record, curve)
        if found.points:
            methods.setdefault(_method(record, curve.model), []).append(found)
    if not methods or len(methods) > MOST_METHODS:
        return None
    kind = LossKind(BITS_PER_BYTE if students[0].unit == BITS else HELD_OUT_LOSS)
    trained = max(each.points[-1].num_tokens for own in methods.values() for each in own)
    findings = scaling_findings(methods, kind, budgets=[_FURTHER * trained])
    return ScalingContent(
        fits=[_fit(series) for series in findings.series],
        findings=_sentences(findings, students[0].unit),
        unit=students[0].unit,
    )


def _method(record: RunRecord, student: str) -> str:
    members = record.run.study.members if record.run.study else []
    return next((each.method for each in members if each.name == student), student)


def _loss_curve(record: RunRecord, curve: TrainingCurves) -> LossCurve:
    points = tuple(
        CurvePoint(point.num_tokens, point.flops, point.loss, point.lr)
        for point in curve.held_out
        if point.flops > 0 and math.isfinite(point.loss)
    )
    num_params = record.manifests[f"train/{curve.model}"].facts["num_params"]
    return LossCurve(curve.model, str(record.run.run_dir), points, num_params)


def _fit(series: SeriesContent) -> ScalingFit:
    points = [
        MeasuredLoss(point.flops, point.loss, point.is_fitted)
        for curve in series.curves
        for point in curve.points
    ]
    constants = series.fit.constants if series.fit else ()
    return ScalingFit(
        method=series_name(series.method, series.num_params),
        points=points,
        grid=[
            FittedLoss(point.flops, point.loss, point.interval.low, point.interval.high)
            for point in series.band
        ],
        measured_to=max(point.flops for point in points),
        formula=", ".join(f"{each.name} = {constant_text(each)}" for each in constants),
        refusal="; ".join(series.refusals) or None,
    )


def _sentences(findings: ScalingFindings, unit: str) -> list[str]:
    """Savings read off the curves first, those of the laws second, and what both rest on."""
    measured = [_measured(saving, unit) for saving in findings.measured]
    fitted = [_fitted(saving, unit) for saving in findings.fitted if saving.compute is not None]
    return [*measured, *fitted, *findings.cautions]


def _measured(saving: MeasuredSaving, unit: str) -> str:
    name = series_name(saving.method, saving.num_params)
    if saving.compute is None or saving.loss is None:
        return f"{name}: no saving can be read off the curves: {saving.refusal}."
    return (
        f"Read off the curves, {saving.baseline} needs {_READINGS[saving.reading]}"
        f"{factor_text(saving.compute)} times the training compute of {name} to reach "
        f"{saving.loss:.3f} {unit}{_by_chance(saving.compute)}."
    )


def _by_chance(factor: Factor) -> str:
    """Whether the interval of a factor holds one."""
    found = factor.interval
    return "; it may be chance" if found and found.low <= 1 <= found.high else ""


def _fitted(saving: FittedSaving, unit: str) -> str:
    assert saving.compute is not None
    at = f"to reach {saving.loss:.3f} {unit}"
    if saving.num_tokens is not None:
        at = f"for what it would reach after {count(saving.num_tokens)} tokens"
    name = series_name(saving.method, saving.num_params)
    return (
        f"By the fitted laws, not measured, {saving.baseline} needs {factor_text(saving.compute)} "
        f"times the training compute of {name} {at}{_by_chance(saving.compute)}."
    )
