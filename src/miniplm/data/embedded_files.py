"""What of a Python installation the embedded corpus is made of: files by name, size and place.

Only what CPython itself installs counts, never other packages or files of this one machine.
"""

import hashlib
import os
import platform
import sysconfig
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from miniplm.errors import DocumentError

TEST_BYTES = 6_000_000
VENDORED_BYTES = 4_000_000
BYTECODE_SOURCE_BYTES = 800_000

_NOT_PYTHONS_OWN = {
    "site-packages", "dist-packages", "sitecustomize.py", "usercustomize.py",
}  # fmt: skip
_NOT_TEXT = {"__pycache__", "lib-dynload"}
_TEST_FOLDERS = {"test", "tests", "idle_test"}
_HEADER_FOLDERS = {"cpython", "internal"}
_SAME_AS_TOMLLIB = "pip/_vendor/tomli/"


@dataclass(frozen=True, slots=True)
class PythonInstall:
    """Where a Python keeps what it carries.

    Args:
        stdlib: The folder of the standard library.
        include: The folder of the C headers, which need not exist.
    """

    stdlib: Path
    include: Path


@dataclass(frozen=True, slots=True)
class Part:
    """A file of the installation: its name as `/`-path, bytes, and place (or wheel it is in)."""

    name: str
    size: int
    path: Path


@dataclass(frozen=True, slots=True)
class Listing:
    """The files that documents are made of; tests and vendored ones are samples already."""

    library: Sequence[Part]
    tests: Sequence[Part]
    vendored: Sequence[Part]
    headers: Sequence[Part]


def this_python() -> PythonInstall:
    """The running Python."""
    paths = sysconfig.get_paths()
    return PythonInstall(Path(paths["stdlib"]), Path(paths["include"]))


def list_install(install: PythonInstall) -> Listing:
    """List an installation, always in the same order.

    Raises:
        DocumentError: It carries no library source.
    """
    parts = [part for part in _walk(install.stdlib) if part.name.endswith(".py")]
    library = [part for part in parts if not _TEST_FOLDERS & {*part.name.split("/")}]
    if not library:
        raise DocumentError(
            f"{install.stdlib}: this Python ({platform.python_version()}) carries no library "
            f"source, so there is no embedded corpus. Set corpus.source: files with your own "
            f"text, or use a Python with its source."
        )
    tests = [part for part in parts if _TEST_FOLDERS & {*part.name.split("/")}]
    return Listing(
        library=library,
        tests=_sample(tests, TEST_BYTES),
        vendored=_sample(list(_wheel_parts(install.stdlib)), VENDORED_BYTES),
        headers=list(_header_parts(install.include)),
    )


def _walk(root: Path) -> Iterator[Part]:
    """Files of the library in sorted order, other packages and machine-specific files left out."""
    skipped = _NOT_PYTHONS_OWN | _NOT_TEXT
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(
            name for name in folders if name not in skipped and not name.startswith("config-")
        )
        for name in sorted(names):
            if name not in skipped and not name.startswith("_sysconfigdata"):
                path = Path(folder, name)
                if path.is_file():
                    yield Part(path.relative_to(root).as_posix(), path.stat().st_size, path)


def _header_parts(include: Path) -> Iterator[Part]:
    """C headers; other packages may put theirs into folders beside Python's own."""
    for folder in (include, *(include / name for name in sorted(_HEADER_FOLDERS))):
        for path in sorted(folder.glob("*.h")):
            name = path.relative_to(include).as_posix()
            yield Part(f"include/{name}", path.stat().st_size, path)


def _wheel_parts(stdlib: Path) -> Iterator[Part]:
    """Python files inside the bundled pip; setuptools, where it is there, repeats much of it."""
    for wheel in sorted((stdlib / "ensurepip" / "_bundled").glob("pip-*.whl")):
        try:
            with zipfile.ZipFile(wheel) as archive:
                members = sorted(archive.infolist(), key=lambda member: member.filename)
        except (OSError, zipfile.BadZipFile):
            yield Part(wheel.name, 0, wheel)  # for `_vendored` to fail on, and count
            continue
        for member in members:
            name = member.filename
            if name.endswith(".py") and not name.startswith(_SAME_AS_TOMLLIB):
                yield Part(name, member.file_size, wheel)


def _sample(parts: Sequence[Part], num_bytes: int) -> list[Part]:
    """Files up to `num_bytes` in all, drawn by the hash of their names, in their old order."""
    drawn = sorted(parts, key=lambda part: hashlib.sha256(part.name.encode()).digest())
    totals = accumulate(part.size for part in drawn)
    names = {part.name for part, total in zip(drawn, totals, strict=True) if total <= num_bytes}
    return [part for part in parts if part.name in names]


def to_disassemble(listing: Listing) -> list[Part]:
    """Modules of middling size, so that no single one is most of the listings."""
    modules = [
        part
        for part in listing.library
        if 2_000 < part.size < 50_000 and not part.name.startswith("encodings/")
    ]
    return _sample(modules, BYTECODE_SOURCE_BYTES)
