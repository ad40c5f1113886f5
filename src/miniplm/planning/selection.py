"""What it costs to select rows, to describe a selection, and to write its corpus."""

from miniplm.planning.basis import Basis
from miniplm.planning.cost import EXPORTED_BYTES_PER_SECOND, SCORE_BYTES_PER_ROW, Cost, Load

_SELECTED_ROWS_PER_SECOND = 10e6
_DESCRIBED_ROWS_PER_SECOND = 3e6
_DESCRIBED_TOKENS_PER_SECOND = 0.9e6
_MOST_DESCRIBED_TOKENS = 8e6
"""Describing counts all rows and looks at samples of a fixed size (`selection.text_sample`)."""
_DESCRIBING_BYTES_PER_TOKEN = 90


def selection_cost(basis: Basis, name: str) -> Cost:
    """Of reading all scores and keeping some rows."""
    load = Load(basis.num_rows(basis.candidate_tokens) / _SELECTED_ROWS_PER_SECOND)
    on_disk = SCORE_BYTES_PER_ROW * basis.num_rows(basis.corpora.of(name))
    return Cost(num_bytes=on_disk, load=lambda: load)


def description_cost(basis: Basis, _: str) -> Cost:
    """Of measuring candidates and kept rows."""
    looked_at = min(2 * basis.candidate_tokens, _MOST_DESCRIBED_TOKENS)
    seconds = basis.num_rows(basis.candidate_tokens) / _DESCRIBED_ROWS_PER_SECOND
    seconds += looked_at / _DESCRIBED_TOKENS_PER_SECOND
    load = Load(seconds, _DESCRIBING_BYTES_PER_TOKEN * looked_at)
    return Cost(load=lambda: load)


def export_cost(basis: Basis, name: str) -> Cost:
    """Of copying the kept rows."""
    num_tokens = basis.corpora.of(name)
    size = num_tokens * basis.bytes_per_id()
    load = Load(size / EXPORTED_BYTES_PER_SECOND)
    return Cost(num_tokens, num_bytes=size, load=lambda: load)
