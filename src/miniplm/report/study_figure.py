"""A study as rows of dots: small ones are seeds, large ones means, whiskers intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from miniplm.report import formats, minis, palette
from miniplm.report.dot_plot import Dot, DotRow, dot_plot
from miniplm.report.line_chart import Scale
from miniplm.report.palette import Style
from miniplm.report.scales import Axis
from miniplm.report.study_content import StudyContent, StudyRow


@dataclass(frozen=True)
class StudySize:
    """The students of one size, drawn: what was measured, and differences from the baseline."""

    size: str
    num_params: int | None
    measured: Markup
    differences: Markup | None


@dataclass(frozen=True)
class StudyView:
    """A figure for each size, and the rows of the table with their marks."""

    content: StudyContent
    sizes: Sequence[StudySize]
    rows: Sequence[tuple[StudyRow, Markup]]


def study_view(content: StudyContent | None) -> StudyView | None:
    """Draw a study; None where there is none."""
    if content is None or not content.rows:
        return None
    methods = sorted(
        dict.fromkeys(row.method for row in content.rows), key=lambda m: m != content.baseline
    )
    styles = palette.styles(methods)
    sizes = [
        _size(size, [row for row in content.rows if row.size == size], content, styles)
        for size in dict.fromkeys(row.size for row in content.rows)
    ]
    return StudyView(content, sizes, [(row, minis.dot(styles[row.method])) for row in content.rows])


def _size(
    size: str, rows: Sequence[StudyRow], content: StudyContent, styles: Mapping[str, Style]
) -> StudySize:
    values = [value for row in rows for value in row.values.values()]
    measured = dot_plot(
        [DotRow(row.method, [_dots(row, styles[row.method])], note=_spread(row)) for row in rows],
        Scale(Axis.around(values, padding=0.06), content.measure),
        f"{content.measure} of each method at {size}, seed by seed",
        kind="study",
    )
    differences = _differences(size, rows, content, styles)
    return StudySize(size, rows[0].num_params, measured, differences)


def _dots(row: StudyRow, style: Style) -> list[Dot]:
    seeds = [
        Dot(f"seed {seed}", value, style, f"{row.method}, seed {seed}: {formats.fixed(value, 4)}",
            minor=True)
        for seed, value in row.values.items()
    ]  # fmt: skip
    mean = f"{row.method}, mean of {row.num_seeds} seeds: {formats.fixed(row.mean, 4)}"
    return [*seeds, Dot("mean", row.mean, style, mean)]


def _spread(row: StudyRow) -> str:
    sd = "" if row.standard_deviation is None else f" ± {formats.fixed(row.standard_deviation)}"
    return f"{formats.fixed(row.mean)}{sd}"


def _differences(
    size: str, rows: Sequence[StudyRow], content: StudyContent, styles: Mapping[str, Style]
) -> Markup | None:
    """Means less the baseline's, with intervals; None where none are known."""
    known = [
        (row.method, Dot(row.method, row.difference, styles[row.method],
                         f"{row.method}: {formats.signed(row.difference, 4)}", row.low, row.high))
        for row in rows
        if row.difference is not None
    ]  # fmt: skip
    if not known:
        return None
    ends = [end for _, dot in known for end in (dot.value, dot.low, dot.high) if end is not None]
    label = f"bits per byte less those of {content.baseline}; left of zero is better"
    return dot_plot(
        [DotRow(method, [[dot]], note=formats.signed(dot.value, 4)) for method, dot in known],
        Scale(Axis.around([0.0, *ends], padding=0.06), label),
        f"Difference of each method from {content.baseline} at {size}, with intervals",
        zero=True, kind="study",
    )  # fmt: skip
