"""Running a study, looking at one that is not finished, and taking its results elsewhere."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from miniplm.errors import ArtefactError, ConfigError
from miniplm.manifest import MANIFEST_NAME
from miniplm.pipeline import RECIPE_NAME, run
from miniplm.recipe import Recipe
from miniplm.road.road import Road
from miniplm.road.study import STUDY
from miniplm.runtime.team import rank
from miniplm.study.tables import summary_lines
from miniplm.study.writer import study_outcome
from miniplm.training.metrics import METRICS_NAME

_SMALL = (MANIFEST_NAME, METRICS_NAME)
"""Files of every stage that are worth taking along."""
_WHOLE = (STUDY, "report")


@dataclass(frozen=True)
class StudyView:
    """A study as it is shown.

    Args:
        run_dir: Folder of the run.
        lines: The table over seeds, the headings first.
        sentences: What it says.
    """

    run_dir: Path
    lines: Sequence[Sequence[str]]
    sentences: Sequence[str]


def run_study(recipe: Recipe, *, so_far: bool = False, at_once: int = 1) -> StudyView | None:
    """Run a recipe with a study, and compare its students.

    Args:
        recipe: With a section `study`.
        so_far: Run nothing, and show what is finished.
        at_once: How many students are trained at the same time.

    Returns:
        None in all but the first of several processes.

    Raises:
        ConfigError: The recipe has no study.
        MiniPLMError: Whatever a stage raises.
    """
    study = recipe.study
    if study is None:
        raise ConfigError(
            "the recipe",
            [
                "study: is required here and was not given; list seeds, sizes and methods "
                "(examples/study_small.yaml), or use `miniplm run`"
            ],
        )
    if not so_far:
        run(recipe, at_once=at_once)
    if rank() > 0:
        return None
    road = Road(recipe)
    done = {step.name for step in road.steps if step.is_complete}
    finished = [
        member.name
        for member in study.members
        if {f"train/{member.name}", f"evaluate/{member.name}"} <= done
    ]
    outcome = study_outcome(road.run_dir, study, finished)
    of = f"{len(finished)} of {len(study.members)} students are finished."
    sentences = [of, *outcome.sentences] if so_far else outcome.sentences
    return StudyView(road.run_dir, summary_lines(outcome.summaries), sentences)


def check_results_folder(folder: Path) -> None:
    """Refuse a folder for results that is there already, before hours of work.

    Raises:
        ArtefactError: It exists.
    """
    if folder.exists():
        raise ArtefactError(f"{folder} exists; name a new folder for the results")


def copy_results(run_dir: Path, folder: Path) -> None:
    """Copy what shows a study, without text, tokens, scores and weights, into a new folder.

    Args:
        run_dir: Folder of the run.
        folder: That is made.

    Raises:
        ArtefactError: There are none, or the folder exists or cannot be written.
    """
    places = [path.relative_to(run_dir) for path in sorted(run_dir.rglob("*")) if path.is_file()]
    results = [place for place in places if _is_result(place)]
    if not results:
        raise ArtefactError(f"{run_dir}: holds no results yet; run the study first")
    try:
        folder.mkdir(parents=True)
        for place in results:
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(run_dir / place, folder / place)
    except FileExistsError:
        raise ArtefactError(f"{folder} exists; name a new folder for the results") from None
    except OSError as error:
        raise ArtefactError(f"{folder}: cannot be written ({error.strerror})") from error


def _is_result(place: Path) -> bool:
    if place.parts[0] in _WHOLE or place == Path(RECIPE_NAME):
        return True
    return place.name in _SMALL and place.parts[0] != "superseded"
