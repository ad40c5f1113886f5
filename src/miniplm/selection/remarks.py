"""What a person should know about a selection, in words."""

from collections.abc import Mapping
from typing import Any

from miniplm.selection.config import SelectionConfig

VANISHING = 0.1
"""A domain all but vanishes when its kept share is under this part of the overall one."""


Strata = Mapping[str, Mapping[str, Any]]
"""`num_sequences` and `num_kept` of each domain, or group."""


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
        *_quotas_missed(groups if config.within == "group" and groups else domains, config),
    ]


def vanishing(kind: str, strata: Strata) -> list[str]:
    """Warnings about domains or groups of which next to nothing is kept.

    Args:
        kind: `Domain` or `Group`.
        strata: Counts of each.
    """
    num_rows = sum(counts["num_sequences"] for counts in strata.values())
    overall = sum(counts["num_kept"] for counts in strata.values()) / max(1, num_rows)
    warnings = []
    for name, counts in strata.items():
        share = counts["num_kept"] / counts["num_sequences"]
        if share < VANISHING * overall:
            warnings.append(
                f"{kind} {name!r} all but vanishes: {counts['num_kept']} of "
                f"{counts['num_sequences']} sequences are kept ({share:.1%}, against "
                f"{overall:.0%} overall)."
            )
    return warnings


def _quotas_missed(strata: Strata, config: SelectionConfig) -> list[str]:
    warnings, kind = [], "group" if config.within == "group" else "domain"
    for name, share in config.shares.items():
        counts = strata.get(name)
        if counts is None:
            warnings.append(f"There is no {kind} {name!r}, for which shares asks {share:.0%}.")
        elif share > 0 and counts["num_kept"] == counts["num_sequences"]:
            warnings.append(
                f"{kind.capitalize()} {name!r} is kept whole ({counts['num_sequences']} sequences) "
                f"and may fall short of its share of {share:.0%}."
            )
    return warnings
