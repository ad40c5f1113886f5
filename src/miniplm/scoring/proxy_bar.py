"""Whether a proxy predicts well enough to select by."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from miniplm.errors import ArtefactError
from miniplm.runtime.log import logger
from miniplm.scoring.agreement import PAPER_RATIO, Estimate, kappa
from miniplm.scoring.proxy_config import ProxyConfig
from miniplm.scoring.proxy_held_out import HELD_OUT_NAME, HeldOut, Ranked

SHOWN_RATIOS = (PAPER_RATIO, 0.25)
"""Selection ratios that every run with a proxy says the agreement at."""

Within = Literal["corpus", "domain", "group"]
By = Literal["difference", "teacher", "residual", "zscore"]
_WHERE: dict[Within, str] = {
    "corpus": "the whole corpus",
    "domain": "inside each domain",
    "group": "inside each group",
}
_BY: dict[By, str] = {
    "difference": "",
    "teacher": " by the teacher alone",
    "residual": " by residuals",
    "zscore": " by z-scores",
}


@dataclass(frozen=True)
class Comparison:
    """How a selection ranks, and so how predicted scores are compared with true ones.

    Args:
        ratio: Share of the sequences that is kept.
        normalization: What log-probabilities are divided by; empty for what was predicted.
        within: What the top is taken inside.
        by: What rows are ranked by.
        doubt: Why the selection ranks otherwise, where what it does cannot be measured.
    """

    ratio: float = PAPER_RATIO
    normalization: str = ""
    within: Within = "corpus"
    by: By = "difference"
    doubt: str = ""

    @property
    def in_words(self) -> str:
        """What is kept, as part of a sentence.

        Example:
            >>> Comparison(0.25, within="group", by="residual").in_words
            'top 25% by residuals inside each group'
        """
        of = " of" if self.within == "corpus" else ""
        return f"top {self.ratio:.0%}{_BY[self.by]}{of} {_WHERE[self.within]}"

    @property
    def ranked_in_words(self) -> str:
        """What is ranked, and by what, for the cell of a table.

        Example:
            >>> Comparison(by="teacher").ranked_in_words
            'the whole corpus by the teacher alone'
        """
        return _WHERE.get(self.within, self.within) + _BY.get(self.by, self.by)


@dataclass(frozen=True)
class Judgement:
    """A selection by predicted scores against the one by true scores, on held-out sequences.

    Args:
        comparison: How they rank.
        agreement: Share of the true top that is in the predicted one.
        by_chance: What that would be for predictions that know nothing.
        bar: The lowest kappa to select by.
        allowed: Whether to select by a lower one too.
        dial: The field of `ProxyConfig` that the bar is from.
    """

    comparison: Comparison
    agreement: Estimate
    by_chance: float
    bar: float
    allowed: bool
    dial: str = "min_kappa"

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
        doubt = self.comparison.doubt
        higher = f", the higher of both, for {doubt}" if doubt else ""
        return (
            f"of the true {self.comparison.in_words}, {self.agreement} are in the predicted top, "
            f"{self.by_chance:.1%} by chance: kappa {self.kappa.value:.2f}, the bar "
            f"{self.bar:g}{higher}"
        )


def judge(ranked: Ranked, proxy: ProxyConfig, comparison: Comparison) -> Judgement:
    """Compare predicted with true scores as a selection would use them.

    The lower bar is for rows that are ranked inside several strata; of a single one, what tells
    domains apart cannot be known to be of no help.

    Args:
        ranked: Held-out rows by both.
        proxy: Has the bars.
        comparison: How that ranks them.
    """
    dials = ["min_kappa", "min_kappa_within_domains"]
    bars = {dial: getattr(proxy, dial) for dial in dials}
    dial = dials[ranked.num_strata > 1]
    if comparison.doubt:
        dial = max(dials, key=lambda each: bars[each])
    return Judgement(
        comparison,
        agreement=ranked.agreement(comparison.ratio),
        by_chance=ranked.by_chance(comparison.ratio),
        bar=bars[dial],
        allowed=proxy.allow_low_agreement,
        dial=dial,
    )


def shown_judgements(held_out: HeldOut, proxy: ProxyConfig) -> list[Judgement]:
    """At each of `SHOWN_RATIOS`, over the whole corpus and, of several, inside domains."""
    across, inside = held_out.ranked(), held_out.ranked(within_domains=True)
    shown: list[tuple[Ranked, Within]] = [(across, "corpus")]
    if inside.num_strata > 1:
        shown.append((inside, "domain"))
    return [
        judge(ranked, proxy, Comparison(ratio, within=within))
        for ratio in SHOWN_RATIOS
        for ranked, within in shown
    ]


def require_agreement(scores_folder: Path, proxy: ProxyConfig, normalization: str = "") -> None:
    """Refuse predicted scores that rank the whole corpus too unlike the true ones.

    Args:
        scores_folder: Of the predicted score tables.
        proxy: Has the bars.
        normalization: What log-probabilities are divided by; empty for what was predicted.

    Raises:
        ArtefactError: Kappa on held-out sequences is under the bar, or not clearly above chance.
    """
    held_out = HeldOut.read(scores_folder / HELD_OUT_NAME)
    comparison = Comparison(normalization=normalization)
    found = judge(held_out.ranked(normalization), proxy, comparison)
    require_to_pass(found, scores_folder, proxy, len(held_out.true_R))


def require_to_pass(found: Judgement, scores_folder: Path, proxy: ProxyConfig, rows: int) -> None:
    """Refuse predicted scores by how they were judged, or warn where that is allowed.

    Args:
        found: How they rank.
        scores_folder: Their folder, for the message.
        proxy: Names what can be done.
        rows: Held-out rows that they were judged on.

    Raises:
        ArtefactError: They do not pass.
    """
    if found.passes:
        logger.info("proxy: %s", found.in_words)
        return
    message = _refusal(scores_folder, proxy, found, rows)
    if not found.allowed:
        raise ArtefactError(message)
    logger.warning("%s", message)


def _refusal(folder: Path, proxy: ProxyConfig, found: Judgement, num_rows: int) -> str:
    other = "ngrams" if proxy.features == "hidden" else "hidden"
    return (
        f"{folder}: the predicted scores rank too unlike the true ones. On {num_rows} held-out "
        f"sequences, {found.in_words} (scoring.proxy.{found.dial}), and the interval has to lie "
        f"above chance. The scores are kept. Raise scoring.proxy.share (now {proxy.share:g}), try "
        f"scoring.proxy.features={other}, score everything (scoring.proxy=null), or select all "
        "the same (scoring.proxy.allow_low_agreement=true)."
    )
