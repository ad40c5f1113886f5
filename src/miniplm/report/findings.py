"""What the numbers of a run say, in plain sentences, whichever way it went."""

from collections.abc import Mapping, Sequence

from miniplm.evaluation.averages import AVERAGE, AVERAGES, OVERALL
from miniplm.evaluation.difference import Difference
from miniplm.report.chance import chance_sentence, seed_sentence, spread
from miniplm.report.model_content import BITS, NATS, EqualLossRow, HeldOutRow, ModelRow, Unit
from miniplm.scaling.regime import TOKENS_PER_PARAM

_EVEN = 0.001
"""Differences in bits per byte below this are called none."""
_FEW = 3
"""Students that get sentences of their own; more of them are ranked."""


def verdict_sentences(
    models: Sequence[ModelRow],
    held_out: Sequence[HeldOutRow],
    equal_loss: Sequence[EqualLossRow],
    baseline: str | None,
    differences: Mapping[str, Difference] | None = None,
) -> list[str]:
    """The outcome, first thing on the page.

    Args:
        models: Those that are compared, and others.
        held_out: What they were measured at.
        equal_loss: Compute to the same loss.
        baseline: The student that the others are compared with.
        differences: Of each of these from the baseline over the same documents, bits per byte
            averaged over domains.
    """
    differences = differences or {}
    students = [model for model in models if model.role == "student"]
    if not students:
        return ["No student was trained in this run; the page shows scores and selection."]
    if len(students) == 1 or baseline is None:
        return [
            f"One student was trained ({students[0].name}); there is nothing to compare it with."
        ]
    others = [student.name for student in students if student.name != baseline]
    if len(others) > _FEW:
        sentences = _ranking(others, baseline, held_out, differences)
        sentences += _savings(equal_loss, baseline)
    else:
        sentences = []
        for student in others:
            sentences.append(_comparison(student, baseline, held_out))
            if student in differences:
                sentences.append(chance_sentence(differences[student]))
        sentences += [row.sentence for row in equal_loss]
    return [*sentences, seed_sentence(differences)]


def _comparison(student: str, baseline: str, held_out: Sequence[HeldOutRow]) -> str:
    rows = {row.domain: row for row in held_out}
    average, overall = rows[AVERAGE].bits_per_byte, rows[OVERALL].bits_per_byte
    difference = average[student] - average[baseline]
    better, domains = _domains_won(student, baseline, held_out)
    if abs(difference) < _EVEN:
        outcome = f"{student} and {baseline} come out even"
    elif difference < 0:
        outcome = f"{student} is better than {baseline}"
    else:
        outcome = f"{student} lost to {baseline}"
    return (
        f"{outcome}: {average[student]:.4f} against {average[baseline]:.4f} bits per byte on "
        f"held-out text, averaged over {_averaged(held_out)} ({difference:+.4f}; lower is better). "
        f"It is better in {better} of {domains} domains; over all text together the difference is "
        f"{overall[student] - overall[baseline]:+.4f}."
    )


def _domains_won(student: str, baseline: str, held_out: Sequence[HeldOutRow]) -> tuple[int, int]:
    """Domains in which a student is better, and all of them but those set apart."""
    domains = [row for row in held_out if row.domain not in AVERAGES and not row.set_apart]
    better = sum(row.bits_per_byte[student] < row.bits_per_byte[baseline] for row in domains)
    return better, len(domains)


def _averaged(held_out: Sequence[HeldOutRow]) -> str:
    """What averages are over, in words."""
    num_apart = sum(row.set_apart and row.domain not in AVERAGES for row in held_out)
    return f"domains ({num_apart} set apart)" if num_apart else "domains"


def _ranking(
    students: Sequence[str],
    baseline: str,
    held_out: Sequence[HeldOutRow],
    differences: Mapping[str, Difference],
) -> list[str]:
    """Many students, best first, in a sentence for each outcome."""
    average = next(row.bits_per_byte for row in held_out if row.domain == AVERAGE)
    outcomes: dict[str, list[str]] = {"better": [], "even": [], "worse": []}
    for student in sorted(students, key=lambda name: average[name]):
        difference = average[student] - average[baseline]
        better, domains = _domains_won(student, baseline, held_out)
        side = "worse" if difference > 0 else "better"
        outcomes["even" if abs(difference) < _EVEN else side].append(
            f"{student} ({difference:+.4f}{spread(differences.get(student))}, better in {better} "
            f"of {domains} domains)"
        )
    words = {
        "better": f"better than {baseline}",
        "even": f"even with {baseline}",
        "worse": f"lost to {baseline}",
    }
    parts = [
        f"{words[outcome]}, best first: {', '.join(named)}"
        for outcome, named in outcomes.items()
        if named
    ]
    over = ", with 95 % intervals over documents" if differences else ""
    first = (
        f"Bits per byte on held-out text, averaged over {_averaged(held_out)}, against the "
        f"{average[baseline]:.4f} of {baseline} (lower is better{over}):"
    )
    return [first, *(f"{part[0].upper()}{part[1:]}." for part in parts)]


def _savings(equal_loss: Sequence[EqualLossRow], baseline: str) -> list[str]:
    """Many students: whose curve got to a loss with less training compute."""
    ratios = {
        row.student: row.baseline_flops / row.student_flops
        for row in equal_loss
        if row.student_flops and row.baseline_flops
    }
    ahead = sorted((name for name in ratios if ratios[name] > 1), key=lambda name: -ratios[name])
    if not ratios:
        return []
    if not ahead:
        return [f"None needed less training compute than {baseline} to the same held-out loss."]
    named = ", ".join(f"{name} ({ratios[name]:.2f} times less)" for name in ahead)
    return [
        f"To the same held-out loss these needed less training compute than {baseline}, read off "
        f"the curves: {named}."
    ]


def regime_sentences(
    models: Sequence[ModelRow], tokenizers: Mapping[str, str] | None = None
) -> list[str]:
    """How far the run is from the paper's regime, and whether the teacher is ahead.

    Args:
        models: Of the run.
        tokenizers: What each reads; where teacher and reference differ, bits per byte compare.
    """
    sentences = []
    for role, wanted in TOKENS_PER_PARAM.items():
        short = {
            model.name: model.tokens_per_param
            for model in models
            if model.role == role
            and model.tokens_per_param is not None
            and model.tokens_per_param < wanted
        }
        if short:
            least, most = f"{min(short.values()):.1f}", f"{max(short.values()):.1f}"
            seen = least if least == most else f"{least} to {most}"
            names = ", ".join(short) if len(short) <= _FEW else f"{len(short)} {role}s"
            names = names if role == "student" else f"The {role}"
            sentences.append(
                f"{names} saw {seen} tokens per parameter; the paper's regime is {wanted} or more "
                f"for a {role}."
            )
    by_role = {model.role: model for model in models if model.role != "student"}
    if {"teacher", "reference"} <= set(by_role):
        teacher, reference = by_role["teacher"], by_role["reference"]
        read = tokenizers or {}
        unit = NATS if read.get(teacher.name) == read.get(reference.name) else BITS
        sentences.append(_teacher_sentence(teacher, reference, unit))
    return sentences


def _teacher_sentence(teacher: ModelRow, reference: ModelRow, unit: Unit) -> str:
    ours, theirs = teacher.figure(unit), reference.figure(unit)
    if ours is None or theirs is None:
        return "It is not known how far the teacher is ahead of the reference."
    gap = theirs - ours
    losses = f"{ours:.3f} against {theirs:.3f} {unit}"
    if gap <= 0:
        return (
            f"The teacher is not better than the reference on held-out text ({losses}): its scores "
            "say nothing, and no outcome of this run speaks for or against the method."
        )
    return (
        f"The teacher is ahead of the reference by {gap:.3f} {unit} on held-out text "
        f"({losses}). The method passes on what the teacher knows, and nothing else."
    )
