"""What all benches are told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Setting:
    """What all benches are told.

    Args:
        data: A folder with `corpus/` (JSON lines) and `tokenizers/`, or None for the embedded text.
        folder: Scratch space that outlives the processes of a bench.
        run: A finished run, such as `runs/demo`, for what only trained models can show.
        size: `small` takes seconds a contender, `full` what the docs quote.
    """

    data: Path | None
    folder: Path
    size: Literal["small", "full"]
    run: Path | None = None
