"""The device a model runs on."""

import os
import time
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def best_device() -> "torch.device":
    """A GPU of this process where there is one, else the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def place(model: "PreTrainedModel") -> "PreTrainedModel":
    """Move a model to the best device, ready for inference; one that is spread stays so."""
    if getattr(model, "hf_device_map", None) is not None:
        return model.eval()
    return model.to(best_device()).eval()


@cache
def matrix_product_rate(device: "torch.device", seconds: float = 0.5) -> float:
    """FLOP/s of a bfloat16 matrix product on a device, measured once for about `seconds`."""
    import torch

    size = 1024 if device.type == "cpu" else 8192
    left = torch.randn(size, size, device=device).bfloat16()
    right = torch.randn(size, size, device=device).bfloat16()

    def once() -> None:
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    once()
    started, count = time.monotonic(), 0
    while time.monotonic() - started < seconds:
        once()
        count += 1
    return 2 * size**3 * count / (time.monotonic() - started)
