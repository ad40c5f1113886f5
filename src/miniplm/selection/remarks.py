"""What a person should know about a selection, in words."""

from collections.abc import Mapping
from typing import Any

from miniplm.selection.config import SelectionConfig

VANISHING = 0.1
"""A domain all but vanishes when its kept share is under this part of the overall one."""


def warnings_of(
    domains: Mapping[str, Mapping[str, Any]], overall: float, config: SelectionConfig
) -> list[str]:
    """Warnings about domains.

    Args:
        domains: What `Totals.by_domain` says of each.
        overall: Share of all sequences that is kept.
        config: What was asked for.
    """
    return [*_vanishing(domains, overall), *_quotas_missed(domains, config)]


def _vanishing(domains: Mapping[str, Mapping[str, Any]], overall: float) -> list[str]:
    warnings = []
    for domain, counts in domains.items():
        share = counts["num_kept"] / counts["num_sequences"]
        if share < VANISHING * overall:
            warnings.append(
                f"Domain {domain!r} all but vanishes: {counts['num_kept']} of "
                f"{counts['num_sequences']} sequences are kept ({share:.1%}, against "
                f"{overall:.0%} overall)."
            )
    return warnings


def _quotas_missed(domains: Mapping[str, Mapping[str, Any]], config: SelectionConfig) -> list[str]:
    warnings = []
    for domain, share in config.shares.items():
        counts = domains.get(domain)
        if counts is None:
            warnings.append(f"There is no domain {domain!r}, for which shares asks {share:.0%}.")
        elif share > 0 and counts["num_kept"] == counts["num_sequences"]:
            warnings.append(
                f"Domain {domain!r} is kept whole ({counts['num_sequences']} sequences) and may "
                f"fall short of its share of {share:.0%}."
            )
    return warnings
