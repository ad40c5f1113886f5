"""What a model reads to predict a text behind another: windows of ids that fit."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Window(NamedTuple):
    """Ids that a model reads at once; it predicts the last `num_targets` of them."""

    ids: tuple[int, ...]
    num_targets: int


def windows_of(
    context: Sequence[int], continuation: Sequence[int], max_length: int
) -> list[Window]:
    """What a model reads to predict a continuation: what does not fit is cut off on the left.

    As in the harness, whose assertion a continuation of more than `max_length` ids would break:
    such a one is read in several windows, each with half of its length before its targets.

    Args:
        context: What comes before; at least one id.
        continuation: What is predicted.
        max_length: Positions that the model serves.

    Example:
        >>> windows_of([1, 2, 3], [4, 5], 4)
        [Window(ids=(1, 2, 3, 4, 5), num_targets=2)]
        >>> windows_of([1, 2, 3], [4, 5], 2)
        [Window(ids=(3, 4, 5), num_targets=2)]
        >>> [window.ids for window in windows_of([1], [2, 3, 4], 2)]
        [(1, 2), (1, 2, 3), (2, 3, 4)]
    """
    whole, fits = (*context, *continuation), len(continuation) <= max_length
    step = len(continuation) if fits else max(1, max_length // 2)
    windows = []
    for begin in range(len(context), len(whole), step):
        end = min(begin + step, len(whole))
        windows.append(Window(whole[max(0, end - max_length - 1) : end], end - begin))
    return windows


def batches(windows: Sequence[Window], batch_tokens: int) -> Iterator[Sequence[Window]]:
    """Windows, longest first, in batches of at most so many positions, or of one."""
    begin = 0
    while begin < len(windows):
        size = max(1, batch_tokens // max(1, len(windows[begin].ids) - 1))
        yield windows[begin : begin + size]
        begin += size
