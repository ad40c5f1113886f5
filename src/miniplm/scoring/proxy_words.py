"""What a proxy did, for the log."""

from collections.abc import Mapping
from typing import Any

from miniplm.runtime.log import logger
from miniplm.scoring.proxy_bar import shown_judgements
from miniplm.scoring.proxy_config import ProxyConfig
from miniplm.scoring.proxy_held_out import HeldOut


def flops_spent_and_in_full(flops: Mapping[str, float | None]) -> tuple[float, float]:
    """FLOPs of scoring with the proxy, and without; the reference's are part of both.

    Args:
        flops: Of the parts, as the manifest of predicted scores has them.
    """
    parts = {name: value or 0.0 for name, value in flops.items()}
    return (
        parts["teacher"] + parts["head"] + parts["reference"],
        parts["teacher_on_everything"] + parts["reference"],
    )


def log_proxy(
    counts: Mapping[str, int], facts: Mapping[str, Any], held_out: HeldOut, proxy: ProxyConfig
) -> None:
    """Say how much was predicted, how well, and what that saved.

    Args:
        counts: Of the manifest: sequences, and those that were scored.
        facts: Of the manifest, on the proxy.
        held_out: What it was measured on.
        proxy: Features and bars.
    """
    spent, in_full = flops_spent_and_in_full(facts["flops"])
    scored, sequences = counts["scored"], counts["sequences"]
    logger.info(
        "proxy: the teacher scored %s of %s sequences (%.1f%%), %s predict the others; %.3g FLOPs "
        "with the reference's, %.0f%% of the %.3g of scoring everything",
        f"{scored:,}",
        f"{sequences:,}",
        100 * scored / max(1, sequences),
        "n-grams" if proxy.features == "ngrams" else "hidden states",
        spent,
        100 * spent / max(1.0, in_full),
        in_full,
    )
    rank = facts["spearman"]
    logger.info(
        "proxy: Spearman's rank correlation with the true scores %.3f (%.3f to %.3f) on %s "
        "held-out sequences",
        rank["value"],
        rank["low"],
        rank["high"],
        f"{facts['held_out']:,}",
    )
    for found in shown_judgements(held_out, proxy):
        logger.info("proxy: %s", found.in_words)
