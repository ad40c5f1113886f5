"""What a training method needs of a recipe, and whether it is there."""

from collections.abc import Collection, Mapping

from miniplm.scoring.capture_config import CaptureConfig
from miniplm.training.config import TAUGHT, TrainingConfig


def method_faults(
    student: str,
    training: TrainingConfig,
    corpora: Collection[str],
    *,
    generations: Collection[str],
    retokenizations: Collection[str] = (),
    captures: Mapping[str, CaptureConfig],
    scored_per_token: bool,
    teacher_is_spread: bool,
) -> list[str]:
    """What is wrong with the method of a student.

    Args:
        student: Its name.
        training: How it is trained.
        corpora: What it is trained on.
        generations: Names of corpora that hold text of the teacher.
        retokenizations: Names of corpora with other tokens than the teacher's.
        captures: The recipe's captures.
        scored_per_token: Whether the scores of single tokens are kept.
        teacher_is_spread: Whether the teacher lies on several devices.
    """
    place, faults = f"students.{student}.training", []
    written = [corpus for corpus in corpora if corpus in generations]
    if retokenized := [corpus for corpus in corpora if corpus in retokenizations]:
        faults += _foreign_token_faults(place, training, retokenized[0])
    elif training.method == "sparse_kd":
        faults += _capture_faults(f"{place}.capture", training.capture, corpora, captures)
    if training.method == "seqkd" and not written:
        faults.append(
            f"{place}.method: seqkd trains on text that the teacher wrote; name a generation in "
            f"its corpus (there is {', '.join(generations) or 'none'})"
        )
    if training.method in TAUGHT and teacher_is_spread:
        faults.append(
            f"{place}.method: {training.method} runs the teacher on the student's device; with "
            "scoring.placement: spread use sparse_kd"
        )
    if training.method == "minillm":
        faults += [f"{place}.{fault}" for fault in on_policy_faults(training)]
    kind = training.reweighting.kind
    if kind == "dynamic_tokens" and training.reweighting.normalization == "per_byte":
        faults.append(
            f"{place}.reweighting.normalization: single tokens are compared as they are; remove it"
        )
    if kind != "none" and (written or len(corpora) > 1):
        faults.append(
            f"{place}.reweighting.kind: {kind} goes by scores, which only candidates and "
            "selections have, one at a time"
        )
    if kind == "dynamic_tokens" and not scored_per_token:
        faults.append(
            f"{place}.reweighting.kind: dynamic_tokens compares tokens; set scoring.per_token: true"
        )
    return faults


def _foreign_token_faults(place: str, training: TrainingConfig, corpus: str) -> list[str]:
    """What a student cannot do whose tokens are not the teacher's."""
    faults, kind = [], training.reweighting.kind
    if training.method in (*TAUGHT, "sparse_kd"):
        faults.append(
            f"{place}.method: {training.method} takes the teacher's probabilities of single "
            f"tokens, and those of {corpus!r} are another tokenizer's; use plain, seqkd, or "
            "reweighting by scores of whole sequences"
        )
    if kind == "dynamic_tokens":
        faults.append(
            f"{place}.reweighting.kind: dynamic_tokens compares losses of single tokens, and those "
            f"of {corpus!r} are another tokenizer's; use dynamic, with normalization: per_byte"
        )
    if kind == "dynamic" and training.reweighting.normalization != "per_byte":
        faults.append(
            f"{place}.reweighting.normalization: the tokens of {corpus!r} are another "
            "tokenizer's, so losses compare per byte only; set per_byte"
        )
    return faults


def on_policy_faults(training: TrainingConfig) -> list[str]:
    """What does not go with a student that writes its own text."""
    faults = []
    if training.parallel == "fsdp":
        faults.append(
            "parallel: minillm lets the student write token by token, for which every process "
            "needs all of it; use ddp"
        )
    if training.reweighting.kind != "none":
        faults.append(
            f"reweighting.kind: {training.reweighting.kind} goes by scores of rows, and minillm "
            "writes its own; remove it"
        )
    return faults


def _capture_faults(
    place: str,
    name: str | None,
    corpora: Collection[str],
    captures: Mapping[str, CaptureConfig],
) -> list[str]:
    if name is None or name not in captures:
        known = ", ".join(captures) or "none"
        return [f"{place}: sparse_kd needs a capture; given {name!r}, there is {known}"]
    captured = captures[name].corpus
    if list(corpora) != [captured]:
        fitting = [each for each, config in captures.items() if [config.corpus] == list(corpora)]
        hint = f"use {' or '.join(fitting)}" if fitting else "add one of what it is trained on"
        return [
            f"{place}: {name!r} belongs to the corpus {captured!r}, the student is trained on "
            f"{', '.join(corpora)}; {hint}"
        ]
    return []
