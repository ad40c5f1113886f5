"""The page that puts runs side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

from miniplm.report.comparison import Comparison
from miniplm.report.curves import model_styles, training_figures
from miniplm.report.headline import headline
from miniplm.report.page import environment
from miniplm.report.results import KeptShares
from miniplm.report.tables import Difference, difference, held_out_table
from miniplm.report.task_figure import task_view


@dataclass(frozen=True)
class KeptRow:
    """A selection of a run: what it kept of each domain, None where there is no such domain."""

    run: str
    selection: KeptShares
    kept_share: float
    by_domain: Sequence[float | None]


def render_comparison(comparison: Comparison) -> str:
    """An HTML document that can be opened without a network."""
    content = comparison.content
    styles = model_styles(content)
    return environment().get_template("comparison.html.j2").render(
        comparison=comparison,
        content=content,
        headline=headline(content),
        differences=_differences(comparison),
        training=training_figures(content, styles),
        held_out_bits=held_out_table(content, styles, "bits_per_byte"),
        tasks=task_view(content.tasks, styles),
        kept=_kept_rows(comparison),
    )  # fmt: skip


def _differences(comparison: Comparison) -> list[Difference | None]:
    """Of each model of the table: bits per byte less the baseline's, where these compare."""
    content = comparison.content
    base = {row.name: row.bits_per_byte for row in content.models}.get(content.baseline or "")
    compared = {*content.held_out_models} - {content.baseline}
    return [
        difference(model.row.bits_per_byte, base)
        if f"{model.run}: {model.name}" in compared
        else None
        for model in comparison.models
    ]


def _kept_rows(comparison: Comparison) -> list[KeptRow]:
    rows = []
    for run, selection in comparison.kept:
        shares = {row.domain: row.kept_share for row in selection.domains}
        rows.append(
            KeptRow(
                run,
                selection,
                selection.num_kept / max(1, selection.num_candidates),
                [shares.get(domain) for domain in comparison.domains],
            )
        )
    return rows
