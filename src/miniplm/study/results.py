"""The results of a study's students, and each against the baseline of its size and seed."""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from miniplm.evaluation.documents import Documents
from miniplm.scaling.curves import LossCurve
from miniplm.study.config import Member

EQUAL_COMPUTE = 0.02
"""Students whose training compute differs by more than this share are not at equal compute."""


@dataclass(frozen=True)
class StudentResult:
    """What became of a student.

    Args:
        member: Its method, size and seed.
        num_params: All parameters.
        num_tokens: It was trained on.
        flops: Of training, a teacher beside it included.
        seconds: Of training.
        loss: On held-out text, nats per token, averaged over domains.
        bits_per_byte: The same text, averaged over the domains that are not set apart.
        all_text: Bits per byte of all held-out text together.
        set_apart: Bits per byte averaged over the domains set apart; None where there are none.
        by_domain: Bits per byte of every domain.
        apart: Names of those that are set apart.
        curve: Of held-out text along the way, in bits per byte averaged as above.
        documents: Sums of the held-out documents, where they are known.
    """

    member: Member
    num_params: int
    num_tokens: int
    flops: float
    seconds: float
    loss: float
    bits_per_byte: float
    all_text: float
    set_apart: float | None
    by_domain: Mapping[str, float]
    apart: frozenset[str]
    curve: LossCurve
    documents: Documents | None = None

    @property
    def tokens_per_param(self) -> float:
        """Tokens it was trained on, per parameter."""
        return self.num_tokens / self.num_params


@dataclass(frozen=True)
class Comparison:
    """A student against the baseline of its size and seed.

    Args:
        student: The student.
        baseline: The baseline.
        difference: Bits per byte, averaged over the domains that both were measured in; below 0 the
            student is better.
        domains_better: Domains in which it is better, of those that are averaged over.
        num_domains: How many these are.
        compute_saved: How many times less training compute it needed to the worse of both final
            losses, read off the curves; below 1 it needed more. None where a curve lies below that
            loss from its first evaluation on.
        is_cautious: Whether the one that got there first had not let its learning rate fall, which
            understates it.
        ahead_from: Share of its compute from which on its curve stays below the baseline's: 0 from
            the first evaluation on, None if it ends above.
    """

    student: StudentResult
    baseline: StudentResult
    difference: float
    domains_better: int
    num_domains: int
    compute_saved: float | None
    is_cautious: bool
    ahead_from: float | None

    @property
    def relative_compute(self) -> float:
        """The student's training compute over the baseline's."""
        return self.student.flops / self.baseline.flops

    @property
    def at_equal_compute(self) -> bool:
        """Whether both were trained with the same compute, nearly."""
        return abs(self.relative_compute - 1) <= EQUAL_COMPUTE


def compare(results: Sequence[StudentResult], baseline: str) -> list[Comparison]:
    """Every student of another method against the baseline of its size and seed.

    Args:
        results: Of a study, or of as much of it as is finished.
        baseline: The method compared with; a student without one of its size and seed is left out.
    """
    found = {result.member: result for result in results}
    pairs = [
        (result, found.get(Member(baseline, result.member.size, result.member.seed)))
        for result in results
        if result.member.method != baseline
    ]
    return [_compare(student, other) for student, other in pairs if other is not None]


def _compare(student: StudentResult, baseline: StudentResult) -> Comparison:
    domains = [
        name
        for name in student.by_domain
        if name not in student.apart and name in baseline.by_domain
    ]
    differences = [student.by_domain[name] - baseline.by_domain[name] for name in domains]
    saved, cautious = compute_saved(student.curve, baseline.curve)
    return Comparison(
        student=student,
        baseline=baseline,
        difference=statistics.fmean(differences),
        domains_better=sum(each < 0 for each in differences),
        num_domains=len(domains),
        compute_saved=saved,
        is_cautious=cautious,
        ahead_from=ahead_from(student.curve, baseline.curve),
    )


def compute_saved(student: LossCurve, baseline: LossCurve) -> tuple[float | None, bool]:
    """The baseline's training compute over the student's, to the worse of both final losses.

    Returns:
        The ratio, None where a curve lies below that loss from its first point on, and whether it
        is cautious: the one that got there first had not let its learning rate fall.
    """
    loss = max(student.points[-1].loss, baseline.points[-1].loss)
    ours, theirs = student.flops_at_loss(loss), baseline.flops_at_loss(loss)
    if ours is None or theirs is None:
        return None, False
    first = student if ours < theirs else baseline
    return theirs / ours, not first.is_settled_at(loss)


def ahead_from(student: LossCurve, baseline: LossCurve) -> float | None:
    """Share of the student's compute from which on its curve lies below the baseline's for good.

    The baseline's loss between two evaluations is read off the line through them; where only one
    curve was evaluated nothing is compared.
    """
    last_above: int | None = None
    compared = [
        (place, point.loss, other)
        for place, point in enumerate(student.points)
        if (other := _loss_at(baseline, point.flops)) is not None
    ]
    for place, loss, other in compared:
        if loss >= other:
            last_above = place
    if not compared or last_above == compared[-1][0]:
        return None
    if last_above is None:
        return 0.0
    return student.points[last_above + 1].flops / student.points[-1].flops


def _loss_at(curve: LossCurve, flops: float) -> float | None:
    """A curve's loss at some compute, by linear interpolation; None outside of it."""
    points = curve.points
    # the last evaluations of two runs of equal budgets differ by less than a step
    if points[-1].flops <= flops <= points[-1].flops * (1 + EQUAL_COMPUTE):
        return points[-1].loss
    for before, after in itertools.pairwise(points):
        if before.flops <= flops <= after.flops:
            share = (flops - before.flops) / (after.flops - before.flops)
            return before.loss + share * (after.loss - before.loss)
    return None
