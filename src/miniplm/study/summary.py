"""Methods at each size over the seeds: means, spreads, and differences to the baseline."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from miniplm.errors import ArtefactError
from miniplm.evaluation.averages import AVERAGE
from miniplm.evaluation.difference import Difference
from miniplm.evaluation.paired import paired_documents
from miniplm.runtime.log import logger
from miniplm.study.halves import HalvesDifference, ScoreHalves
from miniplm.study.results import Comparison, StudentResult

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """Values of the seeds.

    Args:
        values: In the order of the seeds.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.fmean(self.values)

    @property
    def geometric_mean(self) -> float:
        """Over the seeds; of ratios, where half as much and twice as much come to one."""
        return statistics.geometric_mean(self.values)

    @property
    def deviation(self) -> float | None:
        """Standard deviation (n - 1); None of a single seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the mean by Student's t, n - 1 degrees of freedom; None of one seed.

        It says how far other seeds may lead, not other held-out documents.
        """
        if self.deviation is None:
            return None
        from scipy.stats import t

        count = len(self.values)
        reach = float(t.ppf((1 + _CONFIDENCE) / 2, count - 1)) * self.deviation / count**0.5
        return self.mean - reach, self.mean + reach


@dataclass(frozen=True)
class MethodSummary:
    """A method at a size.

    Args:
        method: Its name.
        size: Name of the size.
        num_params: Of its students.
        tokens_per_param: That they were trained on, a mean.
        flops: Of training one, a mean.
        seconds: Of training one, a mean.
        bits_per_byte: Averaged over domains.
        set_apart: The same over the domains set apart, if there are any.
        all_text: Of all held-out text together.
        difference: To the baseline of the same seed; None of the baseline itself.
        domains_better: Domains in which it is better than the baseline, a mean over the seeds.
        num_domains: How many are averaged over.
        compute_saved: Times less training compute than the baseline; seeds where it cannot be read
            are left out. None of the baseline itself, and where no seed has it.
        saved_is_cautious: Whether the curves understate that in every seed, and in one direction.
        ahead_from: For each seed, the share of its compute from which on it stays ahead.
        relative_compute: Training compute over that of the baseline, a mean.
        at_equal_compute: Whether all its students had the compute of their baselines, nearly.
        paired: The difference again, with the interval of drawing seeds and held-out documents anew
            (`evaluation.paired`); None of the baseline, and where documents are not known.
        on_low: The difference on the half of each domain's documents that scores lower; None of the
            baseline, and where documents are not known.
        on_high: The same on the half that scores higher.
    """

    method: str
    size: str
    num_params: int
    tokens_per_param: float
    flops: float
    seconds: float
    bits_per_byte: Spread
    set_apart: Spread | None
    all_text: Spread
    difference: Spread | None = None
    domains_better: float | None = None
    num_domains: int = 0
    compute_saved: Spread | None = None
    saved_is_cautious: bool = False
    ahead_from: tuple[float | None, ...] = ()
    relative_compute: float = 1.0
    at_equal_compute: bool = True
    paired: Difference | None = None
    on_low: Spread | None = None
    on_high: Spread | None = None

    @property
    def label(self) -> str:
        """The method, with its compute where that is not the baseline's."""
        if self.at_equal_compute:
            return self.method
        return f"{self.method} ({self.relative_compute:.2f} times the compute)"

    @property
    def seeds_better(self) -> int:
        """Seeds in which it is better than the baseline."""
        return sum(value < 0 for value in self.difference.values) if self.difference else 0


def summarise(
    results: Sequence[StudentResult],
    comparisons: Sequence[Comparison],
    halves: ScoreHalves | None = None,
) -> list[MethodSummary]:
    """One line per size and method, in the order of the results.

    Args:
        results: Of each student.
        comparisons: Of each student of another method with its baseline.
        halves: The held-out documents by their own score, where it is known.
    """
    keys = dict.fromkeys((result.member.size, result.member.method) for result in results)
    sizes = list(dict.fromkeys(size for size, _ in keys))
    ordered = sorted(keys, key=lambda key: sizes.index(key[0]))
    return [
        _summary(
            [each for each in results if (each.member.size, each.member.method) == key],
            [each for each in comparisons
             if (each.student.member.size, each.student.member.method) == key],
            halves,
        )
        for key in ordered
    ]  # fmt: skip


def _summary(
    results: Sequence[StudentResult], compared: Sequence[Comparison], halves: ScoreHalves | None
) -> MethodSummary:
    first = results[0]
    on_halves = _on_halves(compared, halves) if halves else []
    apart = [each.set_apart for each in results if each.set_apart is not None]
    saved = [each.compute_saved for each in compared if each.compute_saved is not None]
    return MethodSummary(
        method=first.member.method,
        size=first.member.size,
        num_params=first.num_params,
        tokens_per_param=statistics.fmean(each.tokens_per_param for each in results),
        flops=statistics.fmean(each.flops for each in results),
        seconds=statistics.fmean(each.seconds for each in results),
        bits_per_byte=Spread(tuple(each.bits_per_byte for each in results)),
        set_apart=Spread(tuple(apart)) if apart else None,
        all_text=Spread(tuple(each.all_text for each in results)),
        difference=Spread(tuple(each.difference for each in compared)) if compared else None,
        domains_better=(
            statistics.fmean(each.domains_better for each in compared) if compared else None
        ),
        num_domains=compared[0].num_domains if compared else 0,
        compute_saved=Spread(tuple(saved)) if saved else None,
        saved_is_cautious=all(each.is_cautious for each in compared)
        and (min(saved, default=0) > 1 or max(saved, default=9) < 1),
        ahead_from=tuple(each.ahead_from for each in compared),
        relative_compute=(
            statistics.fmean(each.relative_compute for each in compared) if compared else 1.0
        ),
        at_equal_compute=all(each.at_equal_compute for each in compared),
        paired=_paired(compared),
        on_low=Spread(tuple(each.low for each in on_halves)) if on_halves else None,
        on_high=Spread(tuple(each.high for each in on_halves)) if on_halves else None,
    )


def _on_halves(compared: Sequence[Comparison], halves: ScoreHalves) -> list[HalvesDifference]:
    """The difference of each seed; of none, where one is not known."""
    found = [
        halves.difference(each.student.documents, each.baseline.documents, each.student.apart)
        for each in compared
        if each.student.documents is not None and each.baseline.documents is not None
    ]
    known = [each for each in found if each is not None]
    if len(known) == len(compared):
        return known
    method = compared[0].student.member.method
    logger.warning("%s and its baseline share no text in both halves of a domain", method)
    return []


def _paired(compared: Sequence[Comparison]) -> Difference | None:
    """The difference averaged over domains, over the seeds and their documents together."""
    pairs = [
        (each.student.documents, each.baseline.documents)
        for each in compared
        if each.student.documents is not None and each.baseline.documents is not None
    ]
    if not pairs or len(pairs) < len(compared):
        return None
    try:
        return paired_documents(pairs, compared[0].student.apart)[AVERAGE]
    except ArtefactError as error:  # tokenizers that leave out much of short documents
        method = compared[0].student.member.method
        logger.warning("no interval over documents for %s: %s", method, error)
        return None
