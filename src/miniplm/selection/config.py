"""Which sequences make the refined corpus."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from miniplm.config import Config, WholeNumber
from miniplm.selection.calibration import Calibration
from miniplm.selection.difference import Normalization

Policy = Literal[
    "top_ratio",
    "token_budget",
    "threshold",
    "band",
    "sample",
    "quota",
    "random",
    "teacher_only",
    "reference_only",
    "perplexity_band",
]
BASELINES = ("random", "teacher_only", "reference_only", "perplexity_band")
"""Policies that look at one of the two models, or at none."""

_BY_RATIO = frozenset({"top_ratio", "band", "sample", "quota", *BASELINES})
_BY_TOKENS = frozenset({"token_budget", "sample", "quota", *BASELINES}) - {"perplexity_band"}
READ_BY: dict[str, frozenset[str]] = {
    "ratio": _BY_RATIO,
    "tokens": _BY_TOKENS,
    "min_score": frozenset({"threshold"}),
    "max_score": frozenset({"threshold"}),
    "skip_top": frozenset({"band"}),
    "temperature": frozenset({"sample"}),
    "replacement": frozenset({"sample"}),
    "shares": frozenset({"quota"}),
    "floor": frozenset({"quota"}),
    "mix_of": frozenset({"random"}),
    "schedule": frozenset({"top_ratio", "quota", "random", "teacher_only", "reference_only"}),
    "within": frozenset({*_BY_RATIO, *_BY_TOKENS}),
    "calibration": frozenset({"top_ratio", "token_budget", "threshold", "band", "sample", "quota"}),
}
"""Dials, and the policies that read them; all others are read by every policy."""


class PhaseConfig(Config):
    """A part of training."""

    until: float = Field(gt=0, le=1, description="share of training at which the phase ends")
    ratio: float = Field(gt=0, le=1, description="share of the candidates it trains on")


class SelectionConfig(Config):
    """Which sequences make the refined corpus."""

    policy: Policy = Field(
        "top_ratio",
        description="top_ratio (MiniPLM); token_budget: the best, up to so many tokens; threshold: "
        "scores in a range; band: the best but for the very best; sample: by chance, better ones "
        "likelier; quota: by domain; or a baseline: random, teacher_only, reference_only, "
        "perplexity_band (the middle of the reference's losses)",
    )
    ratio: float = Field(
        0.5, gt=0, le=1, description="selection ratio: share of the candidate sequences to keep"
    )
    tokens: WholeNumber | None = Field(
        None, ge=1, description="predicted tokens to keep, instead of a ratio"
    )
    min_score: float | None = Field(None, description="of threshold: lowest score to keep")
    max_score: float | None = Field(None, description="of threshold: highest score to keep")
    skip_top: float = Field(
        0.05, ge=0, lt=1, description="of band: share of the ranking left out at its top"
    )
    temperature: float = Field(
        0.5, gt=0, description="of sample: chance ~ exp(score / temperature)"
    )
    replacement: bool = Field(
        False, description="of sample: draw with replacement; rows get repeat counts"
    )
    within: Literal["corpus", "domain", "group"] = Field(
        "corpus",
        description="what is ranked against each other: all, or each domain or group by itself",
    )
    one_per_cluster: bool = Field(
        False, description="of each cluster of near-duplicates only the best-ranked may be kept"
    )
    shares: dict[str, float] = Field(
        {},
        description="of quota: share of what is kept, by domain (or group); others share the rest",
    )
    floor: float = Field(
        0.0, ge=0, lt=1, description="of quota: share of every domain that is kept in any case"
    )
    mix_of: str | None = Field(
        None,
        description="of random: a selection above it, as many rows of each domain as that keeps: "
        "what its mix alone buys",
    )
    schedule: list[PhaseConfig] = Field(
        [],
        description="shares that narrow as training goes on, such as [{until: 0.3, ratio: 1}, "
        "{until: 1, ratio: 0.5}]; instead of ratio",
    )
    calibration: Calibration = Field(
        "none",
        description="none (paper); residual: of the teacher's loss regressed on the reference's; "
        "zscore: within domain (or group) and length",
    )
    normalization: Normalization = Field(
        "per_token", description="log-probabilities are compared per_token, per_byte, or as a sum"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults = [*_unread(self), *_amount_faults(self), *_schedule_faults(self)]
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def ratios(self) -> list[float]:
        """Selection ratios, one for each phase of training, never growing."""
        return [phase.ratio for phase in self.schedule] or [self.ratio]

    @property
    def ends(self) -> list[float]:
        """Share of training at which each of these phases ends."""
        return [phase.until for phase in self.schedule] or [1.0]

    @property
    def amount_in_words(self) -> str:
        """How much is asked for.

        Example:
            >>> SelectionConfig(ratio=0.5).amount_in_words
            '50% of the sequences'
            >>> SelectionConfig(policy="threshold", min_score=0.5).amount_in_words
            'scores from 0.5'
        """
        if self.policy == "threshold":
            ends = (("from", self.min_score), ("to", self.max_score))
            return "scores " + " ".join(f"{word} {end:g}" for word, end in ends if end is not None)
        if self.mix_of is not None:
            return f"as many rows of each domain as {self.mix_of!r} keeps"
        if self.tokens is not None:
            return f"{self.tokens:,} tokens"
        shares = ", then ".join(f"{ratio:.0%}" for ratio in self.ratios)
        return f"{shares} of the sequences"

    def fingerprinted(self) -> dict[str, Any]:
        """Only what the policy reads."""
        fields = super().fingerprinted()
        unread = {name for name, policies in READ_BY.items() if self.policy not in policies}
        if self.tokens is not None or self.schedule:
            unread.add("ratio")
        if not self.schedule:
            unread.add("schedule")
        for name in ("one_per_cluster", "mix_of"):
            if not getattr(self, name):
                unread.add(name)  # runs from before there was such a field still hold
        if self.mix_of is not None:
            unread.add("ratio")
        return {name: value for name, value in fields.items() if name not in unread}


def _unread(config: SelectionConfig) -> list[str]:
    return [
        f"{name} is given, which {config.policy} does not read (read by {', '.join(sorted(by))})"
        for name, by in READ_BY.items()
        if name in config.model_fields_set and config.policy not in by
    ]


def _amount_faults(config: SelectionConfig) -> list[str]:
    faults = []
    given = config.model_fields_set
    if "ratio" in given and config.tokens is not None:
        faults.append("give ratio or tokens, not both")
    if config.policy == "token_budget" and config.tokens is None:
        faults.append("token_budget takes tokens: how many to keep")
    if config.policy == "threshold":
        low, high = config.min_score, config.max_score
        if low is None and high is None:
            faults.append("threshold takes min_score, max_score or both")
        elif low is not None and high is not None and low > high:
            faults.append(f"min_score {low:g} is above max_score {high:g}")
    if config.policy == "band" and config.skip_top + config.ratio > 1:
        faults.append(f"skip_top {config.skip_top:g} and ratio {config.ratio:g} are more than all")
    if config.replacement and config.tokens is not None:
        faults.append("sampling with replacement takes a ratio, not tokens")
    if config.mix_of is not None and ({"ratio", "tokens", "schedule", "within"} & given):
        faults.append("mix_of: says how much is kept; remove ratio, tokens, schedule and within")
    if config.mix_of is not None and config.one_per_cluster:
        faults.append("mix_of: counts all rows of a domain; remove one_per_cluster")
    if config.shares and config.floor:
        faults.append("give shares or a floor, not both")
    if config.tokens is None and config.floor > min(config.ratios):
        faults.append(
            f"floor {config.floor:g} is above ratio {min(config.ratios):g}, and alone keeps more"
        )
    if any(share < 0 for share in config.shares.values()) or sum(config.shares.values()) > 1 + 1e-9:
        faults.append("shares are from 0 to 1, and 1 together at most")
    return faults


def _schedule_faults(config: SelectionConfig) -> list[str]:
    phases, faults = config.schedule, []
    if not phases:
        return []
    ends, ratios = [phase.until for phase in phases], [phase.ratio for phase in phases]
    if sorted(set(ends)) != ends or ends[-1] != 1:
        faults.append(f"schedule: until has to rise to 1 (given: {ends})")
    if sorted(ratios, reverse=True) != ratios:
        faults.append(f"schedule: ratio may not grow (given: {ratios})")
    if {"ratio", "tokens"} & config.model_fields_set:
        faults.append("schedule: gives the ratios; remove ratio and tokens")
    if config.shares:
        faults.append("schedule: goes with a floor, not with shares")
    return faults
