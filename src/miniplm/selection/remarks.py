"""What a person should know about a selection, in words."""

from collections.abc import Mapping
from typing import Any

from miniplm.selection.config import SelectionConfig

VANISHING = 0.1
"""A domain all but vanishes when its kept share is under this part of the overall one."""
_NEARLY = 0.98
"""Part of an amount from which on it counts as kept: cuts lie between rows."""
_FEWEST_EXPECTED = 10
"""Rows that the overall share would keep, below which chance alone could keep none."""


Strata = Mapping[str, Mapping[str, Any]]
"""Counts of each domain or group, as `Totals.by_domain` has them."""


def warnings_of(
    domains: Strata, config: SelectionConfig, groups: Strata | None = None
) -> list[str]:
    """Warnings about a selection.

    Args:
        domains: What was kept of each.
        config: What was asked for.
        groups: What was kept of each, where it was made within groups.
    """
    return [
        *vanishing("Domain", domains),
        *_amounts_missed(groups if config.within == "group" and groups else domains, config),
    ]


def vanishing(kind: str, strata: Strata) -> list[str]:
    """Warnings about domains or groups of which next to nothing is kept.

    Args:
        kind: `Domain` or `Group`.
        strata: Counts of each.
    """
    num_rows = sum(counts["num_sequences"] for counts in strata.values())
    overall = sum(counts["num_counted"] for counts in strata.values()) / max(1, num_rows)
    warnings = []
    for name, counts in strata.items():
        share = counts["num_counted"] / counts["num_sequences"]
        expected = overall * counts["num_sequences"]
        if expected >= _FEWEST_EXPECTED and counts["num_counted"] < VANISHING * expected:
            warnings.append(
                f"{kind} {name!r} all but vanishes: {counts['num_counted']} of "
                f"{counts['num_sequences']} sequences are kept ({share:.1%}, against "
                f"{overall:.0%} overall)."
            )
    return warnings


def _amounts_missed(strata: Strata, config: SelectionConfig) -> list[str]:
    """Where less, or more, is kept than was asked for."""
    kept = "num_tokens_kept" if config.tokens is not None else "num_kept"
    total = sum(counts[kept] for counts in strata.values())
    warnings = []
    if config.tokens is not None and total < _NEARLY * config.tokens:
        warnings.append(
            f"{total:,} tokens are kept of the {config.tokens:,} that were asked for: there are no "
            "more, or the next sequences are longer than what is left."
        )
    if config.tokens is not None and total > config.tokens:
        warnings.append(
            f"The floor alone keeps {total:,} tokens, more than the {config.tokens:,} asked for."
        )
    if config.shares:
        warnings += _shares_missed(strata, config, kept)
    return warnings


def _shares_missed(strata: Strata, config: SelectionConfig, kept: str) -> list[str]:
    warnings, kind = [], "group" if config.within == "group" else "domain"
    reached = {name: counts[kept] for name, counts in strata.items()}
    asked = config.tokens or config.ratio * sum(each["num_sequences"] for each in strata.values())
    for name, share in config.shares.items():
        if reached[name] < _NEARLY * share * asked - 1:
            warnings.append(_short_of(f"{kind.capitalize()} {name!r}", reached[name], share, asked))
    rest = 1 - sum(config.shares.values())
    others = sum(count for name, count in reached.items() if name not in config.shares)
    if others < _NEARLY * rest * asked - 1:
        warnings.append(_short_of(f"All that is of no {kind} named in shares", others, rest, asked))
    return warnings


def _short_of(what: str, reached: float, share: float, asked: float) -> str:
    return (
        f"{what} is too little: {reached:,.0f} are kept where its share of {share:.0%} is "
        f"{share * asked:,.0f}."
    )
