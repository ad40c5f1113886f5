"""What can be known to be wrong with a recipe before any work is done."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from miniplm.data.documents import corpus_fingerprint
from miniplm.data.tokenizer import TokenizerConfig
from miniplm.errors import ConfigError, MiniPLMError
from miniplm.evaluation.asked_tasks import check_tasks
from miniplm.generation.config import num_new_tokens
from miniplm.model import ModelConfig, model_config, released_config
from miniplm.model_checks import check_shape
from miniplm.recipe import Recipe, ScorerConfig, StudentConfig
from miniplm.runtime.team import world_size
from miniplm.training.compute import new_tokens
from miniplm.training.config import TrainingConfig
from miniplm.training.trackers import check_trackers

_PREFLIGHT_VOCABULARY = 50_304


def preflight(recipe: Recipe) -> None:
    """Find out what is wrong with folder, corpora and models of a recipe before any work is done.

    Models from scratch are built without weights. Released ones are asked for their config and
    tokenizer only.

    Raises:
        ConfigError: Lists every fault found.
    """
    faults: list[str] = []
    run_dir = Path(recipe.run_dir).expanduser()
    if any(place.exists() and not place.is_dir() for place in (run_dir, *run_dir.parents)):
        faults.append(f"run_dir: {recipe.run_dir!r} is, or lies in, a file; give a folder")
    for section in ("corpus", "held_out_corpus"):
        if getattr(recipe, section):
            place = "" if section == "corpus" else section
            _try(faults, place, partial(corpus_fingerprint, getattr(recipe, section)))
    for name, corpus in recipe.evaluation.texts.items():
        _try(faults, f"evaluation.texts.{name}", partial(corpus_fingerprint, corpus))
    models: dict[str, ModelConfig] = {"teacher": recipe.teacher, "reference": recipe.reference}
    models |= {f"students.{name}": student for name, student in recipe.students.items()}
    for place, config in models.items():
        _try(faults, place, partial(_check_model, config, _max_length(config, recipe)))
    for place, training in _trainings(recipe).items():
        _try(faults, "", partial(_check_training, place, training, recipe.packing.max_length))
    for name, generation in recipe.generations.items():
        wanted = (generation.prompt_tokens, generation.new_tokens, recipe.packing.max_length)
        _try(faults, "", partial(num_new_tokens, *wanted, f"generations.{name}"))
    _try_tokenizers(faults, recipe)
    _try_tasks(faults, recipe)
    if faults:
        raise ConfigError("the recipe", recipe.where_written(faults))


def _try_tokenizers(faults: list[str], recipe: Recipe) -> None:
    if recipe.tokenizer.name:
        _try(faults, "tokenizer", partial(_check_tokenizers, recipe))
    for role in ("teacher", "reference"):
        if getattr(recipe, role).tokenizer == "own":
            _try(faults, f"{role}.tokenizer", partial(_check_own_tokenizer, getattr(recipe, role)))
    for name, retokenization in recipe.retokenizations.items():
        place = f"retokenizations.{name}.tokenizer"
        for tokenizer in (recipe.tokenizer, retokenization.tokenizer):
            if tokenizer.name:
                _try(faults, place, partial(_check_bytes, tokenizer))


def _try_tasks(faults: list[str], recipe: Recipe) -> None:
    """Tasks are asked in each model's own tokens; those of models trained here are there then."""
    if not recipe.evaluation.tasks:
        return
    _try(faults, "evaluation.tasks", partial(check_tasks, recipe.evaluation))
    for role in ("teacher", "reference"):
        if not getattr(recipe, role).from_scratch:
            _try(faults, f"{role}, for tasks", partial(_check_own_tokenizer, getattr(recipe, role)))


def _trainings(recipe: Recipe) -> dict[str, TrainingConfig]:
    """All trainings of a recipe by their place in it."""
    trainings = {f"students.{name}": recipe.student_training(name) for name in recipe.students}
    for role in ("teacher", "reference"):
        if (training := getattr(recipe, role).training) is not None:
            trainings[role] = training
    return trainings


def _check_training(place: str, training: TrainingConfig, max_length: int) -> None:
    check_trackers(training.trackers)
    if training.method == "minillm":
        new_tokens(training, max_length, f"{place}.training.on_policy")
    if training.global_batch_size % world_size():
        raise ConfigError(
            place,
            [
                f"{place}.training.global_batch_size: {world_size()} processes cannot share "
                f"{training.global_batch_size} sequences evenly; give a multiple, or start another "
                "number of processes"
            ],
        )


def _try(faults: list[str], place: str, check: Callable[[], object]) -> None:
    try:
        check()
    except ConfigError as error:
        faults += error.faults
    except MiniPLMError as error:
        faults.append(f"{place}: {error}" if place else str(error))


def _max_length(config: ModelConfig, recipe: Recipe) -> int:
    """Positions that a model has to serve."""
    corpora = config.corpora if isinstance(config, StudentConfig) else ()
    return max((recipe.max_length_of(name) for name in corpora), default=recipe.packing.max_length)


def _check_model(config: ModelConfig, length: int) -> None:
    if config.from_scratch:
        check_shape(model_config(config, _PREFLIGHT_VOCABULARY, length))
    else:
        released_config(config)


def _check_bytes(tokenizer: TokenizerConfig) -> None:
    from miniplm.data.tokenizer import check_stands_for_bytes, load_configured_tokenizer

    check_stands_for_bytes(load_configured_tokenizer(tokenizer))


def _check_tokenizers(recipe: Recipe) -> None:
    from miniplm.data.tokenizer import check_same_tokenizer, load_configured_tokenizer

    ours = load_configured_tokenizer(recipe.tokenizer)
    for role in ("teacher", "reference"):
        config: ScorerConfig = getattr(recipe, role)
        if config.tokenizer == "run" and config.name not in (None, recipe.tokenizer.name):
            check_same_tokenizer(ours, config, role)


def _check_own_tokenizer(config: ScorerConfig) -> None:
    from miniplm.data.tokenizer import load_configured_tokenizer

    load_configured_tokenizer(config)
