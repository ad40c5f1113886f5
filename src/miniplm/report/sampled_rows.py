"""Draw the rows that a reader of the page can look at one by one.

Rows are shuffled over the shards, so those of a few shards stand for all.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from miniplm.data.parquet import ColumnFile, places_of
from miniplm.data.shards import Shard
from miniplm.data.tokenizer import load_tokenizer
from miniplm.errors import ArtefactError
from miniplm.report.rows_content import SampledRow, SampledRows
from miniplm.selection.row_text import row_text
from miniplm.selection.sample import read_sample

MOST_ROWS = 2000
MOST_TEXTS = 480
MOST_CHARACTERS = 1600
_MOST_SHARDS = 16


@dataclass(frozen=True)
class DrawnFrom:
    """Where rows are drawn from.

    Args:
        shards: Folder of the candidates' token shards.
        tokenizer: Folder of their tokenizer.
        selections: Folder of each selection; the sample of the first one is drawn from.
        normalization: Of the first one's scores.
        num_candidates: There are.
        thresholds: See `SampledRows`.
    """

    shards: Path
    tokenizer: Path
    selections: Mapping[str, Path]
    normalization: str
    num_candidates: int
    thresholds: Mapping[str, float]


def draw_rows(given: DrawnFrom) -> SampledRows:
    """Rows with their losses, and a part of them, evenly by domain, with their text.

    Raises:
        ArtefactError: A file is damaged or lacks a row.
    """
    sample = _few(read_sample(next(iter(given.selections.values()))))
    rows = [row for part in _by_shard(sample) for row in _rows_of(part, given)]
    return SampledRows(
        normalization=given.normalization,
        num_candidates=given.num_candidates,
        selections=list(given.selections),
        rows=_with_texts(rows, given),
        thresholds=given.thresholds,
    )


@dataclass(frozen=True)
class _Placed:
    """A row and where it is."""

    row: SampledRow
    shard: str
    place: int


def _few(sample: pa.Table) -> pa.Table:
    """At most `MOST_ROWS` rows that have scores, of at most `_MOST_SHARDS` shards."""
    scored = sample.filter(pc.is_finite(pc.subtract(sample["teacher"], sample["reference"])))
    names = _evenly(pc.unique(scored["shard"]).to_pylist(), _MOST_SHARDS)
    near = scored.filter(pc.is_in(scored["shard"], value_set=pa.array(names, pa.string())))
    return near.take(_evenly(range(near.num_rows), MOST_ROWS))


def _evenly(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the items, evenly spaced."""
    places = np.linspace(0, len(items) - 1, min(most, len(items))).astype(int)
    return [items[place] for place in places]


def _by_shard(sample: pa.Table) -> Iterator[pa.Table]:
    for name in pc.unique(sample["shard"]).to_pylist():
        yield sample.filter(pc.equal(sample["shard"], name))


def _rows_of(part: pa.Table, given: DrawnFrom) -> list[_Placed]:
    """The drawn rows of one shard, without text."""
    name, ids = part["shard"][0].as_py(), part["sequence_id"].to_numpy()
    sidecar = ColumnFile(given.shards / f"{name}.parquet")
    places = places_of(ids, sidecar.sequence_ids())
    if places is None:
        raise ArtefactError(f"{sidecar.path}: lacks sequences that the sample of scores has")
    facts = sidecar.table(["domain", "source_ids"]).take(places).to_pylist()
    tables = [folder / f"{name}.parquet" for folder in given.selections.values()]
    kept = np.array([_kept(table, ids) for table in tables])
    return [
        _Placed(
            SampledRow(
                sequence_id=int(scores["sequence_id"]),
                domain=fact["domain"] or "",
                source=", ".join(fact["source_ids"]),
                teacher_loss=-scores["teacher"],
                reference_loss=-scores["reference"],
                kept=[bool(is_kept) for is_kept in kept[:, number]],
            ),
            name,
            int(place),
        )
        for number, (scores, fact, place) in enumerate(
            zip(part.to_pylist(), facts, places, strict=True)
        )
    ]


def _kept(path: Path, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the rows a selection keeps."""
    return np.isin(ids, ColumnFile(path).sequence_ids())


def _with_texts(rows: Sequence[_Placed], given: DrawnFrom) -> list[SampledRow]:
    """All rows; those that were chosen to be read have their text."""
    chosen = _to_read(rows)
    tokenizer = load_tokenizer(given.tokenizer)
    shards: dict[str, Shard] = {}
    found = []
    for number, placed in enumerate(rows):
        text = None
        if number in chosen:
            if placed.shard not in shards:
                shards = {placed.shard: Shard(given.shards / placed.shard)}
            shard = shards[placed.shard]
            text = _cut(row_text(shard.row(placed.place), shard.info.eos_id, tokenizer))
        found.append(replace(placed.row, text=text))
    return found


def _to_read(rows: Sequence[_Placed]) -> set[int]:
    """Numbers of the rows to be read: the domains take turns, so that small ones have some too."""
    waiting: defaultdict[str, list[int]] = defaultdict(list)
    for number in reversed(range(len(rows))):
        waiting[rows[number].row.domain].append(number)
    chosen: set[int] = set()
    while len(chosen) < min(MOST_TEXTS, len(rows)):
        for numbers in waiting.values():
            if numbers and len(chosen) < MOST_TEXTS:
                chosen.add(numbers.pop())
    return chosen


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} …"
