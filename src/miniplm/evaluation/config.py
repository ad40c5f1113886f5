"""What is measured, and in which dtype."""

import difflib
from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from miniplm.config import NOT_FINGERPRINTED, Config
from miniplm.data.documents import CorpusConfig
from miniplm.model import Dtype

TaskName = Literal[
    "hellaswag", "lambada_openai", "winogrande", "openbookqa", "arc_easy", "arc_challenge",
    "piqa", "social_iqa", "storycloze",
]  # fmt: skip
"""The nine tasks of the paper, as lm-evaluation-harness names them; it has StoryCloze by year."""

NINE: tuple[TaskName, ...] = get_args(TaskName)


class EvaluationConfig(Config):
    """What is measured, and in which dtype."""

    dtype: Dtype = Field("float32", description="dtype the models run in")
    set_apart: list[str] = Field(
        default_factory=list,
        description="domains (globs, such as noise-*) that are measured but not averaged over",
    )
    texts: dict[str, CorpusConfig] = Field(
        default_factory=dict,
        description="further texts by name, measured document by document without packing",
    )
    window_stride: int | None = Field(
        None,
        ge=1,
        description="tokens from one window over a text to the next; null: side by side",
    )
    held_out_sequences_while_training: Annotated[int, NOT_FINGERPRINTED] = Field(
        64,
        ge=1,
        description="held-out sequences behind the losses along the way, as many of each domain",
    )
    tasks: list[TaskName] | Literal["all"] = Field(
        [], description="tasks of lm-evaluation-harness: all (nine), or names (docs/evaluation.md)"
    )
    tasks_dir: Annotated[str | None, NOT_FINGERPRINTED] = Field(
        None,
        min_length=1,
        description="folder of the tasks' items as JSON lines; null: those of the hub",
    )
    num_fewshot: int = Field(0, ge=0, description="solved examples before each item of a task")
    tasks_limit: int | None = Field(None, ge=1, description="first items of each task; null: all")

    @field_validator("tasks", mode="before")
    @classmethod
    def _known_tasks(cls, tasks: object) -> object:
        """All of them, or names that are known, each once."""
        if tasks == "all":
            return tasks
        if not isinstance(tasks, list):
            raise ValueError("expected all, or a list of names")  # noqa: TRY004  (pydantic's way)
        for task in tasks:
            if task not in NINE:
                nearest = difflib.get_close_matches(str(task), NINE, n=1)
                hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(NINE)}"
                raise ValueError(f"there is no task {task!r}; {hint}")
        return list(dict.fromkeys(tasks))
