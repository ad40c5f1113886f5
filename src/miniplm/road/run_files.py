"""A run as the report sees it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from miniplm.data.splits import CANDIDATES
from miniplm.recipe import Recipe, ScorerConfig
from miniplm.recipe_text import recipe_yaml
from miniplm.report.run_record import RunFiles


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


def _tokenizer(recipe: Recipe, name: str) -> str:
    """The tokenizer that a model reads: that of the run, a retokenization's, or its own."""
    config = recipe.config_of(name)
    if isinstance(config, ScorerConfig) and config.tokenizer == "own":
        return f"that of {config.name}"
    student = recipe.students.get(name)
    corpus = next(iter(student.corpora)) if student else CANDIDATES
    return recipe.tokenizer_of(corpus) or ""


def _groups(recipe: Recipe) -> list[list[str]]:
    """Students of one shape and tokenizer together, of a study those of one seed; all of them
    where no two are alike.
    """
    groups: dict[str, list[str]] = {}
    seeds = {member.name: member.seed for member in recipe.study.members} if recipe.study else {}
    for name, student in recipe.students.items():
        shape = student.model_dump_json(include={"config_from", "shape"})
        alike = f"{_tokenizer(recipe, name)} {shape} {seeds.get(name)}"
        groups.setdefault(alike, []).append(name)
    compared = [group for group in groups.values() if len(group) > 1]
    return compared or [list(recipe.students)]


def run_files(
    recipe: Recipe,
    run_dir: Path,
    candidates: Path,
    stages: Sequence[str],
    foundations: Mapping[str, list[str]],
) -> RunFiles:
    """A run as the report sees it.

    Args:
        recipe: Of the run.
        run_dir: Its folder.
        candidates: Folder of the token shards that are scored.
        stages: Names of its stages, in order.
        foundations: Of each student, the stages whose compute its training builds on.
    """
    scorers = {"teacher": recipe.teacher, "reference": recipe.reference}
    origins = {role: scorer.name or f"the {role} split" for role, scorer in scorers.items()}
    origins |= {name: _origin(recipe, name) for name in recipe.students}
    return RunFiles(
        run_dir=run_dir,
        candidates=candidates,
        title=recipe.name,
        stages=stages,
        origins=origins,
        selections=recipe.selections,
        recipe_yaml=recipe_yaml(recipe),
        foundations=foundations,
        groups=_groups(recipe),
        tokenizers={name: _tokenizer(recipe, name) for name in origins},
        proxy=recipe.scoring.proxy,
        study=recipe.study,
    )
