"""The plain objective: cross-entropy averaged per token within a sequence, then over sequences.

Axes: B sequences, T positions, N = B * T positions, C positions of a chunk, D hidden width, V
vocabulary.
"""

from typing import TYPE_CHECKING, Any

import torch

from miniplm.data.loader import IGNORED
from miniplm.model import hidden_states, output_layer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


CHUNK_LOGITS = {"cpu": 1 << 20, "cuda": 1 << 27}
"""Logits that `chunk_length` allows at a time, by device."""

MIN_CHUNK = 128
"""Fewer positions than this would read the whole output layer again for too little work."""


def chunk_length(vocab_size: int, device: torch.device) -> int:
    """Positions whose logits over the whole vocabulary are made at a time, where they have to be.

    Example:
        >>> chunk_length(2048, torch.device("cpu")), chunk_length(151_936, torch.device("cpu"))
        (512, 128)
    """
    return max(MIN_CHUNK, CHUNK_LOGITS.get(device.type, 1 << 20) // vocab_size)


class LinearCrossEntropy(torch.autograd.Function):
    """sum_n w_n * cross_entropy(hidden_n @ weight.T + bias, target_n), chunk by chunk.

    The gradients of a chunk are made while its logits are at hand, so logits are neither kept
    for the backward pass nor made twice. Log-sum-exp and loss are float32.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        hidden_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor | None,
        targets_N: torch.Tensor,
        weights_N: torch.Tensor,
        compute_dtype: torch.dtype,
    ) -> torch.Tensor:
        """The weighted sum of losses, a float32 scalar; weights are per position."""
        hidden = hidden_ND.to(compute_dtype)
        weight = weight_VD.to(compute_dtype)
        chunk = chunk_length(len(weight), hidden.device)
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight_VD)
        grad_bias = None if bias_V is None else torch.zeros_like(bias_V)
        total = hidden.new_zeros((), dtype=torch.float32)
        for begin in range(0, len(hidden), chunk):
            part = slice(begin, begin + chunk)
            logits_CV = torch.mm(hidden[part], weight.t()).float()
            if bias_V is not None:
                logits_CV += bias_V
            targets_C1, weights_C1 = targets_N[part, None], weights_N[part, None]
            largest_C1 = logits_CV.amax(dim=1, keepdim=True)
            picked_C1 = logits_CV.gather(1, targets_C1) - largest_C1
            exps_CV = logits_CV.sub_(largest_C1).exp_()  # the exponentials serve loss and gradient
            sums_C1 = exps_CV.sum(dim=1, keepdim=True)
            total += ((sums_C1.log() - picked_C1) * weights_C1).sum()
            grad_CV = exps_CV.mul_(weights_C1 / sums_C1)
            grad_CV.scatter_add_(1, targets_C1, -weights_C1)
            if grad_bias is not None:
                grad_bias += grad_CV.sum(dim=0)
            grad_low_CV = grad_CV.to(compute_dtype)
            torch.mm(grad_low_CV, weight, out=grad_hidden[part])
            grad_weight += torch.mm(grad_low_CV.t(), hidden[part])
        ctx.save_for_backward(grad_hidden.to(hidden_ND.dtype), grad_weight, grad_bias)
        return total

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # noqa: ANN401
        """The gradients made in `forward`, times the incoming one."""
        grad_hidden, grad_weight, grad_bias = ctx.saved_tensors
        scaled_bias = None if grad_bias is None else grad_bias * grad
        return grad_hidden * grad, grad_weight * grad, scaled_bias, None, None, None


class SequenceLoss(torch.nn.Module):
    """A causal model with its loss, so that wrapping and compiling see one forward pass."""

    def __init__(self, model: "PreTrainedModel") -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids_BT: torch.Tensor, targets_BT: torch.Tensor, weights_B: torch.Tensor
    ) -> torch.Tensor:
        """sum_b weights_b * (mean over the targets of sequence b of the cross-entropy).

        Args:
            input_ids_BT: Ids, padded on the right.
            targets_BT: The id to predict, or `IGNORED`.
            weights_B: Weight of each sequence; 1 / global batch size gives the paper's loss.

        Returns:
            A float32 scalar, nats.
        """
        hidden_BTD = hidden_states(self.model, input_ids_BT)
        counted_BT = targets_BT != IGNORED
        per_token_B = weights_B / counted_BT.sum(dim=1).clamp(min=1)
        # ignored positions go along with weight 0: picking the others out would make tensors of
        # ever new sizes, which fragments memory on CPU and waits for the device on GPU
        weights_N = (per_token_B[:, None] * counted_BT).flatten()
        targets_N = targets_BT.clamp(min=0).flatten()
        weight_VD, bias_V = output_layer(self.model)
        autocast = torch.is_autocast_enabled(hidden_BTD.device.type)
        dtype = torch.get_autocast_dtype(hidden_BTD.device.type) if autocast else weight_VD.dtype
        with torch.autocast(hidden_BTD.device.type, enabled=False):
            loss: torch.Tensor = LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
                hidden_BTD.flatten(0, 1), weight_VD, bias_V, targets_N, weights_N, dtype
            )
        return loss
