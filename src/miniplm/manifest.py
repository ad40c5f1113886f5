"""Completion: fingerprints chained over inputs and config, and a manifest written last.

A stage writes into one folder. The folder is complete when it holds a `manifest.json` whose
fingerprint is the one the recipe asks for. Until then it holds a `partial.json` with the
fingerprint of the work in progress, so that a rerun knows whether the finished pieces in it are
its own. A complete folder that the recipe no longer asks for is set aside under `superseded/`,
not deleted, and comes back when the recipe does.
"""

import contextlib
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from miniplm.errors import ArtefactError, StageNotReadyError

MANIFEST_NAME = "manifest.json"
PARTIAL_NAME = "partial.json"
FORMAT_VERSION = 1
"""Raised when the same config would from now on give other bytes; redoes every stage."""

RECORDED_PACKAGES = (
    "miniplm", "torch", "transformers", "tokenizers", "accelerate", "numpy", "pyarrow", "polars",
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
    """

    counts: Mapping[str, Any] = field(default_factory=dict)
    num_tokens: int = 0
    flops: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """The record of a completed stage; `seconds` sums over all runs that contributed to it."""

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


def fingerprint_files(paths: list[Path]) -> str:
    """Fingerprint of files by name, size and time of change; contents are not read.

    Raises:
        ArtefactError: A file does not exist.
    """
    entries = []
    for path in paths:
        try:
            status = path.stat()
        except OSError as error:
            raise ArtefactError(f"{path}: cannot be read ({error.strerror})") from error
        entries.append([path.name, status.st_size, status.st_mtime_ns])
    return fingerprint(entries)


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
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, OSError) as error:
        raise ArtefactError(
            f"{path} is damaged ({error}). Delete the folder {folder} and run again."
        ) from error


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


def run_stage(
    folder: Path, spec: StageSpec, work: Callable[[Path], Outcome], *, set_aside: Path | None = None
) -> Manifest:
    """Do a stage's work unless its output is already there.

    Args:
        folder: Where the stage writes. Finished pieces of the same spec found there are kept
            for `work` to skip; anything else is set aside or removed first.
        spec: What the output depends on.
        work: Does the work, given the folder.
        set_aside: Where a complete output of another spec is moved; without it such an output
            is an error.

    Raises:
        ArtefactError: The folder holds a complete output of another spec and `set_aside` is not
            given, or it holds files that no stage of ours wrote.
    """
    existing = read_manifest(folder)
    if existing and existing.fingerprint == spec.fingerprint:
        return existing
    _make_room(folder, existing, set_aside)
    if set_aside and not folder.exists() and _restore(folder, spec, set_aside):
        restored = read_manifest(folder)
        assert restored is not None
        return restored
    earlier_seconds = _open_partial(folder, spec)
    started = time.monotonic()
    try:
        outcome = work(folder)
    finally:
        seconds = earlier_seconds + time.monotonic() - started
        if folder.exists():
            _write_partial(folder, spec, seconds)
    manifest = Manifest(
        stage=spec.name,
        fingerprint=spec.fingerprint,
        config=spec.config,
        inputs=spec.inputs,
        counts=outcome.counts,
        num_tokens=outcome.num_tokens,
        flops=outcome.flops,
        facts=outcome.facts,
        seconds=round(seconds, 3),
        finished=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        versions=versions(),
    )
    write_json(folder / MANIFEST_NAME, asdict(manifest))
    (folder / PARTIAL_NAME).unlink(missing_ok=True)
    return manifest


def _aside_name(folder: Path, stage_fingerprint: str) -> str:
    return f"{folder.parent.name}-{folder.name}-{stage_fingerprint[:12]}"


def _make_room(folder: Path, existing: Manifest | None, set_aside: Path | None) -> None:
    if existing is None:
        return
    if set_aside is None:
        raise ArtefactError(
            f"{folder} already holds {existing.stage} made with another config or other inputs "
            f"(fingerprint {existing.fingerprint[:12]}). Choose another folder or remove this one."
        )
    set_aside.mkdir(parents=True, exist_ok=True)
    target = set_aside / _aside_name(folder, existing.fingerprint)
    shutil.rmtree(target, ignore_errors=True)
    folder.rename(target)


def _restore(folder: Path, spec: StageSpec, set_aside: Path) -> bool:
    source = set_aside / _aside_name(folder, spec.fingerprint)
    if not source.exists() or not is_complete(source, spec):
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    source.rename(folder)
    return True


def _open_partial(folder: Path, spec: StageSpec) -> float:
    """Prepare the folder for work; returns the seconds that earlier tries of this spec took."""
    path = folder / PARTIAL_NAME
    try:
        partial = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        partial = {}
    if partial.get("fingerprint") == spec.fingerprint:
        return float(partial["seconds"])
    if folder.exists() and any(folder.iterdir()):
        if not partial:
            raise ArtefactError(
                f"{folder} holds files that are not from an unfinished stage of miniplm. "
                f"Choose an empty folder, or move them away."
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _write_partial(folder, spec, 0.0)
    return 0.0


def _write_partial(folder: Path, spec: StageSpec, seconds: float) -> None:
    write_json(
        folder / PARTIAL_NAME, {"fingerprint": spec.fingerprint, "seconds": round(seconds, 3)}
    )


def changed_fields(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of the fields that differ, with both values: `lr: 0.001 -> 0.002`."""
    changes = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            changes += changed_fields(before, after, f"{prefix}{key}.")
        elif before != after:
            changes.append(f"{prefix}{key}: {before!r} -> {after!r}")
    return changes


@cache
def versions() -> dict[str, str]:
    """Versions of Python, the platform and the packages that results may depend on."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in RECORDED_PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found
