"""What every bench is told: where its data are, where it may write, how large it is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Setting:
    """What all benches are told.

    Args:
        data: The shared data folder, if given (has corpus/, tokenizers/, models/).
        folder: Scratch folder that outlives the processes of a bench.
        size: `small` takes seconds per contender, `full` the sizes of the issue.
    """

    data: Path | None
    folder: Path
    size: Literal["small", "full"]
