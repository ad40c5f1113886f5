"""Bits per byte of several models as lines of a table: a domain each, then averages."""

from miniplm.evaluation.averages import AVERAGE
from miniplm.evaluation.difference import Difference
from miniplm.evaluation.measure_text import MeasuredTexts
from miniplm.evaluation.measured_models import short_names
from miniplm.evaluation.summary import HeldOutScore


def text_lines(found: MeasuredTexts) -> list[list[str]]:
    """Lines of words, headings first: bits per byte with intervals, a domain each."""
    names = list(found.lines)
    lines = [["domain", "documents", *short_names(names)]]
    by_domain = [{line.domain: line for line in own} for own in found.lines.values()]
    for domain, line in by_domain[0].items():
        cells = [_cell(own[domain]) for own in by_domain]
        lines.append([domain, f"{line.num_documents:,}", *cells])
    if found.differences:
        first = short_names(names)[0]
        cells = [_difference_cell(each) for each in found.differences.values()]
        lines.append([f"{AVERAGE}, less {first}", "", "", *cells])
    return lines


def _cell(line: HeldOutScore) -> str:
    interval = "" if line.low is None else f" [{line.low:.4f}, {line.high:.4f}]"
    return f"{line.bits_per_byte:.4f}{interval}"


def _difference_cell(found: Difference) -> str:
    ends = ", ".join(f"{end:+.4f}" for end in found.interval or ())
    return f"{found.value:+.4f}" + (f" [{ends}]" if ends else "")
