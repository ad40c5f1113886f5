"""As many marks of curves as a page has room for."""

from collections.abc import Sequence
from dataclasses import replace

from miniplm.report.loss_figure import MOST_POINTS, thin
from miniplm.report.model_content import TrainingCurves

_MOST_MARKS, _FEWEST = 2400, 40
"""Of all lines of a figure, and of each."""


def thinned(curves: Sequence[TrainingCurves]) -> list[TrainingCurves]:
    """The curves with fewer measurements where there are many, the first and the last kept."""
    most = most_marks(len(curves))
    return [replace(curve, held_out=thin(curve.held_out, most)) for curve in curves]


def most_marks(num_lines: int) -> int:
    """How many marks a line gets: enough to see it, few enough for the page to stay small.

    Example:
        >>> most_marks(2), most_marks(20), most_marks(100)
        (400, 120, 40)
    """
    return min(MOST_POINTS, max(_FEWEST, _MOST_MARKS // max(1, num_lines)))
