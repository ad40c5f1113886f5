"""Parameters and FLOPs of a model, counted from its shape."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from miniplm.errors import ModelError, reason_of
from miniplm.model import config_errors, num_experts, output_layer

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
    num_active_params: int = 0
    """Those that a token goes through: of a mixture of experts, its own experts."""

    def forward_flops(self, length: int) -> float:
        """For one token of a sequence of another length."""
        change = self.attention_flops_per_key * (length - self.length)
        return self.forward_flops_per_token + change


def model_size(config: "PretrainedConfig", length: int) -> ModelSize:
    """Count a model's parameters and FLOPs from its shape, without making its weights.

    Forward FLOPs per token: 2 for each weight of a matrix product, the output layer included,
    plus 4 * T * D for each attention layer (query times key, and weights times value, over the
    full square as hardware counters do), or those of mamba's scans. Of a mixture of experts those
    count that a token is sent to, and the routers.

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
        raise ModelError(
            f"cannot build a causal language model of family {config.model_type!r}: "
            f"{reason_of(error)}"
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
    experts, chosen, routers = _expert_params(model)
    products += chosen + routers
    heads = getattr(config, "num_attention_heads", None)
    attention = 0
    if heads and config.model_type not in ("mamba", "mamba2"):
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        attention = 4 * heads * head_dim * config.num_hidden_layers
    scans = _scan_flops(config, length) * config.num_hidden_layers
    return ModelSize(
        num_params=num_params,
        num_embedding_params=embedding.numel() + (0 if tied else output_weight.numel()),
        forward_flops_per_token=float(2 * products + scans + attention * length),
        output_flops_per_token=2.0 * output_weight.numel(),
        attention_flops_per_key=float(attention),
        length=length,
        num_active_params=num_params - experts + chosen,
    )


def _expert_params(model: "PreTrainedModel") -> tuple[int, int, int]:
    """Parameters of all experts, of those that a token is sent to, and of the routers.

    `transformers` keeps the experts of a layer in two parameters, `[E, in, out]`, and a router's
    weight `[E, D]` in a module of its own.
    """
    count = num_experts(model)
    if not count:
        return 0, 0, 0
    own = [
        (type(module).__name__, parameter)
        for module in model.modules()
        for parameter in module.parameters(recurse=False)
        if parameter.shape[0] == count
    ]
    experts = sum(p.numel() for name, p in own if name.endswith("Experts"))
    routers = sum(p.numel() for name, p in own if name.endswith("Router"))
    return experts, experts * model.config.num_experts_per_tok // count, routers


def _scan_flops(config: "PretrainedConfig", length: int) -> float:
    """FLOPs for a token in one of mamba's layers, its projections left out.

    Mamba multiplies its states with C. Mamba2 works in chunks (Dao and Gu, arXiv 2405.21060,
    section 6): within one as attention does, over its full square; between them by states.
    """
    if config.model_type == "mamba":
        return float(2 * config.intermediate_size * config.state_size)
    if config.model_type != "mamba2":
        return 0.0
    heads, width, states = config.num_heads, config.head_dim, config.state_size
    chunk = min(config.chunk_size, length)
    within = 2 * chunk * heads * (states + width)
    return float(within + 4 * heads * width * states)
