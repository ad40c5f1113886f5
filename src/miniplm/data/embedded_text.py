"""Text out of Python's own parts: source taken apart, bytecode listed, characters named.

Pure functions. Source is scanned with one regular expression rather than parsed: several times
as fast, and source of another version than the running Python's is no obstacle.
"""

import ast
import dis
import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from inspect import cleandoc
from types import CodeType

MAX_CHARACTERS = 60_000
"""Longest piece that `split_text` gives; a long source becomes several documents."""

_TOKEN = re.compile(
    r"[rRbBuUfFtT]{0,2}(?:"
    r"'''(?:[^'\\]|\\.|'(?!''))*'''"
    r'|"""(?:[^"\\]|\\.|"(?!""))*"""'
    r"|'(?:[^'\\\n]|\\.)*'"
    r'|"(?:[^"\\\n]|\\.)*")'
    r"|#[^\n]*|[\[({]|[\])}]",
    re.DOTALL,
)
_QUOTES = re.compile(r"^[rRbBuUfFtT]{0,2}('''|\"\"\"|'|\")")
_HEADING = re.compile(r"^[ \t]*((?:async\s+def|def|class)\s+\w+[^\n]*?):?[ \t]*$", re.MULTILINE)
_NOT_PROSE = re.compile(r"^#(!|.*coding[:=]|\s*(type|noqa|pragma|pylint|fmt)\b:?|[\W_]*$)")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_NEXT_CODE = re.compile(r"\n([ \t]*)[^\s#]")
_BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*){2,}\n")


@dataclass(slots=True)
class _Scan:
    """Places of the prose in a source: docstrings (whole lines) and comments, as (start, end)."""

    docstrings: list[tuple[int, int]] = field(default_factory=list)
    comments: list[tuple[int, int]] = field(default_factory=list)


def separate(source: str) -> tuple[str, str]:
    r"""Take Python source apart, so that no text is in both halves.

    Args:
        source: Python source with `\n` line ends.

    Returns:
        Prose: docstrings and comments in their order, each docstring under the line of the
        function or class it belongs to. Code: what is left when they are taken out, with `pass`
        where nothing else stood.

    Example:
        >>> separate('def double(x):\n    "Twice x."\n    return 2 * x  # exact\n')
        ('def double(x)\n\nTwice x.\n\nexact\n', 'def double(x):\n    return 2 * x\n')
    """
    scan = _scan(source)
    return _prose(source, scan), _code(source, scan)


def _scan(source: str) -> _Scan:
    scan = _Scan()
    depth = 0
    for token in _TOKEN.finditer(source):
        first = source[token.start()]
        if first == "#":
            scan.comments.append(token.span())
        elif first in "([{":
            depth += 1
        elif first in ")]}":
            depth -= 1
        elif depth == 0 and _stands_alone(source, token.start(), token.end()):
            scan.docstrings.append(token.span())
    return scan


def _stands_alone(source: str, start: int, end: int) -> bool:
    """Whether a string outside brackets is a statement of its own, on lines of its own."""
    line_start = source.rfind("\n", 0, start) + 1
    behind = source[end : _line_end(source, end)]
    continued = source[:line_start].endswith("\\\n")
    return not (source[line_start:start].strip() or behind.strip() or continued)


def _prose(source: str, scan: _Scan) -> str:
    headings = [(match.start(), match.group(1)) for match in _HEADING.finditer(source)]
    spans = [(start, end, True) for start, end in scan.docstrings]
    spans += [(start, end, False) for start, end in scan.comments]
    paragraphs: list[str] = []
    next_heading = 0
    comment_end = -1
    for start, end, is_docstring in sorted(spans):
        text = _docstring_text(source[start:end]) if is_docstring else source[start:end]
        if is_docstring:
            heading = ""
            while next_heading < len(headings) and headings[next_heading][0] < start:
                heading = headings[next_heading][1]
                next_heading += 1
            paragraphs += [heading, text] if heading else [text]
        elif not _NOT_PROSE.match(text):
            line = text.lstrip("#").strip()
            # Comments with nothing but an indentation between them are one paragraph.
            if comment_end >= 0 and not source[comment_end:start].strip() and paragraphs:
                paragraphs[-1] += "\n" + line
            else:
                paragraphs.append(line)
            comment_end = end
            continue
        comment_end = -1
    kept = [paragraph for paragraph in paragraphs if paragraph]
    return "\n\n".join(kept) + "\n" if kept else ""


def _docstring_text(literal: str) -> str:
    quotes = _QUOTES.match(literal)
    assert quotes
    return cleandoc(literal[quotes.end() : -len(quotes.group(1))]).strip()


def _code(source: str, scan: _Scan) -> str:
    parts: list[str] = []
    position = 0
    last = ""  # the last character of code so far
    docstrings = set(scan.docstrings)
    for start, end in sorted([*scan.docstrings, *scan.comments]):
        kept = source[position:start]
        last = kept.rstrip()[-1:] or last
        line_start = kept.rfind("\n") + 1
        line_end = _line_end(source, end)
        position = end
        if (start, end) in docstrings and last == ":" and _block_ends(source, start, end):
            kept += "pass"
        elif not kept[line_start:].strip() and not source[end:line_end].strip():
            kept, position = kept[:line_start], line_end + 1  # a line of prose goes as a whole
        parts.append(kept)
    parts.append(source[position:])
    lines = "\n".join(line.rstrip() for line in "".join(parts).split("\n"))
    return _BLANK_LINES.sub("\n\n\n", lines).strip("\n") + "\n"


def _line_end(source: str, position: int) -> int:
    end = source.find("\n", position)
    return end if end >= 0 else len(source)


def _block_ends(source: str, start: int, end: int) -> bool:
    """Whether nothing of the block that a docstring opens follows it."""
    indentation = start - source.rfind("\n", 0, start) - 1
    following = _NEXT_CODE.search(source, end)
    return following is None or len(following.group(1)) < indentation


def split_text(text: str, limit: int = MAX_CHARACTERS) -> list[str]:
    """Cut a text at line ends into pieces of at most `limit` characters.

    A line longer than that is cut inside. The pieces joined give the text again.
    """
    pieces = []
    start = 0
    while len(text) - start > limit:
        cut = text.rfind("\n", start, start + limit) + 1
        cut = cut if cut > start else start + limit
        pieces.append(text[start:cut])
        start = cut
    return [*pieces, text[start:]]


def help_topics(source: bytes) -> dict[str, str]:
    """The texts in `pydoc_data/topics.py`, one dictionary of strings, without running it.

    Raises:
        SyntaxError: It is not Python.
        ValueError: It does not end with the assignment of a constant.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        body = ast.parse(source).body
    if not body or not isinstance(body[-1], ast.Assign):
        raise ValueError("no assignment at the end")
    return dict(ast.literal_eval(body[-1].value))


def bytecode_listing(source: bytes, name: str) -> str:
    """What `dis` shows of a module, without anything that differs between two processes.

    Raises:
        SyntaxError: The running Python cannot compile the source.
        ValueError: The source holds null bytes.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code = compile(source, name, "exec", dont_inherit=True, optimize=0)
    return "\n".join(_listing_lines(code))


def _listing_lines(code: CodeType) -> Iterator[str]:
    yield f"Disassembly of {code.co_qualname}:"
    for instruction in dis.get_instructions(code):
        line = f"{instruction.offset:>8} {instruction.opname}"
        if instruction.arg is not None:
            is_constant = instruction.opcode in dis.hasconst
            shown = _constant(instruction.argval) if is_constant else instruction.argrepr
            line = f"{line:<32} {instruction.arg:>5} {f'({shown})' if shown else ''}".rstrip()
        yield _ADDRESS.sub("", line)
    yield ""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _listing_lines(constant)


def _constant(value: object) -> str:
    """A constant's representation, cut to a line; sets sorted, since their order is random."""
    if isinstance(value, CodeType):
        return f"<code {value.co_qualname}>"
    if isinstance(value, frozenset):
        return f"frozenset({{{', '.join(sorted(map(_constant, value)))}}})"
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def character_lines(codes: Iterable[int]) -> str:
    """One line per named character: itself, code point, name, category, decomposition.

    Characters whose name is made from their number alone (ideographs, syllables) are left out.
    """
    lines = []
    for code in codes:
        character = chr(code)
        name = unicodedata.name(character, "")
        if name and not name.endswith(f"{code:04X}") and not name.startswith("HANGUL SYLLABLE"):
            rest = f"{unicodedata.category(character)}  {unicodedata.decomposition(character)}"
            lines.append(f"{character}  U+{code:04X}  {name}  {rest}".rstrip() + "\n")
    return "".join(lines)
