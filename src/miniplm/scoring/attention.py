"""Causal attention for bfloat16 on a CPU, in blocks that stay in its cache.

The fused kernel of `torch` is made for GPUs and for CPUs with a matrix unit; on others, products
of whole blocks of queries with all keys before them are quicker, masked keys left out.

Axes: B sequences, H heads, T positions, E width of a head, N = B * H.
"""

import math
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "miniplm_blocked"
_BLOCK = 128
_TILE_SCORES = 1 << 20
"""Scores of a tile (heads x block x keys): 2 MB, which a core keeps to itself."""


@torch.library.custom_op("miniplm::causal_attention", mutates_args=())  # whole to a compiler
def causal_attention(
    query_NTE: torch.Tensor, key_NTE: torch.Tensor, value_NTE: torch.Tensor, scale: float
) -> torch.Tensor:
    """softmax(scale * query @ key.T, keys up to the query's own position) @ value.

    Args:
        query_NTE: Queries of all heads, `[N, T, E]`.
        key_NTE: Keys, the same shape.
        value_NTE: Values, the same shape.
        scale: Factor of the scores.

    Returns:
        `[N, T, E]`, in the dtype of the queries.
    """
    num_heads, length, _ = query_NTE.shape
    out_NTE = torch.empty(query_NTE.shape, dtype=value_NTE.dtype)
    query_NTE, key_NET = query_NTE * scale, key_NTE.transpose(1, 2)
    step = max(1, _TILE_SCORES // (_BLOCK * length))
    ahead = torch.full((_BLOCK, _BLOCK), -math.inf, dtype=query_NTE.dtype).triu(1)
    for first in range(0, num_heads, step):
        heads = slice(first, first + step)
        for begin in range(0, length, _BLOCK):
            end = min(length, begin + _BLOCK)
            scores = torch.bmm(query_NTE[heads, begin:end], key_NET[heads, :, :end])
            scores[:, :, begin:] += ahead[: end - begin, : end - begin]
            weights = torch.softmax(scores, dim=-1)
            out_NTE[heads, begin:end] = torch.bmm(weights, value_NTE[heads, :end])
    return out_NTE


@causal_attention.register_fake
def _(
    query_NTE: torch.Tensor,
    key_NTE: torch.Tensor,  # noqa: ARG001
    value_NTE: torch.Tensor,
    scale: float,  # noqa: ARG001
) -> torch.Tensor:
    return query_NTE.new_empty(query_NTE.shape, dtype=value_NTE.dtype)


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

    plain = (
        attention_mask is None
        and query_BHTE.dtype == torch.bfloat16
        and query_BHTE.shape[2] == key_BHTE.shape[2]
        and query_BHTE.shape[3] == value_BHTE.shape[3]
        and getattr(module, "is_causal", True)
        and others.get("is_causal") in (None, True)
        and all(others.get(name) is None for name in ("s_aux", "position_bias", "softcap"))
    )
    if not plain:
        attended: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query_BHTE, key_BHTE, value_BHTE, attention_mask, scaling=scaling, **others
        )
        return attended
    num_sequences, num_heads, length, width = query_BHTE.shape
    shared = num_heads // key_BHTE.shape[1]
    if shared > 1:
        key_BHTE = key_BHTE.repeat_interleave(shared, dim=1)
        value_BHTE = value_BHTE.repeat_interleave(shared, dim=1)
    out_NTE = causal_attention(
        query_BHTE.reshape(-1, length, width),
        key_BHTE.reshape(-1, length, width),
        value_BHTE.reshape(-1, length, width),
        scaling if scaling is not None else 1 / math.sqrt(width),
    )
    return out_NTE.view(num_sequences, num_heads, length, width).transpose(1, 2), None


def use_blocked_attention(model: "PreTrainedModel") -> None:
    """Let a model attend in blocks where that is quicker and its family can.

    That is a bfloat16 model on a CPU without a matrix unit whose attention goes through
    `torch`'s fused function; others stay as they are.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    on_cpu = {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    if not on_cpu or model.dtype != torch.bfloat16 or torch.cpu._is_amx_tile_supported():
        return
    if model.config._attn_implementation != "sdpa":
        return
    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)
