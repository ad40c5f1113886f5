"""What is found about scaling, as tables and sentences for a terminal."""

from collections.abc import Iterable, Sequence

from rich.table import Table

from miniplm.scaling.content import (
    Extrapolation,
    Factor,
    FittedSaving,
    MeasuredSaving,
    ScalingFindings,
    SeriesContent,
)
from miniplm.scaling.fits import CONSTANTS
from miniplm.scaling.words import constant_text, count, factor_text, interval_text, series_name

_READINGS = {
    "about": "as read",
    "at least": "at least so",
    "at most": "at most so",
    "unknown": "off either way",
}


def tables(findings: ScalingFindings) -> list[Table]:
    """All tables that have a row."""
    made = [
        _measured_table(findings),
        _law_table(findings),
        _extrapolation_table(findings),
        _fitted_table(findings),
        _joint_table(findings),
    ]
    return [table for table in made if table.row_count]


def refusal_lines(findings: ScalingFindings) -> list[str]:
    """What is not told, and why: a line for each method and size, and what it is about."""
    lines = []
    for series in findings.series:
        name = series_name(series.method, series.num_params)
        if series.refusals:
            lines.append(f"{name}: not extrapolated: {'; '.join(series.refusals)}.")
        else:
            lines += _budget_lines(series.method, series.extrapolations)
    for joint in findings.joint:
        if joint.refusals:
            lines.append(f"{joint.method}: no L(N, D): {'; '.join(joint.refusals)}.")
        else:
            lines += _budget_lines(f"{joint.method}, L(N, D)", joint.extrapolations)
    lines += [
        f"{series_name(saving.method, saving.num_params)}: no saving read off: {saving.refusal}."
        for saving in findings.measured
        if saving.refusal
    ]
    return lines + _fitted_lines(findings)


def _budget_lines(name: str, extrapolations: Iterable[Extrapolation]) -> list[str]:
    return [
        f"{series_name(name, each.num_params)}, {count(each.num_tokens)} tokens: {each.refusal}."
        for each in extrapolations
        if each.refusal
    ]


def _fitted_lines(findings: ScalingFindings) -> list[str]:
    """Of savings off the laws at the measured loss; at budgets the laws' own lines say enough."""
    names: dict[str, list[str]] = {}
    for saving in findings.fitted:
        if saving.refusal and saving.num_tokens is None:
            name = series_name(saving.method, saving.num_params)
            names.setdefault(saving.refusal, []).append(name)
    return [
        f"{'; '.join(own)}: no saving off the laws among the points: {refusal}."
        for refusal, own in names.items()
    ]


def _table(title: str, headings: Sequence[str], left: int = 1) -> Table:
    table = Table(title=title, title_justify="left")
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="left" if place < left else "right", overflow="fold")
    return table


def _law_table(findings: ScalingFindings) -> Table:
    headings = ("curves", "points", "decades", *CONSTANTS[1], "deviation", "R²", "miss")
    table = _table(
        f"L(C) = A / C^alpha + L_inf, C in FLOPs, L in {findings.unit}; {findings.level:.0%} "
        "intervals",
        ("method, parameters", *headings),
    )
    for series in findings.series:
        table.add_row(series_name(series.method, series.num_params), *_law_cells(series))
    return table


def _law_cells(series: SeriesContent) -> list[str]:
    fit = series.fit
    if fit is None:
        return [str(len(series.curves)), "", "", "", "", "", "", "", ""]
    return [
        str(fit.num_curves),
        str(fit.num_points),
        f"{fit.decades:.2f}",
        *map(constant_text, fit.constants),
        f"{fit.deviation:.2%}",
        f"{fit.r2:.4f}",
        "" if fit.miss is None else f"{fit.miss:+.1%}",
    ]


def _extrapolation_table(findings: ScalingFindings) -> Table:
    headings = ("method, parameters", "law", "tokens", "FLOPs", "loss")
    table = _table("Extrapolated, not measured", headings, left=2)
    laws = [("L(C)", series.method, series.extrapolations) for series in findings.series]
    laws += [("L(N, D)", joint.method, joint.extrapolations) for joint in findings.joint]
    for law, method, extrapolations in laws:
        for each in extrapolations:
            if each.loss is not None:
                loss = f"{each.loss:.3f} {interval_text(each.interval, '.3f')}"
                name = series_name(method, each.num_params)
                table.add_row(name, law, count(each.num_tokens), f"{each.flops:.3g}", loss)
    return table


def _measured_table(findings: ScalingFindings) -> Table:
    headings = (
        "method, parameters",
        "how it is to be taken",
        "curves",
        "to loss",
        "compute",
        "data",
    )
    title = f"Times less than {findings.baseline}, read off the curves"
    table = _table(title, headings, left=2)
    for saving in findings.measured:
        if saving.compute and saving.data and saving.loss is not None:
            table.add_row(*_saving_cells(saving, saving.compute, saving.data, saving.loss))
    return table


def _saving_cells(
    saving: MeasuredSaving, compute: Factor, data: Factor, loss: float
) -> Sequence[str]:
    name = series_name(saving.method, saving.num_params)
    ours, theirs = saving.num_curves
    reading = _READINGS[saving.reading]
    return (
        name,
        reading,
        f"{ours} / {theirs}",
        f"{loss:.3f}",
        factor_text(compute),
        factor_text(data),
    )


def _fitted_table(findings: ScalingFindings) -> Table:
    headings = ("method, parameters", "loss of", "to loss", "compute", "data")
    title = f"Times less than {findings.baseline}, off the laws (not measured)"
    table = _table(title, headings, left=2)
    for saving in findings.fitted:
        if saving.compute and saving.data:
            table.add_row(*_fitted_cells(saving, saving.compute, saving.data))
    return table


def _fitted_cells(saving: FittedSaving, compute: Factor, data: Factor) -> Sequence[str]:
    of = "the curves" if saving.num_tokens is None else f"{count(saving.num_tokens)} tokens"
    name = series_name(saving.method, saving.num_params)
    return name, of, f"{saving.loss:.3f}", factor_text(compute), factor_text(data)


def _joint_table(findings: ScalingFindings) -> Table:
    headings = ("method", "sizes", *CONSTANTS[2], "deviation", "miss")
    title = f"L(N, D) = E + A / N^a + B / D^b; {findings.level:.0%} intervals"
    table = _table(title, headings)
    for joint in findings.joint:
        if joint.fit:
            fit = joint.fit
            miss = "" if fit.miss is None else f"{fit.miss:+.1%}"
            table.add_row(
                joint.method, str(len(joint.sizes)),
                *map(constant_text, fit.constants), f"{fit.deviation:.2%}", miss,
            )  # fmt: skip
    return table
