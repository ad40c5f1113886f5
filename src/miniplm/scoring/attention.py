"""Attention of bfloat16 models on a CPU, where it is ours.

The fused kernel of `torch` is made for GPUs and for CPUs with a matrix unit; on others, products
of blocks are quicker, forward and backward.

Axes: B sequences, H heads, K heads of keys and values, T positions, E width of a head, N = B * H
or B * K, G heads that share keys and values.
"""

import math
from typing import TYPE_CHECKING, Any

import torch

from miniplm.scoring.causal_attention import causal_attention

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "miniplm_blocked"


def _attend(
    module: torch.nn.Module,
    query_BHTE: torch.Tensor,
    key_BHTE: torch.Tensor,
    value_BHTE: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **others: Any,  # noqa: ANN401
) -> tuple[torch.Tensor, None]:
    """What `transformers` calls; all but plain causal attention goes to its own function."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    dtype = (
        torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else value_BHTE.dtype
    )
    num_sequences, num_heads, length, width = query_BHTE.shape
    plain = (
        attention_mask is None
        and dtype == torch.bfloat16
        and length in (1, key_BHTE.shape[2])
        and width == value_BHTE.shape[3]
        and getattr(module, "is_causal", True)
        and others.get("is_causal") in (None, True)
        and all(others.get(name) is None for name in ("s_aux", "position_bias", "softcap"))
    )
    if not plain:
        attended: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query_BHTE, key_BHTE, value_BHTE, attention_mask, scaling=scaling, **others
        )
        return attended
    scale = scaling if scaling is not None else 1 / math.sqrt(width)
    if length == 1:
        last = _attend_once(query_BHTE.to(dtype), key_BHTE.to(dtype), value_BHTE.to(dtype), scale)
        return last, None
    shared = num_heads // key_BHTE.shape[1]
    if shared > 1:
        key_BHTE = key_BHTE.repeat_interleave(shared, dim=1)
        value_BHTE = value_BHTE.repeat_interleave(shared, dim=1)
    query_NTE, key_NTE, value_NTE = (
        each.to(dtype, memory_format=torch.contiguous_format).reshape(-1, length, width)
        for each in (query_BHTE, key_BHTE, value_BHTE)
    )
    out_NTE = causal_attention(query_NTE, key_NTE, value_NTE, scale)
    return out_NTE.view(num_sequences, num_heads, length, width).transpose(1, 2), None


def _attend_once(
    query_BH1E: torch.Tensor, key_BKTE: torch.Tensor, value_BKTE: torch.Tensor, scale: float
) -> torch.Tensor:
    """Attention of the last position to all there are, `[B, 1, H, E]`.

    Keys stand on the left of the product: a matrix times a few columns, one for each head that
    shares them, is quicker than a row times a matrix.
    """
    num_sequences, num_shared, _, width = key_BKTE.shape
    query_NEG = query_BH1E.reshape(num_sequences * num_shared, -1, width).transpose(1, 2) * scale
    scores_NTG = torch.bmm(key_BKTE.flatten(0, 1), query_NEG)
    weights_NGT = torch.softmax(scores_NTG.transpose(1, 2), dim=-1)
    out_NGE = torch.bmm(weights_NGT, value_BKTE.flatten(0, 1))
    return out_NGE.view(num_sequences, 1, -1, width)


def use_blocked_attention(model: "PreTrainedModel", dtype: torch.dtype | None = None) -> None:
    """Let a model attend in blocks where that is quicker and its family can.

    That is a bfloat16 model on a CPU without a matrix unit whose attention goes through
    `torch`'s fused function; others stay as they are.

    Args:
        model: Is changed in place.
        dtype: That it computes in under autocast; that of its weights if not given.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    on_cpu = {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    if not on_cpu or (dtype or model.dtype) != torch.bfloat16 or torch.cpu._is_amx_tile_supported():
        return
    if model.config._attn_implementation != "sdpa":
        return
    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)
