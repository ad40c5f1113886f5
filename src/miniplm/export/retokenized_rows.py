"""Rows of one tokenizer as rows of another, a batch at a time, with what became of their text."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from miniplm.data.packing import MIN_ROW_IDS
from miniplm.export.cut_text import count_cut
from miniplm.export.row_text import RowText, RowTexts

LongRows = Literal["cut", "split"]
"""What is done with rows that become too long: their end is cut off, or they are split into more,
each of which begins with the last id of the one before, so that every id is predicted once."""


COUNTED = (
    "sequences_in", "ids_in", "special_ids", "replaced_characters", "ids_encoded", "bytes_encoded",
    "too_short", "cut_sequences", "cut_ids", "cut_bytes", "split_sequences",
)  # fmt: skip
"""What is counted always; pieces that came out as another text are, by reason, where there are."""

_COUNTS_OF_IDS = ("num_generated",)
"""Columns that are true of the old ids only."""
PART_BIT = 40
"""The parts of a row that is split have its id, with their number above this bit."""


@dataclass(frozen=True)
class NewRow:
    """A row of the other tokenizer.

    Args:
        place: Of the row that it was made from, among those given.
        part: Which part of that row it is; 0 but for rows that were split.
        ids: `[length]` int32.
        pieces: Of the pieces of documents of the row that it was made from, those that it holds.
    """

    place: int
    part: int
    ids: NDArray[np.int32]
    pieces: slice


def retokenize_rows(
    rows: Sequence[NDArray[np.int64]],
    old: RowText,
    new: RowText,
    max_length: int,
    long_rows: LongRows,
) -> tuple[list[NewRow], Counter[str]]:
    """Decode rows and encode them again; the text of every piece is compared.

    Args:
        rows: Ids of the rows.
        old: Their tokenizer.
        new: The other one.
        max_length: Most predicted tokens in a new row.
        long_rows: What is done with longer ones.

    Returns:
        The new rows in the order of the old ones, and counts (see `docs/families.md`).
    """
    texts = [old.decode(row) for row in rows]
    made: list[NewRow] = []
    counts: Counter[str] = Counter(dict.fromkeys(COUNTED, 0))
    counts["sequences_in"], counts["ids_in"] = len(rows), sum(map(len, rows))
    counts["special_ids"] = sum(text.num_special for text in texts)
    counts["replaced_characters"] = sum(text.num_replaced for text in texts)
    for place, (text, pieces) in enumerate(zip(texts, new.encode(texts), strict=True)):
        counts.update(different_pieces(new, text, pieces))
        ids = new.joined(pieces, is_closed=text.is_closed)
        counts["ids_encoded"] += len(ids)
        counts["bytes_encoded"] += int(new.num_bytes_V[ids].sum())
        if len(ids) < MIN_ROW_IDS:
            counts["too_short"] += 1
            continue
        made += _fitted(place, ids, new, max_length + 1, long_rows, counts)
    return made, counts


def different_pieces(
    new: RowText, text: RowTexts, pieces: Sequence[NDArray[np.int32]]
) -> Counter[str]:
    """How many pieces of a row came out as another text, by reason."""
    found: Counter[str] = Counter()
    for wanted, ids in zip(new.wanted(text), pieces, strict=True):
        spelt = new.spelt(ids)
        if spelt != wanted.encode():
            found[f"different: {_reason(wanted, spelt.decode(errors='replace'))}"] += 1
    return found


def _reason(wanted: str, found: str) -> str:
    if unicodedata.normalize("NFKC", wanted) == unicodedata.normalize("NFKC", found):
        return "characters composed in another way"
    if wanted.casefold() == found.casefold():
        return "upper case lost"
    return "characters that the tokenizer does not know or changes"


def _fitted(
    place: int,
    ids: NDArray[np.int32],
    new: RowText,
    most_ids: int,
    long_rows: LongRows,
    counts: Counter[str],
) -> list[NewRow]:
    """A row in as many parts as are kept of it."""
    piece_of = np.cumsum(ids == new.eos_id) - (ids == new.eos_id)
    parts = row_parts(len(ids), most_ids)
    if len(parts) > 1:
        counts[f"{long_rows}_sequences"] += 1
        if long_rows == "cut":
            end = parts[0].stop
            count_cut(counts, end, new.num_bytes_V[ids[end:]])
            parts = parts[:1]
    return [
        NewRow(
            place,
            number,
            ids[part],
            slice(int(piece_of[part.start]), int(piece_of[part.stop - 1]) + 1),
        )
        for number, part in enumerate(parts)
    ]


def row_parts(length: int, most_ids: int) -> list[slice]:
    """Where a row is split: each part but the first begins with the last id of the one before.

    Example:
        >>> row_parts(5, 5), row_parts(9, 5), row_parts(10, 5)[-1]
        ([slice(0, 5, None)], [slice(0, 5, None), slice(4, 9, None)], slice(8, 10, None))
    """
    begins = range(0, max(1, length - 1), most_ids - 1)
    return [slice(begin, min(begin + most_ids, length)) for begin in begins]


def new_sidecar(
    sidecar: pa.Table, rows: Sequence[NewRow], num_bytes_V: NDArray[np.int64]
) -> pa.Table:
    """The sidecar of new rows: what described the old ones, and what is true of the new ids.

    Args:
        sidecar: That of the old rows.
        rows: The new ones.
        num_bytes_V: Bytes of text that each new id stands for, `[V]`.
    """
    table = sidecar.take(np.array([row.place for row in rows], dtype=np.int64))
    ids = table["sequence_id"].to_numpy() + (
        np.array([row.part for row in rows], dtype=np.int64) << PART_BIT
    )
    columns = {
        "sequence_id": pa.array(ids, pa.int64()),
        "num_tokens": pa.array([len(row.ids) for row in rows], pa.int32()),
        "num_bytes": pa.array([int(num_bytes_V[row.ids].sum()) for row in rows], pa.int64()),
        "source_ids": pa.array(_sources(table, rows), pa.list_(pa.string())),
    }
    for name, column in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, column)
    return table.drop_columns([name for name in _COUNTS_OF_IDS if name in table.column_names])


def _sources(table: pa.Table, rows: Sequence[NewRow]) -> list[list[str]]:
    """The documents of each row, without those that were cut off."""
    return [
        names[row.pieces] or names
        for names, row in zip(table["source_ids"].to_pylist(), rows, strict=True)
    ]
