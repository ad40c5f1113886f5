"""The answer in one drawing: how far each student is from the baseline, domain by domain."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from miniplm.evaluation.averages import AVERAGE, OVERALL
from miniplm.evaluation.difference import Difference
from miniplm.report import formats
from miniplm.report.charts import HALF_WIDTH
from miniplm.report.content import ReportContent
from miniplm.report.dot_plot import Dot, DotRow, dot_plot
from miniplm.report.line_chart import Scale
from miniplm.report.model_content import HeldOutRow
from miniplm.report.palette import Style
from miniplm.report.scales import Axis
from miniplm.report.study_content import StudyContent, StudyRow
from miniplm.study.verdict import compute_words

_BEYOND = 0.03
"""Share of the domains at either end that need no room: one that differs by far is drawn at the
edge, or all others would be one spot."""
_DOMAIN = Style("quiet-dot", "circle")
_LEFT = 100.0
"""Room for names on a phone."""


@dataclass(frozen=True)
class Figure:
    """A number to be seen first: what it is, itself, and what it means."""

    name: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Headline:
    """Numbers and the drawing, and that for a phone; None where there is nothing to compare."""

    figures: list[Figure]
    drawing: Markup | None
    narrow: Markup | None = None


def headline(content: ReportContent) -> Headline:
    """What a reader in a hurry sees; of a study its outcome, which it draws itself."""
    if content.study is not None:
        return Headline(_of_study(content.study), None)
    found = (_best(content), _equal_loss(content), _break_even(content))
    figures = [figure for figure in found if figure]
    return Headline(figures, _drawing(content), _drawing(content, width=HALF_WIDTH, left=_LEFT))


def _of_study(study: StudyContent) -> list[Figure]:
    """Of each size, the method that is furthest ahead of the baseline, of those at equal compute
    where there are some.
    """
    figures = []
    for size in dict.fromkeys(row.size for row in study.rows):
        compared = [row for row in study.rows if row.size == size and row.difference is not None]
        equal = [row for row in compared if row.is_at_equal_compute]
        rows = {row.difference: row for row in equal or compared if row.difference is not None}
        if not rows:
            continue
        best, row = min(rows.items())
        seeds = f"mean of {row.num_seeds} seeds" if row.num_seeds > 1 else "one seed"
        figures.append(
            Figure(
                f"Bits per byte against {study.baseline}, {size}",
                formats.signed(best, 4),
                f"{row.method}{_of_many(len(rows))}, {seeds}{_interval(row)}{_saved(row)}"
                + ("" if row.is_at_equal_compute else "; not at equal training compute"),
            )
        )
    return figures


def _interval(row: StudyRow) -> str:
    """The interval over seeds, and whether it tells anything."""
    if row.low is None or row.high is None:
        return ""
    ends = f", {formats.signed(row.low, 4)} to {formats.signed(row.high, 4)}"
    return ends if row.is_told_apart else f"{ends}, so it may be chance"


def _saved(row: StudyRow) -> str:
    """Training compute to the same loss, in words."""
    if row.compute_saved is None:
        return ""
    return f"; {compute_words(row.compute_saved)} to the same loss"


def _differences(content: ReportContent) -> dict[str, dict[str, float]]:
    """Bits per byte less the baseline's, by student and domain, the best student first."""
    roles = {model.name: model.role for model in content.models}
    students = [name for name in content.held_out_models if roles.get(name) == "student"]
    gaps = {
        name: {row.domain: row.bits_per_byte[name] - row.bits_per_byte[base] for row in rows}
        for name in students
        if (base := content.baseline_of(name)) is not None
        and name != base
        and (rows := _rows_with(content.held_out, name, base))
        and any(row.domain == AVERAGE for row in rows)
    }
    return dict(sorted(gaps.items(), key=lambda item: item[1][AVERAGE]))


def _rows_with(rows: Sequence[HeldOutRow], name: str, base: str) -> list[HeldOutRow]:
    """Of domains that are averaged over, and the averages."""
    return [row for row in rows if {name, base} <= set(row.bits_per_byte) and not row.set_apart]


def _drawing(content: ReportContent, **size: float) -> Markup | None:
    gaps = _differences(content)
    if not gaps:
        return None
    averages = [by_domain[AVERAGE] for by_domain in gaps.values()]
    values = [gap for row in gaps.values() for gap in row.values() if math.isfinite(gap)]
    known = [content.differences[name] for name in gaps if name in content.differences]
    ends = [end for difference in known for end in difference.interval or ()]
    low, high = np.quantile(values or [0.0], [_BEYOND, 1 - _BEYOND])
    rows = [
        DotRow(
            name, [[_dot(name, domain, gap, content.differences.get(name))
                    for domain, gap in by_domain.items()
                    if domain != OVERALL and math.isfinite(gap)]],
            note=formats.signed(by_domain[AVERAGE], 4),
        )
        for name, by_domain in gaps.items()
    ]  # fmt: skip
    x = Scale(
        Axis.around([0.0, *averages, *ends, low, high], padding=0.03),
        f"bits per byte less those of {formats.shorten(content.baseline_words, 30)}; "
        "left of zero is better",
    )
    description = f"Bits per byte of each student less those of {content.baseline_words}, by domain"
    return dot_plot(rows, x, description, zero=True, kind="headline", **size)


def _dot(name: str, domain: str, gap: float, difference: Difference | None) -> Dot:
    said = formats.signed(gap, 4)
    if domain != AVERAGE:
        return Dot(domain, gap, _DOMAIN, f"{name}, {domain}: {said}", minor=True)
    style = Style("gain" if gap < 0 else "loss", "circle")
    ends = (difference.interval if difference else None) or (None, None)
    return Dot(domain, gap, style, f"{name}, average of domains: {said}", *ends)


def _best(content: ReportContent) -> Figure | None:
    gaps = _differences(content)
    if not gaps:
        return None
    name, by_domain = next(iter(gaps.items()))
    domains = [gap for domain, gap in by_domain.items() if domain not in (AVERAGE, OVERALL)]
    won = sum(gap < 0 for gap in domains)
    return Figure(
        "Bits per byte against the baseline",
        formats.signed(by_domain[AVERAGE], 4),
        f"{name}{_of_many(len(gaps))}{_between(content.differences.get(name))}: "
        f"better than {content.baseline_of(name)} in {won} of {len(domains)} domains",
    )


def _between(difference: Difference | None) -> str:
    if difference is None or difference.interval is None:
        return ""
    low, high = (formats.signed(end, 4) for end in difference.interval)
    return f", 95 % interval over documents {low} to {high}"


def _equal_loss(content: ReportContent) -> Figure | None:
    ratios = {
        row: row.baseline_flops / row.student_flops
        for row in content.equal_loss
        if row.student_flops and row.baseline_flops
    }
    if not ratios:
        return None
    best = max(ratios, key=lambda row: ratios[row])
    return Figure(
        "Training compute saved at equal loss",
        f"{formats.fixed(ratios[best], 2)} times",
        f"{best.student}{_of_many(len(ratios))}, against {best.baseline} at "
        f"{formats.fixed(best.loss)} {best.unit} of held-out text"
        + ("" if ratios[best] >= 1 else "; below 1 it needed more")
        + "; with one seed, part of it may be chance",
    )


def _of_many(number: int) -> str:
    return f", the best of {number}" if number > 1 else ""


def _break_even(content: ReportContent) -> Figure | None:
    numbers = [
        cost.break_even
        for cost in (content.cost.students if content.cost else ())
        if cost.break_even is not None
    ]
    if not numbers:
        return None
    return Figure(
        "Cheaper than a teacher in the loop from",
        f"{numbers[0]} student{'s' if numbers[0] > 1 else ''}",
        "scoring is paid once, a teacher in the loop for every student",
    )
