"""The C library's allocator, told to keep the memory that models on a CPU use again and again."""

import ctypes
import sys

_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3
_KEPT = 1 << 30


def keep_memory() -> bool:
    """Have blocks of up to 1 GiB handed out again instead of returned to the system.

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
    settings = ((_M_MMAP_THRESHOLD, _KEPT), (_M_TRIM_THRESHOLD, _KEPT), (_M_TOP_PAD, 1 << 26))
    results = [mallopt(key, value) for key, value in settings]
    return all(result == 1 for result in results)
