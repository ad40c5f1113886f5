"""Further texts as tables of domains by models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from miniplm.report import minis
from miniplm.report.palette import Style
from miniplm.report.text_content import TextContent, TextDifference, TextResult


@dataclass(frozen=True)
class TextCell:
    """A model on one domain; `differs` is `better` or `worse` where that is clear, for style."""

    result: TextResult | None
    difference: TextDifference | None

    @property
    def differs(self) -> str:
        """Lower is better; an interval over zero says neither."""
        if self.difference is None or self.difference.low <= 0 <= self.difference.high:
            return ""
        return "better" if self.difference.high < 0 else "worse"


@dataclass(frozen=True)
class TextLine:
    """One domain, or an average over them."""

    domain: str
    num_documents: int
    is_average: bool
    cells: Sequence[TextCell]


@dataclass(frozen=True)
class TextTable:
    """One text; `models` have a mark each, in the order of the columns."""

    name: str
    models: Sequence[tuple[str, Markup]]
    lines: Sequence[TextLine]
    not_compared: Sequence[str]


def text_tables(texts: Sequence[TextContent], styles: Mapping[str, Style]) -> list[TextTable]:
    """A table of each text.

    Args:
        texts: What models make of them.
        styles: How each model is drawn.
    """
    return [_table(text, styles) for text in texts]


def _table(text: TextContent, styles: Mapping[str, Style]) -> TextTable:
    models = list(dict.fromkeys(result.model for result in text.results))
    results = {(result.domain, result.model): result for result in text.results}
    differences = {(row.domain, row.model): row for row in text.differences}
    counts = {result.domain: result.num_documents for result in reversed(text.results)}
    lines = [
        TextLine(
            domain,
            counts[domain],
            domain in text.averages,
            [
                TextCell(results.get((domain, model)), differences.get((domain, model)))
                for model in models
            ],
        )
        for domain in _shown(text)
    ]
    keys = [(model, minis.dot(styles.get(model, Style("c0", "circle")))) for model in models]
    return TextTable(text.name, keys, lines, text.not_compared)


def _shown(text: TextContent) -> list[str]:
    """Domains and averages in order; an average of one domain says nothing new."""
    names = list(dict.fromkeys(result.domain for result in text.results))
    domains = [name for name in names if name not in text.averages]
    return names if len(domains) > 1 else domains
