"""The figures of training: loss against tokens and FLOPs, and how far ahead of the baseline."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from miniplm.report import minis, palette
from miniplm.report.content import ReportContent
from miniplm.report.gap_figure import gap_figure
from miniplm.report.loss_figure import MOST_PALE, loss_figure
from miniplm.report.model_content import NATS, TrainingCurves, Unit
from miniplm.report.palette import Style
from miniplm.report.thinning import thinned
from miniplm.report.training_axes import POSITIONS, AxisName


@dataclass(frozen=True)
class LegendEntry:
    """A line of the legend: the mark, the full name, and the held-out curve's last figure."""

    swatch: Markup
    name: str
    corpus: str
    final_loss: float | None
    unit: Unit = NATS


@dataclass(frozen=True)
class Variant:
    """A drawing over one of the axes that a reader can choose: `tokens` or `flops`, `log` or not.

    `printed` ones are shown where nothing can be chosen, too.
    """

    axis: AxisName
    log: bool
    figure: Markup

    @property
    def printed(self) -> bool:
        """Whether it is spaced evenly."""
        return not self.log


@dataclass(frozen=True)
class TrainingFigures:
    """Drawings and legends of the training section; empty or None where nothing can be drawn."""

    losses: Sequence[Variant]
    gaps: Sequence[Variant]
    students: Sequence[LegendEntry]
    has_pale: bool
    """Whether training losses are drawn."""
    teachers_figure: Markup | None
    teachers: Sequence[LegendEntry]


def model_styles(content: ReportContent) -> dict[str, Style]:
    """How each model is drawn, the same all over the page; the baseline comes first."""
    models = [(model.name, model.role) for model in content.models]
    models += [(curve.model, curve.role) for curve in content.curves]
    students = dict.fromkeys(name for name, role in models if role == "student")
    ordered = sorted(students, key=lambda name: name != content.baseline)
    shapes = {"teacher": "square", "reference": "diamond"}
    scorers = {name: Style(role, shapes[role]) for name, role in models if role in shapes}
    return scorers | palette.styles(ordered)


def training_figures(content: ReportContent, styles: Mapping[str, Style]) -> TrainingFigures:
    """All figures of the training section."""
    in_order = sorted(content.curves, key=lambda curve: list(styles).index(curve.model))
    in_order = thinned(in_order)
    students = [curve for curve in in_order if curve.role == "student"]
    teachers = [curve for curve in in_order if curve.role != "student"]
    final = [curve.train[-1].num_tokens for curve in teachers if curve.train]
    apart = len(final) > 1 and max(final) > 4 * min(final)
    return TrainingFigures(
        losses=_variants(lambda axis, log: loss_figure("loss", students, styles, axis, log=log)),
        gaps=_variants(lambda axis, log: gap_figure(content, students, styles, axis, log=log)),
        students=[_legend_entry(curve, styles) for curve in students],
        has_pale=len(students) <= MOST_PALE and all(curve.unit == NATS for curve in students),
        teachers_figure=loss_figure("teachers", teachers, styles, "tokens", wide=False, log=apart),
        teachers=[_legend_entry(curve, styles) for curve in teachers],
    )


def _variants(draw: Callable[[AxisName, bool], Markup | None]) -> list[Variant]:
    """A drawing over each axis, spaced evenly and by ratios."""
    drawn = [(axis, log, draw(axis, log)) for axis in POSITIONS for log in (False, True)]
    return [Variant(axis, log, figure) for axis, log, figure in drawn if figure is not None]


def _legend_entry(curve: TrainingCurves, styles: Mapping[str, Style]) -> LegendEntry:
    final = curve.held_out[-1].loss if curve.held_out else None
    return LegendEntry(
        minis.swatch(styles[curve.model]), curve.model, curve.corpus, final, curve.unit
    )
