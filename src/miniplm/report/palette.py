"""Colours and marks of many series: Okabe and Ito's colours, then other shapes, then dashes."""

from collections.abc import Iterable
from dataclasses import dataclass

from miniplm.report.svg import MARKERS

COLOURS = ("c0", "c1", "c2", "c3", "c4", "c5", "c6")
"""Classes of the style sheet."""
DASHES = ("", "dashed", "dotted", "dash-dotted")


@dataclass(frozen=True)
class Style:
    """How a series is drawn everywhere on the page: classes of colour and dashes, and a shape."""

    colour: str
    marker: str
    dash: str = ""


def styles(names: Iterable[str]) -> dict[str, Style]:
    """A style for each name, in order; the first seven differ by colour, all by something.

    Example:
        >>> made = styles(map(str, range(28)))
        >>> made["0"], made["8"]
        (Style(colour='c0', marker='circle', dash=''), Style(colour='c1', marker='square', dash='dashed'))
        >>> len({*made.values()})
        28
    """  # noqa: E501
    return {name: style(place) for place, name in enumerate(dict.fromkeys(names))}


def style(place: int) -> Style:
    """The style of the series at a place; they begin again after 28."""
    colour, turn = place % len(COLOURS), place // len(COLOURS)
    return Style(COLOURS[colour], MARKERS[turn % len(MARKERS)], DASHES[turn % len(DASHES)])
