"""The ratios as a picture: one row of bars for each bench, on a logarithmic scale."""

import html
import math
from collections.abc import Sequence

from benchmarks.harness import Result

_ROW, _LEFT, _WIDTH, _RIGHT = 20, 330, 420, 90


def ratios_svg(results: Sequence[Result]) -> str:
    """An SVG; 1 is each bench's baseline, lines go from the smallest to the largest round."""
    compared = [result for result in results if len(result.runs) > 1]
    ratios = [_rounds(result, name) for result in compared for name in result.runs]
    if not ratios:
        return "<svg xmlns='http://www.w3.org/2000/svg'/>"
    low = min(0.5, *(min(values) for values in ratios))
    high = max(2.0, *(max(values) for values in ratios))

    def x(ratio: float) -> float:
        return _LEFT + _WIDTH * math.log(ratio / low) / math.log(high / low)

    parts, y = [], 30
    for result in compared:
        parts.append(
            f"<text x='8' y='{y}' font-weight='bold'>{html.escape(result.bench.name)}</text>"
        )
        for name in result.runs:
            y += _ROW
            parts += _row(name, _rounds(result, name), result.ratio(name), x, y)
        y += _ROW + 12
    ticks = [tick for tick in (0.1, 0.5, 1, 2, 5, 10, 20, 50, 100) if low <= tick <= high]
    grid = [
        f"<line x1='{x(tick):.1f}' x2='{x(tick):.1f}' y1='12' y2='{y}' stroke='#ddd'/>"
        f"<text x='{x(tick):.1f}' y='{y + 14}' text-anchor='middle' fill='#666'>{tick:g}x</text>"
        for tick in ticks
    ]
    width = _LEFT + _WIDTH + _RIGHT
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{y + 24}' "
        "font-family='sans-serif' font-size='12'><rect width='100%' height='100%' fill='#fff'/>"
        + "".join(grid + parts)
        + "</svg>\n"
    )


def _rounds(result: Result, name: str) -> list[float]:
    pairs = zip(result.runs[name], result.runs[result.bench.baseline], strict=True)
    return [ours.rate / theirs.rate for ours, theirs in pairs]


def _row(name: str, rounds: list[float], ratio: float, x, y: int) -> list[str]:
    colour = "#0072b2" if name.startswith("miniplm") else "#999"
    left, right = sorted((x(1), x(ratio)))
    return [
        f"<text x='{_LEFT - 8}' y='{y + 4}' text-anchor='end'>{html.escape(name)}</text>",
        f"<rect x='{left:.1f}' y='{y - 6}' width='{max(1.5, right - left):.1f}' height='12' "
        f"fill='{colour}'/>",
        f"<line x1='{x(min(rounds)):.1f}' x2='{x(max(rounds)):.1f}' y1='{y}' y2='{y}' "
        "stroke='#000'/>",
        f"<text x='{max(right, x(max(rounds))) + 6:.1f}' y='{y + 4}'>{ratio:.2f}x</text>",
    ]
