"""One self-contained HTML page from the content of a report.

The page fetches nothing: style and drawings are in the file, there is no script, and a content
security policy forbids both to anything a text might smuggle in. All text passes through
autoescaping and `formats.readable`.
"""

from functools import cache
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from miniplm.report import formats, minis
from miniplm.report.content import ReportContent
from miniplm.report.curves import model_styles, training_figures
from miniplm.report.proxy import predicted_view
from miniplm.report.selections import selection_view
from miniplm.report.side_by_side import overview
from miniplm.report.tables import (
    compute_ratio,
    flops_shares,
    held_out_table,
    student_rows,
    teacher_lead,
)


def render_page(content: ReportContent) -> str:
    """Draw a report.

    Args:
        content: All that the page says. Its texts may hold anything: markup, control characters,
            lone surrogates.

    Returns:
        An HTML document that can be written as UTF-8 and opened without a network.
    """
    styles = model_styles(content)
    bar, shares = flops_shares(content)
    return _environment().get_template("page.html.j2").render(
        content=content,
        style=Markup(_read("style.css")),  # noqa: S704  (our own file)
        students=student_rows(content, styles),
        teacher_lead=teacher_lead(content),
        selections=[
            selection_view(place, summary) for place, summary in enumerate(content.selections, 1)
        ],
        overview=overview(content.selections),
        predicted=predicted_view(content.predicted) if content.predicted else None,
        training=training_figures(content, styles),
        held_out_loss=held_out_table(content, styles, "loss"),
        held_out_bits=held_out_table(content, styles, "bits_per_byte"),
        flops_bar=bar,
        shares=shares,
    )  # fmt: skip


@cache
def _environment() -> Environment:
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
    environment.globals["patch"] = minis.patch
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
