"""What a selection did, for its manifest and for the log."""

from collections.abc import Mapping
from typing import Any

from miniplm.selection.candidates import Candidates
from miniplm.selection.choice import Choice, Layers
from miniplm.selection.config import SelectionConfig
from miniplm.selection.remarks import warnings_of
from miniplm.selection.writer import Written


def selection_facts(
    written: Written, choice: Choice, candidates: Candidates, config: SelectionConfig
) -> dict[str, Any]:
    """Threshold, spread of scores, what is kept of each domain, and warnings.

    Args:
        written: What was kept.
        choice: How it was found.
        candidates: It was chosen from.
        config: What was asked for.
    """
    totals = written.totals
    domains = totals.by_domain()
    groups = written.groups.by_domain() if written.groups else {}
    calibrated = candidates.calibrated
    return {
        "threshold": _threshold(choice, candidates, config),
        "calibration": None if calibrated is None else calibrated.facts(),
        "mean_score": totals.scores.mean,
        "share_below_zero": totals.num_below_zero / totals.scores.count,
        "variance_between_domains": totals.variance_between_domains,
        "domains": domains,
        **({"groups": groups} if groups else {}),
        "warnings": [
            *warnings_of(domains, config, groups),
            *([] if calibrated is None else calibrated.warnings()),
        ],
    }


def _threshold(choice: Choice, candidates: Candidates, config: SelectionConfig) -> float | None:
    """The lowest kept score, if exactly the rows down to there are kept."""
    by_score = config.policy in ("top_ratio", "token_budget", "threshold")
    decides_alone = by_score and config.calibration == "none" and config.max_score is None
    if not decides_alone or len(candidates.left_out) or not isinstance(choice, Layers):
        return None
    return choice.threshold


def in_words(facts: Mapping[str, Any]) -> list[str]:
    """Lines for the log: how much is kept, also of each domain, and of each group if grouped.

    Of a schedule, to the end of training; with repeats counted.
    """
    strata = facts["domains"].values()
    kept, there, tokens = (
        sum(each[count] for each in strata)
        for count in ("num_counted", "num_sequences", "num_tokens_counted")
    )
    threshold = facts["threshold"]
    lines = [
        f"kept {kept:,} of {there:,} sequences, {tokens:,} tokens"
        + ("" if threshold is None else f"; threshold {threshold:.4f}")
    ]
    if "slope" in (facts["calibration"] or {}):
        lines.append(
            "calibration: teacher's loss = {intercept:.3f} + {slope:.3f} * reference's loss".format(
                **facts["calibration"]
            )
        )
    for kind in ("domain", "group"):
        if strata := facts.get(f"{kind}s"):
            shares = {
                name: each["num_counted"] / each["num_sequences"] for name, each in strata.items()
            }
            ordered = sorted(shares, key=lambda name: (-shares[name], name))
            listed = ", ".join(f"{name} {shares[name]:.0%}" for name in ordered)
            lines.append(f"kept by {kind}: {listed}")
    return lines
