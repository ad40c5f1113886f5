"""Log-probabilities of given tokens, from hidden states, without a `[B, T, V]` tensor.

Logits are made tile by tile and turned into partial log-sum-exps while they are in the cache.

Axes: N positions, D hidden width, V vocabulary, C positions of a chunk, K entries of a tile, S
tiles.
"""

import math
from collections.abc import Callable, Mapping
from functools import cache

import torch

TILES = {"cpu": (1024, 1024), "cuda": (8192, 8192)}
"""Positions and vocabulary entries of a tile, by device: a few megabytes that stay in the cache of
a CPU; enough to fill a GPU. The output layer is read once for every chunk of positions."""

CHUNK_LOGITS = {"cpu": 1 << 20, "cuda": 1 << 27}
"""Logits that `chunk_length` allows at a time where nothing else is said, by device."""

MIN_CHUNK = 128
"""Fewer positions than this would read the whole output layer again for too little work."""

_LOG2_E = math.log2(math.e)


def chunk_length(
    vocab_size: int, device: torch.device, logits: Mapping[str, int] = CHUNK_LOGITS
) -> int:
    """Positions whose logits over the whole vocabulary are made at a time, where they have to be.

    Args:
        vocab_size: Logits of a position.
        device: Where they are made.
        logits: How many are allowed at a time, by type of device; another's are those of a CPU.

    Example:
        >>> cpu = torch.device("cpu")
        >>> chunk_length(2048, cpu), chunk_length(151_936, cpu)
        (512, 128)
        >>> chunk_length(2048, cpu, {"cpu": 1 << 23})
        4096
    """
    return max(MIN_CHUNK, logits.get(device.type, logits["cpu"]) // vocab_size)


def target_log_probs(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    targets_N: torch.Tensor,
    bias_V: torch.Tensor | None = None,
    *,
    compiled: bool = False,
) -> torch.Tensor:
    """Log softmax(hidden @ weight.T + bias)[target] of each position.

    The logits of a tile are rounded to the dtype of the inputs, as a whole output layer's are;
    the target's own logit and every sum are float32. Memory beyond the inputs is a tile and a
    number per position and tile, whatever the vocabulary.

    Args:
        hidden_ND: Hidden states, `[N, D]`.
        weight_VD: Output layer, `[V, D]`.
        targets_N: Ids, `[N]` int64.
        bias_V: Bias of the output layer, `[V]`.
        compiled: Use the compiled log-sum-exp; compiling takes seconds, once a process.

    Returns:
        Natural log-probabilities, `[N]` float32.
    """
    length, _ = TILES.get(hidden_ND.device.type, TILES["cpu"])
    log_sum_exp = _compiled_log_sum_exp() if compiled else tile_log_sum_exp
    log_probs = [
        _target_logits(hidden_CD, weight_VD, targets_C, bias_V)
        - _log_sum_exp(hidden_CD, weight_VD, bias_V, log_sum_exp)
        for hidden_CD, targets_C in zip(
            torch.split(hidden_ND, length), torch.split(targets_N, length), strict=True
        )
    ]
    return torch.cat(log_probs)


def _target_logits(
    hidden_CD: torch.Tensor,
    weight_VD: torch.Tensor,
    targets_C: torch.Tensor,
    bias_V: torch.Tensor | None,
) -> torch.Tensor:
    logits_C = (hidden_CD.float() * weight_VD[targets_C].float()).sum(dim=1)
    return logits_C if bias_V is None else logits_C + bias_V[targets_C].float()


def _log_sum_exp(
    hidden_CD: torch.Tensor,
    weight_VD: torch.Tensor,
    bias_V: torch.Tensor | None,
    log_sum_exp: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Log of the sum over the vocabulary of exp(logit), `[C]` float32."""
    length, (_, width) = len(hidden_CD), TILES.get(hidden_CD.device.type, TILES["cpu"])
    width = min(width, len(weight_VD))
    # reused from tile to tile: fresh pages cost more than the arithmetic on them
    logits = hidden_CD.new_empty(length * width)
    scratch = logits if logits.dtype == torch.float32 else logits.float()
    partial_CS = []
    for begin in range(0, len(weight_VD), width):
        tile_KD = weight_VD[begin : begin + width]
        logits_CK = logits[: length * len(tile_KD)].view(length, -1)
        torch.mm(hidden_CD, tile_KD.t(), out=logits_CK)
        if bias_V is not None:
            logits_CK += bias_V[begin : begin + width]
        partial_CS.append(log_sum_exp(logits_CK, scratch[: logits_CK.numel()].view(length, -1)))
    return torch.logsumexp(torch.stack(partial_CS, dim=1), dim=1)


def tile_log_sum_exp(logits_CK: torch.Tensor, scratch_CK: torch.Tensor) -> torch.Tensor:
    """Log-sum-exp of each row, `[C]` float32.

    Args:
        logits_CK: Logits of any dtype.
        scratch_CK: Float32 memory to work in; may be that of the logits, which are then lost.
    """
    if scratch_CK.data_ptr() != logits_CK.data_ptr():
        scratch_CK.copy_(logits_CK)
    largest_C1 = scratch_CK.amax(dim=1, keepdim=True)
    # a power of two is two to three times quicker than exp on a CPU, and as exact
    sums_C = scratch_CK.sub_(largest_C1).mul_(_LOG2_E).exp2_().sum(dim=1)
    return largest_C1.squeeze(1) + sums_C.log()


@cache
def _compiled_log_sum_exp() -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    @torch.compile(dynamic=True)
    def fused(logits_CK: torch.Tensor) -> torch.Tensor:
        logits_CK = logits_CK.float()
        largest_C1 = logits_CK.amax(dim=1, keepdim=True)
        return largest_C1.squeeze(1) + (logits_CK - largest_C1).exp().sum(dim=1).log()

    return lambda logits_CK, _scratch_CK: fused(logits_CK)
