"""The device a model runs on."""

import os
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
    """Move a model to the best device, ready for inference."""
    return model.to(best_device()).eval()
