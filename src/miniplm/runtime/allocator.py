"""The C library's allocator, told to keep the memory that models on a CPU use again and again."""

import ctypes
import sys

_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3
_LARGEST_KEPT = (1 << 30, 32 << 20)
"""Bytes of a block; versions of glibc before 2.36 take no more than the second."""
_TRIMMED_FROM = 1 << 30
_TOP_PAD = 1 << 26


def keep_memory() -> bool:
    """Have blocks of up to 1 GiB (32 MiB before glibc 2.36) handed out again, not returned.

    By default glibc gives the temporaries of a forward pass back after each use, and the system
    clears their pages anew for the next one: that costs as much as the arithmetic on them
    (docs/performance.md). Holds for the whole process, which keeps the most it has used.

    Returns:
        Whether the allocator is one that can be told; others are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    if not any(mallopt(_M_MMAP_THRESHOLD, size) for size in _LARGEST_KEPT):
        return False  # the other two alone would freeze the threshold where it is
    return bool(mallopt(_M_TRIM_THRESHOLD, _TRIMMED_FROM) and mallopt(_M_TOP_PAD, _TOP_PAD))
