"""How teacher and reference come to their scores: from the models, or by a proxy."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from miniplm.manifest import Outcome, fingerprint
from miniplm.recipe import Recipe
from miniplm.road.models import Models, token_bytes
from miniplm.road.step import Corpus
from miniplm.scoring.proxy_bar import require_agreement
from miniplm.selection.config import SelectionConfig
from miniplm.selection.predicted import require_to_select
from miniplm.selection.row_tables import RowTables

SAMPLES_FOLDER = "sampled_scores"
"""In the run's folder: the teacher's own scores where a proxy predicts the rest."""


def scoring_order(recipe: Recipe) -> tuple[str, str]:
    """Teacher and reference in the order in which they score: a proxy reads the reference's."""
    return ("reference", "teacher") if recipe.scoring.proxy else ("teacher", "reference")


def score_settings(recipe: Recipe, role: str, models: Models) -> dict[str, Any]:
    """What the scores of a role depend on, its inputs aside."""
    scoring = recipe.scoring
    settings = {"scoring": scoring.fingerprinted(), **models.identity(role)}
    if scoring.proxy is None:
        return settings
    if role == "teacher":
        return {**settings, "proxy": scoring.proxy.fingerprinted(), "seed": recipe.seed}
    return {**settings, **({"states": True} if keeps_states(recipe, role) else {})}


def keeps_states(recipe: Recipe, role: str) -> bool:
    """Whether a role's scores come with hidden states."""
    proxy = recipe.scoring.proxy
    return role == "reference" and proxy is not None and proxy.features == "hidden"


def score_work(
    recipe: Recipe,
    role: str,
    models: Models,
    candidates: Corpus,
    run_dir: Path,
    inputs: Mapping[str, str],
) -> Callable[[Path], Outcome]:
    """The function that scores.

    Args:
        recipe: How.
        role: Who.
        models: Loads it.
        candidates: What it scores.
        run_dir: Of the run.
        inputs: Fingerprints of the corpus and, if it is trained here, of the model.
    """
    scoring, shards = recipe.scoring, candidates.shards

    def score(folder: Path) -> Outcome:
        from miniplm.scoring.scorer import score_shards

        return score_shards(
            models.load(role, scoring.dtype),
            shards,
            token_bytes(candidates.tokenizer),
            scoring,
            folder,
            states=keeps_states(recipe, role),
        )

    def predict(folder: Path) -> Outcome:
        from miniplm.scoring.proxy import score_by_proxy

        origin = {"dtype": scoring.dtype, **models.identity(role), **inputs}
        return score_by_proxy(
            models.load(role, scoring.dtype),
            shards,
            run_dir / "score/reference",
            token_bytes(candidates.tokenizer),
            scoring,
            recipe.seed,
            folder,
            run_dir / SAMPLES_FOLDER / fingerprint(origin)[:12],
        )

    return predict if scoring.proxy and role == "teacher" else score


def require_scores_to_select_by(
    recipe: Recipe, scores: Path, config: SelectionConfig, tables: RowTables
) -> None:
    """Refuse a selection by predicted scores that would keep too many wrong sequences.

    Args:
        recipe: Has the bar, if there is a proxy.
        scores: Folder of the teacher's score tables.
        config: The selection.
        tables: Those that it looks at.

    Raises:
        ArtefactError: The predicted scores rank too unlike the teacher's own.
    """
    if recipe.scoring.proxy is not None:
        require_to_select(scores, recipe.scoring.proxy, config, tables.groups)


def require_good_scores(recipe: Recipe, scores: Path, normalization: str) -> None:
    """Refuse to weight by scores that a proxy predicts, where it does not do so well enough.

    Args:
        recipe: Has the bar, if there is a proxy.
        scores: Folder of the teacher's score tables.
        normalization: What log-probabilities are divided by.

    Raises:
        ArtefactError: They rank too unlike the teacher's own.
    """
    if recipe.scoring.proxy is not None:
        require_agreement(scores, recipe.scoring.proxy, normalization)
