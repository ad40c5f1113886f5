"""One self-contained HTML page from the content of a report.

The page fetches nothing: style, drawings and script are in the file, and a content security policy
allows this one script only, by its hash. Without scripts everything but filters is there. All text
passes through autoescaping, or as data through `embedded_json`, and through `formats.readable`.
"""

from functools import cache
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from miniplm.report import formats, minis
from miniplm.report.content import ReportContent
from miniplm.report.cost_figure import SHOWN as COST_COLUMNS
from miniplm.report.cost_figure import cost_views
from miniplm.report.curves import model_styles, training_figures
from miniplm.report.headline import headline
from miniplm.report.proxy import predicted_view
from miniplm.report.row_data import rows_view
from miniplm.report.scaling_figure import scaling_view
from miniplm.report.scripts import page_script, script_source
from miniplm.report.seed_means import seed_means
from miniplm.report.selections import selection_view
from miniplm.report.setup import setup_sentences
from miniplm.report.side_by_side import overview
from miniplm.report.study_figure import study_view
from miniplm.report.tables import (
    compute_ratio,
    flops_shares,
    held_out_table,
    student_rows,
    teacher_lead,
)
from miniplm.report.task_figure import task_view
from miniplm.report.text_table import text_tables

MOST_BYTES = 10_000_000
"""Of the whole page."""
MOST_TEXTS = 480
"""Examples to be read; fewer where the page would become too large."""


def render_page(content: ReportContent) -> str:
    """Draw a report, with as many of the examples as there is room for.

    Args:
        content: All that the page says. Its texts may hold anything: markup, control characters,
            lone surrogates.

    Returns:
        An HTML document of less than `MOST_BYTES` that can be written as UTF-8 and opened without
        a network.
    """
    for most in (MOST_TEXTS, MOST_TEXTS // 4, 0):
        page = _render(content, most)
        if len(page.encode()) < MOST_BYTES:
            break
    return page


def _render(content: ReportContent, most_texts: int) -> str:
    styles = model_styles(content)
    bar, shares = flops_shares(content)
    drawn, of_means = seed_means(content)
    return environment().get_template("page.html.j2").render(
        content=content,
        students=student_rows(content, styles),
        teacher_lead=teacher_lead(content),
        selections=[
            selection_view(place, summary) for place, summary in enumerate(content.selections, 1)
        ],
        overview=overview(content.selections),
        predicted=predicted_view(content.predicted) if content.predicted else None,
        rows=rows_view(content.rows, most_texts),
        training=training_figures(drawn, styles | of_means),
        held_out_loss=held_out_table(drawn, styles | of_means, "loss"),
        held_out_bits=held_out_table(drawn, styles | of_means, "bits_per_byte"),
        headline=headline(content),
        setup=setup_sentences(content),
        texts=text_tables(content.texts, styles),
        tasks=task_view(drawn.tasks, styles | of_means),
        scaling=scaling_view(content.scaling),
        study=study_view(content.study),
        flops_bar=bar,
        shares=shares,
        costs=cost_views(content.cost),
        cost_columns=COST_COLUMNS,
    )  # fmt: skip


@cache
def environment() -> Environment:
    """Templates with the page's filters, its style and its script."""
    environment = Environment(
        autoescape=True,
        loader=FunctionLoader(_read),
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        name: getattr(formats, name)
        for name in ("count", "short", "si", "flops", "fixed", "signed", "percent", "duration")
    }
    environment.filters["ratio"] = compute_ratio
    environment.globals |= {
        "patch": minis.patch,
        "style": Markup(_read("style.css")),  # noqa: S704  (our own file)
        "script": page_script(),
        "script_source": Markup(script_source()),  # noqa: S704  (a hash)
    }
    return environment


def _read(name: str) -> str:
    return resources.files("miniplm.report").joinpath(name).read_text(encoding="utf-8")


def _finalize(value: object) -> object:
    """What a template's expression is shown as: unknown values as a dash, text made readable."""
    if value is None:
        return formats.DASH
    if isinstance(value, str) and not isinstance(value, Markup):
        return formats.readable(value)
    return value
