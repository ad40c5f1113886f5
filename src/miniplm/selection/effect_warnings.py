"""What to look at before a selection is relied on, in words.

The bounds were set between chance and collapse (docs/selection-effects.md): halves of a corpus
drawn by chance, 128 rows each, differ in these measures by one to two per cent (a standard
deviation), while selections that turned out lopsided moved them by 8 to 25.
"""

from collections.abc import Mapping
from typing import Any

FORMULAIC = 1.05
"""Formulaic text gains when blocks of kept text compress better by this factor."""
LESS_VARIED = 0.92
"""Text gets less varied when the share of distinct trigrams falls to this part of what it was."""
FEWEST_ROWS = 128
"""Sampled rows, before and after, below which chance alone could do as much."""
_TRIGRAMS = 2
_MOST_NAMED = 3


def effect_warnings(facts: Mapping[str, Any]) -> list[str]:
    """Warnings from the figures of the describe stage (`effect_facts.facts_of`)."""
    before, after = facts["overall"]["candidates"], facts["overall"]["kept"]
    if min(before["num_sampled"], after["num_sampled"]) < FEWEST_ROWS:
        return []
    warnings = []
    ratios = before["block_compression"], after["block_compression"]
    if None not in ratios and ratios[1] >= FORMULAIC * ratios[0]:
        warnings.append(
            f"Formulaic text gains: the kept text compresses {ratios[1]:.2f} to 1, the "
            f"candidates' {ratios[0]:.2f} to 1{_named(facts['domains'])}."
        )
    distinct = before["distinct"][_TRIGRAMS], after["distinct"][_TRIGRAMS]
    if None not in distinct and distinct[1] <= LESS_VARIED * distinct[0]:
        warnings.append(
            f"The text gets less varied: of equally many trigrams {distinct[1]:.1%} are distinct "
            f"in the kept text, {distinct[0]:.1%} in the candidates'."
        )
    return warnings


def _named(domains: Mapping[str, Any]) -> str:
    """The domains that do most for the compression ratio; nothing where none does."""
    gains = compression_gains(domains)
    before, after = (_byte_shares(domains, part) for part in ("candidates", "kept"))
    named = [
        f"{domain!r} ({before[domain]:.1%} of the text before, {after[domain]:.1%} after)"
        for domain in sorted(gains, key=lambda domain: -gains[domain])[:_MOST_NAMED]
        if gains[domain] > 0
    ]
    return f"; most of it comes from {', '.join(named)}" if named else ""


def compression_gains(domains: Mapping[str, Any]) -> dict[str, float]:
    """By how much each domain lowers the compressed bytes per byte of the kept text.

    With s a domain's share of the text, c its compressed bytes per byte and C those of all
    candidates, domain by domain, a domain gives s_before (c_before - C) - s_after (c_after - C):
    one that compresses well does so by growing, any other by shrinking. A domain that was not
    measured gives 0; one of which too little is kept counts with the c of its candidates.
    """
    before, after = (_byte_shares(domains, part) for part in ("candidates", "kept"))
    ratios = {
        domain: (record["candidates"]["block_compression"], record["kept"]["block_compression"])
        for domain, record in domains.items()
        if record["candidates"]["block_compression"]
    }
    measured = sum(before[domain] for domain in ratios)
    mean = sum(before[domain] / first for domain, (first, _) in ratios.items()) / (measured or 1.0)
    gains = dict.fromkeys(domains, 0.0)
    for domain, (first, second) in ratios.items():
        gains[domain] = before[domain] * (1 / first - mean)
        gains[domain] -= after[domain] * (1 / (second or first) - mean)
    return gains


def _byte_shares(domains: Mapping[str, Any], part: str) -> dict[str, float]:
    total = sum(record[part]["num_bytes"] for record in domains.values())
    return {d: record[part]["num_bytes"] / max(1, total) for d, record in domains.items()}
