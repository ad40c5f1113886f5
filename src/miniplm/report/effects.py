"""The view of what a selection did: mix of domains, measures, agreement with the baselines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from markupsafe import Markup

from miniplm.report import formats, minis
from miniplm.report.effects_content import Agreement, Change, SelectionEffects
from miniplm.report.mix_chart import Shares, mix_chart

NumberT = TypeVar("NumberT", int, float)

MOST_DRAWN = 24
"""Domains in the drawing of the mix; the smaller ones are drawn as one."""
_QUANTITIES = {
    "teacher_loss": "loss of the teacher",
    "reference_loss": "loss of the reference",
    "length": "length",
}


@dataclass(frozen=True)
class MeasureRow:
    """A measure before and after, and by how much it changed."""

    name: str
    unit: str
    before: str
    after: str
    change: str


@dataclass(frozen=True)
class FollowedRow:
    """A quantity, and what of it the score and the choice follow."""

    quantity: str
    spearman: float | None
    kept_has_more: float | None


@dataclass(frozen=True)
class EffectsView:
    """Everything drawn of what one selection did."""

    effects: SelectionEffects
    mix: Markup | None
    measures: Sequence[MeasureRow]
    domains: Sequence[Change]
    agreements: Sequence[tuple[Agreement, Markup]]
    followed: Sequence[FollowedRow]


def effects_view(name: str, effects: SelectionEffects) -> EffectsView:
    """Draw what the selection of this name did."""
    shares = sorted(domain_shares(effects), key=lambda row: (-row.before, row.name))
    chance = next((row.overlap for row in effects.agreements if row.baseline == "random"), 0.0)
    return EffectsView(
        effects=effects,
        mix=mix_chart(_fewer(shares), f"Mix of domains before and after selection {name}")
        if shares
        else None,
        measures=measure_rows(effects),
        domains=sorted(effects.domains, key=lambda row: (-row.candidates.num_tokens, row.domain)),
        agreements=[
            (row, minis.share_bar(row.overlap, chance, f"{row.baseline}: {row.overlap:.1%}"))
            for row in effects.agreements
        ],
        followed=[
            FollowedRow(_QUANTITIES.get(row.quantity, row.quantity), row.spearman,
                        row.kept_has_more)
            for row in effects.followed
        ],
    )  # fmt: skip


def domain_shares(effects: SelectionEffects) -> list[Shares]:
    """Each domain's share of all tokens before and after."""
    before = max(1, effects.overall.candidates.num_tokens)
    after = max(1, effects.overall.kept.num_tokens)
    return [
        Shares(row.domain, row.candidates.num_tokens / before, row.kept.num_tokens / after)
        for row in effects.domains
    ]


def _fewer(shares: Sequence[Shares]) -> list[Shares]:
    """The largest domains, and the others as one."""
    if len(shares) <= MOST_DRAWN:
        return list(shares)
    others = shares[MOST_DRAWN - 1 :]
    together = Shares(
        f"{len(others)} other domains", sum(r.before for r in others), sum(r.after for r in others)
    )
    return [*shares[: MOST_DRAWN - 1], together]


def measure_rows(effects: SelectionEffects) -> list[MeasureRow]:
    """The table of measures, candidates against kept rows."""
    before, after = effects.overall.candidates, effects.overall.kept
    rows = [("Rows", "", before.num_rows, after.num_rows)]
    lengths = [
        (f"Length, {label}", "token ids", before.length[place], after.length[place])
        for place, label in enumerate(("shortest tenth", "median", "longest tenth"))
    ]
    sizes = [
        ("Token ids", "", before.num_tokens, after.num_tokens),
        ("Text", "bytes", before.num_bytes, after.num_bytes),
    ]
    measured = [
        ("Compression, row by row", "to 1", before.row_compression, after.row_compression),
        ("Compression, in blocks", "to 1", before.block_compression, after.block_compression),
        *(
            (f"Distinct {n}-grams", "of all", *pair)
            for n, pair in enumerate(zip(before.distinct, after.distinct, strict=True), 1)
        ),
        ("Likeness of two rows", "cosine", before.self_similarity, after.self_similarity),
        ("Loss under a model held apart", "nats per token", before.loss, after.loss),
    ]
    return [
        *_shown(formats.count, rows),
        *_shown(formats.short, sizes),
        *_shown(formats.count, lengths),
        *_shown(_figure, measured),
    ]


def _shown(
    show: Callable[[NumberT | None], str],
    measures: Sequence[tuple[str, str, NumberT | None, NumberT | None]],
) -> list[MeasureRow]:
    return [
        MeasureRow(name, unit, show(before), show(after), relative(before, after))
        for name, unit, before, after in measures
    ]


def _figure(value: float | None) -> str:
    return formats.fixed(value, 3 if value is None or value >= 0.1 else 4)


def relative(before: float | None, after: float | None) -> str:
    """A change in per cent of what was before; a dash where either is not known.

    Example:
        >>> relative(4.0, 5.0), relative(0.5, 0.25), relative(None, 1.0)
        ('+25.0 %', '−50.0 %', '–')
    """
    if before is None or after is None or not before:
        return formats.DASH
    return f"{formats.signed(100 * (after / before - 1), 1)} %"
