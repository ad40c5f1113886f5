"""The sampled rows as the page's script reads them, in a given room."""

from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from miniplm.report.embedded_json import embedded
from miniplm.report.rows_content import SampledRow, SampledRows
from miniplm.report.scatter import ScatterView, scatter_view
from miniplm.report.selections import SCORE_UNITS


@dataclass(frozen=True)
class RowsView:
    """The sampled rows with their scatter, and as data for the script."""

    sampled: SampledRows
    view: ScatterView
    data: Markup


def rows_view(sampled: SampledRows | None, most_texts: int) -> RowsView | None:
    """Draw the rows, at most so many with their text; None where there are none."""
    if sampled is None:
        return None
    unit = SCORE_UNITS.get(sampled.normalization, f"nats, {sampled.normalization}")
    view = scatter_view(sampled, unit)
    if view is None:
        return None
    return RowsView(sampled, view, row_data(with_texts(sampled, most_texts)))


def row_data(sampled: SampledRows) -> Markup:
    """Names of selections and domains, and a list for each row, in order."""
    domains = sorted({row.domain for row in sampled.rows})
    places = {domain: place for place, domain in enumerate(domains)}
    return embedded(
        {
            "selections": list(sampled.selections),
            "domains": domains,
            "rows": [_row(row, places) for row in sampled.rows],
        }
    )


def _row(row: SampledRow, places: dict[str, int]) -> list[Any]:
    kept = "".join("1" if kept else "0" for kept in row.kept)
    losses = [round(row.teacher_loss, 4), round(row.reference_loss, 4)]
    return [row.sequence_id, places[row.domain], row.source, *losses, kept, row.text]


def with_texts(sampled: SampledRows, most: int) -> SampledRows:
    """The same rows, of which at most so many have their text."""
    left, rows = most, []
    for row in sampled.rows:
        keeps = row.text is not None and left > 0
        left -= keeps
        rows.append(row if keeps else replace(row, text=None))
    return replace(sampled, rows=rows)
