"""Learning-rate schedules: pure functions of the step.

All begin with a linear warm-up and give a factor on the peak learning rate; what comes behind the
warm-up has a name.
"""

import math
from typing import Literal

Schedule = Literal["cosine", "linear", "wsd", "constant"]
"""cosine: half a cosine down to the end; linear: a straight line down to the end; wsd (warm-up,
stable, decay): at the peak, then a straight line down over the last share of the steps; constant:
at the peak."""


def lr_factor(
    step: int,
    *,
    schedule: Schedule,
    num_steps: int,
    warmup_steps: int,
    min_lr_ratio: float,
    decay_share: float = 0.2,
) -> float:
    """Factor on the peak learning rate for a step.

    Linear over `warmup_steps`, from 1 / (`warmup_steps` + 1) at step 0 to the peak, then as the
    schedule says. Where it falls, step `num_steps` would be at `min_lr_ratio`.

    Args:
        step: From 0.
        schedule: What comes behind the warm-up.
        num_steps: Steps of the whole training.
        warmup_steps: Steps of warm-up.
        min_lr_ratio: Factor at the end; a constant schedule does without.
        decay_share: Share of all steps over which wsd falls, rounded to whole steps; the warm-up
            goes first where the two overlap.

    Example:
        >>> def factors(schedule):
        ...     settings = dict(num_steps=10, warmup_steps=1, min_lr_ratio=0.1, decay_share=0.2)
        ...     return [round(lr_factor(s, schedule=schedule, **settings), 2) for s in (0, 1, 8, 9)]
        >>> factors("linear")
        [0.5, 1.0, 0.3, 0.2]
        >>> factors("wsd")
        [0.5, 1.0, 1.0, 0.55]
        >>> factors("constant")
        [0.5, 1.0, 1.0, 1.0]
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if schedule == "constant":
        return 1.0
    begin = warmup_steps
    if schedule == "wsd":
        begin = max(begin, num_steps - round(decay_share * num_steps))
    progress = min(1.0, max(0, step - begin) / max(1, num_steps - begin))
    height = 0.5 * (1 + math.cos(math.pi * progress)) if schedule == "cosine" else 1 - progress
    return min_lr_ratio + (1 - min_lr_ratio) * height
