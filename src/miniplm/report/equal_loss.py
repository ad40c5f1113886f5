"""Compute that students need to come down to one loss, read off their curves."""

from collections.abc import Sequence

from miniplm.report.model_content import BITS, EqualLossRow, TrainingCurves, Unit
from miniplm.scaling.curves import SETTLED, compute_at_loss


def equal_loss_rows(curves: Sequence[TrainingCurves], baseline: str | None) -> list[EqualLossRow]:
    """For each student but the baseline: compute to the same held-out loss, read off the curves."""
    students = {curve.model: curve for curve in curves if curve.role == "student"}
    if baseline not in students or not students[baseline].held_out:
        return []
    return [
        _equal_loss(students[baseline], curve)
        for name, curve in students.items()
        if name != baseline and curve.held_out
    ]


def _equal_loss(baseline: TrainingCurves, student: TrainingCurves) -> EqualLossRow:
    loss = max(baseline.held_out[-1].loss, student.held_out[-1].loss)
    needed = {curve.model: _needed(curve, loss) for curve in (baseline, student)}
    ours, theirs = needed[student.model], needed[baseline.model]
    if ours is None or theirs is None or ours == 0:
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
    """What to know where the curve that got to a loss first still had a high learning rate."""
    reached = next((point for point in first.held_out if point.loss <= loss), None)
    if reached is None or reached.lr <= SETTLED * first.held_out[-1].lr:
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
