"""What the training methods of a recipe need, and whether it is there."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from miniplm.recipe import Recipe


def method_faults(recipe: "Recipe", name: str) -> list[str]:
    """What is wrong with the method of a student."""
    student, training = recipe.students[name], recipe.student_training(name)
    corpora, place = list(student.corpora), f"students.{name}.training"
    written = [corpus for corpus in corpora if corpus in recipe.generations]
    faults = []
    if training.method == "sparse_kd":
        faults += _capture_faults(recipe, name)
    if training.method == "seqkd" and not written:
        faults.append(
            f"{place}.method: seqkd trains on text that the teacher wrote; name a generation in "
            f"students.{name}.corpus (there is {', '.join(recipe.generations) or 'none'})"
        )
    kind = training.reweighting.kind
    if kind != "none" and (written or len(corpora) > 1):
        faults.append(
            f"{place}.reweighting.kind: {kind} goes by scores, which only candidates and "
            "selections have, one at a time"
        )
    if kind != "none" and training.method == "minillm":
        faults.append(f"{place}.reweighting.kind: minillm has no weights; remove it")
    if kind == "dynamic_tokens" and not recipe.scoring.per_token:
        faults.append(
            f"{place}.reweighting.kind: dynamic_tokens compares tokens; set scoring.per_token: true"
        )
    return faults


def _capture_faults(recipe: "Recipe", name: str) -> list[str]:
    student, training = recipe.students[name], recipe.student_training(name)
    place = f"students.{name}.training.capture"
    if training.capture not in recipe.captures:
        known = ", ".join(recipe.captures) or "none"
        return [f"{place}: sparse_kd needs a capture; given {training.capture!r}, there is {known}"]
    captured = recipe.captures[training.capture].corpus
    if student.corpora != {captured: 1.0}:
        return [
            f"{place}: {training.capture!r} belongs to the corpus {captured!r}, the student is "
            f"trained on {', '.join(student.corpora)}; they have to be the same"
        ]
    return []
