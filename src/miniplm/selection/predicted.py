"""What a selection asks of scores that a proxy predicts."""

from miniplm.scoring.agreement import PAPER_RATIO
from miniplm.scoring.proxy_bar import Comparison
from miniplm.selection.config import SelectionConfig

_BLIND_TO_THE_TEACHER = ("random", "reference_only", "perplexity_band")


def comparison_for(config: SelectionConfig) -> Comparison | None:
    """How predicted scores are to be compared with true ones for a selection.

    Returns:
        None where the selection does not look at the teacher's scores. Where it does not go by a
        ratio, that of the paper.

    Example:
        >>> comparison_for(SelectionConfig(ratio=0.25, within="domain"))
        Comparison(ratio=0.25, normalization='per_token', within_domains=True)
        >>> comparison_for(SelectionConfig(policy="random"))
    """
    if config.policy in _BLIND_TO_THE_TEACHER:
        return None
    by_ratio = config.tokens is None and config.policy != "threshold"
    return Comparison(
        ratio=config.ratios[-1] if by_ratio else PAPER_RATIO,
        normalization=config.normalization,
        within_domains=config.within != "corpus" or config.policy == "quota",
    )
