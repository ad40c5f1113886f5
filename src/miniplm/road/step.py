"""A stage of a run, tied to the function that does its work."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from miniplm.manifest import Outcome, StageSpec, is_complete

HELD_OUT = "held_out"
"""First part of the names of steps that retokenise the held-out text."""
TASKS = "tasks"
"""First part of the names of steps that ask models the tasks."""
TEXTS = "texts"
"""First part of the names of steps that measure models on further texts."""
_RUN_BY = {HELD_OUT: "retokenize", TASKS: "evaluate", TEXTS: "evaluate"}
"""Subcommands of steps whose name begins with another word."""


@dataclass(frozen=True)
class Step:
    """One stage of a run.

    Args:
        folder: Where it writes.
        spec: What its output depends on.
        needs: The steps it reads.
        work: Does it, given the folder.
        settle: Done each time that the walk leaves the step complete, also when it was so or its
            output came back; a second time it changes nothing.
        judged: As of `run_stage`.
    """

    folder: Path
    spec: StageSpec
    needs: tuple["Step", ...]
    work: Callable[[Path], Outcome] = field(repr=False)
    settle: Callable[[], None] = field(repr=False, default=lambda: None)
    judged: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Such as `score/teacher`."""
        return self.spec.name

    @property
    def kind(self) -> str:
        """The subcommand that runs it; `export-megatron/refined` is run by `export`."""
        first = self.name.partition("/")[0].partition("-")[0]
        return _RUN_BY.get(first, first)

    @property
    def instance(self) -> str:
        """What it works on, such as `teacher`; empty where there is one only."""
        return self.name.partition("/")[2]

    @property
    def is_complete(self) -> bool:
        """Whether its output is there and still what the recipe asks for."""
        return is_complete(self.folder, self.spec)


@dataclass(frozen=True)
class Corpus:
    """Token shards to train on, or to take prompts from.

    Args:
        step: Makes them.
        shards: Their folder.
        words: What they are.
        tokenizer: Folder of their tokenizer.
        held_out: Folder of the held-out text in its tokens.
        held_out_step: Makes that.
    """

    step: Step
    shards: Path
    words: str
    tokenizer: Path
    held_out: Path
    held_out_step: Step
