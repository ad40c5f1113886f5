"""The mix of domains before and after selection, as pairs of bars."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from miniplm.report import formats, svg
from miniplm.report.charts import WIDTH
from miniplm.report.svg import Element

_LEFT, _RIGHT, _TOP = 190, 130, 6
_ROW, _BAR = 28, 9


@dataclass(frozen=True)
class Shares:
    """A domain's share of the tokens before and after."""

    name: str
    before: float
    after: float


def mix_chart(rows: Sequence[Shares], description: str) -> Markup:
    """Two bars a domain: its share of the candidates' tokens over that of the refined corpus's.

    Args:
        rows: In the order they are drawn.
        description: What is read out in place of the drawing.
    """
    largest = max((max(row.before, row.after) for row in rows), default=0.0) or 1.0
    parts = [
        element
        for place, row in enumerate(rows)
        for element in _pair(row, _TOP + place * _ROW, (WIDTH - _LEFT - _RIGHT) / largest)
    ]
    return svg.document(WIDTH, _TOP + len(rows) * _ROW, parts, "chart wide", description)


def _pair(row: Shares, top: float, scale: float) -> list[Element]:
    before, after = formats.percent(row.before), formats.percent(row.after)
    name = svg.text(_LEFT - 10, top + 14, formats.shorten(row.name, 24), "end", "name")
    bars = [
        svg.node("rect", x=_LEFT, y=top + place * (_BAR + 1), height=_BAR,
                 width=max(share * scale, 0.8 if share else 0.0), class_=kind)
        for place, (share, kind) in enumerate(((row.before, "dropped"), (row.after, "kept")))
    ]  # fmt: skip
    end = _LEFT + max(row.before, row.after) * scale
    figures = svg.text(end + 8, top + 14, f"{before} → {after}", "start", "tick")
    hover = svg.title(f"{row.name}: {before} of the candidates' tokens, {after} after")
    return [svg.node("g", hover, name, *bars, figures, class_="bin")]
