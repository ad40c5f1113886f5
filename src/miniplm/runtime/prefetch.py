"""Work on the next items while the caller is busy with one."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

ItemT = TypeVar("ItemT")

_END = object()


def prefetched(items: Iterable[ItemT], depth: int = 2) -> Iterator[ItemT]:
    """The items in order, made by a thread of their own that is up to `depth` items ahead.

    An error in the making is raised here, at its place in the order. Leaving the loop early stops
    the thread.

    Args:
        items: What to iterate over; only the thread touches it.
        depth: Items that may wait.
    """
    waiting: queue.Queue[object] = queue.Queue(depth)
    stopped = threading.Event()

    def put(item: object) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(item):
                    return
            put(_END)
        except BaseException as error:  # noqa: BLE001  (raised again where the items are used)
            put(_Failure(error))

    thread = threading.Thread(target=work, name="miniplm-prefetch", daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not _END:
            if isinstance(item, _Failure):
                raise item.error
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error
