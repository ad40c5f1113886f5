"""Whether a proxy predicts well enough to select by."""

from dataclasses import dataclass
from pathlib import Path

from miniplm.errors import ArtefactError
from miniplm.runtime.log import logger
from miniplm.scoring.agreement import PAPER_RATIO, Estimate, kappa
from miniplm.scoring.proxy_config import ProxyConfig
from miniplm.scoring.proxy_held_out import HELD_OUT_NAME, HeldOut

SHOWN_RATIOS = (PAPER_RATIO, 0.25)
"""Selection ratios that every run with a proxy says the agreement at."""


@dataclass(frozen=True)
class Comparison:
    """How a selection ranks, and so how predicted scores are compared with true ones.

    Args:
        ratio: Share of the sequences that is kept.
        normalization: What log-probabilities are divided by; empty for what was predicted.
        within_domains: Whether the top is taken inside each domain.
    """

    ratio: float = PAPER_RATIO
    normalization: str = ""
    within_domains: bool = False


@dataclass(frozen=True)
class Judgement:
    """A selection by predicted scores against the one by true scores, on held-out sequences.

    Args:
        comparison: How they rank.
        agreement: Share of the true top that is in the predicted one.
        by_chance: What that would be for predictions that know nothing.
        bar: The lowest kappa to select by.
        allowed: Whether to select by a lower one too.
    """

    comparison: Comparison
    agreement: Estimate
    by_chance: float
    bar: float
    allowed: bool

    @property
    def kappa(self) -> Estimate:
        """How far the agreement is from chance (0) to perfect (1)."""
        found = self.agreement
        return Estimate(*(kappa(x, self.by_chance) for x in (found.value, found.low, found.high)))

    @property
    def passes(self) -> bool:
        """Whether kappa reaches the bar, and its interval lies above chance."""
        return self.kappa.value >= self.bar and self.kappa.low > 0

    @property
    def in_words(self) -> str:
        """The figures and the bar, as part of a sentence."""
        where = "inside each domain" if self.comparison.within_domains else "of the whole corpus"
        return (
            f"of the true top {self.comparison.ratio:.0%} {where}, {self.agreement} are in the "
            f"predicted top, {self.by_chance:.1%} by chance: kappa {self.kappa.value:.2f}, the bar "
            f"{self.bar:g}"
        )


def judge(held_out: HeldOut, proxy: ProxyConfig, comparison: Comparison) -> Judgement:
    """Compare predicted with true scores as a selection would use them.

    Args:
        held_out: Rows with both.
        proxy: Has the bars.
        comparison: How the selection ranks.
    """
    ratio, within_domains = comparison.ratio, comparison.within_domains
    return Judgement(
        comparison,
        agreement=held_out.agreement(
            ratio, comparison.normalization, within_domains=within_domains
        ),
        by_chance=held_out.by_chance(ratio, within_domains=within_domains),
        bar=proxy.min_kappa_within_domains if within_domains else proxy.min_kappa,
        allowed=proxy.allow_low_agreement,
    )


def shown_judgements(held_out: HeldOut, proxy: ProxyConfig) -> list[Judgement]:
    """At each of `SHOWN_RATIOS`, over the whole corpus and inside domains."""
    return [
        judge(held_out, proxy, Comparison(ratio, within_domains=within_domains))
        for ratio in SHOWN_RATIOS
        for within_domains in (False, True)
    ]


def require_agreement(scores_folder: Path, proxy: ProxyConfig, comparison: Comparison) -> None:
    """Refuse to select by predicted scores that rank too unlike the true ones.

    Args:
        scores_folder: Of the predicted score tables.
        proxy: Has the bars.
        comparison: How the selection ranks.

    Raises:
        ArtefactError: Kappa on held-out sequences is under the bar, or not clearly above chance.
    """
    held_out = HeldOut.read(scores_folder / HELD_OUT_NAME)
    found = judge(held_out, proxy, comparison)
    if found.passes:
        logger.info("proxy: %s", found.in_words)
        return
    message = _refusal(scores_folder, proxy, found, len(held_out.true_R))
    if not found.allowed:
        raise ArtefactError(message)
    logger.warning("%s", message)


def _refusal(folder: Path, proxy: ProxyConfig, found: Judgement, num_rows: int) -> str:
    dial = "min_kappa_within_domains" if found.comparison.within_domains else "min_kappa"
    other = "ngrams" if proxy.features == "hidden" else "hidden"
    return (
        f"{folder}: the predicted scores rank too unlike the true ones. On {num_rows} held-out "
        f"sequences, {found.in_words} (scoring.proxy.{dial}), and the interval has to lie above "
        f"chance. The scores are kept. Raise scoring.proxy.share (now {proxy.share:g}), try "
        f"scoring.proxy.features={other}, score everything (scoring.proxy=null), or select all "
        "the same (scoring.proxy.allow_low_agreement=true)."
    )
