"""Parameters and FLOPs of a model, counted from its shape."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from miniplm.errors import ModelError
from miniplm.model import config_errors, output_layer

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

TRAINING_TO_FORWARD = 3
"""Training FLOPs over forward FLOPs: the backward pass costs twice the forward one."""


@dataclass(frozen=True)
class ModelSize:
    """Parameters of a model, counted from its shape."""

    num_params: int
    num_embedding_params: int
    forward_flops_per_token: float
    """For one token of a full-length sequence: matrix products and attention, output layer too."""
    output_flops_per_token: float = 0.0
    """Of these, the output layer's."""
    attention_flops_per_key: float = 0.0
    """For one query and one key, in all layers; the sequence's length times this is in these."""
    length: int = 0
    """Of the sequence."""

    def forward_flops(self, length: int) -> float:
        """For one token of a sequence of another length."""
        change = self.attention_flops_per_key * (length - self.length)
        return self.forward_flops_per_token + change


def model_size(config: "PretrainedConfig", length: int) -> ModelSize:
    """Count a model's parameters and FLOPs from its shape, without making its weights.

    Forward FLOPs per token: 2 for each weight of a matrix product, the output layer included,
    plus 4 * T * D for each attention layer (query times key, and weights times value, over the
    full square as hardware counters do), or 2 * D * S for each scan of mamba (states times C).

    Args:
        config: The `transformers` config.
        length: Tokens per sequence, T.

    Raises:
        ModelError: The config is not that of a causal language model.
    """
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except config_errors(AssertionError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0][:300]
        raise ModelError(
            f"cannot build a causal language model of family {config.model_type!r}: {reason}"
        ) from error
    return size_of(model, length)


def size_of(model: "PreTrainedModel", length: int) -> ModelSize:
    """Like `model_size`, of a model that is there."""
    import torch
    from transformers.pytorch_utils import Conv1D

    config = model.config
    embedding = model.get_input_embeddings().weight
    output_weight, _ = output_layer(model)
    tied = output_weight is embedding
    num_params = sum(parameter.numel() for parameter in model.parameters())
    kinds = (torch.nn.Linear, torch.nn.Conv1d, Conv1D)
    products = sum(m.weight.numel() for m in model.modules() if isinstance(m, kinds))
    heads = getattr(config, "num_attention_heads", None)
    attention = 0
    if heads and config.model_type not in ("mamba", "mamba2"):
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        attention = 4 * heads * head_dim * config.num_hidden_layers
    scan = 0
    if config.model_type == "mamba":
        scan = 2 * config.intermediate_size * config.state_size * config.num_hidden_layers
    return ModelSize(
        num_params=num_params,
        num_embedding_params=embedding.numel() + (0 if tied else output_weight.numel()),
        forward_flops_per_token=float(2 * products + scan + attention * length),
        output_flops_per_token=2.0 * output_weight.numel(),
        attention_flops_per_key=float(attention),
        length=length,
    )
