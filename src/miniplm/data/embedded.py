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

import io
import platform
import sys
import tokenize
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from miniplm.data.embedded_files import (
    Listing,
    Part,
    PythonInstall,
    list_install,
    this_python,
    to_disassemble,
)
from miniplm.data.embedded_text import (
    bytecode_listing,
    character_lines,
    help_topics,
    separate,
    split_text,
)
from miniplm.data.readers import NOT_UTF8
from miniplm.data.records import Document, DocumentTally, in_share
from miniplm.manifest import fingerprint

RECIPE = 1
"""Raised when the same installation would from now on give other documents."""

NOT_DECODABLE = "not text in its declared encoding"
UNREADABLE = "cannot be read"

MIN_CHARACTERS = 64
"""Shorter pieces (empty `__init__.py` files, for the most part) are no documents."""

_LISTING_PER_SOURCE_BYTE = 4  # how much longer bytecode is than the source it is made from
_UNICODE_BYTES = 1_500_000
_CHARACTERS_PER_DOCUMENT = 256

_TOPICS = "pydoc_data/topics.py"
_TABLE_MODULES = {"html/entities.py", "stringprep.py"}
_TABLE_MARKS = ("decoding_table", "decoding_map")


@dataclass(frozen=True, slots=True)
class _Piece:
    """A text before it is cut into documents; `part` tells pieces of one source apart."""

    source: str
    part: str
    domain: str
    text: str


def embedded_documents(
    tally: DocumentTally, share: float = 1.0, install: PythonInstall | None = None
) -> Iterator[Document]:
    """The documents of the embedded corpus, always in the same order.

    Args:
        tally: Counts good documents, and files that cannot be read or decoded.
        share: The share of sources to take.
        install: The Python to read; the running one by default.

    Raises:
        DocumentError: The installation carries no library source.
    """
    listing = list_install(install or this_python())

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
    listing = list_install(install or this_python())
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
    listing = list_install(install or this_python())
    whole = sum(part.size for part in (*listing.library, *listing.headers))
    bytecode = sum(part.size for part in to_disassemble(listing))
    samples = sum(part.size for part in (*listing.tests, *listing.vendored))
    return whole + samples + _LISTING_PER_SOURCE_BYTE * bytecode + _UNICODE_BYTES


def _pieces(
    listing: Listing, wanted: Callable[[str], bool], tally: DocumentTally
) -> Iterator[_Piece]:
    disassembled = {part.name for part in to_disassemble(listing)}
    for part in listing.library:
        if part.name == _TOPICS:
            yield from _topics(part, wanted, tally)
        elif wanted(part.name):
            yield from _module(part, part.name in disassembled, tally)
    for domain, parts in (("library-tests", listing.tests), ("c-headers", listing.headers)):
        for part in filter(lambda part: wanted(part.name), parts):
            text = _decode(_read(part, tally), part, tally)
            yield _Piece(part.name, "", domain, text)
    yield from _vendored([part for part in listing.vendored if wanted(part.name)], tally)
    yield from _characters(wanted)


def _module(part: Part, disassemble: bool, tally: DocumentTally) -> Iterator[_Piece]:
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


def _topics(part: Part, wanted: Callable[[str], bool], tally: DocumentTally) -> Iterator[_Piece]:
    try:
        topics = help_topics(_read(part, tally))
    except (SyntaxError, ValueError):
        tally.drop(UNREADABLE, str(part.path))
        return
    for name, text in sorted(topics.items()):
        source = f"pydoc_data/topics/{name}"
        if wanted(source):
            yield _Piece(source, "", "help-topics", text)


def _vendored(parts: Sequence[Part], tally: DocumentTally) -> Iterator[_Piece]:
    for wheel in sorted({part.path for part in parts}):
        try:
            archive = zipfile.ZipFile(wheel)
        except (OSError, zipfile.BadZipFile):
            tally.drop(UNREADABLE, str(wheel))
            continue
        with archive:
            for part in (part for part in parts if part.path == wheel):
                try:
                    content = archive.read(part.name)
                except (OSError, zipfile.BadZipFile, zlib.error):
                    tally.drop(UNREADABLE, f"{wheel}/{part.name}")
                    continue
                yield _Piece(part.name, "", "vendored-code", _decode(content, part, tally))


def _characters(wanted: Callable[[str], bool]) -> Iterator[_Piece]:
    for first in range(0, sys.maxunicode + 1, _CHARACTERS_PER_DOCUMENT):
        source = f"unicodedata/U+{first:04X}"
        if wanted(source):
            text = character_lines(range(first, first + _CHARACTERS_PER_DOCUMENT))
            yield _Piece(source, "", "unicode-names", text)


def _read(part: Part, tally: DocumentTally) -> bytes:
    """The content of a file; nothing, and counted as bad, where it cannot be read."""
    try:
        return part.path.read_bytes()
    except OSError:
        tally.drop(UNREADABLE, str(part.path))
        return b""


def _decode(content: bytes, part: Part, tally: DocumentTally) -> str:
    """Source as text, lines ended by newlines; nothing, and counted as bad, where it cannot be."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except (SyntaxError, UnicodeDecodeError, LookupError):
        tally.drop(NOT_DECODABLE, str(part.path))
        return ""


def _cut(piece: _Piece, tally: DocumentTally) -> Iterator[Document]:
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
