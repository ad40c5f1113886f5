"""Causal attention in blocks that stay in a CPU's cache, and its gradient.

Products are of a whole block of queries with all keys before them, masked keys left out. The
backward pass makes the weights of a block again, so that what is kept for it grows with T only.

Axes: B sequences, H heads, T positions, E width of a head, N = B * H, M heads of a tile, Q queries
of a tile, K keys up to the last of them.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch

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
    out_NTE = torch.empty(query_NTE.shape, dtype=value_NTE.dtype)
    query_NTE = query_NTE * scale
    for heads, queries, keys in _tiles(query_NTE):
        weights_MQK = _weights(query_NTE[heads, queries], key_NTE[heads, keys])
        out_NTE[heads, queries] = torch.bmm(weights_MQK, value_NTE[heads, keys])
    return out_NTE


@torch.library.custom_op("miniplm::causal_attention_backward", mutates_args=())
def causal_attention_backward(
    query_NTE: torch.Tensor,
    key_NTE: torch.Tensor,
    value_NTE: torch.Tensor,
    grad_NTE: torch.Tensor,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of `causal_attention` by queries, keys and values, `[N, T, E]` each.

    Those of keys and values are summed over blocks of queries in float32.
    """
    query_NTE = query_NTE * scale
    grad_query_NTE = torch.empty_like(query_NTE)
    grad_key_NTE = torch.zeros(key_NTE.shape, dtype=torch.float32)
    grad_value_NTE = torch.zeros(value_NTE.shape, dtype=torch.float32)
    for heads, queries, keys in _tiles(query_NTE):
        query_MQE, grad_MQE = query_NTE[heads, queries], grad_NTE[heads, queries]
        key_MKE = key_NTE[heads, keys]
        weights_MQK = _weights(query_MQE, key_MKE)
        by_weights_MQK = torch.bmm(grad_MQE, value_NTE[heads, keys].transpose(1, 2))
        by_scores_MQK = torch._softmax_backward_data(
            by_weights_MQK, weights_MQK, -1, weights_MQK.dtype
        )
        grad_query_NTE[heads, queries] = torch.bmm(by_scores_MQK, key_MKE)
        grad_key_NTE[heads, keys] += torch.bmm(by_scores_MQK.transpose(1, 2), query_MQE)
        grad_value_NTE[heads, keys] += torch.bmm(weights_MQK.transpose(1, 2), grad_MQE)
    return (
        grad_query_NTE.mul_(scale),
        grad_key_NTE.to(key_NTE.dtype),
        grad_value_NTE.to(value_NTE.dtype),
    )


def _tiles(query_NTE: torch.Tensor) -> Iterator[tuple[slice, slice, slice]]:
    """Heads, queries and the keys up to these queries, of each tile of scores."""
    num_heads, length, _ = query_NTE.shape
    step = max(1, _TILE_SCORES // (_BLOCK * length))
    for first in range(0, num_heads, step):
        for begin in range(0, length, _BLOCK):
            end = min(length, begin + _BLOCK)
            yield slice(first, first + step), slice(begin, end), slice(0, end)


def _weights(query_MQE: torch.Tensor, key_MKE: torch.Tensor) -> torch.Tensor:
    """Softmax of the scores of a tile whose last query is as far as its last key, `[M, Q, K]`."""
    scores_MQK = torch.bmm(query_MQE, key_MKE.transpose(1, 2))
    size = query_MQE.shape[1]
    ahead_QQ = torch.full((size, size), -math.inf, dtype=scores_MQK.dtype).triu_(1)
    scores_MQK[:, :, -size:] += ahead_QQ
    return torch.softmax(scores_MQK, dim=-1)


@causal_attention.register_fake
def _(
    query_NTE: torch.Tensor,
    key_NTE: torch.Tensor,  # noqa: ARG001
    value_NTE: torch.Tensor,
    scale: float,  # noqa: ARG001
) -> torch.Tensor:
    return query_NTE.new_empty(query_NTE.shape, dtype=value_NTE.dtype)


@causal_attention_backward.register_fake
def _(
    query_NTE: torch.Tensor,
    key_NTE: torch.Tensor,
    value_NTE: torch.Tensor,
    grad_NTE: torch.Tensor,  # noqa: ARG001
    scale: float,  # noqa: ARG001
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    query_NTE, key_NTE, value_NTE = (
        each.new_empty(each.shape) for each in (query_NTE, key_NTE, value_NTE)
    )
    return query_NTE, key_NTE, value_NTE


def _keep(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:  # noqa: ANN401, ARG001
    *tensors, ctx.scale = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, grad_NTE: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # noqa: ANN401
    return *causal_attention_backward(*ctx.saved_tensors, grad_NTE, ctx.scale), None


causal_attention.register_autograd(_differentiate, setup_context=_keep)
