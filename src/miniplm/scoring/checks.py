"""What does not go with predicted scores, or with a scorer that has a tokenizer of its own."""

from collections.abc import Collection, Mapping, Sequence

from miniplm.scoring.config import ScoringConfig
from miniplm.scoring.tables import PER_BYTE

NEEDS_TEACHER_LOSSES = ("dynamic", "dynamic_tokens")
"""Kinds of reweighting that read the teacher's own losses, not differences."""
NEEDS_SHARED_IDS = ("vanilla_kd", "sparse_kd", "seqkd", "minillm")
"""Methods by which teacher and student speak of the same ids."""


def proxy_faults(scoring: ScoringConfig, reweighting: Mapping[str, str]) -> list[str]:
    """What does not go with predicted scores.

    Args:
        scoring: How models score.
        reweighting: Kind of reweighting of each student.
    """
    if scoring.proxy is None:
        return []
    faults = []
    if scoring.per_token:
        faults.append(
            "scoring.per_token: scoring.proxy predicts scores of sequences, not of tokens; set one "
            "of them to its default"
        )
    faults += [
        f"students.{name}.training.reweighting.kind: {kind} compares the student with the "
        "teacher's own losses, of which scoring.proxy has only a few; use static or repeats, which "
        "go by differences, or score everything (scoring.proxy: null)"
        for name, kind in reweighting.items()
        if kind in NEEDS_TEACHER_LOSSES
    ]
    return faults


def own_token_faults(
    own: Collection[str],
    *,
    per_token: bool,
    methods: Mapping[str, str],
    reweighting: Mapping[str, str],
    normalizations: Mapping[str, str],
    teacher_writes: Sequence[str],
) -> list[str]:
    """What does not go with a teacher or reference that reads text in tokens of its own.

    Args:
        own: Of `teacher` and `reference`, those that do.
        per_token: Whether the scores of single tokens are kept.
        methods: Training method of each student.
        reweighting: Kind of reweighting of each student.
        normalizations: Places of the recipe where scores are compared, with what they are per.
        teacher_writes: Places of the recipe where the teacher gives ids or distributions.
    """
    faults = [
        f"{place}: {' and '.join(own)} read text in tokens of their own (tokenizer: own), which "
        f"are not those of the other model; per_byte compares them, {normalization} does not"
        for place, normalization in normalizations.items()
        if own and normalization != PER_BYTE
    ]
    if "teacher" not in own:
        return faults
    because = "and those of the teacher (teacher.tokenizer: own) are others than the run's"
    if per_token:
        faults.append(f"scoring.per_token: keeps scores of the run's tokens, {because}; remove it")
    faults += [
        f"students.{name}.training.method: {method} compares distributions over ids, {because}"
        for name, method in methods.items()
        if method in NEEDS_SHARED_IDS
    ]
    faults += [
        f"students.{name}.training.reweighting.kind: dynamic_tokens compares tokens, {because}"
        for name, kind in reweighting.items()
        if kind == "dynamic_tokens"
    ]
    faults += [f"{place}: the teacher would give ids, {because}" for place in teacher_writes]
    return faults
