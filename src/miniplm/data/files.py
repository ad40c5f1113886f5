"""Which files a corpus is made of, and the names and domains that their paths give.

Paths are files, folders or globs. Folders are walked to the bottom in sorted order, links
followed, hidden files and folders left out; files in them that are of no known format are
counted and passed over, while a file that was named is expected to be readable.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from glob import glob
from itertools import takewhile
from pathlib import Path
from typing import Literal

from miniplm.errors import DocumentError

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
PARQUET_SUFFIXES = (".parquet", ".pq")
COMPRESSIONS = (".gz", ".zst")

Kind = Literal["json", "parquet", "text"]

_MAGIC = re.compile(r"[*?\[]")

# -000, _12, .00000-of-01024, and the hash that older `push_to_hub` put behind it
_SHARD_NUMBER = re.compile(r"[-_.]\d+(-of-\d+(-[0-9a-f]{16})?)?$")


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """One file to read.

    Args:
        path: Where it is.
        name: Its path below the given folder or glob, `/` between folders; ids start with it.
        stem: Its file name without compression and format extensions.
        kind: How its content is read.
        compression: `.gz`, `.zst`, or empty.
    """

    path: Path
    name: str
    stem: str
    kind: Kind
    compression: str

    @property
    def file_domain(self) -> str:
        """The stem without the number of a shard; the folder's name where that is all there is.

        `code-python-000.jsonl.zst` and `code-python-001.jsonl.zst` are of `code-python`.
        """
        domain = _SHARD_NUMBER.sub("", self.stem)
        return self.folder_domain if not domain or domain.isdecimal() else domain

    @property
    def folder_domain(self) -> str:
        """The name of the folder that the file is in."""
        return self.path.absolute().parent.name or self.stem


@dataclass(frozen=True, slots=True)
class _Found:
    name: str
    path: Path
    was_named: bool


def find_files(paths: Sequence[str], text_suffixes: Sequence[str]) -> tuple[list[CorpusFile], int]:
    """Turn paths into files, in the given order and sorted within each path.

    Args:
        paths: Files, folders and globs; a file reached twice is read once.
        text_suffixes: Extensions of files that are one document each.

    Returns:
        The files, and the number of other files in the given folders.

    Raises:
        DocumentError: Lists every path that leads to nothing readable.
    """
    files: dict[Path, CorpusFile] = {}
    faults: list[str] = []
    num_others = 0
    for given in paths:
        found, problems = _expand(given)
        faults += problems
        known = [(entry, _recognise(entry, text_suffixes)) for entry in found]
        others = [entry for entry, file in known if file is None]
        if others and (len(others) == len(known) or others[0].was_named):
            faults.append(_unknown_fault(given, others))
        num_others += len(others)
        for _, file in known:
            if file:
                files.setdefault(file.path.resolve(), file)
    if faults:
        raise DocumentError(_faults_message(faults, text_suffixes))
    return _uniquely_named(list(files.values())), num_others


def listed_files(folder: Path) -> list[tuple[str, Path]]:
    """Every file below a folder that is not hidden, as (path below the folder, path), sorted.

    Raises:
        DocumentError: A folder cannot be listed.
    """
    return sorted(_walk(folder, folder, set()))


def _expand(given: str) -> tuple[list[_Found], list[str]]:
    """The files that one given path leads to, and what is wrong with it."""
    path = Path(given).expanduser()
    if path.is_dir():
        found = [_Found(name, file, False) for name, file in listed_files(path)]
        return found, [] if found else [f"{given}: the folder is empty"]
    if path.exists():
        return [_Found(path.name, path, True)], []
    if not _MAGIC.search(given):
        return [], [f"{given}: no such file or folder (looked in {Path.cwd()})"]
    found = _matches(path)
    return found, [] if found else [f"{given}: no file matches (looked in {Path.cwd()})"]


def _matches(pattern: Path) -> list[_Found]:
    """The files that a glob leads to; their names start below its last folder without magic."""
    plain = takewhile(lambda part: not _MAGIC.search(part), pattern.parts)
    root = Path(*plain)
    paths: set[Path] = set()
    for match in map(Path, glob(str(pattern), recursive=True)):  # noqa: PTH207  (may be absolute)
        paths.update([path for _, path in listed_files(match)] if match.is_dir() else [match])
    return [_Found(path.relative_to(root).as_posix(), path, False) for path in sorted(paths)]


def _walk(folder: Path, root: Path, seen: set[Path]) -> Iterator[tuple[str, Path]]:
    """Files below a folder; `seen` keeps links that lead in a circle from being followed."""
    resolved = folder.resolve()
    if resolved in seen:
        return
    seen.add(resolved)
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DocumentError(f"{folder}: the folder cannot be listed ({error.strerror})") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(entry, root, seen)
        elif entry.is_file():
            yield entry.relative_to(root).as_posix(), entry


def _recognise(found: _Found, text_suffixes: Sequence[str]) -> CorpusFile | None:
    """The file with its format, or None where the extension is of no format that is read."""
    stem, compression = _cut_suffix(found.path.name, COMPRESSIONS)
    kinds: dict[Kind, Sequence[str]] = {
        "json": JSON_SUFFIXES, "parquet": PARQUET_SUFFIXES, "text": text_suffixes
    }  # fmt: skip
    for kind, suffixes in kinds.items():
        short, suffix = _cut_suffix(stem, suffixes)
        if suffix and not (kind == "parquet" and compression):
            return CorpusFile(found.path, _as_name(found.name), short, kind, compression)
    return None


def _cut_suffix(name: str, suffixes: Sequence[str]) -> tuple[str, str]:
    for suffix in suffixes:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)], suffix
    return name, ""


def _as_name(relative: str) -> str:
    # A '#' in a path must not make different files parts of one source.
    return relative.replace("#", "%23")


def _uniquely_named(files: list[CorpusFile]) -> list[CorpusFile]:
    """Give files of the same name in different given folders their whole path as a name."""
    counts = Counter(file.name for file in files)
    return [
        replace(file, name=_as_name(file.path.as_posix())) if counts[file.name] > 1 else file
        for file in files
    ]


def _faults_message(faults: Sequence[str], text_suffixes: Sequence[str]) -> str:
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    listed = "\n".join(f"  - {fault}" for fault in faults)
    lines, texts = ", ".join(JSON_SUFFIXES), ", ".join(text_suffixes) or "none"
    return (
        f"corpus.paths: {count}\n{listed}\n"
        f"Give files, folders or globs that lead to JSON lines ({lines}), Parquet "
        f"({', '.join(PARQUET_SUFFIXES)}) or text (corpus.text_suffixes: {texts}); "
        f"all but Parquet also with {' or '.join(COMPRESSIONS)} behind."
    )


def _unknown_fault(given: str, others: Sequence[_Found]) -> str:
    if others[0].was_named:
        return f"{given}: is of no known format"
    names = ", ".join(entry.name for entry in others[:3])
    more = f" and {len(others) - 3:,} more" if len(others) > 3 else ""
    return f"{given}: holds no file of a known format, only {names}{more}"
