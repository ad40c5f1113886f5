"""`python -m benchmarks.profile [SHAPE]`: where the time of scoring goes, by operation."""

import sys

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.scoring import LENGTH, SHAPES, make_model
from miniplm.runtime.devices import best_device
from miniplm.scoring.forward import sequence_log_probs
from miniplm.scoring.preparation import prepare_model

_ROWS = 4
_LINES = 14


def main(shape: str = "50M teacher") -> None:
    """Print the operations that take most of a batch of four rows of 1,024."""
    if shape not in SHAPES:
        sys.exit(f"there is no shape {shape!r}; choose one of {', '.join(SHAPES)}")
    model = make_model(shape, 50_257, "bfloat16")
    prepare_model(model)
    ids_BT = torch.randint(1, 50_000, (_ROWS, LENGTH), device=best_device())
    for _ in range(2):
        sequence_log_probs(model, ids_BT, ids_BT)
    kinds = [ProfilerActivity.CPU]
    order = "self_cpu_time_total"
    if torch.cuda.is_available():
        kinds, order = [*kinds, ProfilerActivity.CUDA], "self_cuda_time_total"
    with profile(activities=kinds) as profiled:
        sequence_log_probs(model, ids_BT, ids_BT).cpu()
    print(profiled.key_averages().table(sort_by=order, row_limit=_LINES))


if __name__ == "__main__":
    main(*sys.argv[1:])
