"""Arrays that are used again: fresh memory costs more than the arithmetic done in it."""

import threading
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Buffers(threading.local):
    """Named arrays, each thread's own, that keep their memory from one block of rows to the next.

    Large temporaries are given back to the system when they are freed and faulted in again, page
    by page, when the next is made; that takes some ten times as long as adding two of them.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}

    def get(self, name: str, size: int, dtype: DTypeLike = np.float64) -> NDArray[Any]:
        """The array of this name, `[size]`, with whatever was last written to it.

        Example:
            >>> buffers = Buffers()
            >>> buffers.get("sum", 2)[:] = [1.0, 2.0]
            >>> buffers.get("sum", 1).tolist()
            [1.0]
        """
        kept = self._arrays.get(name)
        if kept is None or len(kept) < size or kept.dtype != dtype:
            kept = self._arrays[name] = np.empty(size, dtype)
        return kept[:size]
