"""Compute that students need to come down to one loss, read off their curves."""

import math
from collections.abc import Sequence
from dataclasses import replace

from miniplm.report.model_content import BITS, EqualLossRow, TrainingCurves, Unit
from miniplm.scaling.curves import CurvePoint, LossCurve, compute_at_loss


def equal_loss_rows(curves: Sequence[TrainingCurves], baseline: str | None) -> list[EqualLossRow]:
    """For each student but the baseline: compute to the same held-out loss, read off the curves."""
    students = {curve.model: _finite(curve) for curve in curves if curve.role == "student"}
    if baseline not in students or not students[baseline].held_out:
        return []
    return [
        _equal_loss(students[baseline], curve)
        for name, curve in students.items()
        if name != baseline and curve.held_out
    ]


def _finite(curve: TrainingCurves) -> TrainingCurves:
    """Without evaluations that are no number."""
    return replace(curve, held_out=[each for each in curve.held_out if math.isfinite(each.loss)])


def _equal_loss(baseline: TrainingCurves, student: TrainingCurves) -> EqualLossRow:
    loss = max(baseline.held_out[-1].loss, student.held_out[-1].loss)
    needed = {curve.model: _needed(curve, loss) for curve in (baseline, student)}
    ours, theirs = needed[student.model], needed[baseline.model]
    if not ours or not theirs:
        sentence = (
            f"The curves of {student.model} and {baseline.model} share no loss to compare at."
        )
    else:
        first = student if ours < theirs else baseline
        sentence = (
            f"To reach {_level(loss, student.unit)}, {student.model} needed "
            f"{_times(theirs / ours, baseline.model)} (read off the curves{_caution(first, loss)})."
        )
    return EqualLossRow(
        student=student.model,
        baseline=baseline.model,
        loss=loss,
        student_flops=ours,
        baseline_flops=theirs,
        sentence=sentence,
        unit=student.unit,
    )


def _times(ratio: float, baseline: str) -> str:
    if ratio >= 1:
        return f"{ratio:.2f} times less training compute than {baseline}"
    return f"{1 / ratio:.2f} times the training compute of {baseline}"


def _caution(first: TrainingCurves, loss: float) -> str:
    """What to know where the curve that got there first still had a high learning rate."""
    points = [
        CurvePoint(point.num_tokens, point.flops, point.loss, point.lr)
        for point in first.held_out
        if point.flops > 0
    ]
    if LossCurve(first.model, "", tuple(points)).is_settled_at(loss):
        return ""
    return (
        "; the one that got there first had not let its learning rate fall yet, so the factor is "
        "cautious"
    )


def _level(loss: float, unit: Unit) -> str:
    if unit == BITS:
        return f"{loss:.3f} bits per byte on the held-out text measured along the way"
    return f"a held-out loss of {loss:.3f}"


def _needed(curve: TrainingCurves, loss: float) -> float | None:
    flops = [point.flops for point in curve.held_out]
    return compute_at_loss(flops, [point.loss for point in curve.held_out], loss)
