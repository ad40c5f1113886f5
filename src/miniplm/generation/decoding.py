"""Continuing a batch of equally long prompts, token by token.

A row leaves the batch as soon as it ends, so no position is computed behind an end-of-text id.

Axes: B prompts, P prompt tokens, N new tokens, D hidden width, V vocabulary.
"""

import inspect
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import DynamicCache

from miniplm.errors import ModelError
from miniplm.generation.sampling import Sampling, choose
from miniplm.model import output_layer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.inference_mode()
def continue_prompts(
    model: "PreTrainedModel",
    prompts_BP: torch.Tensor,
    draws_BN: torch.Tensor,
    *,
    eos_id: int,
    vocab_size: int,
    sampling: Sampling,
) -> list[NDArray[np.int64]]:
    """The continuation of each prompt: to the end of the text, or of N tokens.

    Args:
        model: Ready for inference.
        prompts_BP: Ids of the prompts, all of the same length.
        draws_BN: Uniform numbers in [0, 1), one for each token that may be drawn.
        eos_id: Ends a text; is part of the continuation.
        vocab_size: Ids from here on (a padded vocabulary) are never drawn.
        sampling: How tokens are drawn.

    Returns:
        The new ids of each prompt, `[at most N]`.

    Raises:
        ModelError: Logits are not finite.
    """
    num_prompts, num_new = draws_BN.shape
    made_BN = torch.full((num_prompts, num_new), eos_id, device=model.device)
    lengths_B = torch.full((num_prompts,), num_new, device=model.device)
    draws_BN = draws_BN.to(model.device)
    live = torch.arange(num_prompts, device=model.device)  # rows that go on
    cache = DynamicCache(config=model.config)
    ids = prompts_BP.to(model.device)
    finite = torch.ones((), dtype=torch.bool, device=model.device)
    for step in range(num_new):
        logits_BV = _next_logits(model, ids, cache)[:, :vocab_size]
        finite &= logits_BV.amax(dim=-1).isfinite().all()
        chosen = choose(logits_BV, draws_BN[live, step], sampling)
        made_BN[live, step] = chosen
        ended = chosen == eos_id
        if ended.any():
            lengths_B[live[ended]] = step + 1
            going = (~ended).nonzero().squeeze(1)
            if len(going) == 0:
                break
            live, chosen = live[going], chosen[going]
            cache.reorder_cache(going)
        ids = chosen[:, None]
    if not finite:
        raise ModelError(
            "the logits of the model that generates are not finite: its weights are damaged, or "
            "its numbers leave the range of their dtype; try float32 (scoring.dtype for a teacher, "
            "training.precision for a student)."
        )
    lengths = lengths_B.tolist()
    return [row[:length] for row, length in zip(made_BN.cpu().numpy(), lengths, strict=True)]


def _next_logits(
    model: "PreTrainedModel", ids_BT: torch.Tensor, cache: DynamicCache
) -> torch.Tensor:
    """Logits behind the last of some ids that follow what is in the cache, `[B, V]`."""
    output = model.base_model(input_ids=ids_BT, use_cache=True, **{_cache_name(model): cache})
    weight_VD, bias_V = output_layer(model)
    states_BD = output.last_hidden_state[:, -1]
    return torch.nn.functional.linear(states_BD.to(weight_VD.dtype), weight_VD, bias_V)


def _cache_name(model: "PreTrainedModel") -> str:
    """What the family calls the cache; those without attention have a name of their own."""
    taken = inspect.signature(model.base_model.forward).parameters
    return "past_key_values" if "past_key_values" in taken else "cache_params"
