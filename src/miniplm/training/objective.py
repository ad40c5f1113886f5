"""The loss of training, with its gradients made while logits are at hand.

Every method is cross-entropy against some distribution: the corpus's next token (plain), the
teacher's (knowledge distillation), or a mixture. All are averaged per token within a sequence, then
over sequences.

Axes: N positions, C positions of a chunk, D hidden width, V vocabulary.
"""

from typing import Any, Protocol

import torch

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


class SoftTargets(Protocol):
    """A teacher's distributions q over the vocabulary for some positions, or estimates of them."""

    def chunk(self, part: slice) -> "SoftChunk":
        """Those of a chunk of positions."""
        ...

    def to(self, device: torch.device, *, non_blocking: bool = False) -> "SoftTargets":
        """The same on another device."""
        ...


class SoftChunk(Protocol):
    """A teacher's distributions for a chunk of positions."""

    mass_C1: torch.Tensor | float
    """sum_v q_v of each position: 1, or what an estimate of q adds up to."""

    negative_entropy_C1: torch.Tensor | float
    """sum_v q_v log q_v, a constant of the loss; 0 where it is not known."""

    def expected(self, logits_CV: torch.Tensor) -> torch.Tensor:
        """sum_v q_v logit_v, `[C, 1]` float32."""
        ...

    def subtract_from(self, grad_CV: torch.Tensor, factors_C1: torch.Tensor) -> None:
        """Take factor * q from a gradient, in place."""
        ...


class LinearCrossEntropy(torch.autograd.Function):
    """sum_n w_n * loss_n, from hidden states, chunk by chunk.

    loss = (1 - k) * cross_entropy(target) + k * KL(q || student), with k the share of distillation
    and q the soft targets; k = 0 without them. Gradient of the logits: w * (m * p - (1 - k) *
    onehot(target) - k * q), with p the student's distribution and m = 1 - k + k * mass.

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
        soft: SoftTargets | None = None,
        kd_ratio: float = 0.0,
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
            loss, grad_CV = _loss_and_gradient(
                logits_CV,
                targets_N[part, None],
                weights_N[part, None],
                None if soft is None else soft.chunk(part),
                kd_ratio,
            )
            total += loss
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
        return grad_hidden * grad, grad_weight * grad, scaled_bias, *[None] * 5


def _loss_and_gradient(
    logits_CV: torch.Tensor,
    targets_C1: torch.Tensor,
    weights_C1: torch.Tensor,
    soft: SoftChunk | None,
    kd_ratio: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of a chunk, and the gradient of its logits, which takes their memory."""
    largest_C1 = logits_CV.amax(dim=1, keepdim=True)
    picked_C1 = logits_CV.gather(1, targets_C1) - largest_C1
    expected_C1 = None if soft is None else soft.expected(logits_CV)
    exps_CV = logits_CV.sub_(largest_C1).exp_()  # the exponentials serve loss and gradient
    sums_C1 = exps_CV.sum(dim=1, keepdim=True)
    losses_C1 = sums_C1.log() - picked_C1
    if soft is None or expected_C1 is None:
        grad_CV = exps_CV.mul_(weights_C1 / sums_C1)
        grad_CV.scatter_add_(1, targets_C1, -weights_C1)
        return (losses_C1 * weights_C1).sum(), grad_CV
    normalizers_C1 = sums_C1.log() + largest_C1
    divergences_C1 = soft.mass_C1 * normalizers_C1 - expected_C1 + soft.negative_entropy_C1
    masses_C1 = 1 - kd_ratio + kd_ratio * soft.mass_C1
    grad_CV = exps_CV.mul_(weights_C1 * masses_C1 / sums_C1)
    grad_CV.scatter_add_(1, targets_C1, -(1 - kd_ratio) * weights_C1)
    soft.subtract_from(grad_CV, kd_ratio * weights_C1)
    losses_C1 = (1 - kd_ratio) * losses_C1 + kd_ratio * divergences_C1
    return (losses_C1 * weights_C1).sum(), grad_CV
