"""Files as streams of bytes, decompressed as they are read.

Own decompression rather than the libraries' file objects, because zstandard's takes the end of a
truncated file for the end of the data, and half a corpus would go missing without a word.
"""

import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from miniplm.errors import DocumentError

_CHUNK_BYTES = 1 << 16
_BUFFER_BYTES = 1 << 20
_ZSTD_WINDOW_BYTES = 1 << 31  # what `zstd --long=31` needs; memory is taken only where it was used


class _Decompressor(Protocol):
    """What zlib's and zstandard's objects for one compressed stream share."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


class _Inflated(io.RawIOBase):
    """Chunks of bytes as a raw stream, for a buffered reader to read lines from."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        super().__init__()
        self._chunks = chunks
        self._pending = memoryview(b"")

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer with what is left of a chunk, or with the next one."""
        while not self._pending:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._pending = memoryview(chunk)
        size = min(len(buffer), len(self._pending))
        buffer[:size] = self._pending[:size]
        self._pending = self._pending[size:]
        return size


@contextmanager
def open_stream(path: Path, compression: str) -> Iterator[io.BufferedReader]:
    """Open a file for reading its decompressed bytes.

    Args:
        path: The file.
        compression: `.gz`, `.zst`, or empty.

    Raises:
        DocumentError: The file cannot be opened, or (while it is read) its compressed data is
            damaged or truncated.
    """
    try:
        with path.open("rb") as file:
            if not compression:
                yield file
            else:
                chunks = _inflate(file, path, _starter(compression))
                yield io.BufferedReader(_Inflated(chunks), _BUFFER_BYTES)
    except OSError as error:
        raise DocumentError(f"{path}: cannot be read ({error.strerror or error})") from error


def read_head(path: Path, compression: str, num_bytes: int) -> tuple[bytes, int]:
    """The first decompressed bytes of a file.

    Args:
        path: The file.
        compression: `.gz`, `.zst`, or empty.
        num_bytes: How much to read; up to a chunk more is returned.

    Returns:
        The bytes, and how many bytes of the file they were read from.

    Raises:
        DocumentError: As `open_stream`.
    """
    head = bytearray()
    try:
        with path.open("rb") as file:
            if not compression:
                head += file.read(num_bytes)
            else:
                for chunk in _inflate(file, path, _starter(compression)):
                    head += chunk
                    if len(head) >= num_bytes:
                        break
            return bytes(head), file.tell()
    except OSError as error:
        raise DocumentError(f"{path}: cannot be read ({error.strerror or error})") from error


def _inflate(file: BinaryIO, path: Path, start: Callable[[], _Decompressor]) -> Iterator[bytes]:
    """The decompressed content of a file of one or more gzip members or zstd frames."""
    decompressor = start()
    rest = b""
    while data := rest or file.read(_CHUNK_BYTES):
        rest = b""
        if decompressor.eof:
            data = data.lstrip(b"\0")  # padding that tapes and block devices leave
            if not data:
                continue
            decompressor = start()
        try:
            chunk = decompressor.decompress(data)
        except (zlib.error, _zstd_error()) as error:
            raise DocumentError(
                f"{path}: the compressed data is damaged before byte {file.tell():,} ({error}). "
                f"Fetch the file again, or take it out of corpus.paths."
            ) from error
        rest = decompressor.unused_data
        yield chunk
    if not decompressor.eof:
        raise DocumentError(
            f"{path}: the compressed data stops in the middle, after {file.tell():,} bytes; the "
            f"file is truncated. Fetch it again, or take it out of corpus.paths."
        )


def _starter(compression: str) -> Callable[[], _Decompressor]:
    """A function that makes a decompressor for the next member or frame."""
    if compression == ".gz":
        return lambda: zlib.decompressobj(wbits=31)
    import zstandard

    return lambda: zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).decompressobj()


def _zstd_error() -> type[Exception]:
    import zstandard

    return zstandard.ZstdError
