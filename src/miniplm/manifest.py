"""Manifests: what a finished stage leaves behind, with fingerprints chained over its inputs.

A folder is complete when it holds a `manifest.json` whose fingerprint is the one that a recipe asks
for. Files are written so that they are there whole or not at all.
"""

import contextlib
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from miniplm.errors import ArtefactError, StageNotReadyError

MANIFEST_NAME = "manifest.json"
_DEEPEST = 3
"""Folders between a file of a stage and its manifest, and one more."""
FORMAT_VERSION = 2
"""Raised when the same config would from now on give other bytes; redoes every stage."""

RECORDED_PACKAGES = (
    "miniplm", "torch", "transformers", "tokenizers", "gigatoken", "orjson", "accelerate", "numpy",
    "pyarrow", "polars", "scikit-learn", "scipy", "rensa", "lm_eval",
)  # fmt: skip


@dataclass(frozen=True)
class StageSpec:
    """What a stage's output depends on.

    Args:
        name: Kind and instance, such as `score/teacher`.
        config: The config fields that results depend on, as JSON values.
        inputs: Fingerprints of everything read, by role.
    """

    name: str
    config: Mapping[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits over name, config, inputs and format version."""
        return fingerprint(
            {
                "stage": self.name.partition("/")[0],
                "format": FORMAT_VERSION,
                "config": self.config,
                "inputs": self.inputs,
            }
        )


@dataclass(frozen=True)
class Outcome:
    """What a stage did, for its manifest.

    Args:
        counts: Things in, out and dropped (nested mappings of numbers).
        num_tokens: Tokens processed.
        flops: Floating-point operations, counted from the shapes.
        facts: Further figures that later stages or the report read.
        obsolete: Things in the folder to remove once the stage is complete.
    """

    counts: Mapping[str, Any] = field(default_factory=dict)
    num_tokens: int = 0
    flops: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)
    obsolete: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """The record of a completed stage.

    `seconds` sums over all tries that contributed to it, but for tries ended by SIGKILL.
    """

    stage: str
    fingerprint: str
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    counts: Mapping[str, Any]
    num_tokens: int
    flops: float
    facts: Mapping[str, Any]
    seconds: float
    finished: str
    versions: Mapping[str, str]


def fingerprint(content: object) -> str:
    """Hash of a JSON value, independent of the order of keys: 32 hexadecimal digits."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that it is there whole or not at all, a power cut included."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    data = content.encode() if isinstance(content, str) else content
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path to write to; renamed to `path` when the block ends without an error."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def link(source: Path, target: Path) -> None:
    """Make `target` another name of a file; a copy where the disk has no such thing."""
    with atomic_path(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copy2(source, temporary)


def write_json(path: Path, content: object) -> None:
    """Write JSON atomically, indented, keys in the given order."""
    write_atomically(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a complete stage folder, or None where the stage has not finished.

    Raises:
        ArtefactError: There is a manifest but it cannot be understood.
    """
    path = folder / MANIFEST_NAME
    try:
        return Manifest(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError, OSError) as error:
        raise ArtefactError(
            f"{path} is damaged ({error}). Delete the folder {folder} and run again."
        ) from error


def how_to_remake(
    path: Path, otherwise: str = "Make it again, or copy it again from where it came."
) -> str:
    """What to do about a damaged or missing file, in a sentence.

    Args:
        path: Of the file.
        otherwise: What to do if no stage has written it; one that is complete is not run again.
    """
    for folder in [*path.parents][:_DEEPEST]:
        with contextlib.suppress(ArtefactError):
            if manifest := read_manifest(folder):
                return f"Delete the folder {folder} and run {manifest.stage} again."
    return otherwise


def require_manifest(folder: Path, hint: str) -> Manifest:
    """Like `read_manifest`, but the stage has to be complete.

    Raises:
        StageNotReadyError: The stage has not finished; `hint` says what to do.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise StageNotReadyError(f"{folder} is not complete (it has no {MANIFEST_NAME}). {hint}")
    return manifest


def is_complete(folder: Path, spec: StageSpec) -> bool:
    """Whether the folder holds the finished output of exactly this spec."""
    manifest = read_manifest(folder)
    return manifest is not None and manifest.fingerprint == spec.fingerprint


def remove_folder(folder: Path) -> None:
    """Remove a folder so that it is there whole or not at all, also to a process that comes next.

    A kill half way leaves it under a hidden name, which the stage's next run sweeps up.
    """
    doomed = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(doomed, ignore_errors=True)  # of an earlier process of the same number
    folder.rename(doomed)
    shutil.rmtree(doomed)


def changed_fields(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of the fields that differ, with both values: `lr: 0.001 -> 0.002`.

    Of texts of several lines, such as a recipe, only the name.
    """
    changes = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            changes += changed_fields(before, after, f"{prefix}{key}.")
        elif before != after:
            is_long = any(isinstance(value, str) and "\n" in value for value in (before, after))
            values = "" if is_long else f": {before!r} -> {after!r}"
            changes.append(f"{prefix}{key}{values}")
    return changes


@cache
def versions() -> dict[str, str]:
    """Versions of Python, the platform and the packages that results may depend on."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in RECORDED_PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found
