"""The embedded corpus: text that every Python installation carries, for runs without any data.

It is made of what CPython itself installs, never of other packages, so the same Python gives the
same corpus. What an installation lacks (Debian leaves out the test suite, the bundled wheel and
often the headers) is simply not there. The domains, from prose to machine output:

    help-topics     the language reference that `help()` shows, one document per topic
    docstrings      docstrings and comments of the library, one document per module
    library-code    the library's source without them
    library-tests   source of the test suite, comments and all; a sample
    vendored-code   source inside the bundled pip wheel; a sample
    c-headers       the interpreter's C headers
    tables          generated tables: character sets, HTML entities
    unicode-names   a generated listing of Unicode characters
    bytecode        disassembly of a sample of library modules

All documents made from one module have the module's path before the `#` of their ids.
"""

import ast
import hashlib
import io
import os
import platform
import sys
import sysconfig
import tokenize
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from miniplm.data.embedded_text import bytecode_listing, character_lines, separate, split_text
from miniplm.data.readers import NOT_UTF8
from miniplm.data.records import Document, Tally, in_share
from miniplm.errors import DocumentError
from miniplm.manifest import fingerprint

RECIPE = 1
"""Raised when the same installation would from now on give other documents."""

NOT_DECODABLE = "not text in its declared encoding"
UNREADABLE = "cannot be read"

TEST_BYTES = 6_000_000
VENDORED_BYTES = 4_000_000
BYTECODE_SOURCE_BYTES = 800_000
MIN_CHARACTERS = 64
"""Shorter pieces (empty `__init__.py` files, for the most part) are no documents."""

_LISTING_PER_SOURCE_BYTE = 4  # how much longer bytecode is than the source it is made from
_UNICODE_BYTES = 1_500_000
_CHARACTERS_PER_DOCUMENT = 256

_NOT_PYTHONS_OWN = {
    "site-packages", "dist-packages", "sitecustomize.py", "usercustomize.py",
}  # fmt: skip
_NOT_TEXT = {"__pycache__", "lib-dynload"}
_TEST_FOLDERS = {"test", "tests", "idle_test"}
_HEADER_FOLDERS = {"cpython", "internal"}
_TOPICS = "pydoc_data/topics.py"
_TABLE_MODULES = {"html/entities.py", "stringprep.py"}
_TABLE_MARKS = ("decoding_table", "decoding_map")
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
class _Part:
    """A file of the installation: its name as `/`-path, bytes, and place (or wheel it is in)."""

    name: str
    size: int
    path: Path


@dataclass(frozen=True, slots=True)
class _Listing:
    library: Sequence[_Part]
    tests: Sequence[_Part]
    vendored: Sequence[_Part]
    headers: Sequence[_Part]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A text before it is cut into documents; `part` tells pieces of one source apart."""

    source: str
    part: str
    domain: str
    text: str


def this_python() -> PythonInstall:
    """The running Python."""
    paths = sysconfig.get_paths()
    return PythonInstall(Path(paths["stdlib"]), Path(paths["include"]))


def embedded_documents(
    tally: Tally, share: float = 1.0, install: PythonInstall | None = None
) -> Iterator[Document]:
    """The documents of the embedded corpus, always in the same order.

    Args:
        tally: Counts good documents, and files that cannot be read or decoded.
        share: The share of sources to take.
        install: The Python to read; the running one by default.

    Raises:
        DocumentError: The installation carries no library source.
    """
    listing = _list(install or this_python())

    def wanted(source: str) -> bool:
        return in_share(source, share)

    for piece in _pieces(listing, wanted, tally):
        if len(piece.text) >= MIN_CHARACTERS:
            yield from _cut(piece, tally)


def embedded_fingerprint(install: PythonInstall | None = None) -> str:
    """Fingerprint of the embedded corpus: Python's version and its files by name and size.

    Raises:
        DocumentError: The installation carries no library source.
    """
    listing = _list(install or this_python())
    groups = (listing.library, listing.tests, listing.vendored, listing.headers)
    return fingerprint(
        {
            "recipe": RECIPE,
            "python": [sys.implementation.name, platform.python_version()],
            "unicode": unicodedata.unidata_version,
            "files": [[part.name, part.size] for group in groups for part in group],
        }
    )


def embedded_bytes(install: PythonInstall | None = None) -> int:
    """About how many bytes of text the embedded corpus has, from the sizes of its files.

    Raises:
        DocumentError: The installation carries no library source.
    """
    listing = _list(install or this_python())
    whole = sum(part.size for part in (*listing.library, *listing.headers))
    bytecode = sum(part.size for part in _sample(listing.library, BYTECODE_SOURCE_BYTES))
    samples = sum(part.size for part in (*listing.tests, *listing.vendored))
    return whole + samples + _LISTING_PER_SOURCE_BYTE * bytecode + _UNICODE_BYTES


def _list(install: PythonInstall) -> _Listing:
    parts = [part for part in _walk(install.stdlib) if part.name.endswith(".py")]
    library = [part for part in parts if not _TEST_FOLDERS & {*part.name.split("/")}]
    if not library:
        raise DocumentError(
            f"{install.stdlib}: this Python ({platform.python_version()}) carries no library "
            f"source, so there is no embedded corpus. Set corpus.source: files with your own "
            f"text, or use a Python with its source."
        )
    tests = [part for part in parts if _TEST_FOLDERS & {*part.name.split("/")}]
    return _Listing(
        library=library,
        tests=_sample(tests, TEST_BYTES),
        vendored=_sample(list(_wheel_parts(install.stdlib)), VENDORED_BYTES),
        headers=list(_header_parts(install.include)),
    )


def _walk(root: Path) -> Iterator[_Part]:
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
                    yield _Part(path.relative_to(root).as_posix(), path.stat().st_size, path)


def _header_parts(include: Path) -> Iterator[_Part]:
    """C headers; other packages may put theirs into folders beside Python's own."""
    for folder in (include, *(include / name for name in sorted(_HEADER_FOLDERS))):
        for path in sorted(folder.glob("*.h")):
            name = path.relative_to(include).as_posix()
            yield _Part(f"include/{name}", path.stat().st_size, path)


def _wheel_parts(stdlib: Path) -> Iterator[_Part]:
    """Python files inside the bundled pip; setuptools, where it is there, repeats much of it."""
    for wheel in sorted((stdlib / "ensurepip" / "_bundled").glob("pip-*.whl")):
        try:
            with zipfile.ZipFile(wheel) as archive:
                members = sorted(archive.infolist(), key=lambda member: member.filename)
        except (OSError, zipfile.BadZipFile):
            continue  # `_vendored_pieces` cannot report it either: nothing of it is listed
        for member in members:
            name = member.filename
            if name.endswith(".py") and not name.startswith(_SAME_AS_TOMLLIB):
                yield _Part(name, member.file_size, wheel)


def _sample(parts: Sequence[_Part], num_bytes: int) -> list[_Part]:
    """Files up to `num_bytes` in all, drawn by the hash of their names, in their old order."""
    drawn = sorted(parts, key=lambda part: hashlib.sha256(part.name.encode()).digest())
    totals = accumulate(part.size for part in drawn)
    names = {part.name for part, total in zip(drawn, totals, strict=True) if total <= num_bytes}
    return [part for part in parts if part.name in names]


def _pieces(listing: _Listing, wanted: Callable[[str], bool], tally: Tally) -> Iterator[_Piece]:
    to_disassemble = {part.name for part in _sample(listing.library, BYTECODE_SOURCE_BYTES)}
    for part in listing.library:
        if part.name == _TOPICS:
            yield from _topics(part, wanted, tally)
        elif wanted(part.name):
            yield from _module(part, part.name in to_disassemble, tally)
    for domain, parts in (("library-tests", listing.tests), ("c-headers", listing.headers)):
        for part in filter(lambda part: wanted(part.name), parts):
            text = _decode(_read(part, tally), part, tally)
            yield _Piece(part.name, "", domain, text)
    yield from _vendored([part for part in listing.vendored if wanted(part.name)], tally)
    yield from _characters(wanted)


def _module(part: _Part, disassemble: bool, tally: Tally) -> Iterator[_Piece]:
    content = _read(part, tally)
    text = _decode(content, part, tally)
    if part.name in _TABLE_MODULES or (
        part.name.startswith("encodings/") and any(mark in text for mark in _TABLE_MARKS)
    ):
        yield _Piece(part.name, "table", "tables", text)
        return
    prose, code = separate(text)
    yield _Piece(part.name, "docs", "docstrings", prose)
    yield _Piece(part.name, "code", "library-code", code)
    if disassemble:
        try:
            listing = bytecode_listing(content, part.name)
        except (SyntaxError, ValueError):
            return  # written for another Python; its text is good all the same
        yield _Piece(part.name, "bytecode", "bytecode", listing)


def _topics(part: _Part, wanted: Callable[[str], bool], tally: Tally) -> Iterator[_Piece]:
    """The help topics: the module is one dictionary of strings, which is read, not run."""
    try:
        last = ast.parse(_read(part, tally)).body[-1]
        topics = ast.literal_eval(last.value) if isinstance(last, ast.Assign) else {}
    except (SyntaxError, ValueError, IndexError):
        tally.drop(UNREADABLE, str(part.path))
        return
    for name, text in sorted(topics.items()):
        source = f"pydoc_data/topics/{name}"
        if wanted(source):
            yield _Piece(source, "", "help-topics", text)


def _vendored(parts: Sequence[_Part], tally: Tally) -> Iterator[_Piece]:
    for wheel in sorted({part.path for part in parts}):
        with zipfile.ZipFile(wheel) as archive:
            for part in (part for part in parts if part.path == wheel):
                try:
                    content = archive.read(part.name)
                except (zipfile.BadZipFile, OSError):
                    tally.drop(UNREADABLE, f"{wheel}/{part.name}")
                    continue
                yield _Piece(part.name, "", "vendored-code", _decode(content, part, tally))


def _characters(wanted: Callable[[str], bool]) -> Iterator[_Piece]:
    for first in range(0, sys.maxunicode + 1, _CHARACTERS_PER_DOCUMENT):
        source = f"unicodedata/U+{first:04X}"
        if wanted(source):
            text = character_lines(range(first, first + _CHARACTERS_PER_DOCUMENT))
            yield _Piece(source, "", "unicode-names", text)


def _read(part: _Part, tally: Tally) -> bytes:
    """The content of a file; nothing, and counted as bad, where it cannot be read."""
    try:
        return part.path.read_bytes()
    except OSError:
        tally.drop(UNREADABLE, str(part.path))
        return b""


def _decode(content: bytes, part: _Part, tally: Tally) -> str:
    """Source as text with `\\n` line ends; nothing, and counted as bad, where that is impossible."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except (SyntaxError, UnicodeDecodeError, LookupError):
        tally.drop(NOT_DECODABLE, str(part.path))
        return ""


def _cut(piece: _Piece, tally: Tally) -> Iterator[Document]:
    """The documents of a piece, numbered behind a `#` where it is more than one."""
    texts = [text for text in split_text(piece.text) if not text.isspace()]
    for number, text in enumerate(texts, start=1):
        marks = [piece.part] if piece.part else []
        marks += [f"{number:03d}"] if len(texts) > 1 else []
        document_id = "#".join([piece.source, "-".join(marks)]) if marks else piece.source
        try:
            tally.add(len(text.encode()))
        except UnicodeEncodeError:
            tally.drop(NOT_UTF8, document_id)
            continue
        yield Document(text, piece.domain, document_id)
