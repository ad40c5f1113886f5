"""What `miniplm inspect` prints: figures as tables, rows as text, answers to queries."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import polars as pl
from rich.table import Table
from rich.text import Text

from miniplm.report import formats
from miniplm.report.row_examples import RowExample
from miniplm.selection.inspection import MEASURES, QUANTILES, DomainFigures, Inspection
from miniplm.selection.score_query import as_rows
from miniplm.selection.scored_run import ScoredRun

_UNITS = {"per_token": "nats per token", "per_byte": "nats per byte", "sum": "nats"}
_MEASURES = {
    "difference_score": "difference score",
    "teacher": "teacher's loss",
    "reference": "reference's loss",
    "num_tokens": "tokens",
    "num_bytes": "bytes",
}
_SOURCES = 3


def summary_lines(run: ScoredRun, found: Inspection) -> Iterator[str]:
    """Sentences before the tables."""
    unscored = found.num_sequences - found.num_scored
    scored = f", {formats.count(unscored)} without a difference score" if unscored else ""
    yield f"{formats.count(found.num_sequences)} candidates{scored}"
    if found.num_predicted is not None:
        share = found.num_predicted / max(1, found.num_sequences)
        yield f"{formats.percent(share)} of the teacher's losses are predicted by a proxy"
    if run.selection is None or found.num_kept is None:
        yield "no selection of these scores is complete"
    else:
        share = found.num_kept / max(1, found.num_sequences)
        yield (
            f"selection {run.selection!r} keeps {formats.count(found.num_kept)} of them "
            f"({formats.percent(share)})"
        )
    if found.variance_between_domains is not None and len(found.domains) > 1:
        share = found.variance_between_domains
        yield f"{formats.percent(share)} of the score's variance lies between domains"


def left_out_lines(run: ScoredRun) -> Iterator[str]:
    """What is there and not looked at."""
    for name in run.left_out:
        yield f"left out, being of other shards or scores than these: {name}"


def quantile_table(run: ScoredRun, found: Inspection) -> Table:
    """Quantiles of scores, losses and lengths."""
    unit = _UNITS.get(run.normalization, run.normalization)
    of = "" if found.num_sampled == found.num_sequences else f" of {found.num_sampled:,} rows"
    table = Table(title=f"Quantiles{of} (losses in {unit})", title_justify="left")
    table.add_column("")
    for level in QUANTILES:
        names = {0.0: "least", 0.5: "median", 1.0: "most"}
        table.add_column(names.get(level, f"{level:.0%}"), justify="right")
    for measure in MEASURES:
        digits = 0 if measure.startswith("num_") else 3
        values = [formats.fixed(value, digits) for value in found.quantiles[measure]]
        table.add_row(_MEASURES[measure], *values)
    return table


def domain_table(found: Inspection) -> Table:
    """Domains, the highest mean score first."""
    table = Table(title="Domains, highest mean score first", title_justify="left")
    headings = ["domain", "sequences", "kept", "teacher", "reference", "mean score", "5%",
                "median", "95%"]  # fmt: skip
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left")
    for domain in found.domains:
        table.add_row(Text(formats.readable(domain.domain)), *_cells(domain))
    return table


def _cells(domain: DomainFigures) -> list[str]:
    kept = None if domain.num_kept is None else domain.num_kept / max(1, domain.num_sequences)
    figures = [
        domain.teacher, domain.reference, domain.mean, domain.low, domain.median, domain.high,
    ]  # fmt: skip
    return [
        formats.count(domain.num_sequences),
        formats.percent(kept),
        *(formats.fixed(figure) for figure in figures),
    ]


def example_text(example: RowExample, width: int, lines: int) -> Text:
    """A row to read: a heading, its sources, and its beginning.

    Args:
        example: The row.
        width: Characters of a line.
        lines: Lines of its text that are shown.
    """
    facts = example.facts
    score, reference, teacher = (
        formats.fixed(facts[name]) for name in ("difference_score", "reference", "teacher")
    )
    kept = {None: "", True: ", kept", False: ", not kept"}[facts.get("kept")]
    heading = (
        f"{score} = {reference} - {teacher}  sequence {facts['sequence_id']} of {facts['shard']}, "
        f"{formats.readable(facts['domain'])}{kept}"
    )
    text = Text(heading + "\n", style="bold")
    text.append(f"  from {_sources(example.source_ids)}\n", style="dim not bold")
    for line in shown_lines(example.text, width - 4, lines):
        text.append(f"  {line}\n", style="not bold")
    return text


def _sources(source_ids: Sequence[str]) -> str:
    shown = [formats.shorten(formats.readable(name), 60) for name in source_ids[:_SOURCES]]
    more = len(source_ids) - _SOURCES
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def shown_lines(text: str, width: int, most: int) -> list[str]:
    r"""The beginning of a text in lines of a readable width; what is left out is told.

    Example:
        >>> shown_lines("one two\n\nthree\x07", 6, 4)
        ['one', 'two', 'three␇']
        >>> shown_lines("one two three", 5, 2)
        ['one', 'two', '… 5 more characters']
    """
    readable = formats.readable(text).expandtabs(4)
    lines = [line for line in readable.split("\n") if line.strip()]
    pieces = [piece for line in lines for piece in _wrapped(line, width)]
    if len(pieces) <= most:
        return pieces
    left = sum(len(piece) for piece in pieces[most:])
    return [*pieces[:most], f"… {formats.count(left)} more characters"]


def _wrapped(line: str, width: int) -> list[str]:
    import textwrap

    indent = line[: min(len(line) - len(line.lstrip()), width // 2)]
    return textwrap.wrap(
        line.strip(), width, initial_indent=indent, subsequent_indent=indent,
        replace_whitespace=False,
    ) or [""]  # fmt: skip


def answer_table(answer: pl.DataFrame) -> Table:
    """The answer to a query."""
    table = Table()
    for name, kind in answer.schema.items():
        table.add_column(Text(name), justify="right" if kind.is_numeric() else "left")
    for row in answer.iter_rows():
        table.add_row(*(Text(_shown(value)) for value in row))
    return table


def _shown(value: object) -> str:
    if value is None:
        return formats.DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4f}" if isinstance(value, float) else formats.readable(str(value))


def as_json(run: ScoredRun, found: Inspection, examples: Sequence[RowExample]) -> dict[str, Any]:
    """All of it as plain values."""
    return {
        "selection": run.selection,
        "normalization": run.normalization,
        "left_out": run.left_out,
        "num_sequences": found.num_sequences,
        "num_scored": found.num_scored,
        "num_predicted": found.num_predicted,
        "num_kept": found.num_kept,
        "variance_between_domains": found.variance_between_domains,
        "quantile_levels": QUANTILES,
        "quantiles": found.quantiles,
        "quantiles_of_rows": found.num_sampled,
        "domains": [asdict(domain) for domain in found.domains],
        "examples": [
            {**example.facts, "source_ids": example.source_ids, "text": example.text}
            for example in examples
        ],
    }


def answer_json(answer: pl.DataFrame) -> Sequence[dict[str, Any]]:
    """The answer to a query as plain values."""
    return as_rows(answer)
