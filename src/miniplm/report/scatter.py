"""Teacher's against reference's loss, a mark for each sampled row, with where selections cut."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from miniplm.report import formats, minis, svg
from miniplm.report.palette import Style, styles
from miniplm.report.rows_content import SampledRows
from miniplm.report.scales import Axis
from miniplm.report.svg import Element, Frame

_WIDTH, _HEIGHT = 640, 560


@dataclass(frozen=True)
class DomainKey:
    """A line of the scatter's legend."""

    name: str
    swatch: Markup
    num_rows: int


@dataclass(frozen=True)
class ScatterView:
    """The drawing and its legend; `unit` is that of the losses, in words."""

    figure: Markup
    domains: list[DomainKey]
    unit: str


def scatter_view(sampled: SampledRows, unit: str) -> ScatterView | None:
    """Draw the rows; None where there are none."""
    if not sampled.rows:
        return None
    numbers = {row.domain: 0 for row in sorted(sampled.rows, key=lambda row: row.domain)}
    for row in sampled.rows:
        numbers[row.domain] += 1
    by_domain = styles(numbers)
    keys = [DomainKey(name, minis.dot(by_domain[name]), number) for name, number in numbers.items()]
    return ScatterView(_figure(sampled, by_domain, unit), keys, unit)


def _figure(sampled: SampledRows, by_domain: Mapping[str, Style], unit: str) -> Markup:
    x = Axis.around([row.reference_loss for row in sampled.rows], padding=0.03)
    y = Axis.around([row.teacher_loss for row in sampled.rows], padding=0.03)
    frame = Frame(x, y, _WIDTH, _HEIGHT)
    marks = [
        svg.node(
            "g",
            svg.marker(
                by_domain[row.domain].marker,
                frame.px(row.reference_loss), frame.py(row.teacher_loss), 2.8,
            ),
            class_=f"dot {by_domain[row.domain].colour}", data_row=number,
        )
        for number, row in enumerate(sampled.rows)
    ]  # fmt: skip
    parts = [
        *frame.grid(f"loss of the reference, {unit}", f"loss of the teacher, {unit}"),
        svg.node("g", *marks, class_="dots"),
        *_diagonal(frame, 0.0, "equally good", "even"),
        *(
            _cut(frame, name, score, shown=name == sampled.selections[0])
            for name, score in sampled.thresholds.items()
        ),
    ]
    description = f"Loss of {len(sampled.rows):,} sampled rows under teacher and reference"
    return svg.document(_WIDTH, _HEIGHT, parts, "chart scatter", description, frame=frame)


def _cut(frame: Frame, selection: str, score: float, *, shown: bool) -> Element:
    """The line below which a selection keeps."""
    parts = _diagonal(frame, score, f"threshold {formats.fixed(score)}", "threshold")
    of = {"data-selection": selection, "data-score": repr(score)}
    return svg.node("g", *parts, class_="cut" if shown else "cut off", **of)


def _diagonal(frame: Frame, score: float, label: str, class_: str) -> list[Element]:
    """Where the reference's loss less the teacher's is `score`, with its name along the line."""
    start = max(frame.x.low, frame.y.low + score)
    end = min(frame.x.high, frame.y.high + score)
    if end <= start:
        return []
    places = [(frame.px(x), frame.py(x - score)) for x in (start, end)]
    (x0, y0), (x1, y1) = places
    name = svg.text(x1 - 6, y1 - 7, label, "end", "halo name")
    angle = math.degrees(math.atan2(y1 - y0, x1 - x0))
    name.set("transform", f"rotate({angle:.1f} {x1:.1f} {y1:.1f})")
    return [svg.polyline(places, class_), name]
