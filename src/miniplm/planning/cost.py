"""What a step costs, and the constants that several kinds of steps share."""

from collections.abc import Callable
from dataclasses import dataclass

SCORE_BYTES_PER_ROW = 28
DISK_BYTES_PER_SECOND = 500e6
EXPORTED_BYTES_PER_SECOND = 300e6
GENERATING_TO_SCORING = 8.0
"""Seconds of a token against those of scoring it: rough."""


@dataclass(frozen=True)
class Load:
    """Seconds that a step takes, and bytes that it holds in memory."""

    seconds: float = 0.0
    memory: float = 0.0


@dataclass(frozen=True)
class Cost:
    """What a step goes through and leaves; figures that are not known are None.

    Args:
        num_tokens: Tokens it goes through.
        flops: FLOPs, counted from the shapes.
        num_bytes: Bytes it leaves on disk, roughly.
        load: Measures what that takes, if it is asked.
        note: Such as the tokens per parameter.
    """

    num_tokens: float | None = None
    flops: float | None = None
    num_bytes: float | None = None
    load: Callable[[], Load] = Load
    note: str = ""
