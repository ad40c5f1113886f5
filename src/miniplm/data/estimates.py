"""How much text files hold, from their sizes and a look at the beginning of a few of them."""

from collections.abc import Mapping, Sequence

from miniplm.data.files import CorpusFile
from miniplm.data.readers import json_row, lookup
from miniplm.data.streams import read_head
from miniplm.errors import DocumentError

# What an estimate looks at per format, so that it takes about a second for a corpus of any size.
_FILES_SAMPLED = 32
_HEAD_BYTES = 4 << 20
_ALL_HEADS_BYTES = 48 << 20
_ROUGH_HEAD_BYTES = 1 << 16


def estimate_text_bytes(
    files: Sequence[CorpusFile], text_field: str, *, rough: bool = False
) -> float:
    """About how many UTF-8 bytes of text the files hold together.

    Args:
        files: The files.
        text_field: The field with the text.
        rough: Look at much less of each file.

    Raises:
        DocumentError: A file that was looked at cannot be read, or its head is damaged.
    """
    by_format: dict[tuple[str, str], list[CorpusFile]] = {}
    for file in files:
        by_format.setdefault((file.kind, file.compression), []).append(file)
    head_bytes = _ROUGH_HEAD_BYTES if rough else _HEAD_BYTES
    return sum(_estimate_format(alike, text_field, head_bytes) for alike in by_format.values())


def _estimate_format(files: Sequence[CorpusFile], text_field: str, head_bytes: int) -> float:
    """Text bytes of files of one format, by the ratio of some that are spread evenly over them."""
    step = -(-len(files) // _FILES_SAMPLED)
    sampled = files[::step]
    head_bytes = min(head_bytes, _ALL_HEADS_BYTES // len(sampled))
    sizes = [file.path.stat().st_size for file in sampled]
    text = sum(
        size * _text_bytes_per_byte(file, text_field, head_bytes)
        for file, size in zip(sampled, sizes, strict=True)
    )
    total = sum(file.path.stat().st_size for file in files)
    return total * text / max(1, sum(sizes))


def _text_bytes_per_byte(file: CorpusFile, text_field: str, head_bytes: int) -> float:
    """UTF-8 bytes of text for each byte of the file.

    Args:
        file: The file.
        text_field: The field with the text.
        head_bytes: How much of the file's content to measure; Parquet states it in its metadata.

    Raises:
        DocumentError: The file cannot be read, or its head is damaged.
    """
    if file.kind == "parquet":
        return _parquet_text_bytes(file, text_field) / max(1, file.path.stat().st_size)
    if file.kind == "text" and not file.compression:
        return 1.0
    head, num_read = read_head(file.path, file.compression, head_bytes)
    ratio = len(head) / max(1, num_read)
    return ratio if file.kind == "text" else ratio * _text_share(head, text_field)


def _text_share(head: bytes, text_field: str) -> float:
    """The share of JSON lines that is text rather than other fields, names and quotes."""
    lines = head.splitlines()
    whole = lines if len(lines) < 2 else lines[:-1]  # the last one may be cut
    num_text = 0
    for line in whole:
        row = json_row(line)
        text = lookup(row, text_field) if isinstance(row, Mapping) else None
        num_text += len(text.encode(errors="replace")) if isinstance(text, str) else 0
    return num_text / max(1, sum(len(line) + 1 for line in whole))


def _parquet_text_bytes(file: CorpusFile, text_field: str) -> int:
    import pyarrow as pa
    from pyarrow.parquet import read_metadata

    try:
        metadata = read_metadata(file.path)
    except (pa.ArrowException, OSError) as error:
        raise DocumentError(f"{file.path}: cannot be read as Parquet ({error})") from error
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    chunks = [group.column(index) for group in groups for index in range(metadata.num_columns)]
    return sum(
        chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema == text_field
    )
