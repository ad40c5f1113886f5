"""Processes that walk the road together, as `torchrun` and `accelerate launch` start them.

The first one does every stage by itself but training, which all do; meanwhile the others wait.
"""

import os
from datetime import timedelta
from typing import Any

_LONGEST_STAGE = timedelta(days=30)


def rank() -> int:
    """Number of this process, 0 for the first or only one."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes were started together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


class Team:
    """Lets the first process tell the others what comes next."""

    def __init__(self) -> None:
        self.is_main = rank() == 0
        self._group: Any = None
        if world_size() > 1:
            from accelerate import PartialState
            from torch import distributed

            from miniplm.runtime.devices import best_device

            PartialState(cpu=best_device().type == "cpu")
            self._group = distributed.new_group(backend="gloo", timeout=_LONGEST_STAGE)

    def part(self) -> None:
        """Leave in good order: to be called by every process when all work is done."""
        if self._group is not None:
            from accelerate import PartialState

            PartialState().destroy_process_group()

    def tell(self, word: str = "") -> str:
        """What the first process says, which every process gets; the others' words are ignored."""
        if self._group is None:
            return word
        from torch import distributed

        words = [word]
        distributed.broadcast_object_list(words, src=0, group=self._group)
        return words[0]
