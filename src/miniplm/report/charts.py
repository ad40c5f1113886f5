"""Histograms and stacked bars: each function takes plain values and returns one SVG drawing.

Marks carry a hover title with the exact figures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from miniplm.report import formats, svg
from miniplm.report.scales import Axis, count_unit
from miniplm.report.svg import Element, Frame

WIDTH = 900
"""Width of a figure that takes the whole column."""
HALF_WIDTH = 440
"""Width of one of two figures side by side."""


@dataclass(frozen=True)
class Bin:
    """A bar of the histogram and all sequences it counts."""

    low: float
    high: float
    num_sequences: int
    title: str


@dataclass(frozen=True)
class Ends:
    """The lowest and the highest kept score; None is open."""

    lowest: float | None
    highest: float | None = None

    @property
    def known(self) -> list[float]:
        """Those that there are, rising."""
        return [end for end in (self.lowest, self.highest) if end is not None]

    @property
    def in_words(self) -> str:
        """For the lines that mark them."""
        if self.highest is None:
            return f"threshold {formats.fixed(self.lowest)}"
        start = "" if self.lowest is None else f"{formats.fixed(self.lowest)} "
        return f"kept: {start}to {formats.fixed(self.highest)}"

    def hold(self, score: float) -> bool:
        """Whether a score is kept."""
        above = self.lowest is None or score >= self.lowest
        return above and (self.highest is None or score <= self.highest)


def histogram(
    bins: Sequence[Bin], ends: Ends | None, mean: float, x_label: str, description: str
) -> Markup:
    """Bars of counts over score ranges, cut at the ends of what is kept.

    Args:
        bins: Neighbouring bars in rising order; the outermost hold all that lies beyond.
        ends: Of the scores that are kept, drawn as lines; None where they do not tell what is.
        mean: The mean score, marked under the axis of counts.
        x_label: The name of the score, with its unit.
        description: What is read out in place of the drawing.
    """
    y = Axis(0, 1.06 * max(1, *(each.num_sequences for each in bins)))
    frame = Frame(
        Axis.around([bins[0].low, bins[-1].high]), y, WIDTH, 310, left=52, top=62, bottom=56
    )
    factor, word = count_unit(y.high)
    y_label = f"candidate sequences{f' ({word}s)' if word else ''} per bar"
    parts = frame.grid(x_label, y_label, y_factor=factor)
    for each in bins:
        parts.append(svg.node("g", svg.title(each.title), *_bar(frame, each, ends), class_="bin"))
    floor = frame.height - frame.bottom
    first, last = frame.px(bins[0].low), frame.px(bins[-1].high)
    parts.append(svg.text(first, floor + 31, "◂ and all below", "start", "tick"))
    parts.append(svg.text(last, floor + 31, "and all above ▸", "end", "tick"))
    parts.append(_mean_mark(frame, mean))
    if ends is not None:
        parts.extend(_end_marks(frame, ends))
    return svg.document(frame.width, frame.height, parts, "chart wide", description)


def _bar(frame: Frame, each: Bin, ends: Ends | None) -> list[Element]:
    """One bar, or its parts that are dropped and kept."""
    left, right = frame.px(each.low) + 0.5, frame.px(each.high) - 0.5
    right = max(right, left + 0.5)
    spans = [(left, right, "part-kept")]
    if ends is not None:
        cuts = [end for end in ends.known if each.low < end < each.high]
        scores = pairwise([each.low, *cuts, each.high])
        places = pairwise([left, *(min(max(frame.px(cut), left), right) for cut in cuts), right])
        spans = [
            (start, end, "kept" if ends.hold((low + high) / 2) else "dropped")
            for (start, end), (low, high) in zip(places, scores, strict=True)
        ]
    top, floor = frame.py(each.num_sequences), frame.height - frame.bottom
    # A full-height sheet under the bar, so that the hover title of a low bar is easy to hit.
    sheet = svg.node(
        "rect", x=left, y=frame.top, width=right - left, height=frame.inner_height, class_="sheet"
    )
    bars = [
        svg.node("rect", x=start, y=top, width=end - start, height=floor - top, class_=kind)
        for start, end, kind in spans
    ]
    return [sheet, *bars]


def _mean_mark(frame: Frame, mean: float) -> Element:
    x, floor = frame.px(mean), frame.height - frame.bottom
    return svg.node(
        "g",
        svg.title(f"mean score {formats.fixed(mean)}"),
        svg.node("polygon", points=f"{x:.1f},{floor - 1:.1f} {x - 5:.1f},{floor - 10:.1f} "
                 f"{x + 5:.1f},{floor - 10:.1f}", class_="mean"),
    )  # fmt: skip


def _end_marks(frame: Frame, ends: Ends) -> list[Element]:
    """A line at each end of what is kept, their name, and what lies to their sides."""
    places = [frame.px(end) for end in ends.known]
    middle, top = sum(places) / len(places), frame.top
    anchor = "end" if middle > frame.width - 130 else "start" if middle < 130 else "middle"
    parts = [
        *(svg.line(x, top - 20, x, frame.height - frame.bottom, "threshold") for x in places),
        svg.text(middle, top - 26, ends.in_words, anchor, "strong"),
    ]
    if ends.lowest is not None and places[0] > 110:
        parts.append(svg.text(places[0] - 8, top - 8, "← dropped", "end", "name dropped-name"))
    if places[-1] <= frame.width - 130:
        name, kind = ("kept →", "kept") if ends.highest is None else ("dropped →", "dropped")
        parts.append(svg.text(places[-1] + 8, top - 8, name, "start", f"name {kind}-name"))
    return parts


@dataclass(frozen=True)
class Segment:
    """A part of the stacked bar; neighbours of one `group` are bracketed together."""

    label: str
    value: float
    style: str
    group: str
    title: str


def stacked_bar(segments: Sequence[Segment], description: str) -> Markup:
    """One bar cut into segments by value, with a bracket and a name over each group."""
    total = sum(segment.value for segment in segments) or 1.0
    parts: list[Element] = []
    starts: dict[str, tuple[float, float]] = {}
    x = 1.0
    for segment in segments:
        width = segment.value / total * (WIDTH - 2)
        bar = svg.node("rect", x=x, y=34, width=width, height=34, class_=f"segment {segment.style}")
        parts.append(svg.node("g", svg.title(segment.title), bar, class_="part"))
        if width > 7 * len(segment.label) + 12:
            parts.append(svg.text(x + 8, 56, segment.label, "start", f"on-{segment.style}"))
        start, _ = starts.get(segment.group, (x, x))
        x += width
        starts[segment.group] = (start, x)
    for group, (start, end) in starts.items():
        share = formats.percent((end - start) / (WIDTH - 2))
        parts.extend(_bracket(start, end, f"{group}: {share}"))
    return svg.document(WIDTH, 74, parts, "chart wide", description)


def _bracket(start: float, end: float, label: str) -> list[Element]:
    path = [(start + 2, 29.0), (start + 2, 23.0), (end - 2, 23.0), (end - 2, 29.0)]
    room = 4 * len(label)  # half the width of the label, generously
    middle = min(max((start + end) / 2, room), WIDTH - room)
    return [svg.polyline(path, "axis"), svg.text(middle, 15, label, "middle")]
