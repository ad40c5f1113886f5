"""Log-probabilities of given tokens, from hidden states, without a `[B, T, V]` tensor.

Axes: N positions, D hidden width, V vocabulary, C positions of a chunk.
"""

import torch

CHUNK_LOGITS = {"cpu": 1 << 20, "cuda": 1 << 27}
"""Logits held at a time, by device: few enough for the cache of a CPU, many enough for a GPU."""

MIN_CHUNK = 128
"""Fewer positions than this would read the whole output layer again for too little work."""


def chunk_length(vocab_size: int, device: torch.device) -> int:
    """Positions whose logits are made at a time.

    Example:
        >>> chunk_length(2048, torch.device("cpu")), chunk_length(151_936, torch.device("cpu"))
        (512, 128)
    """
    return max(MIN_CHUNK, CHUNK_LOGITS.get(device.type, 1 << 20) // vocab_size)


def target_log_probs(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    targets_N: torch.Tensor,
    bias_V: torch.Tensor | None = None,
) -> torch.Tensor:
    """Log softmax(hidden @ weight.T + bias)[target] of each position.

    The products run in the dtype of the inputs, the log-sum-exp in float32.

    Args:
        hidden_ND: Hidden states, `[N, D]`.
        weight_VD: Output layer, `[V, D]`.
        targets_N: Ids, `[N]` int64.
        bias_V: Bias of the output layer, `[V]`.

    Returns:
        Natural log-probabilities, `[N]` float32.
    """
    num_positions, vocab_size = len(hidden_ND), len(weight_VD)
    chunk = min(num_positions, chunk_length(vocab_size, hidden_ND.device))
    buffer_CV = hidden_ND.new_empty(chunk, vocab_size)  # reused: fresh pages cost more than maths
    log_probs_N = torch.empty(num_positions, dtype=torch.float32, device=hidden_ND.device)
    for begin in range(0, num_positions, chunk):
        end = min(begin + chunk, num_positions)
        logits_CV = buffer_CV[: end - begin]
        torch.mm(hidden_ND[begin:end], weight_VD.t(), out=logits_CV)
        if bias_V is not None:
            logits_CV += bias_V
        picked_C = logits_CV.gather(1, targets_N[begin:end, None]).squeeze(1).float()
        log_probs_N[begin:end] = picked_C - torch.logsumexp(logits_CV.float(), dim=1)
    return log_probs_N
