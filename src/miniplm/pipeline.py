"""The walk along the road: do what is missing or no longer holds, skip the rest."""

import contextlib
import errno
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from miniplm.at_once import finish_students
from miniplm.errors import ArtefactError, ConfigError, StageNotReadyError
from miniplm.manifest import (
    Manifest,
    Outcome,
    StageSpec,
    changed_fields,
    read_manifest,
    write_atomically,
)
from miniplm.preflight import preflight
from miniplm.recipe import Recipe, load_recipe
from miniplm.recipe_text import recipe_yaml
from miniplm.road.road import Road
from miniplm.road.step import Step
from miniplm.runtime.lock import locked
from miniplm.runtime.log import logger
from miniplm.runtime.team import Team, world_size
from miniplm.stage_runner import run_stage

KINDS = (
    "tokenize", "duplicates", "distinct", "group", "train", "score", "diagnose", "select",
    "describe", "export", "generate", "retokenize", "capture", "evaluate", "study", "report",
)  # fmt: skip
RECIPE_NAME = "used_recipe.yaml"
_SUPERSEDED = "superseded"
_TRAIN, _DONE = "train", "done"
_OF_STUDENTS = ("train", "evaluate")
"""Steps that a student's process does."""


def run(
    recipe: Recipe, kinds: Sequence[str] = KINDS, only: str | None = None, *, at_once: int = 1
) -> list[Manifest]:
    """Walk the road: do what is missing or no longer holds, skip the rest.

    Args:
        recipe: What to run.
        kinds: Stages to do; the others they build on have to be complete.
        only: Name of one instance, such as `teacher`, among steps of these kinds.
        at_once: How many students are trained and evaluated at the same time.

    Returns:
        Manifests of the steps asked for, in order.

    Raises:
        ConfigError: There is no such instance, or several processes were started together and
            are to train students at the same time.
        StageNotReadyError: A stage that is not among `kinds` is missing.
        ArtefactError: Another process works in the same folder.
        MiniPLMError: Whatever a stage raises.
    """
    if at_once > 1 and world_size() > 1:
        fault = f"is {at_once}, and {world_size()} processes train each student together; give 1"
        raise ConfigError("--at-once", [fault])
    preflight(recipe)
    road = Road(recipe)
    steps = [step for step in road.steps if step.kind in kinds]
    if not steps:
        there = ", ".join(dict.fromkeys(step.kind for step in road.steps))
        asked = " or ".join(kinds)
        logger.warning("nothing to do: the recipe has no %s step; it has %s", asked, there)
    if only is not None:
        names = [step.instance for step in steps]
        if only not in names:
            known = ", ".join(dict.fromkeys(names))
            choice = f"choose one of {known}" if any(names) else "leave it out"
            raise ConfigError("--only", [f"there is no {only!r} here; {choice}"])
        steps = [step for step, name in zip(steps, names, strict=True) if name == only]
    team = Team()
    try:
        if not team.is_main:
            with road.known.in_use():
                return [_help(step, team) for step in steps]
        with locked(road.run_dir, "run_dir"), road.known.in_use():
            _check_ready(steps)
            write_atomically(road.run_dir / RECIPE_NAME, recipe_yaml(recipe))
            road.known.save()
            return list(_walk(steps, road, team, at_once))
    finally:
        team.part()


def finish_student(run_dir: Path, student: str) -> None:
    """Train and evaluate one student of a run that another process walks.

    Args:
        run_dir: Folder of the run.
        student: Its name.

    Raises:
        MiniPLMError: Whatever a stage raises.
    """
    road, team = Road(load_recipe(run_dir / RECIPE_NAME)), Team()
    with road.known.in_use():
        for step in road.steps:
            if step.kind in _OF_STUDENTS and step.instance == student:
                _do(step, road, team)


def _walk(steps: Sequence[Step], road: Road, team: Team, at_once: int) -> Iterator[Manifest]:
    by_others: set[str] = set()
    for step in steps:
        if at_once > 1 and not by_others and _is_of_student(step, road.recipe):
            by_others = {each.name for each in steps if _is_of_student(each, road.recipe)}
            todo = [each for each in steps if each.name in by_others and not each.is_complete]
            if todo:
                students = list(dict.fromkeys(each.instance for each in todo))
                finish_students(road.run_dir, students, at_once)
        manifest = read_manifest(step.folder) if step.name in by_others else None
        yield _settled(step, manifest or _do(step, road, team))
        road.known.remember()


def _is_of_student(step: Step, recipe: Recipe) -> bool:
    return step.kind in _OF_STUDENTS and step.instance in recipe.students


def _check_ready(steps: Sequence[Step]) -> None:
    """Refuse to start where something outside of `steps` is missing."""
    coming = {step.name for step in steps}
    for step in steps:
        for needed in () if step.is_complete else step.needs:
            if needed.name in coming or needed.is_complete:
                continue
            needed = _first_missing(needed)  # noqa: PLW2901
            hint = f" --only {needed.instance}" if needed.instance else ""
            raise StageNotReadyError(
                f"{step.name} builds on {needed.name}, which is not complete for this recipe "
                f"({needed.folder}). Run `miniplm {needed.kind} RECIPE{hint}` first, or "
                "`miniplm run RECIPE` for everything."
            )


def _first_missing(step: Step) -> Step:
    """The step to begin with, for this one to become possible."""
    for needed in step.needs:
        if not needed.is_complete:
            return _first_missing(needed)
    return step


def _settled(step: Step, manifest: Manifest) -> Manifest:
    with _room_told(step):
        step.settle()
    return manifest


def _do(step: Step, road: Road, team: Team) -> Manifest:
    if step.is_complete:
        logger.info("%-20s complete, skipped", step.name)
        team.tell(_DONE)
        manifest = read_manifest(step.folder)
        assert manifest is not None
        return manifest
    _say_why(step)

    def work(folder: Path) -> Outcome:
        if step.kind == "train":
            team.tell(_TRAIN)
        return step.work(folder)

    with _room_told(step):
        manifest = run_stage(
            step.folder, step.spec, work, set_aside=road.run_dir / _SUPERSEDED, judged=step.judged
        )
    team.tell(_DONE)
    logger.info("%-20s done in %s%s", step.name, _duration(manifest.seconds), _dropped(manifest))
    return manifest


@contextlib.contextmanager
def _room_told(step: Step) -> Iterator[None]:
    """Say where a disk is full, which a library's message often does not."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        free = shutil.disk_usage(step.folder if step.folder.exists() else step.folder.parent).free
        raise ArtefactError(
            f"{step.name}: no room left on the disk of {step.folder} ({free / 1e6:,.1f} MB free). "
            "Make room and run again; what is complete is kept."
        ) from error


def _help(step: Step, team: Team) -> Manifest:
    """Take part in a step that another process does: only training takes more than one."""
    if team.tell() == _TRAIN:
        step.work(step.folder)
        team.tell()
    manifest = read_manifest(step.folder)
    assert manifest is not None
    return manifest


def _say_why(step: Step) -> None:
    existing = read_manifest(step.folder)
    if existing is None:
        logger.info("%-20s started", step.name)
        return
    changes = changed_fields(existing.config, step.spec.config)
    reason = "; ".join(changes[:4]) or _changed_inputs(step.spec, existing)
    logger.info("%-20s again, since %s", step.name, reason)


def _changed_inputs(spec: StageSpec, existing: Manifest) -> str:
    before, after = existing.inputs, spec.inputs
    names = ", ".join(name for name in {**before, **after} if before.get(name) != after.get(name))
    if not names:
        return "this version of miniplm makes it otherwise"
    return f"what it reads changed: {names}"


def _dropped(manifest: Manifest) -> str:
    dropped = manifest.counts.get("dropped") or {}
    parts = [f"{count} {reason}" for reason, count in dropped.items()]
    of = "documents" if manifest.stage == "tokenize" else "sequences"
    return f"; {of} left out: {', '.join(parts)}" if parts else ""


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"
