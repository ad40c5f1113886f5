"""Parquet files of the road: columns that are joined by sequence id, and a JSON note.

Numbers are stored as they are, to be read at the speed of memory; text is dictionary-encoded and
compressed. Ids that ascend without a gap need not be read at all: the file says that they are
sorted, and its statistics give the first and the last (`ColumnFile.id_ranges`).
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from miniplm.errors import ArtefactError
from miniplm.manifest import atomic_path, how_to_remake

ID_COLUMN = "sequence_id"
ROWS_PER_GROUP = 1 << 18
"""Rows that are written, and read, at a time: enough for the calls not to count, few enough for
their columns to stay in the processor's cache."""
_PAGE_BYTES = 1 << 23  # a page for each column of a group

_PLAIN_DTYPES: dict[str, np.dtype[Any]] = {
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FLOAT": np.dtype("<f4"),
    "DOUBLE": np.dtype("<f8"),
}
Room = Callable[[int, np.dtype[Any]], NDArray[Any]]
_METADATA_KEY = b"miniplm"
_ORIGIN_KEY = b"miniplm.origin"


def write_parquet(
    path: Path,
    table: pa.Table,
    metadata: object,
    *,
    origin: object = None,
    repetitive: Sequence[str] = (),
) -> None:
    """Write a Parquet table atomically, with `metadata` as JSON under the key `miniplm`.

    Args:
        path: Of the file.
        table: Has a column `sequence_id`; only its text columns may have nulls.
        metadata: Any JSON value.
        origin: What the table was made from, another JSON value.
        repetitive: Columns of numbers that are worth compressing.
    """
    schema = pa.schema([_stored(field) for field in table.schema])
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_path(path) as temporary,
        pa.OSFile(str(temporary), "wb") as file,
        pq.ParquetWriter(
            file,
            schema,
            sorting_columns=_sorting(table),
            write_statistics=[ID_COLUMN],
            **_layout(schema, repetitive),
        ) as writer,
    ):
        writer.write_table(table.cast(schema), row_group_size=ROWS_PER_GROUP)
        writer.add_key_value_metadata({_METADATA_KEY: _json(metadata), _ORIGIN_KEY: _json(origin)})


def _json(content: object) -> bytes:
    return json.dumps(content, sort_keys=True).encode()


def _stored(field: pa.Field) -> pa.Field:
    return field.with_nullable(_is_text(field))


def _is_text(field: pa.Field) -> bool:
    """Whether the values are long; numbers and numbered categories are short."""
    return bool(pa.types.is_string(field.type) or _is_list(field))


def _is_list(field: pa.Field) -> bool:
    return bool(pa.types.is_list(field.type) or pa.types.is_large_list(field.type))


def _layout(schema: pa.Schema, repetitive: Sequence[str]) -> dict[str, Any]:
    """How the columns are laid out, as arguments of `pyarrow.parquet.ParquetWriter`."""
    text = [_leaf(field) for field in schema if _is_text(field)]
    categories = [field.name for field in schema if pa.types.is_dictionary(field.type)]
    numbers = [f.name for f in schema if not _is_text(f) and f.name not in categories]
    return {
        "data_page_size": _PAGE_BYTES,
        "max_rows_per_page": ROWS_PER_GROUP,
        "use_dictionary": [*text, *categories],
        "column_encoding": {
            name: "DELTA_BINARY_PACKED" if name == ID_COLUMN else "PLAIN" for name in numbers
        },
        "compression": {
            **dict.fromkeys([*numbers, *categories], "none"),
            **dict.fromkeys(text, "zstd"),
            **dict.fromkeys(repetitive, "lz4"),
        },
        "store_schema": bool(text or categories),  # that of numbers follows from the file
    }


def _leaf(field: pa.Field) -> str:
    """The name that Parquet knows a column's values by."""
    return f"{field.name}.list.element" if _is_list(field) else field.name


def _sorting(table: pa.Table) -> list[pq.SortingColumn] | None:
    ids = table[ID_COLUMN].to_numpy()
    place = table.schema.get_field_index(ID_COLUMN)
    return [pq.SortingColumn(place)] if (ids[1:] > ids[:-1]).all() else None


class ColumnFile:
    """A Parquet file of ours, opened; columns are read when asked for, by groups of rows.

    Attributes:
        metadata: The JSON beside the columns.
        origin: What the table was made from, or None where it does not say.
        num_rows: Rows in the file.
        num_groups: Groups of rows it is divided into.

    Raises:
        ArtefactError: The file is missing, damaged, or not written by miniplm.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._source = pa.OSFile(str(path))
            self._file = pq.ParquetFile(self._source)
            notes = self._file.metadata.metadata or {}
            self.metadata: dict[str, Any] = json.loads(notes[_METADATA_KEY])
            self.origin: Any = json.loads(notes.get(_ORIGIN_KEY, b"null"))
        except FileNotFoundError:
            raise ArtefactError(
                f"{path}: no such file; the artefact is incomplete. {how_to_remake(path)}"
            ) from None
        except MemoryError:
            raise
        except (KeyError, ValueError, OSError, pa.ArrowException) as error:
            raise ArtefactError(
                f"{path}: is not a table written by miniplm, or is damaged ({error}). "
                f"{how_to_remake(path)}"
            ) from error
        self.num_rows: int = self._file.metadata.num_rows
        self.num_groups: int = self._file.metadata.num_row_groups

    @property
    def names(self) -> list[str]:
        """Of the columns."""
        names: list[str] = self._file.schema_arrow.names
        return names

    def table(self, columns: Sequence[str] | None = None, group: int | None = None) -> pa.Table:
        """Some columns, of one group of rows or of all.

        Raises:
            ArtefactError: The file is damaged.
        """
        try:
            if group is None:
                return self._file.read(columns, use_threads=False)
            return self._file.read_row_group(group, columns, use_threads=False)
        except MemoryError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise ArtefactError(
                f"{self.path}: is damaged ({error}). {how_to_remake(self.path)}"
            ) from error

    def array(self, column: str, group: int | None = None, room: Room = np.empty) -> NDArray[Any]:
        """A column of numbers, of one group of rows or of all.

        Args:
            column: Its name.
            group: Number of the group.
            room: Makes the array to read into where that is possible, from its size and dtype.

        Raises:
            ArtefactError: The column is missing or has gaps, or the file is damaged.
        """
        if column not in self._file.schema_arrow.names:
            raise ArtefactError(f"{self.path}: has no column {column}. {how_to_remake(self.path)}")
        if group is not None and (stored := self._stored_plainly(column, group)) is not None:
            begin, size, dtype = stored
            values = room(size, dtype)
            self._source.seek(begin)
            self._source.readinto(values)
            return values
        decoded = self.table([column], group)[column]
        if decoded.null_count:
            raise ArtefactError(
                f"{self.path}: has no {column} for some sequences. {how_to_remake(self.path)}"
            )
        decoded_values: NDArray[Any] = decoded.to_numpy()
        return decoded_values

    def _stored_plainly(self, column: str, group: int) -> tuple[int, int, np.dtype[Any]] | None:
        """Where the values of a column stand in the file one after another; how many, and what.

        So they do where numbers without gaps are stored plain, on one page, as we write them. A
        page begins with its kind (0), its size and again its size, as Thrift writes integers, and
        ends with its values. Where the bytes are others, someone else wrote the file.
        """
        place = self._file.schema_arrow.get_field_index(column)
        chunk = self._file.metadata.row_group(group).column(place)
        dtype = _PLAIN_DTYPES.get(chunk.physical_type)
        if dtype is None or chunk.path_in_schema != column:
            return None
        if self._file.schema.column(place).max_definition_level != 0:
            return None
        if chunk.compression != "UNCOMPRESSED" or set(chunk.encodings) - {"PLAIN", "RLE"}:
            return None
        size = chunk.num_values * dtype.itemsize
        header = b"\x15\x00" + 2 * (b"\x15" + _varint(2 * size))
        self._source.seek(chunk.data_page_offset)
        if self._source.read(len(header)) != header:
            return None
        end = chunk.data_page_offset + chunk.total_compressed_size
        return end - size, chunk.num_values, dtype

    def categories(
        self, column: str, group: int | None = None
    ) -> tuple[list[str], NDArray[np.int32]]:
        """A column of numbered categories: their names, and the number of each row's.

        A name may be that of no row.

        Args:
            column: Its name, such as `domain`.
            group: Number of the group of rows; all if not given.

        Raises:
            ArtefactError: The file is damaged.
        """
        found = self.table([column], group)[column].unify_dictionaries().combine_chunks()
        return found.dictionary.to_pylist(), found.indices.to_numpy()

    def sequence_ids(self) -> NDArray[np.int64]:
        """Id of each row, `[rows]`."""
        if (ranges := self.id_ranges()) is not None:
            return np.concatenate(
                [np.arange(begin, end, dtype=np.int64) for begin, end in ranges]
                or [np.empty(0, np.int64)]
            )
        return self.array(ID_COLUMN)

    def id_ranges(self) -> list[tuple[int, int]] | None:
        """First id, and one more than the last, of each group; None where ids have to be read.

        They need not be where each group says that it is sorted and where last - first is what
        it is for ids without a gap. Only our writer says so, and only of ids that ascend.
        """
        ranges = []
        for group in range(self.num_groups):
            facts = self._file.metadata.row_group(group)
            if len(facts.sorting_columns) != 1:
                return None
            column = facts.column(facts.sorting_columns[0].column_index)
            bounds = column.statistics
            if column.path_in_schema != ID_COLUMN or bounds is None or bounds.null_count != 0:
                return None
            if not bounds.has_min_max or bounds.max - bounds.min + 1 != facts.num_rows:
                return None
            ranges.append((bounds.min, bounds.max + 1))
        return ranges


def follows_from(path: Path, metadata: object) -> bool:
    """Whether a table of ours is there, whole, and has exactly this beside its columns."""
    try:
        return path.exists() and bool(ColumnFile(path).metadata == metadata)
    except ArtefactError:
        return False


def _varint(number: int) -> bytes:
    """A number in groups of seven bits, lowest first; all but the last have the high bit set."""
    groups = bytearray()
    while number >= 0x80:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])


def places_of(wanted: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Where each wanted id stands among distinct `ids`; None if one is not there.

    Example:
        >>> places_of(np.array([7, 5]), np.array([5, 6, 7])).tolist()
        [2, 0]
        >>> places_of(np.array([8]), np.array([5, 6, 7])) is None
        True
    """
    if np.array_equal(wanted, ids):
        return np.arange(len(ids))
    if len(ids) == 0:
        return None
    order = np.argsort(ids, kind="stable")
    found = np.searchsorted(ids, wanted, sorter=order)
    places: NDArray[np.int64] = order[np.minimum(found, len(ids) - 1)]
    return places if np.array_equal(ids[places], wanted) else None
