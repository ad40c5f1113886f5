"""Progress bars with rate and time left, on standard error, silent when it is not a terminal."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from miniplm.runtime.team import rank

Advance = Callable[..., None]
"""`advance(amount)` moves the bar; `advance(amount, note="loss 3.21")` also sets its note."""


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        unit = task.fields["unit"]
        return Text("" if speed is None else f"{_short(speed)} {unit}/s", style="cyan")


def _short(number: float) -> str:
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.1f}{suffix}"
    return f"{number:.0f}" if number >= 10 else f"{number:.1f}"


@contextlib.contextmanager
def progress(title: str, total: float | None, unit: str) -> Iterator[Advance]:
    """A progress bar for the length of the block.

    Args:
        title: What is being done.
        total: Units of work in all, or None where that is not known.
        unit: Name of a unit, in the plural: `tokens`, `sequences`, `MB`.
    """
    console = Console(stderr=True)
    if not console.is_terminal or rank() > 0:
        yield lambda amount, note="": None
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        _RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=True,
    )
    with bar:
        task = bar.add_task(title, total=total, unit=unit, note="")
        last_note = 0.0

        def advance(amount: float, note: str = "") -> None:
            nonlocal last_note
            now = time.monotonic()
            if note and now - last_note > 0.2:
                last_note = now
                bar.update(task, advance=amount, note=note)
            else:
                bar.update(task, advance=amount)

        yield advance
