"""Rows out of files: JSON lines, Parquet, and text files that are one document each.

A row is what a document is made from: a mapping of fields, or, where a line holds no mapping,
the reason as a string. Nothing here judges the fields; a reader raises only where the file as a
whole cannot be trusted (unreadable, truncated, damaged, without the text column).
"""

import codecs
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import orjson

from miniplm.data.files import CorpusFile
from miniplm.data.streams import open_stream
from miniplm.errors import DocumentError

Row = Mapping[str, Any] | str

NOT_JSON = "not valid JSON"
NOT_AN_OBJECT = "not a JSON object"
NOT_UTF8 = "invalid UTF-8"
MAX_LINE_BYTES = 1 << 30
"""Longer lines and text files are bad: a document is held in memory, a few times over while it is
read. No book is longer; what is, is a file without line ends."""
TOO_LONG = f"longer than {MAX_LINE_BYTES >> 20} MiB"

_BATCH_ROWS = 256
_LARGEST_INT = 2.0**63  # orjson reads longer ones as fractions


def read_rows(
    file: CorpusFile, text_field: str, other_fields: Sequence[str]
) -> Iterator[tuple[int, Row]]:
    """Read one file, row by row, in bounded memory.

    Args:
        file: The file.
        text_field: The field that has to be there; a text file's content gets this name.
        other_fields: Fields to read where they are there. Names may be dotted paths.

    Yields:
        Line or row number from 1 (0 for a file that is one document), and the row.

    Raises:
        DocumentError: The file is unreadable, truncated or damaged, or a Parquet file has no
            such text column.
    """
    if file.kind == "parquet":
        yield from _parquet_rows(file, text_field, other_fields)
        return
    with open_stream(file.path, file.compression) as stream:
        if file.kind == "json":
            yield from _json_rows(stream, other_fields)
        else:
            yield 0, _text_row(stream, text_field)


def lookup(row: Mapping[str, Any], name: str) -> object:
    """The value of a field, or None; `meta.source` is `source` inside `meta`."""
    if name in row:
        return row[name]
    value: object = row
    for part in name.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def missing_column(place: object, name: str, columns: Sequence[str]) -> DocumentError:
    """The error for a table that lacks a column, which names those that it has."""
    return DocumentError(
        f"{place}: there is no column {name!r}; the columns are {', '.join(columns) or 'none'}. "
        f"Set corpus.text_field (or corpus.domain_field) to one of them."
    )


def _json_rows(stream: BinaryIO, exact_fields: Sequence[str]) -> Iterator[tuple[int, Row]]:
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if len(line) > MAX_LINE_BYTES:
            _skip_rest_of_line(stream)
            yield number, TOO_LONG
        elif line.strip():  # an empty line between documents is not a document
            yield number, json_row(line, exact_fields)


def _skip_rest_of_line(stream: BinaryIO) -> None:
    while (line := stream.readline(MAX_LINE_BYTES)) and not line.endswith(b"\n"):
        pass


def json_row(line: bytes, exact_fields: Sequence[str] = ()) -> Row:
    """The row that a line of JSON holds, or why it holds none.

    `orjson` reads good lines; what it refuses or cannot represent is left to the standard library,
    which takes half a surrogate pair, whole numbers of any size and NaN.

    Args:
        line: One line.
        exact_fields: Fields, by dotted path, whose whole numbers must not be rounded; those of
            more than 64 bits are, elsewhere.
    """
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return _plain_json_row(line)
    if not isinstance(row, dict):
        return NOT_AN_OBJECT
    for name in exact_fields:
        value = lookup(row, name)
        if isinstance(value, float) and abs(value) >= _LARGEST_INT:
            return _plain_json_row(line)
    return row


def _plain_json_row(line: bytes) -> Row:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        return NOT_UTF8
    except (ValueError, RecursionError):
        return NOT_JSON
    return row if isinstance(row, dict) else NOT_AN_OBJECT


def _text_row(stream: BinaryIO, text_field: str) -> Row:
    content = stream.read(MAX_LINE_BYTES + 1)
    if len(content) > MAX_LINE_BYTES:
        return TOO_LONG
    try:
        return {text_field: content.removeprefix(codecs.BOM_UTF8).decode("utf-8")}
    except UnicodeDecodeError:
        return NOT_UTF8


def _parquet_rows(
    file: CorpusFile, text_field: str, other_fields: Sequence[str]
) -> Iterator[tuple[int, Row]]:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        with ParquetFile(file.path) as parquet:
            columns = parquet.schema_arrow.names
            if column_of(text_field, columns) is None:
                raise missing_column(file.path, text_field, columns)
            found = [column_of(name, columns) for name in (text_field, *other_fields)]
            wanted = sorted({name for name in found if name})
            for batch in parquet.iter_batches(_BATCH_ROWS, columns=wanted):
                for row in _batch_rows(batch):
                    number += 1
                    yield number, row
    except (pa.ArrowException, OSError) as error:
        raise DocumentError(
            f"{file.path}: cannot be read as Parquet after row {number:,} ({error}). "
            f"Write or fetch the file again, or take it out of corpus.paths."
        ) from error


def column_of(name: str, columns: Sequence[str]) -> str | None:
    """The column that holds a field (its own, or the struct at the start of its path), or None."""
    root = name.partition(".")[0]
    return next((column for column in (name, root) if column in columns), None)


def _batch_rows(batch: Any) -> Iterator[Row]:  # noqa: ANN401  (pyarrow has no types)
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:  # one bad value fails the whole batch, so look row by row
        for index in range(batch.num_rows):
            try:
                yield batch.slice(index, 1).to_pylist()[0]
            except UnicodeDecodeError:
                yield NOT_UTF8
