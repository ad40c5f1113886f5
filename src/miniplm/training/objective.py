"""The objective: cross-entropy averaged per token within a sequence, then over sequences.

Plain training takes the next token as the target; distillation mixes it with the teacher's
distribution: (1 - kd_ratio) * CE(next token) + kd_ratio * CE(teacher). The latter is the KL
divergence but for the teacher's entropy, which has no gradient.

Axes: N positions, C positions of a chunk, D hidden width, V vocabulary.
"""

from typing import Any

import torch

from miniplm.scoring.log_probs import chunk_length
from miniplm.training.targets import Mixture

CHUNK_LOGITS = {"cpu": 1 << 23, "cuda": 1 << 27}
"""Logits at a time, by device: on a CPU 32 MB of float32. The three matrix products of a chunk are
the quicker the more positions it has (128 to 512: by an eighth), and read the layer less often."""


class LinearCrossEntropy(torch.autograd.Function):
    """sum_n a_n * sum_i w_ni * -log p_ni, chunk by chunk; p = softmax(hidden @ weight.T + bias).

    The targets w of a position need not add up to 1: with their sum S the gradient of its loss by
    its logits is S * p - w. The gradients of a chunk are made while its logits are at hand, so
    logits are neither kept for the backward pass nor made twice. Log-sum-exp and loss are float32.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        hidden_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor | None,
        mixture: Mixture,
        weights_N: torch.Tensor,
        compute_dtype: torch.dtype,
    ) -> torch.Tensor:
        """The weighted sum of losses, a float32 scalar.

        Args:
            ctx: Of autograd.
            hidden_ND: Hidden states.
            weight_VD: Output layer.
            bias_V: Its bias.
            mixture: Targets, times their shares.
            weights_N: Weight a of each position.
            compute_dtype: Of the matrix products.
        """
        hidden = hidden_ND.to(compute_dtype)
        weight = weight_VD.to(compute_dtype)
        chunk = min(len(hidden), chunk_length(len(weight), hidden.device, CHUNK_LOGITS))
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight_VD)
        grad_bias = None if bias_V is None else torch.zeros_like(bias_V)
        total = hidden.new_zeros((), dtype=torch.float32)
        # made once: on a CPU fresh pages cost more than the arithmetic on them
        low = hidden.new_empty((chunk, len(weight)))
        high = low if compute_dtype == torch.float32 else low.float()
        product_VD = torch.empty_like(weight)
        for begin in range(0, len(hidden), chunk):
            part = slice(begin, min(begin + chunk, len(hidden)))
            low_CV, logits_CV = low[: part.stop - begin], high[: part.stop - begin]
            torch.mm(hidden[part], weight.t(), out=low_CV)
            _convert(low_CV, logits_CV)
            if bias_V is not None:
                logits_CV += bias_V
            targets = [(share, each.chunk(part.start, part.stop)) for share, each in mixture]
            mass_C1 = sum(share * each.mass() for share, each in targets)
            expected_C1 = sum(share * each.expected(logits_CV) for share, each in targets)
            log_sums_C1, probs_CV = _softmax(logits_CV)
            weights_C1 = weights_N[part, None]
            total += ((mass_C1 * log_sums_C1 - expected_C1) * weights_C1).sum()
            grad_CV = probs_CV.mul_(mass_C1 * weights_C1)
            for share, each in targets:
                each.subtract(grad_CV, share * weights_C1)
            if grad_bias is not None:
                grad_bias += grad_CV.sum(dim=0)
            _convert(grad_CV, low_CV)
            torch.mm(low_CV, weight, out=grad_hidden[part])
            grad_weight += torch.mm(low_CV.t(), hidden[part], out=product_VD)
        ctx.save_for_backward(grad_hidden.to(hidden_ND.dtype), grad_weight, grad_bias)
        return total

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # noqa: ANN401
        """The gradients made in `forward`, times the incoming one."""
        grad_hidden, grad_weight, grad_bias = ctx.saved_tensors
        scaled_bias = None if grad_bias is None else grad_bias * grad
        return grad_hidden * grad, grad_weight * grad, scaled_bias, None, None, None


def _softmax(logits_CV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-sum-exp of each row, `[C, 1]`, and softmax, which takes the place of the logits.

    On a CPU one fused softmax is 4 times quicker than exponentials, sums and quotients apart.
    """
    largest_C1 = logits_CV.amax(dim=1, keepdim=True)
    probs_CV = torch.softmax(logits_CV, dim=1, out=logits_CV)
    return largest_C1 - probs_CV.amax(dim=1, keepdim=True).log(), probs_CV


def _convert(source: torch.Tensor, target: torch.Tensor) -> None:
    """Write numbers in another dtype; the same dtype means the same memory here."""
    if source.dtype != target.dtype:
        target.copy_(source)
