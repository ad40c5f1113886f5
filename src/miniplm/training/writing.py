"""Writing while training, to a disk that may be full."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError
from torch.distributed.checkpoint.api import CheckpointException

from miniplm.errors import TrainingError


@contextlib.contextmanager
def writing(what: str, path: Path) -> Iterator[None]:
    """Say what could not be written, where, and what to do, if writing in this block fails.

    Args:
        what: In a few words: `the checkpoint`.
        path: Of the file or folder.

    Raises:
        TrainingError: In place of what the system, safetensors or torch raised.
    """
    try:
        yield
    except (OSError, SafetensorError, CheckpointException) as error:
        raise TrainingError(
            f"{what} {path} cannot be written ({_reason(error)}). {_room(path)} What is complete "
            "is kept: see to it that there is room and that the folder may be written to, and run "
            "the same command again; it goes on from the last complete checkpoint."
        ) from error


def _reason(error: BaseException) -> str:
    if isinstance(error, CheckpointException):  # holds what each process raised
        error = next(iter(error.failures.values()))[0]
    return getattr(error, "strerror", None) or str(error)


def _room(path: Path) -> str:
    """How much room there is, from the nearest folder that exists."""
    folder = next(parent for parent in path.absolute().parents if parent.is_dir())
    return f"That disk has {shutil.disk_usage(folder).free / 1e9:.3f} GB free."
