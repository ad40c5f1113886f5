"""The view of predicted scores: how alike selections by them and by the true ones are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from miniplm.report import formats, minis
from miniplm.report.proxy_content import PredictedDomain, PredictedScores
from miniplm.scoring.agreement import Estimate
from miniplm.scoring.proxy_bar import Judgement

_FEATURES = {"ngrams": "n-grams of the tokens", "hidden": "hidden states of the reference"}


@dataclass(frozen=True)
class AgreementRow:
    """A selection by predicted scores against the one by true scores."""

    found: Judgement
    ranked: str
    """Among what sequences are ranked, in words."""
    bar: Markup
    interval: str
    outcome: str
    """On which side of the bar it is, in words; `kind` is the same for the style sheet."""
    kind: str


@dataclass(frozen=True)
class SelectionRow:
    """A selection of the run; `agreement` is None where it does not look at the teacher."""

    name: str
    agreement: AgreementRow | None


@dataclass(frozen=True)
class PredictedView:
    """Everything drawn of predicted scores."""

    scores: PredictedScores
    features: str
    scored_share: float
    flops_share: float | None
    spearman: str
    shown: Sequence[AgreementRow]
    selections: Sequence[SelectionRow]
    domains: Sequence[PredictedDomain]


def predicted_view(scores: PredictedScores) -> PredictedView:
    """Draw what is known of predicted scores."""
    return PredictedView(
        scores=scores,
        features=_FEATURES.get(scores.features, scores.features),
        scored_share=scores.num_scored / max(1, scores.num_sequences),
        flops_share=scores.flops / scores.flops_in_full if scores.flops_in_full else None,
        spearman=f"{formats.fixed(scores.spearman.low)} to {formats.fixed(scores.spearman.high)}",
        shown=[agreement_row(found) for found in scores.shown],
        selections=[_selection_row(name, found) for name, found in scores.selections.items()],
        domains=sorted(scores.domains, key=lambda row: (-row.num_held_out, row.domain)),
    )


def agreement_row(found: Judgement) -> AgreementRow:
    """A comparison with its drawing and its outcome."""
    value = formats.percent(found.agreement.value)
    return AgreementRow(
        found=found,
        ranked=found.comparison.ranked_in_words,
        bar=minis.share_bar(found.agreement.value, found.by_chance, f"agreement {value}"),
        interval=_interval(found.agreement),
        outcome=_outcome(found),
        kind="better" if found.passes else "worse",
    )


def _outcome(found: Judgement) -> str:
    if found.passes:
        return "above the bar"
    return "may be chance" if found.kappa.value >= found.bar else "under the bar"


def _selection_row(name: str, found: Judgement | None) -> SelectionRow:
    if found is None:
        return SelectionRow(name, None)
    row = agreement_row(found)
    if found.allowed and not found.passes:
        row = replace(row, outcome=f"{row.outcome}, allowed")
    return SelectionRow(name, row)


def _interval(estimate: Estimate) -> str:
    """A 95 % interval in per cent.

    Example:
        >>> _interval(Estimate(0.8, 0.75, 0.8443))
        '75.0 to 84.4 %'
    """
    return f"{formats.fixed(100 * estimate.low, 1)} to {formats.percent(estimate.high)}"
