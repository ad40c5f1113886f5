"""Writing while training: whole or not at all, to a disk that may be full."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError
from torch.distributed.checkpoint.api import CheckpointException

from miniplm.errors import TrainingError
from miniplm.manifest import remove_folder


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
            "the same command again; it goes on from the last complete checkpoint, if there is one."
        ) from error


def _reason(error: BaseException) -> str:
    if isinstance(error, CheckpointException):  # holds what each process raised
        error = next(iter(error.failures.values()))[0]
    return getattr(error, "strerror", None) or str(error)


def _room(path: Path) -> str:
    """How much room there is, from the nearest folder that exists."""
    folder = next(parent for parent in path.absolute().parents if parent.is_dir())
    return f"That disk has {shutil.disk_usage(folder).free / 1e6:,.1f} MB free."


@contextlib.contextmanager
def removed_on_error(folder: Path) -> Iterator[None]:
    """Give back the room that half a folder takes, if the block fails."""
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def complete_folder(temporary: Path, target: Path) -> None:
    """Make sure that all of a folder is on disk, and give it its name."""
    for file in temporary.iterdir():
        _sync(file)
    _sync(temporary)
    if target.exists():
        remove_folder(target)
    temporary.rename(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
