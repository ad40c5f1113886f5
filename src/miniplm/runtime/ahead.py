"""Reading ahead: an iterator worked on by a thread while what it gave before is being used."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

ItemT = TypeVar("ItemT")


class _End:
    """What the thread sends last: the error that stopped it, if any."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


@contextmanager
def ahead(items: Iterator[ItemT], depth: int) -> Iterator[Iterator[ItemT]]:
    """Give what an iterator gives, in order, while a thread goes on with it.

    Args:
        items: Is used by one thread, until the block is left. What it raises is raised here.
        depth: Items that wait at most; one more is being made.
    """
    waiting: queue.Queue[ItemT | _End] = queue.Queue(depth)
    stopped = threading.Event()

    def put(item: ItemT | _End) -> None:
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def work() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                put(item)
                if stopped.is_set():
                    break
        except BaseException as raised:  # noqa: BLE001  (raised again by the thread that reads)
            error = raised
        put(_End(error))

    thread = threading.Thread(target=work, daemon=True, name="miniplm-ahead")
    thread.start()
    try:
        yield _taken(waiting)
    finally:
        stopped.set()
        thread.join()


def _taken(waiting: "queue.Queue[ItemT | _End]") -> Iterator[ItemT]:
    while True:
        item = waiting.get()
        if isinstance(item, _End):
            if item.error is not None:
                raise item.error
            return
        yield item
