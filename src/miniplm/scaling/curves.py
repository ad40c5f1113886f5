"""Comparing training curves: how much compute each needs for the same loss."""

from collections.abc import Sequence


def compute_at_loss(flops: Sequence[float], losses: Sequence[float], target: float) -> float | None:
    """Training FLOPs at which a curve first reaches a loss, by linear interpolation.

    Args:
        flops: Ascending.
        losses: Loss at each of them.
        target: The loss to reach.

    Returns:
        None where the curve never gets there.

    Example:
        >>> compute_at_loss([0, 10, 20], [5.0, 4.0, 3.0], 3.5)
        15.0
    """
    for index, loss in enumerate(losses):
        if loss > target:
            continue
        if index == 0:
            return float(flops[0])
        before, above = flops[index - 1], losses[index - 1]
        return before + (flops[index] - before) * (above - target) / (above - loss)
    return None
