"""The steps that ask models the tasks of lm-evaluation-harness."""

from collections.abc import Callable
from pathlib import Path

from miniplm.evaluation.asked_tasks import item_fingerprints, step_settings
from miniplm.evaluation.task_tables import ITEMS_FOLDER
from miniplm.manifest import Outcome
from miniplm.recipe import Recipe
from miniplm.road.models import Models
from miniplm.road.step import TASKS, Step
from miniplm.road.steps import Steps


def add_task_steps(recipe: Recipe, steps: Steps, models: Models) -> list[Step]:
    """A step for each compared model, `tasks/<model>`; none where no tasks are asked for."""
    if not recipe.evaluation.tasks:
        return []
    return [_add(recipe, steps, models, name) for name in models.compared]


def _add(recipe: Recipe, steps: Steps, models: Models, name: str) -> Step:
    return steps.add(
        f"{TASKS}/{name}",
        {**step_settings(recipe.evaluation), **models.identity(name)},
        models.needed(name, {}),
        _work(recipe, models, name),
        item_fingerprints(recipe.evaluation),
        judged=(ITEMS_FOLDER,),
    )


def _work(recipe: Recipe, models: Models, name: str) -> Callable[[Path], Outcome]:
    def work(folder: Path) -> Outcome:
        from miniplm.evaluation.tasks import evaluate_tasks

        evaluation = recipe.evaluation
        scorer, tokenizer = models.load_with_tokenizer(name, evaluation.dtype)
        return evaluate_tasks(scorer, tokenizer, evaluation, folder, recipe.scoring.memory_gb)

    return work
