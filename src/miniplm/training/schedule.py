"""Learning-rate schedules: pure functions of the step."""

import math


def cosine_with_warmup(
    step: int, *, num_steps: int, warmup_steps: int, min_lr_ratio: float
) -> float:
    """Factor on the peak learning rate for a step.

    Linear over `warmup_steps`, from 1 / (`warmup_steps` + 1) at step 0 to the peak; from there a
    half cosine, so that step `num_steps` would be at `min_lr_ratio`.

    Args:
        step: From 0.
        num_steps: Steps of the whole training.
        warmup_steps: Steps of warm-up.
        min_lr_ratio: Factor at the end.

    Example:
        >>> [round(cosine_with_warmup(s, num_steps=6, warmup_steps=2, min_lr_ratio=0.1), 3)
        ...  for s in (0, 1, 2, 4, 6)]
        [0.333, 0.667, 1.0, 0.55, 0.1]
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = min(1.0, (step - warmup_steps) / max(1, num_steps - warmup_steps))
    return min_lr_ratio + (1 - min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * progress))
