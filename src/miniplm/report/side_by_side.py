"""The table of all selections of a run, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

from miniplm.report import formats
from miniplm.report.effects import domain_shares, relative
from miniplm.report.effects_content import SelectionEffects, TextFigures
from miniplm.report.mix_chart import Shares
from miniplm.report.selection_content import SelectionSummary

_TRIGRAMS = 2
_MOST_NAMED = 2
_LEAST_MOVED = 0.005
"""Domains whose share of the tokens moves by less are not named."""


@dataclass(frozen=True)
class OverviewRow:
    """A selection among the others; `figures` are the candidates' in the first row."""

    name: str
    made: str
    """Policy, amount and dials."""
    figures: TextFigures
    trigrams: str
    """Change of the share of distinct ones from the candidates', at equal numbers of them."""
    lost: Sequence[str]
    gained: Sequence[str]
    overlaps: Sequence[float | None]


@dataclass(frozen=True)
class Overview:
    """All selections side by side, after the candidates; `baselines` head the overlaps."""

    candidates: OverviewRow
    rows: Sequence[OverviewRow]
    baselines: Sequence[str]
    block_bytes: int
    """Text is put together in blocks of this size to see how it compresses."""


def overview(selections: Sequence[SelectionSummary]) -> Overview | None:
    """Lay out the selections whose effects were measured; None where there are fewer than two."""
    known = [(summary, summary.effects) for summary in selections if summary.effects]
    if len(known) < 2:
        return None
    baselines = list(dict.fromkeys(row.baseline for _, e in known for row in e.agreements))
    first = known[0][1]
    return Overview(
        candidates=OverviewRow(
            "all candidates", "", first.overall.candidates, formats.DASH, (), (), ()
        ),
        rows=[_overview_row(summary, effects, baselines) for summary, effects in known],
        baselines=baselines,
        block_bytes=first.block_bytes,
    )


def made_in_words(summary: SelectionSummary) -> str:
    """How a selection was made, as short as can be."""
    return ", ".join([summary.policy, summary.asked, *summary.dials])


def _overlaps(effects: SelectionEffects, baselines: Sequence[str]) -> list[float | None]:
    by_name = {row.baseline: row.overlap for row in effects.agreements}
    return [by_name.get(name) for name in baselines]


def _overview_row(
    summary: SelectionSummary, effects: SelectionEffects, baselines: Sequence[str]
) -> OverviewRow:
    moved = sorted(domain_shares(effects), key=lambda row: row.after - row.before)
    lost = [row for row in moved[:_MOST_NAMED] if row.before - row.after > _LEAST_MOVED]
    gained = [row for row in moved[::-1][:_MOST_NAMED] if row.after - row.before > _LEAST_MOVED]
    before, after = effects.overall.candidates, effects.overall.kept
    return OverviewRow(
        name=summary.name,
        made=made_in_words(summary),
        figures=after,
        trigrams=relative(before.distinct[_TRIGRAMS], after.distinct[_TRIGRAMS]),
        lost=_in_words(lost),
        gained=_in_words(gained),
        overlaps=_overlaps(effects, baselines),
    )


def _in_words(rows: Sequence[Shares]) -> list[str]:
    """Domains with their shares before and after."""
    return [
        f"{row.name} {formats.fixed(100 * row.before, 1)} → {formats.percent(row.after)}"
        for row in rows
    ]
