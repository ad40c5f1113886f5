"""What a person should know about a selection, in words."""

from collections.abc import Mapping
from typing import Any

from miniplm.selection.config import SelectionConfig

VANISHING = 0.1
"""A domain all but vanishes when its kept share is under this part of the overall one."""


Strata = Mapping[str, Mapping[str, Any]]
"""What `Totals.by_domain` says of each."""


def warnings_of(
    domains: Strata, overall: float, config: SelectionConfig, groups: Strata | None = None
) -> list[str]:
    """Warnings about domains, and about groups if rows were grouped.

    Args:
        domains: What was kept of each.
        overall: Share of all sequences that is kept.
        config: What was asked for.
        groups: What was kept of each.
    """
    groups = groups or {}
    return [
        *_vanishing("Domain", domains, overall),
        *_vanishing("Group", groups, overall),
        *_quotas_missed(groups if config.within == "group" else domains, config),
    ]


def _vanishing(kind: str, strata: Strata, overall: float) -> list[str]:
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
