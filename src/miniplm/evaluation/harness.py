"""Tasks of lm-evaluation-harness, over local items or its own.

Prompts, choices, targets and metrics are those of its own YAML; for local items only the place
where documents come from is replaced, by rows in memory: no loading script runs and nothing is
fetched.
This module imports the harness; import it only where tasks are asked for.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from miniplm.errors import DocumentError, reason_of
from miniplm.evaluation.config import TaskName
from miniplm.evaluation.task_files import TaskSource
from miniplm.model import quiet_transformers

if TYPE_CHECKING:
    from lm_eval.api.task import ConfigurableTask

_YAML: Mapping[TaskName, str] = {
    "hellaswag": "hellaswag/hellaswag.yaml",
    "lambada_openai": "lambada/lambada_openai.yaml",
    "winogrande": "winogrande/default.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "piqa": "piqa/piqa.yaml",
    "social_iqa": "siqa/siqa.yaml",
    "storycloze": "storycloze/storycloze_2016.yaml",
}
"""Of StoryCloze that of 2016: its prompts are those of 2018, whose test answers are secret."""

_ITEMS, _EXAMPLES = "items", "examples"
PROMPT_ERRORS = (
    ValueError, TypeError, LookupError, AttributeError, AssertionError, TemplateError,
)  # fmt: skip
"""What the harness's prompts raise of items that they cannot use."""
FEWSHOT_SEED = 1234
"""The harness's own, of which examples precede which item."""


@contextlib.contextmanager
def quiet_harness() -> Iterator[None]:
    """The harness and the libraries below it without their bars, chatter and warnings."""
    from datasets.utils import logging as datasets_logging

    logger = logging.getLogger("lm_eval")
    level, had_bars = logger.level, datasets_logging.is_progress_bar_enabled()
    logger.setLevel(logging.CRITICAL)
    datasets_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(), quiet_transformers():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        if had_bars:
            datasets_logging.enable_progress_bar()


def build_task(source: TaskSource, num_fewshot: int) -> "ConfigurableTask":
    """A task of the harness.

    Args:
        source: Of its items.
        num_fewshot: Solved examples before each item.

    Raises:
        DocumentError: Items cannot be read or fetched, or are not what the prompts expect.
    """
    import lm_eval.tasks
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    yaml = Path(lm_eval.tasks.__file__).parent / _YAML[source.task]
    config = {**load_yaml(yaml), "task": source.task, "num_fewshot": num_fewshot}
    config.pop("tag", None)
    config |= _local(source, num_fewshot) if source.folder else _own_examples(config)
    try:
        task = ConfigurableTask(config=config)
    except (OSError, RuntimeError, *PROMPT_ERRORS) as error:
        raise DocumentError(_build_fault(source, config, error)) from error
    task.set_fewshot_seed(FEWSHOT_SEED)
    return task


def _local(source: TaskSource, num_fewshot: int) -> dict[str, Any]:
    """The fields of a config that say where documents come from, for rows of local files."""
    assert source.items_file is not None
    assert source.examples_file is not None
    files = {_ITEMS: source.items_file}
    if num_fewshot and source.examples_file != source.items_file:
        files[_EXAMPLES] = source.examples_file

    def load(**_: object) -> dict[str, Any]:
        from datasets import Dataset

        return {split: Dataset.from_list(source.rows(file)) for split, file in files.items()}

    return {
        "custom_dataset": load,
        "dataset_path": None,
        "dataset_name": None,
        "dataset_kwargs": None,
        "training_split": None,
        "validation_split": None,
        "test_split": _ITEMS,
        # where it is the test split, the harness keeps the item at hand from being an example
        "fewshot_split": _EXAMPLES if _EXAMPLES in files else _ITEMS,
    }


def _own_examples(config: Mapping[str, Any]) -> dict[str, Any]:
    """Examples of a task of the hub that has items only: from these, but the one at hand."""
    has_others = config.get("training_split") or config.get("validation_split")
    return {} if has_others else {"fewshot_split": config["test_split"]}


def _build_fault(source: TaskSource, config: Mapping[str, Any], error: Exception) -> str:
    if source.items_file:
        return (
            f"{source.items_file}: its items are not what the harness's prompts of {source.task} "
            f"expect: {reason_of(error)}"
        )
    return (
        f"cannot get the items of {source.task} ({config['dataset_path']}) from the hub: "
        f"{reason_of(error)}. Give a folder with {source.task}.jsonl as evaluation.tasks_dir to do "
        "without."
    )
