"""How well text compresses: formulaic text does, and so does text that repeats itself.

Zstandard at one level. A ratio is bytes in over bytes out: about 1 for random bytes, 2 to 3 for
prose, more for tables, templates and boilerplate.
"""

from collections.abc import Sequence

ZSTD_LEVEL = 9
BLOCK_BYTES = 1 << 15
"""Rows are compressed together in blocks of this size: ratios grow with it, and so compare."""


def compressed_sizes(texts: Sequence[bytes]) -> list[int]:
    """Bytes of each text when it is compressed by itself."""
    import zstandard

    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
    return [len(compressor.compress(text)) for text in texts]


def block_ratio(texts: Sequence[bytes]) -> float | None:
    """Compression ratio of texts put one after another and cut into whole blocks.

    Where rows repeat each other, this is far above the ratio of the rows by themselves.

    Returns:
        None of less than one block.

    Example:
        >>> block_ratio([b"to be ", b"or not "] * 5000) > 100
        True
        >>> block_ratio([b"to be"]) is None
        True
    """
    whole = b"".join(texts)
    ends = range(BLOCK_BYTES, len(whole) + 1, BLOCK_BYTES)
    sizes = compressed_sizes([whole[end - BLOCK_BYTES : end] for end in ends])
    return len(sizes) * BLOCK_BYTES / sum(sizes) if sizes else None
