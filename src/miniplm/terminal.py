"""Tables and numbers on a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

_WIDTH_WITHOUT_TERMINAL = 160
_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def console() -> Console:
    """As wide as the terminal; wide enough for every column where there is none."""
    made = Console()
    return made if made.is_terminal else Console(width=_WIDTH_WITHOUT_TERMINAL)


def print_lines(title: str, lines: Sequence[Sequence[str]], num_names: int = 2) -> None:
    """A table of cells of text.

    Args:
        title: Above it.
        lines: The headings first.
        num_names: How many of the first columns hold names; the others hold numbers.
    """
    table = Table(title=title, title_justify="left")
    for place, heading in enumerate(lines[0]):
        table.add_column(heading, justify="left" if place < num_names else "right")
    for line in lines[1:]:
        table.add_row(*line)
    console().print(table)


def short_number(value: float | None, unit: str = "") -> str:
    """A number in three digits, such as `33.1 M`; empty for nothing and for 0."""
    if value is None or value == 0:
        return ""
    for limit, prefix in _PREFIXES:
        if value >= limit:
            return f"{value / limit:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"
