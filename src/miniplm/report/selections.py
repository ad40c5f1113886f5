"""The views of a selection: its histogram, its domains, its examples."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from markupsafe import Markup

from miniplm.report import formats, minis
from miniplm.report.charts import Bin, Ends, histogram
from miniplm.report.effects import EffectsView, effects_view
from miniplm.report.scales import Axis
from miniplm.report.selection_content import DomainRow, Example, SelectionSummary

SCORE_UNITS = {"per_token": "nats per token", "per_byte": "nats per byte", "sum": "nats"}
PREVIEW_CHARACTERS = 420
PREVIEW_LINES = 7

Cut = Literal["threshold", "range", "none"]
"""What is kept: exactly what lies above the threshold, or between two scores; or other rows."""


@dataclass(frozen=True)
class DomainView:
    """A domain with the drawings of its cells."""

    row: DomainRow
    kept_bar: Markup
    score_dot: Markup
    mix: Markup


@dataclass(frozen=True)
class ExampleView:
    """An example, its preview (shorter than the text where that is long) and a name of the text."""

    row: Example
    text: str
    preview: str | None
    num_characters: int


@dataclass(frozen=True)
class ExampleBand:
    """The examples of one end or of the middle, with what they show."""

    heading: str
    meaning: str
    examples: Sequence[ExampleView]


@dataclass(frozen=True)
class SelectionView:
    """Everything drawn for one selection."""

    summary: SelectionSummary
    slug: str
    unit: str
    """Of the scores, and of the losses beside the examples."""
    cut: Cut
    kept_share: float
    """Share of all candidates that was kept."""
    figure: Markup | None
    domains: Sequence[DomainView]
    effects: EffectsView | None
    bands: Sequence[ExampleBand]


def selection_view(place: int, summary: SelectionSummary) -> SelectionView:
    """Draw one selection; `place` counts the page's selections from 1."""
    return SelectionView(
        summary=summary,
        slug=f"selection-{place}",
        unit=score_unit(summary),
        cut=_cut(summary),
        kept_share=_kept_share(summary),
        figure=_histogram(summary) if summary.histogram_counts else None,
        domains=_domain_views(summary),
        effects=effects_view(summary.name, summary.effects) if summary.effects else None,
        bands=_example_bands(summary),
    )


def _cut(summary: SelectionSummary) -> Cut:
    if summary.highest is not None:
        return "range"
    return "none" if summary.threshold is None else "threshold"


def score_unit(summary: SelectionSummary) -> str:
    """The unit of a selection's scores, in words."""
    return SCORE_UNITS.get(summary.normalization, f"nats, {summary.normalization}")


def kept_per_bin(summary: SelectionSummary) -> list[int] | None:
    """How many sequences of each bar were kept, of exactly those above the threshold.

    Bars of a sample may not add up to what was kept; the bar that the threshold cuts makes up for
    it as far as it can.

    Returns:
        One count for each bar, or None where something other than a threshold decides.
    """
    counts, edges = list(summary.histogram_counts), summary.histogram_edges
    if summary.threshold is None or summary.highest is not None or not counts:
        return None
    index = min(max(bisect_right(edges, summary.threshold) - 1, 0), len(counts) - 1)
    inside = min(max(0, summary.num_kept - sum(counts[index + 1 :])), counts[index])
    return [0] * index + [inside] + counts[index + 1 :]


def _histogram(summary: SelectionSummary) -> Markup:
    edges, kept = list(pairwise(summary.histogram_edges)), kept_per_bin(summary)
    bins = []
    for place, ((low, high), number) in enumerate(
        zip(edges, summary.histogram_counts, strict=True)
    ):
        reach = bin_range(low, high, first=place == 0, last=place == len(edges) - 1)
        said = "" if kept is None else f", {kept[place]:,} kept"
        bins.append(Bin(low, high, number, f"{reach}: {number:,} sequences{said}"))
    ends = None if _cut(summary) == "none" else Ends(summary.threshold, summary.highest)
    label = f"difference score, {score_unit(summary)}"
    description = f"Distribution of the difference scores of selection {summary.name}"
    return histogram(bins, ends, summary.mean_score, label, description)


def bin_range(low: float, high: float, *, first: bool, last: bool) -> str:
    """The scores a bar holds, in words; the first and the last one are open.

    Example:
        >>> bin_range(-0.5, 0.25, first=True, last=False)
        'below 0.250'
    """
    if first and last:
        return "all scores"
    if first:
        return f"below {formats.fixed(high)}"
    if last:
        return f"{formats.fixed(low)} and above"
    return f"{formats.fixed(low)} to {formats.fixed(high)}"


def _domain_views(summary: SelectionSummary) -> list[DomainView]:
    """The domains, those kept most first."""
    rows = sorted(summary.domains, key=lambda row: (-row.kept_share, row.domain))
    marks = [] if summary.threshold is None else [summary.threshold]
    scores = Axis.around([row.mean_score for row in rows] + marks, padding=0.05)
    shares = Axis.around([0.0, *(max(row.share_before, row.share_after) for row in rows)])
    return [
        DomainView(
            row,
            minis.share_bar(
                row.kept_share, _kept_share(summary),
                f"{row.domain}: {row.num_kept:,} of {row.num_sequences:,} sequences kept",
            ),
            minis.dot_on_axis(
                row.mean_score, scores, summary.threshold,
                f"{row.domain}: mean score {formats.fixed(row.mean_score)}",
            ),
            minis.dumbbell(
                row.share_before, row.share_after, shares,
                f"{row.domain}: {formats.percent(row.share_before)} of the candidate tokens, "
                f"{formats.percent(row.share_after)} of the refined corpus",
            ),
        )
        for row in rows
    ]  # fmt: skip


def _kept_share(summary: SelectionSummary) -> float:
    return summary.num_kept / max(1, summary.num_candidates)


def _example_bands(summary: SelectionSummary) -> list[ExampleBand]:
    headings = {
        "top": ("Highest scores", "where the teacher is furthest ahead of the reference"),
        "threshold": ("Around the threshold", "where a little decides between kept and dropped"),
        "bottom": ("Lowest scores", "where the teacher is least ahead, or behind"),
    }
    if summary.threshold is None:
        headings["threshold"] = ("Middle scores", "where the teacher is as far ahead as usual")
    bands = []
    for band in ("bottom", "threshold", "top"):
        examples = [_example_view(row) for row in summary.examples if row.band == band]
        if examples:
            bands.append(ExampleBand(*headings[band], examples))
    return bands


def _example_view(row: Example) -> ExampleView:
    text = formats.readable(row.text)
    return ExampleView(row, text, preview(text), len(row.text))


def preview(text: str) -> str | None:
    """The beginning of a long text; None where the text is short enough to be shown whole."""
    head = "\n".join(text.split("\n")[:PREVIEW_LINES])[:PREVIEW_CHARACTERS].rstrip()
    # Hiding a few words behind a click would cost more than it saves.
    return None if len(text) - len(head) < PREVIEW_CHARACTERS // 4 else f"{head} …"
