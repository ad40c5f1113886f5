"""Doing a stage's work once, so that it may be killed at any moment.

While a stage works, its folder holds a `partial.json` with the fingerprint of the work in progress,
so that a rerun knows whether the finished pieces in it are its own. What the recipe no longer asks
for, complete or half done, is set aside, not deleted, and comes back when the recipe does.
"""

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from miniplm.errors import ArtefactError
from miniplm.manifest import (
    MANIFEST_NAME,
    Manifest,
    Outcome,
    StageSpec,
    link,
    read_manifest,
    remove_folder,
    versions,
    write_json,
)

PARTIAL_NAME = "partial.json"


def run_stage(
    folder: Path,
    spec: StageSpec,
    work: Callable[[Path], Outcome],
    *,
    set_aside: Path | None = None,
    judged: Sequence[str] = (),
) -> Manifest:
    """Do a stage's work unless its output is already there.

    Args:
        folder: Where the stage writes. Finished pieces of the same spec found there are kept
            for `work` to skip.
        spec: What the output depends on.
        work: Does the work, given the folder.
        set_aside: Where the output of another spec is moved, and comes back from; without it
            such an output is an error.
        judged: Folders in it whose files say what they were made from, so that `work` judges each
            by itself: those of an output that is set aside are there for the new one, too.

    Raises:
        ArtefactError: The folder holds output of another spec and `set_aside` is not given, or
            it holds files that no stage of ours wrote.
    """
    existing = read_manifest(folder)
    if existing and existing.fingerprint == spec.fingerprint:
        return existing
    owner = existing.fingerprint if existing else _partial(folder).get("fingerprint")
    before = None
    if owner != spec.fingerprint:
        before = _make_room(folder, owner, existing, set_aside)
        restored = _restore(folder, spec, set_aside)
        if restored:
            return restored
    manifest = _work(folder, spec, work, [before / name for name in judged] if before else [])
    (folder / PARTIAL_NAME).unlink(missing_ok=True)
    return manifest


def _work(
    folder: Path, spec: StageSpec, work: Callable[[Path], Outcome], before: Sequence[Path]
) -> Manifest:
    earlier_seconds = _open_partial(folder, spec)
    for files in before:
        _take_over(files, folder / files.name)
    started = time.monotonic()
    try:
        outcome = work(folder)
    except BaseException:
        with contextlib.suppress(OSError):  # a full disk must not hide what went wrong
            _write_partial(folder, spec, earlier_seconds + time.monotonic() - started)
        raise
    manifest = Manifest(
        stage=spec.name,
        fingerprint=spec.fingerprint,
        config=spec.config,
        inputs=spec.inputs,
        counts=outcome.counts,
        num_tokens=outcome.num_tokens,
        flops=outcome.flops,
        facts=outcome.facts,
        seconds=round(earlier_seconds + time.monotonic() - started, 3),
        finished=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        versions=versions(),
    )
    write_json(folder / MANIFEST_NAME, asdict(manifest))
    for name in outcome.obsolete:
        if (folder / name).exists():
            remove_folder(folder / name)
    return manifest


def _aside_name(folder: Path, stage_fingerprint: str) -> str:
    return f"{folder.parent.name}-{folder.name}-{stage_fingerprint[:12]}"


def _make_room(
    folder: Path, owner: str | None, existing: Manifest | None, set_aside: Path | None
) -> Path | None:
    """Move away what another spec left in the folder; where to, if there was anything.

    Raises:
        ArtefactError: It is not ours, or there is no place for it.
    """
    left = [path for path in folder.glob("*") if not path.name.endswith(".tmp")]
    if not left:
        return None
    if owner is None:
        raise ArtefactError(
            f"{folder} holds files that are not from an unfinished stage of miniplm. "
            f"Choose an empty folder, or move them away."
        )
    if set_aside is None:
        stage = f"{existing.stage} made" if existing else "an unfinished stage"
        raise ArtefactError(
            f"{folder} already holds {stage} with another config or other inputs "
            f"(fingerprint {owner[:12]}). Choose another folder or remove this one."
        )
    set_aside.mkdir(parents=True, exist_ok=True)
    target = set_aside / _aside_name(folder, owner)
    if target.exists():
        remove_folder(target)
    folder.rename(target)
    return target


def _take_over(source: Path, target: Path) -> None:
    """Files of one folder in another, too; they are never written to, only replaced."""
    for path in sorted(source.glob("*")):
        if path.name.startswith(".") or not path.is_file():
            continue
        target.mkdir(exist_ok=True)
        if not (target / path.name).exists():
            link(path, target / path.name)


def _restore(folder: Path, spec: StageSpec, set_aside: Path | None) -> Manifest | None:
    """Bring back what was set aside for this spec; its manifest, if it is complete."""
    source = set_aside / _aside_name(folder, spec.fingerprint) if set_aside else None
    if source is None or not source.exists():
        return None
    if folder.exists():
        shutil.rmtree(folder)  # nothing but leftovers of a kill
    folder.parent.mkdir(parents=True, exist_ok=True)
    source.rename(folder)
    return read_manifest(folder)


def _partial(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / PARTIAL_NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _open_partial(folder: Path, spec: StageSpec) -> float:
    """Prepare the folder for work; returns the seconds that earlier tries of this spec took."""
    partial = _partial(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    if partial.get("fingerprint") == spec.fingerprint:
        return float(partial["seconds"])
    _write_partial(folder, spec, 0.0)
    return 0.0


def _sweep(folder: Path) -> None:
    """Remove what a killed process was still writing or removing."""
    for path in list(folder.rglob(".*.tmp")):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _write_partial(folder: Path, spec: StageSpec, seconds: float) -> None:
    write_json(
        folder / PARTIAL_NAME, {"fingerprint": spec.fingerprint, "seconds": round(seconds, 3)}
    )
