"""The machine's limits: what no way of doing the work can go beyond."""

import time

import numpy as np
import torch

from benchmarks.harness import Bench, Clock, Contender
from benchmarks.setting import Setting
from miniplm.runtime.devices import best_device

_SHAPES = ((2048, 2048, 2048), (4096, 4096, 4096), (8192, 512, 2048), (1024, 768, 50_304))
"""Rows, inner and columns of products to find the best rate among: square, body and head."""


def matrix_product(clock: Clock, *, dtype: str, seconds: float = 4.0) -> float:
    """FLOPs of the fastest of some matrix products, right-hand sides laid out both ways."""
    best = 0.0
    with clock:
        for rows, inner, columns in _SHAPES:
            for transposed in (False, True):
                best = max(best, _rate(rows, inner, columns, dtype, transposed, seconds / 8))
    clock.seconds = 1.0
    return best


def _rate(
    rows: int, inner: int, columns: int, dtype: str, transposed: bool, seconds: float
) -> float:
    kind, device = getattr(torch, dtype), best_device()
    left = torch.randn(rows, inner, device=device).to(kind)
    right = torch.randn(columns, inner, device=device).to(kind)
    right = right.t() if transposed else right.t().contiguous()
    out = torch.empty(rows, columns, dtype=kind, device=device)

    def once() -> float:
        started = time.perf_counter()
        torch.mm(left, right, out=out)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    once()
    times = [once()]
    while sum(times) < seconds:
        times.append(once())
    return 2.0 * rows * inner * columns / min(times)


def memory_copy(clock: Clock, *, num_bytes: int = 1 << 30) -> float:
    """Bytes copied from one array to another, by one thread."""
    source = np.ones(num_bytes, np.uint8)
    target = np.zeros_like(source)
    with clock:
        np.copyto(target, source)
    return num_bytes


def benches(setting: Setting) -> list[Bench]:
    """The limits that are reported beside the ratios."""
    del setting
    return [
        Bench(
            name="limit: matrix product",
            unit="FLOP",
            baseline="float32",
            contenders={
                "float32": Contender("machine:matrix_product", {"dtype": "float32"}),
                "bfloat16": Contender("machine:matrix_product", {"dtype": "bfloat16"}),
            },
        ),
        Bench(
            name="limit: memory copy, one thread",
            unit="bytes",
            baseline="copy",
            contenders={"copy": Contender("machine:memory_copy")},
        ),
    ]
