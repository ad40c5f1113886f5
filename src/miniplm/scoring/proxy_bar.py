"""Whether a proxy predicts well enough to select by."""

from dataclasses import dataclass
from pathlib import Path

from miniplm.errors import ArtefactError
from miniplm.runtime.log import logger
from miniplm.scoring.agreement import Estimate
from miniplm.scoring.proxy_config import ProxyConfig
from miniplm.scoring.proxy_held_out import HELD_OUT_NAME, HeldOut


@dataclass(frozen=True)
class Judgement:
    """A selection by predicted scores against the one by true scores, on held-out sequences.

    Args:
        ratio: Share of the sequences that is kept.
        within_domains: Whether the top is taken inside each domain.
        agreement: Share of the true top that is in the predicted one.
        kappa: How far that is from chance (0) to perfect (1).
        bar: The lowest kappa to select by.
        allowed: Whether to select by a lower one too.
    """

    ratio: float
    within_domains: bool
    agreement: Estimate
    kappa: Estimate
    bar: float
    allowed: bool

    @property
    def passes(self) -> bool:
        """Whether kappa reaches the bar, and its interval lies above chance."""
        return self.kappa.value >= self.bar and self.kappa.low > 0

    @property
    def in_words(self) -> str:
        """The figures and the bar, as part of a sentence."""
        where = "inside each domain" if self.within_domains else "of all"
        return (
            f"of the true top {self.ratio:.0%} {where}, {self.agreement} are in the predicted top: "
            f"kappa {self.kappa.value:.2f} ({self.kappa.low:.2f} to {self.kappa.high:.2f}; chance "
            f"is 0), the bar {self.bar:g}"
        )


def bar_of(proxy: ProxyConfig, *, within_domains: bool) -> float:
    """The lowest kappa to select by."""
    return proxy.min_kappa_within_domains if within_domains else proxy.min_kappa


def judge(
    held_out: HeldOut,
    proxy: ProxyConfig,
    ratio: float,
    normalization: str = "",
    *,
    within_domains: bool = False,
) -> Judgement:
    """Compare predicted with true scores as a selection would use them.

    Args:
        held_out: Rows with both.
        proxy: Has the bars.
        ratio: Share of the rows that is to be kept.
        normalization: What log-probabilities are divided by; by default what was predicted.
        within_domains: Whether the top is taken inside each domain.
    """
    return Judgement(
        ratio=ratio,
        within_domains=within_domains,
        agreement=held_out.agreement(ratio, normalization, within_domains=within_domains),
        kappa=held_out.kappa(ratio, normalization, within_domains=within_domains),
        bar=bar_of(proxy, within_domains=within_domains),
        allowed=proxy.allow_low_agreement,
    )


def require_agreement(
    scores_folder: Path,
    proxy: ProxyConfig,
    ratio: float,
    normalization: str = "per_token",
    *,
    within_domains: bool = False,
) -> None:
    """Refuse to select by predicted scores that rank too unlike the true ones.

    Args:
        scores_folder: Of the predicted score tables.
        proxy: Has the bars.
        ratio: Share of the rows that is to be kept.
        normalization: What log-probabilities are divided by.
        within_domains: Whether the top is taken inside each domain.

    Raises:
        ArtefactError: Kappa on held-out sequences is under the bar, or not clearly above chance.
    """
    held_out = HeldOut.read(scores_folder / HELD_OUT_NAME)
    found = judge(held_out, proxy, ratio, normalization, within_domains=within_domains)
    if found.passes:
        logger.info("proxy: %s", found.in_words)
        return
    message = _refusal(scores_folder, proxy, found, len(held_out.true_R))
    if not found.allowed:
        raise ArtefactError(message)
    logger.warning("%s", message)


def _refusal(folder: Path, proxy: ProxyConfig, found: Judgement, num_rows: int) -> str:
    dial = "min_kappa_within_domains" if found.within_domains else "min_kappa"
    other = "ngrams" if proxy.features == "hidden" else "hidden"
    return (
        f"{folder}: the predicted scores rank too unlike the true ones. On {num_rows} held-out "
        f"sequences, {found.in_words} (scoring.proxy.{dial}), and the interval has to lie above "
        f"0. The scores are kept. Raise scoring.proxy.share (now {proxy.share:g}), try "
        f"scoring.proxy.features={other}, score everything (scoring.proxy=null), or select all "
        "the same (scoring.proxy.allow_low_agreement=true)."
    )
