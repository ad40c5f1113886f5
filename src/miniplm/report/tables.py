"""The rows of the page's tables: differences from the baseline, shares, averages set apart."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from miniplm.evaluation.averages import AVERAGES
from miniplm.report import formats, minis
from miniplm.report.charts import Segment, stacked_bar
from miniplm.report.content import ReportContent
from miniplm.report.model_content import (
    BITS,
    NATS,
    EqualLossRow,
    HeldOutRow,
    ModelRow,
    Role,
    Unit,
)
from miniplm.report.palette import Style

Measure = Literal["loss", "bits_per_byte"]


@dataclass(frozen=True)
class Difference:
    """A signed number; `kind` says in words which way it points, for the style sheet.

    `strength` is the depth of the tint behind it, in per cent.
    """

    text: str
    kind: str
    strength: int = 0


@dataclass(frozen=True)
class StudentRow:
    """A student with its differences from the baseline, None where nothing is to be compared.

    The baseline itself has none; losses do not compare with those of another tokenizer.
    """

    model: ModelRow
    swatch: Markup
    is_baseline: bool
    loss_difference: Difference | None
    bits_difference: Difference | None


def difference(
    value: float | None, baseline: float | None, largest: float = 0.0
) -> Difference | None:
    """Value less baseline; below zero is better. None where either is not known.

    Args:
        value: A loss.
        baseline: The loss it is compared with.
        largest: The difference that gets the deepest tint; 0 for no tint.

    Example:
        >>> difference(4.9, 5.0), difference(5.00001, 5.0)
        (Difference(text='−0.100', kind='better', strength=0), Difference(text='0.000', kind='even', strength=0))
    """  # noqa: E501
    if value is None or baseline is None:
        return None
    gap = value - baseline
    text = formats.signed(gap)
    if text == "0.000" or not math.isfinite(gap):
        return Difference(text, "even")
    # By its root: one domain that differs by far would leave all others without a tint.
    strength = round(40 * math.sqrt(min(1.0, abs(gap) / largest))) if largest else 0
    return Difference(text, "worse" if gap > 0 else "better", strength)


def student_rows(content: ReportContent, styles: Mapping[str, Style]) -> list[StudentRow]:
    """The students as listed, each compared with the baseline."""
    models = {model.name: model for model in content.models}
    rows = []
    for model in content.models:
        if model.role == "student":
            baseline = models.get(content.baseline_of(model.name) or "")
            compared = None if model is baseline else baseline
            same_tokens = content.share_tokens(model.name, content.baseline_of(model.name))
            base_loss = compared.held_out_loss if compared and same_tokens else None
            base_bits = compared.bits_per_byte if compared else None
            rows.append(
                StudentRow(
                    model, minis.swatch(styles[model.name]), model is baseline,
                    difference(model.held_out_loss, base_loss),
                    difference(model.bits_per_byte, base_bits),
                )
            )  # fmt: skip
    return rows


@dataclass(frozen=True)
class TeacherLead:
    """How far a teacher lies below a reference on held-out text, and in which unit."""

    value: float
    unit: Unit


def teacher_lead(content: ReportContent) -> TeacherLead | None:
    """That of the first teacher; in bits per byte where the two read different tokenizers."""
    by_role = {model.role: model for model in reversed(content.models)}
    if not {"teacher", "reference"} <= set(by_role):
        return None
    teacher, reference = by_role["teacher"], by_role["reference"]
    unit = NATS if content.share_tokens(teacher.name, reference.name) else BITS
    ours, theirs = teacher.figure(unit), reference.figure(unit)
    return None if ours is None or theirs is None else TeacherLead(theirs - ours, unit)


@dataclass(frozen=True)
class HeldOutCell:
    """A model's figure on one domain, with its difference where it is compared."""

    value: float | None
    difference: Difference | None


@dataclass(frozen=True)
class HeldOutLine:
    """A row of the held-out table."""

    domain: str
    num_bytes: int
    is_average: bool
    lead: float | None
    """How far the teacher is ahead of the reference."""
    cells: Sequence[HeldOutCell]


@dataclass(frozen=True)
class HeldOutColumn:
    """A model's column; one that is compared with a baseline is followed by the differences."""

    model: str
    role: Role
    swatch: Markup | None
    baseline: str | None


@dataclass(frozen=True)
class HeldOutTable:
    """The held-out table in one measure."""

    columns: Sequence[HeldOutColumn]
    lines: Sequence[HeldOutLine]
    has_lead: bool


def held_out_table(
    content: ReportContent, styles: Mapping[str, Style], measure: Measure
) -> HeldOutTable:
    """Lay out the held-out figures.

    Args:
        content: The report.
        styles: How each model is drawn.
        measure: What is shown.
    """
    roles = {model.name: model.role for model in content.models}
    columns = []
    for name in _column_order(content, roles):
        role = roles.get(name, "student")
        base = content.baseline_of(name) if role == "student" else None
        compared = base not in (None, name)
        if measure == "loss":
            compared = compared and content.share_tokens(name, base)
        swatch = minis.swatch(styles[name]) if name in styles else None
        columns.append(HeldOutColumn(name, role, swatch, base if compared else None))
    values = {row.domain: _values(row, measure) for row in content.held_out}
    gaps = [
        abs(row[column.model] - row[column.baseline])
        for row in values.values()
        for column in columns
        if column.baseline is not None and {column.baseline, column.model} <= set(row)
    ]
    largest = max((gap for gap in gaps if math.isfinite(gap)), default=0.0)
    lines = [_held_out_line(row, content, columns, measure, largest) for row in content.held_out]
    return HeldOutTable(columns, lines, any(line.lead is not None for line in lines))


def _column_order(content: ReportContent, roles: Mapping[str, Role]) -> list[str]:
    """Teacher and reference, then the baseline, then the other students."""
    rank = {"teacher": 0, "reference": 1, "student": 3}
    return sorted(
        content.held_out_models,
        key=lambda name: 2 if name == content.baseline else rank[roles.get(name, "student")],
    )


def _values(row: HeldOutRow, measure: Measure) -> Mapping[str, float]:
    return row.loss if measure == "loss" else row.bits_per_byte


def _held_out_line(
    row: HeldOutRow, content: ReportContent, columns: Sequence[HeldOutColumn], measure: Measure,
    largest: float,
) -> HeldOutLine:  # fmt: skip
    values = _values(row, measure)
    cells = [
        HeldOutCell(
            values.get(column.model),
            difference(values.get(column.model), values.get(column.baseline or ""), largest),
        )
        for column in columns
    ]
    by_role = {column.role: values.get(column.model) for column in reversed(columns)}
    teacher, reference = by_role.get("teacher"), by_role.get("reference")
    names = {column.role: column.model for column in reversed(columns)}
    compares = measure == "bits_per_byte" or content.share_tokens(
        names.get("teacher", ""), names.get("reference", "")
    )
    lead = None if teacher is None or reference is None or not compares else reference - teacher
    return HeldOutLine(row.domain, row.num_bytes, row.domain in AVERAGES, lead, cells)


def compute_ratio(row: EqualLossRow) -> float | None:
    """How many times the student's compute the baseline needs; above 1 the student is cheaper."""
    if not row.student_flops or row.baseline_flops is None:
        return None
    return row.baseline_flops / row.student_flops


@dataclass(frozen=True)
class Share:
    """A part of the run's FLOPs."""

    name: str
    patch: Markup
    flops: float
    share: float
    meaning: str


_SHARES = {
    "teacher": ("once", "training the teacher"),
    "scoring": ("once", "scoring the candidates with teacher and reference"),
    "capturing": ("once", "storing the teacher's probabilities"),
    "generating": ("once", "text that the teacher wrote"),
    "reference": ("once", "training the reference"),
    "diagnosis": ("once", "measuring the teacher's lead, and what students held apart gain"),
    "students": ("students", "training the students"),
    "evaluation": ("students", "measuring models on held-out text and tasks"),
}
_GROUPS = {"once": "once, for any number of students", "students": "for these students"}


def flops_shares(content: ReportContent) -> tuple[Markup | None, list[Share]]:
    """The run's FLOPs as one bar (None where there are none) and as rows, in the bar's order."""
    order = [*_SHARES, *(name for name in content.flops_by_share if name not in _SHARES)]
    values = {
        name: content.flops_by_share[name] for name in order if name in content.flops_by_share
    }
    total = sum(values.values())
    if not total > 0:
        return None, []
    segments, rows = [], []
    for name, value in values.items():
        group, meaning = _SHARES.get(name, ("students", ""))
        style = name if name in _SHARES else "other"
        text = f"{name}: {formats.flops(value)}, {formats.percent(value / total)}"
        segments.append(Segment(name, value, style, _GROUPS[group], text))
        rows.append(Share(name, minis.patch(style), value, value / total, meaning))
    return stacked_bar(segments, "Floating-point operations by what they served"), rows
