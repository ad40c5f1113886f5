"""What figures of scaling rest on, in sentences."""

from collections.abc import Iterable, Iterator, Sequence

from miniplm.scaling.content import MeasuredSaving
from miniplm.scaling.series import FitSettings, Series


def series_cautions(series: Sequence[Series], settings: FitSettings) -> Iterator[str]:
    """What to know of all figures."""
    curves = [curve for each in series for curve in each.curves]
    if any(len(each.curves) == 1 for each in series):
        yield (
            "Where a method has one curve only, intervals do not hold what another seed would have "
            "given, and a saving that was read off has none."
        )
    if not settings.ends_only and any(curve.falls for curve in curves):
        yield (
            "Learning rates fall along these curves: before its end a curve is higher than a run "
            "that was to end there, so a law through its points is not the law of such runs. Fit "
            "to the ends of runs of several budgets (miniplm scaling --points ends) to be rid "
            "of that."
        )
    if unfinished := [curve.student for curve in curves if not curve.finished]:
        yield f"Not trained to the end yet: {', '.join(dict.fromkeys(unfinished))}."


def reading_cautions(measured: Iterable[MeasuredSaving]) -> Iterator[str]:
    """How factors that were read off curves are to be taken."""
    readings = {saving.reading for saving in measured if saving.compute}
    if readings & {"at least", "at most"}:
        yield (
            "Where a saving is at least or at most so, the curve that got to the loss first had "
            "not let its learning rate fall yet; a run that was to end there would have needed "
            "less, so the difference is understated."
        )
    if "unknown" in readings:
        yield (
            "Where neither curve had let its learning rate fall at the loss that they share, the "
            "saving may be off either way."
        )
