"""Files that are known again where they were copied.

A file counts by name, size and time of change, so that a terabyte need not be read before a run
starts. Copies often have another time (`cp -r`, a cluster that brings data to each job), and all
that was made of them would be made again. So a run remembers what its files hold. One of the same
name and size but with another time is read, and where it holds the same it counts by the time that
the first one had.
"""

import contextlib
import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from miniplm.errors import ArtefactError
from miniplm.manifest import fingerprint, write_json

KNOWN_NAME = "known_files.json"
MOST_BYTES = 100e9
"""Files of more than that together are not read to be remembered, and count by their time alone."""
_MOST_THREADS = 8


@dataclass
class KnownFile:
    """What is remembered of a file.

    Args:
        name: Without its folder.
        size: In bytes.
        digest: Of what it holds.
        times: Times of change of its copies, in ns; it counts by the first.
    """

    name: str
    size: int
    digest: str
    times: list[int] = field(default_factory=list)


class KnownFiles:
    """The files of a run.

    Args:
        path: Where they are remembered. What is damaged is forgotten.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: defaultdict[tuple[str, int], list[KnownFile]] = defaultdict(list)
        for each in _read(path):
            self._known[each.name, each.size].append(each)
        self._new: dict[Path, os.stat_result] = {}
        self._is_saved = True

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Fingerprints of files go by this memory for the length of the block."""
        global _in_use  # noqa: PLW0603
        before, _in_use = _in_use, self
        try:
            yield
        finally:
            _in_use = before

    def times(self, paths: Sequence[Path]) -> list[int]:
        """The times of change that files count by, in ns.

        Raises:
            OSError: A file cannot be read.
        """
        statuses = [path.stat() for path in paths]
        read = [
            path
            for path, status in zip(paths, statuses, strict=True)
            if self._recorded(path, status) is None and self._alike(path, status)
        ]
        digests = dict(zip(read, _digests(read), strict=True))
        return [
            self._time(path, status, digests.get(path))
            for path, status in zip(paths, statuses, strict=True)
        ]

    def remember(self) -> None:
        """Read the files that were asked for and are not known yet, unless they are too many."""
        todo = {path: status for path, status in self._new.items() if _is_as_it_was(path, status)}
        self._new = {}
        if sum(status.st_size for status in todo.values()) <= MOST_BYTES:
            for path, digest in zip(todo, _digests(list(todo)), strict=True):
                if _is_as_it_was(path, todo[path]):
                    size, time = todo[path].st_size, todo[path].st_mtime_ns
                    known = KnownFile(path.name, size, digest, [time])
                    self._known[path.name, size].append(known)
                    self._is_saved = False
        self.save()

    def save(self) -> None:
        """Write what is remembered, where that has changed."""
        if not self._is_saved:
            known = [asdict(each) for alike in self._known.values() for each in alike]
            write_json(self._path, {"files": known})
            self._is_saved = True

    def _alike(self, path: Path, status: os.stat_result) -> list[KnownFile]:
        return self._known.get((path.name, status.st_size), [])

    def _recorded(self, path: Path, status: os.stat_result) -> KnownFile | None:
        alike = self._alike(path, status)
        return next((each for each in alike if status.st_mtime_ns in each.times), None)

    def _time(self, path: Path, status: os.stat_result, digest: str | None) -> int:
        known = self._recorded(path, status)
        if known is None:
            alike = self._alike(path, status)
            known = next((each for each in alike if each.digest == digest), None)
            if known is None:
                self._new[path.absolute()] = status
                return status.st_mtime_ns
            known.times.append(status.st_mtime_ns)
            self._is_saved = False
        return known.times[0]


_in_use: KnownFiles | None = None


def change_times(paths: Sequence[Path]) -> list[int]:
    """The times of change that files count by, in ns: those of the files that they are copies of.

    Raises:
        OSError: A file cannot be read.
    """
    if _in_use is not None:
        return _in_use.times(paths)
    return [path.stat().st_mtime_ns for path in paths]


def fingerprint_files(paths: Sequence[Path]) -> str:
    """Fingerprint of files by name, size and time of change.

    Raises:
        ArtefactError: A file does not exist.
    """
    try:
        times = change_times(paths)
        sizes = [path.stat().st_size for path in paths]
    except OSError as error:
        raise ArtefactError(f"{error.filename}: cannot be read ({error.strerror})") from error
    return fingerprint(
        [[path.name, size, time] for path, size, time in zip(paths, sizes, times, strict=True)]
    )


def _read(path: Path) -> list[KnownFile]:
    try:
        return [KnownFile(**each) for each in json.loads(path.read_text("utf-8"))["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _is_as_it_was(path: Path, status: os.stat_result) -> bool:
    try:
        now = path.stat()
    except OSError:
        return False
    return (now.st_size, now.st_mtime_ns) == (status.st_size, status.st_mtime_ns)


def _digests(paths: Sequence[Path]) -> list[str]:
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        return list(pool.map(_digest, paths))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]
