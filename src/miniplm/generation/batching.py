"""How many prompts to continue at a time: derived from device and model."""

from typing import TYPE_CHECKING

from miniplm.model import output_layer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_MOST_ROWS = {"cpu": 64, "cuda": 512}
"""Rows behind which more of them bring little: weights are read once for all of them."""
_CPU_BYTES = 4 << 30
_SHARE_OF_FREE_MEMORY = 0.6
_BYTES_PER_ENTRY = 32
"""Of a row's logits, probabilities, their sums and their order."""


def best_batch_size(model: "PreTrainedModel", length: int) -> int:
    """Rows at a time for a model on its device.

    Args:
        model: Ready for inference.
        length: Positions of a row, prompt and continuation.
    """
    import torch

    free = float(_CPU_BYTES)
    if model.device.type == "cuda":
        free = torch.cuda.mem_get_info(model.device)[0] * _SHARE_OF_FREE_MEMORY
    most = _MOST_ROWS.get(model.device.type, _MOST_ROWS["cuda"])
    return max(1, min(most, int(free / bytes_per_row(model, length))))


def bytes_per_row(model: "PreTrainedModel", length: int) -> int:
    """Memory that a row takes while it is continued: keys, values and choosing a token, about."""
    config = model.config
    heads = getattr(config, "num_attention_heads", None) or 0
    shared = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or config.hidden_size // max(1, heads)
    itemsize: int = model.dtype.itemsize
    cached = 2 * config.num_hidden_layers * shared * width * length * itemsize
    return int(cached + _BYTES_PER_ENTRY * output_layer(model)[0].shape[0])
