"""Causal attention in blocks that stay in a CPU's cache, and its gradient.

Products are of a whole block of queries with all keys before them, masked keys left out. For the
backward pass the weights of short sequences are kept; those of long ones are made again, so that
what is kept grows with T only.

Axes: B sequences, H heads, T positions, E width of a head, N = B * H, M heads of a tile, Q queries
of a tile, K keys up to the last of them, W weights of all tiles.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

_BLOCK = 128
_TILE_SCORES = 1 << 20
"""Scores of a tile (heads x block x keys): 2 MB, which a core keeps to itself."""

KEPT_LENGTH = 1024
"""Longest sequences whose weights are kept for the gradient: T bytes per head and position."""


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
    has_gradient = torch.is_grad_enabled() and query_NTE.requires_grad
    keep = has_gradient and query_NTE.shape[1] <= KEPT_LENGTH
    out_NTE: torch.Tensor
    out_NTE, _ = _attend(query_NTE, key_NTE, value_NTE, scale, keep)
    return out_NTE


@torch.library.custom_op("miniplm::causal_attention", mutates_args=())  # whole to a compiler
def _attend(
    query_NTE: torch.Tensor,
    key_NTE: torch.Tensor,
    value_NTE: torch.Tensor,
    scale: float,
    keep: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What `causal_attention` returns, and the weights of all tiles if they are to be kept."""
    out_NTE = torch.empty(query_NTE.shape, dtype=value_NTE.dtype)
    kept_W = query_NTE.new_empty(_num_weights(query_NTE) if keep else 0)
    query_NTE = query_NTE * scale
    for tile in _tiles(query_NTE):
        weights_MQK = tile.weights_of(kept_W) if keep else None
        weights_MQK = _weights(
            query_NTE[tile.heads, tile.queries], key_NTE[tile.heads, tile.keys], out=weights_MQK
        )
        out_NTE[tile.heads, tile.queries] = torch.bmm(weights_MQK, value_NTE[tile.heads, tile.keys])
    return out_NTE, kept_W


@torch.library.custom_op("miniplm::causal_attention_backward", mutates_args=())
def _attend_backward(
    query_NTE: torch.Tensor,
    key_NTE: torch.Tensor,
    value_NTE: torch.Tensor,
    kept_W: torch.Tensor,
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
    for tile in _tiles(query_NTE):
        heads, queries, keys = tile.heads, tile.queries, tile.keys
        query_MQE, grad_MQE = query_NTE[heads, queries], grad_NTE[heads, queries]
        key_MKE = key_NTE[heads, keys]
        weights_MQK = tile.weights_of(kept_W) if len(kept_W) else _weights(query_MQE, key_MKE)
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


class _Tile(NamedTuple):
    """Heads, queries and the keys up to these queries, of a tile of scores."""

    heads: slice
    queries: slice
    keys: slice
    shape: tuple[int, int, int]
    before: int

    def weights_of(self, kept_W: torch.Tensor) -> torch.Tensor:
        """This tile's among the weights of all, `[M, Q, K]`; no copy."""
        return kept_W[self.before : self.before + math.prod(self.shape)].view(self.shape)


def _tiles(query_NTE: torch.Tensor) -> Iterator[_Tile]:
    num_heads, length, _ = query_NTE.shape
    step = max(1, _TILE_SCORES // (_BLOCK * length))
    before = 0
    for first in range(0, num_heads, step):
        last = min(num_heads, first + step)
        for begin in range(0, length, _BLOCK):
            end = min(length, begin + _BLOCK)
            shape = (last - first, end - begin, end)
            yield _Tile(slice(first, last), slice(begin, end), slice(0, end), shape, before)
            before += math.prod(shape)


def _num_weights(query_NTE: torch.Tensor) -> int:
    """Weights of all tiles: a little over half of N * T * T."""
    return sum(math.prod(tile.shape) for tile in _tiles(query_NTE))


def _weights(
    query_MQE: torch.Tensor, key_MKE: torch.Tensor, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Softmax of the scores of a tile whose last query is as far as its last key, `[M, Q, K]`."""
    scores_MQK = torch.bmm(query_MQE, key_MKE.transpose(1, 2))
    size = query_MQE.shape[1]
    ahead_QQ = torch.full((size, size), -math.inf, dtype=scores_MQK.dtype).triu_(1)
    scores_MQK[:, :, -size:] += ahead_QQ
    return torch.softmax(scores_MQK, dim=-1, out=out)


@_attend.register_fake
def _(
    query_NTE: torch.Tensor,
    key_NTE: torch.Tensor,  # noqa: ARG001
    value_NTE: torch.Tensor,
    scale: float,  # noqa: ARG001
    keep: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    kept_W = query_NTE.new_empty(_num_weights(query_NTE) if keep else 0)
    return query_NTE.new_empty(query_NTE.shape, dtype=value_NTE.dtype), kept_W


@_attend_backward.register_fake
def _(
    query_NTE: torch.Tensor,
    key_NTE: torch.Tensor,
    value_NTE: torch.Tensor,
    kept_W: torch.Tensor,  # noqa: ARG001
    grad_NTE: torch.Tensor,  # noqa: ARG001
    scale: float,  # noqa: ARG001
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    query_NTE, key_NTE, value_NTE = (
        each.new_empty(each.shape) for each in (query_NTE, key_NTE, value_NTE)
    )
    return query_NTE, key_NTE, value_NTE


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:  # noqa: ANN401
    *tensors, ctx.scale, _ = inputs
    _, kept_W = output
    ctx.mark_non_differentiable(kept_W)
    ctx.save_for_backward(*tensors, kept_W)


def _differentiate(
    ctx: Any,  # noqa: ANN401
    grad_NTE: torch.Tensor,
    _: torch.Tensor,
) -> tuple[torch.Tensor | None, ...]:
    return *_attend_backward(*ctx.saved_tensors, grad_NTE, ctx.scale), None, None


_attend.register_autograd(_differentiate, setup_context=_keep)
