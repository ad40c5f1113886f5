"""What the numbers of a run say, in plain sentences, whichever way it went."""

from collections.abc import Sequence

from miniplm.evaluation.held_out import AVERAGE, OVERALL
from miniplm.report.content import EqualLossRow, HeldOutRow, ModelRow, TrainingCurves
from miniplm.scaling.curves import compute_at_loss
from miniplm.scaling.regime import TOKENS_PER_PARAM

_EVEN = 0.001
"""Differences in bits per byte below this are called none."""


def verdict_sentences(
    models: Sequence[ModelRow],
    held_out: Sequence[HeldOutRow],
    equal_loss: Sequence[EqualLossRow],
    baseline: str | None,
) -> list[str]:
    """The outcome, first thing on the page."""
    students = [model for model in models if model.role == "student"]
    if not students:
        return ["No student was trained in this run; the page shows scores and selection."]
    if len(students) == 1 or baseline is None:
        return [
            f"One student was trained ({students[0].name}); there is nothing to compare it with."
        ]
    rows = {row.domain: row for row in held_out}
    sentences = [
        _comparison(student.name, baseline, held_out, rows)
        for student in students
        if student.name != baseline
    ]
    sentences += [row.sentence for row in equal_loss]
    sentences.append(
        "This is one run with one seed: a small difference may come from chance, and the page "
        "does not say how large such a difference is."
    )
    return sentences


def _comparison(
    student: str, baseline: str, held_out: Sequence[HeldOutRow], rows: dict[str, HeldOutRow]
) -> str:
    average, overall = rows[AVERAGE].bits_per_byte, rows[OVERALL].bits_per_byte
    difference = average[student] - average[baseline]
    domains = [row for row in held_out if row.domain not in (AVERAGE, OVERALL)]
    better = sum(row.bits_per_byte[student] < row.bits_per_byte[baseline] for row in domains)
    if abs(difference) < _EVEN:
        outcome = f"{student} and {baseline} come out even"
    elif difference < 0:
        outcome = f"{student} is better than {baseline}"
    else:
        outcome = f"{student} lost to {baseline}"
    return (
        f"{outcome}: {average[student]:.4f} against {average[baseline]:.4f} bits per byte on "
        f"held-out text, averaged over domains ({difference:+.4f}; lower is better). It is better "
        f"in {better} of {len(domains)} domains; over all text together the difference is "
        f"{overall[student] - overall[baseline]:+.4f}."
    )


def regime_sentences(models: Sequence[ModelRow]) -> list[str]:
    """How far the run is from the paper's regime, and whether the teacher is ahead."""
    sentences = []
    for model in models:
        wanted = TOKENS_PER_PARAM[model.role]
        if model.tokens_per_param is not None and model.tokens_per_param < wanted:
            sentences.append(
                f"{model.name} saw {model.tokens_per_param:.1f} tokens per parameter; the paper's "
                f"regime is {wanted} or more for a {model.role}."
            )
    by_role = {model.role: model for model in models if model.role != "student"}
    if {"teacher", "reference"} <= set(by_role):
        sentences.append(_teacher_sentence(by_role["teacher"], by_role["reference"]))
    return sentences


def _teacher_sentence(teacher: ModelRow, reference: ModelRow) -> str:
    if teacher.held_out_loss is None or reference.held_out_loss is None:
        return "It is not known how far the teacher is ahead of the reference."
    gap = reference.held_out_loss - teacher.held_out_loss
    losses = f"{teacher.held_out_loss:.3f} against {reference.held_out_loss:.3f} nats per token"
    if gap <= 0:
        return (
            f"The teacher is not better than the reference on held-out text ({losses}): its scores "
            "say nothing, and no outcome of this run speaks for or against the method."
        )
    return (
        f"The teacher is ahead of the reference by {gap:.3f} nats per token on held-out text "
        f"({losses}). The method passes on what the teacher knows, and nothing else."
    )


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
        ratio = theirs / ours
        verb = "less" if ratio >= 1 else "more"
        factor = ratio if ratio >= 1 else 1 / ratio
        sentence = (
            f"To reach a held-out loss of {loss:.3f}, {student.model} needed {factor:.2f} times "
            f"{verb} training compute than {baseline.model} (read off the curves; the one that "
            "got there first had not let its learning rate fall yet, so the factor is cautious)."
        )
    return EqualLossRow(
        student=student.model,
        baseline=baseline.model,
        loss=loss,
        student_flops=ours,
        baseline_flops=theirs,
        sentence=sentence,
    )


def _needed(curve: TrainingCurves, loss: float) -> float | None:
    flops = [point.flops for point in curve.held_out]
    return compute_at_loss(flops, [point.loss for point in curve.held_out], loss)
