"""Megatron's index of a `.bin` file: where each row stands in it, and how long it is.

A `.idx` file holds, little-endian: the magic `MMIDIDX` and two zeros, the version (8 bytes), a code
of the ids' dtype (1 byte), the number of rows and of entries of the document index (8 bytes each),
then the rows' lengths in ids (4 bytes each), their byte offsets (8 bytes each), and the document
index (8 bytes each): the row that each document begins with, and the number of rows.

We give each row a document of its own. The MiniPLM authors' builder leaves the document index at
`[0]`, which their loader and ours do not read and Megatron-LM refuses.
"""

import contextlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniplm.errors import ArtefactError
from miniplm.manifest import how_to_remake

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
DTYPE_CODES: dict[np.dtype[Any], int] = {
    np.dtype(np.uint8): 1, np.dtype(np.int8): 2, np.dtype(np.int16): 3, np.dtype(np.int32): 4,
    np.dtype(np.int64): 5, np.dtype(np.uint16): 8,
}  # fmt: skip
"""Whole numbers only: 6 and 7 are floating-point numbers, in either order by who wrote them."""

_HEADER = struct.Struct("<9sQBQQ")


@dataclass(frozen=True)
class Index:
    """Where the rows of a `.bin` file stand.

    Args:
        dtype: Of the ids.
        lengths: Ids of each row, `[R]` int32.
        offsets: First byte of each row, `[R]` int64.
    """

    dtype: np.dtype[Any]
    lengths: NDArray[np.int32]
    offsets: NDArray[np.int64]


def again(path: Path) -> str:
    """What to do about a damaged file of a shard, in a sentence."""
    return how_to_remake(path, "Make the shard again, or copy it again from where it came.")


def back_to_back(lengths: NDArray[np.int32], itemsize: int) -> NDArray[np.int64]:
    """Offsets, in bytes, of rows that stand one after another.

    Example:
        >>> back_to_back(np.array([5, 2, 3], np.int32), 2).tolist()
        [0, 10, 14]
    """
    offsets = np.zeros(len(lengths), dtype=np.int64)
    np.cumsum(lengths[:-1].astype(np.int64) * itemsize, out=offsets[1:])
    return offsets


def index_bytes(
    lengths: NDArray[np.int32],
    dtype: np.dtype[np.generic],
    offsets: NDArray[np.int64] | None = None,
) -> bytes:
    """The content of a `.idx` file.

    Args:
        lengths: Ids of each row.
        dtype: Of the ids.
        offsets: First byte of each row; back to back if not given.
    """
    if offsets is None:
        offsets = back_to_back(lengths, dtype.itemsize)
    documents = np.arange(len(lengths) + 1, dtype="<i8")
    header = _HEADER.pack(MAGIC, VERSION, DTYPE_CODES[dtype], len(lengths), len(documents))
    parts = [lengths.astype("<i4"), offsets.astype("<i8"), documents]
    return header + b"".join(part.tobytes() for part in parts)


def read_index(path: Path) -> Index:
    """Read a `.idx` file.

    Raises:
        ArtefactError: It is missing, damaged, or of another format.
    """
    with _readable(path):
        data = path.read_bytes()
    dtype, num_rows, num_documents = _read_header(path, data)
    expected = _HEADER.size + 12 * num_rows + 8 * num_documents
    if len(data) != expected:
        raise ArtefactError(
            f"{path}: has {len(data)} bytes, where {num_rows} rows take {expected}; it is damaged. "
            f"{again(path)}"
        )
    lengths = np.frombuffer(data, dtype="<i4", count=num_rows, offset=_HEADER.size)
    offsets = np.frombuffer(data, "<i8", num_rows, offset=_HEADER.size + 4 * num_rows)
    if (lengths < 0).any() or (offsets < 0).any() or (offsets % dtype.itemsize).any():
        raise ArtefactError(
            f"{path}: has lengths or offsets that cannot be; it is damaged. {again(path)}"
        )
    return Index(dtype, lengths.astype(np.int32), offsets.astype(np.int64))


def count_rows(prefix: Path) -> int:
    """Rows of a shard, from the head of its index.

    Raises:
        ArtefactError: The index cannot be read.
    """
    path = prefix.with_suffix(".idx")
    with _readable(path), path.open("rb") as file:
        return _read_header(path, file.read(_HEADER.size))[1]


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise ArtefactError(f"{path}: no such file. {again(path)}") from None
    except OSError as error:
        raise ArtefactError(f"{path}: cannot be read ({error.strerror})") from error


def _read_header(path: Path, data: bytes) -> tuple[np.dtype[Any], int, int]:
    """Dtype of the ids, number of rows and of entries in the document index."""
    if not data.startswith(MAGIC):
        raise ArtefactError(
            f"{path}: is not a Megatron index: it starts with {data[:9]!r}, not {MAGIC!r}. "
            f"{again(path)}"
        )
    if len(data) < _HEADER.size:
        raise ArtefactError(
            f"{path}: has {len(data)} bytes, where its head takes {_HEADER.size}; it is damaged. "
            f"{again(path)}"
        )
    _, version, code, num_rows, num_documents = _HEADER.unpack_from(data)
    dtypes = {value: key for key, value in DTYPE_CODES.items()}
    if version != VERSION or code not in dtypes:
        raise ArtefactError(
            f"{path}: version {version}, dtype code {code}; expected version {VERSION} and one of "
            f"the codes of whole numbers, {sorted(dtypes)}. {again(path)}"
        )
    return dtypes[code], num_rows, num_documents
