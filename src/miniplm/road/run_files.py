"""A run as the report sees it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from miniplm.recipe import CANDIDATES, Recipe
from miniplm.recipe_text import recipe_yaml
from miniplm.report.collect import RunFiles


def _origin(recipe: Recipe, name: str) -> str:
    """What a student is trained on, and how, in a few words."""
    student, training = recipe.students[name], recipe.student_training(name)
    words = {CANDIDATES: "all candidates"}
    words |= {corpus: f"selection {corpus!r}" for corpus in recipe.selections}
    words |= {corpus: f"generation {corpus!r}" for corpus in recipe.generations}
    words |= {
        name: f"{words[config.corpus]}, retokenised"
        for name, config in recipe.retokenizations.items()
    }
    parts = [words[corpus] for corpus in student.corpora]
    if len(parts) > 1:
        shares = student.corpora.values()
        parts = [f"{share:.0%} {part}" for part, share in zip(parts, shares, strict=True)]
    how: list[str] = [training.method] if training.method not in ("plain", "seqkd") else []
    if training.reweighting.kind != "none":
        how.append(f"{training.reweighting.kind} weights")
    return ", ".join([" and ".join(parts), *how])


def run_files(
    recipe: Recipe, run_dir: Path, stages: Sequence[str], foundations: Mapping[str, list[str]]
) -> RunFiles:
    """A run as the report sees it.

    Args:
        recipe: Of the run.
        run_dir: Its folder.
        stages: Names of its stages, in order.
        foundations: Of each student, the stages whose compute its training builds on.
    """
    scorers = {"teacher": recipe.teacher, "reference": recipe.reference}
    origins = {role: scorer.name or f"the {role} split" for role, scorer in scorers.items()}
    origins |= {name: _origin(recipe, name) for name in recipe.students}
    return RunFiles(
        run_dir=run_dir,
        title=recipe.name,
        stages=stages,
        origins=origins,
        selections=recipe.selections,
        recipe_yaml=recipe_yaml(recipe),
        foundations=foundations,
    )
