"""One process at a time in a folder."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from miniplm.errors import ArtefactError


@contextlib.contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Make a folder and work in it alone for the length of the block.

    Args:
        folder: To work in.
        what: The option or field that names it, for messages.

    Raises:
        ArtefactError: It cannot be made, or another process works in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtefactError(f"{what} {folder}: cannot be made ({error.strerror})") from error
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise ArtefactError(
            f"another miniplm is at work in {folder}. Wait for it, or choose another {what}."
        ) from None
