"""The steps that a study adds to a run: what is measured first, and its tables at the end."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from miniplm.manifest import Outcome, require_manifest
from miniplm.recipe import Recipe
from miniplm.road.models import Models, token_bytes
from miniplm.road.step import Corpus, Step
from miniplm.road.steps import Steps
from miniplm.training.config import HELD_APART

if TYPE_CHECKING:
    from miniplm.study.diagnosis import HeldApart

DIAGNOSE = "diagnose"
STUDY = "study"
"""Names of the steps, and of their folders."""
STUDY_FORMAT = 6
"""Raised when the tables say more from the same results."""


def add_diagnosis(
    recipe: Recipe,
    steps: Steps,
    models: Models,
    candidates: Corpus,
    needs: Mapping[str, Step],
    inputs: Mapping[str, str],
) -> Step:
    """The teacher first: add what is measured before the students are trained.

    Args:
        recipe: With a study.
        steps: The step is added here.
        models: With the students held apart, if there are any.
        candidates: What was scored.
        needs: The two scorings, by name.
        inputs: Fingerprints of what the candidates follow from.
    """
    study = recipe.study
    assert study is not None
    own = "own" in (recipe.teacher.tokenizer, recipe.reference.tokenizer)
    folders = (needs["score/teacher"].folder, needs["score/reference"].folder)
    everything = dict(needs)
    for name in recipe.held_apart:
        everything[name] = models.needed(name, {})["model"]

    def work(folder: Path) -> Outcome:
        from miniplm.study.diagnosis import diagnose

        return diagnose(
            candidates.shards,
            folders,
            "per_byte" if own else "per_token",
            _held_apart(recipe, models, candidates),
            recipe.scoring,
            folder,
        )

    settings: dict[str, object] = {"gain_rows": study.gain_rows, "seed": recipe.seed}
    settings["dtype"] = recipe.scoring.dtype
    return steps.add(DIAGNOSE, settings, everything, work, dict(inputs))


def _held_apart(recipe: Recipe, models: Models, candidates: Corpus) -> "HeldApart | None":
    from miniplm.study.diagnosis import LONGER, SHORTER, HeldApart

    if not recipe.held_apart or recipe.study is None:
        return None
    names = dict(zip((SHORTER, LONGER), HELD_APART, strict=True))
    return HeldApart(
        load=lambda name: models.load(names[name], recipe.scoring.dtype),
        num_rows=recipe.study.gain_rows,
        seed=recipe.seed,
        token_num_bytes=lambda: token_bytes(candidates.tokenizer),
    )


def add_study(
    recipe: Recipe, steps: Steps, diagnosis: Step, evaluations: Mapping[str, Step]
) -> Step:
    """The tables over all students of a study.

    Args:
        recipe: With a study.
        steps: The step is added here.
        diagnosis: What was measured before.
        evaluations: Of every model, by its name.
    """
    study = recipe.study
    assert study is not None
    names = ["teacher", "reference", *(member.name for member in study.members)]
    needs = {name: evaluations[name] for name in names}

    def work(folder: Path) -> Outcome:
        from miniplm.study.writer import write_study

        said = require_manifest(diagnosis.folder, "Run `miniplm diagnose` first.")
        sentences = said.facts["sentences"]
        return write_study(steps.run_dir, study, recipe.name, sentences, folder)

    members = [[member.method, member.size, member.seed] for member in study.members]
    settings: dict[str, object] = {
        "name": recipe.name, "members": members, "format": STUDY_FORMAT,
    }  # fmt: skip
    return steps.add(STUDY, settings, {**needs, DIAGNOSE: diagnosis}, work)
