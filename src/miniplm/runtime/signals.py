"""Being told to stop: cluster schedulers send SIGTERM and wait some seconds."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

_LOOK_SECONDS = 1.0


def stop_with(parent: int) -> None:
    """Send SIGTERM to this process once it is no longer a child of `parent`."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=look, daemon=True).start()


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """A function that says whether SIGTERM has come since the block was entered.

    Outside of the main thread, where signals cannot be caught, it never has.
    """
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield came.is_set
        return
    before = signal.signal(signal.SIGTERM, lambda *_: came.set())
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
