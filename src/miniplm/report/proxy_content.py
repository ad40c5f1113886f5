"""What the page says of scores that a proxy predicts, as plain data, and where it is read from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miniplm.manifest import Manifest
from miniplm.scoring.agreement import Estimate
from miniplm.scoring.proxy_bar import Judgement, shown_judgements
from miniplm.scoring.proxy_config import ProxyConfig
from miniplm.scoring.proxy_held_out import HELD_OUT_NAME, HeldOut
from miniplm.scoring.proxy_words import flops_spent_and_in_full
from miniplm.selection.config import SelectionConfig
from miniplm.selection.predicted import judge_selection


@dataclass(frozen=True)
class PredictedDomain:
    """A domain's held-out sequences: how many, and how alike they are ranked."""

    domain: str
    num_held_out: int
    spearman: float
    agreement: float
    """Of its true top half, the share in its predicted one."""


@dataclass(frozen=True)
class PredictedScores:
    """How the teacher's scores were predicted, how well, and what that cost.

    FLOPs include the reference's, with the proxy and without.
    """

    features: str
    """As in the recipe: `ngrams` or `hidden`."""
    num_sequences: int
    num_scored: int
    """Sequences that the teacher scored itself."""
    num_held_out: int
    """Of these, those that the figures are of."""
    spearman: Estimate
    shown: Sequence[Judgement]
    """At some ratios, over the whole corpus and inside domains."""
    selections: Mapping[str, Judgement | None]
    """As each selection asks for; None where it does not look at the teacher's scores."""
    domains: Sequence[PredictedDomain]
    flops: float
    flops_in_full: float


def read_predicted(
    manifest: Manifest,
    scores_folder: Path,
    proxy: ProxyConfig,
    selections: Mapping[str, SelectionConfig],
    groups_folder: Path | None = None,
) -> PredictedScores:
    """From what the score stage left.

    Args:
        manifest: Of the teacher's scores.
        scores_folder: Where they are.
        proxy: Has the bars.
        selections: By name.
        groups_folder: Group tables, for selections that rank by groups.

    Raises:
        ArtefactError: The held-out sequences, or a group of theirs, are missing or damaged.
    """
    held_out, facts = HeldOut.read(scores_folder / HELD_OUT_NAME), manifest.facts["proxy"]
    flops, in_full = flops_spent_and_in_full(facts["flops"])
    return PredictedScores(
        features=facts["features"],
        num_sequences=manifest.counts["sequences"],
        num_scored=manifest.counts["scored"],
        num_held_out=facts["held_out"],
        spearman=Estimate(**facts["spearman"]),
        shown=shown_judgements(held_out, proxy),
        selections={
            name: judge_selection(held_out, proxy, config, groups_folder)
            for name, config in selections.items()
        },
        domains=_domains(facts["domains"]),
        flops=flops,
        flops_in_full=in_full,
    )


def _domains(facts: Mapping[str, Mapping[str, Any]]) -> list[PredictedDomain]:
    return [
        PredictedDomain(name, each["held_out"], each["spearman"], each["agreement_within"])
        for name, each in facts.items()
    ]


def selection_warnings(found: Judgement | None) -> list[str]:
    """What to warn of where a selection was made by scores that rank too unlike the true ones."""
    if found is None or found.passes:
        return []
    allowed = ", which scoring.proxy.allow_low_agreement let through" if found.allowed else ""
    return [
        f"Its scores are predicted, and rank too unlike the true ones{allowed}: {found.in_words}."
    ]
