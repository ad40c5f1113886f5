"""MiniLLM's objective: the reverse KL divergence on text that the student wrote itself.

With p the student, q the teacher and y the continuation that the student drew, the divergence of
whole texts, KL(p || q), has the gradient (MiniLLM, arXiv 2306.08543, equations 3 to 6, where the
letters stand the other way round)

    sum_t  grad KL(p_t || q_t) - R_t * grad log p_t(y_t),
    R_t = sum_(s > t) log q_s(y_s) / p_s(y_s)

at positions t. The first part is exact, over the whole vocabulary; the second says what a token
does to those that follow, and R_t is divided by their number, as in the paper.

Axes: B sequences, T positions of the continuations, S positions of a chunk, C = S * B, D hidden
width of the student, E of the teacher, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch

from miniplm.scoring.log_probs import chunk_length


@dataclass(frozen=True)
class OutputLayer:
    """Hidden states with the output layer that makes logits of them.

    Args:
        hidden_BTD: Hidden states.
        weight_VD: Rows of the vocabulary that both models have.
        bias_V: Its bias.
    """

    hidden_BTD: torch.Tensor
    weight_VD: torch.Tensor
    bias_V: torch.Tensor | None = None

    def logits(self, hidden_CD: torch.Tensor) -> torch.Tensor:
        """Logits of some of the hidden states, float32."""
        logits_CV = torch.mm(hidden_CD, self.weight_VD.t()).float()
        return logits_CV if self.bias_V is None else logits_CV + self.bias_V


class LinearReverseKL(torch.autograd.Function):
    """sum_bt a_bt * KL(p_bt || q_bt), chunk by chunk, with the gradient of MiniLLM.

    Chunks go from the last position to the first, so that what follows a token is known when its
    gradient is made; no logits are kept, and none are made twice.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        hidden_BTD: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor | None,
        teacher: OutputLayer,
        ids_BT: torch.Tensor,
        weights_BT: torch.Tensor,
        compute_dtype: torch.dtype,
        long_term: bool,
    ) -> torch.Tensor:
        """The weighted sum of divergences, nats, a float32 scalar.

        Args:
            ctx: Of autograd.
            hidden_BTD: The student's hidden states.
            weight_VD: Its output layer. The teacher may have fewer rows: both distributions are
                over those.
            bias_V: Its bias.
            teacher: The teacher at the same positions.
            ids_BT: What the student drew, int64.
            weights_BT: Weight a of each position; 0 behind the end of a text.
            compute_dtype: Of the matrix products.
            long_term: Whether the gradient has its second part.
        """
        shared = len(teacher.weight_VD)
        num_sequences, num_positions, _ = hidden_BTD.shape
        student = OutputLayer(
            hidden_BTD.to(compute_dtype),
            weight_VD[:shared].to(compute_dtype),
            None if bias_V is None else bias_V[:shared],
        )
        grad_hidden = torch.empty_like(student.hidden_BTD)
        grad_weight = torch.zeros_like(weight_VD)
        grad_bias = None if bias_V is None else torch.zeros_like(bias_V)
        total = hidden_BTD.new_zeros((), dtype=torch.float32)
        following = Following(num_sequences, hidden_BTD.device) if long_term else None
        steps = max(1, chunk_length(shared, hidden_BTD.device) // num_sequences)
        for end in range(num_positions, 0, -steps):
            part = slice(max(0, end - steps), end)
            hidden_CD = _chunk(student.hidden_BTD, part)
            loss, grad_CV = _loss_and_slopes(
                student.logits(hidden_CD),
                teacher.logits(_chunk(teacher.hidden_BTD, part)),
                _chunk(ids_BT, part)[:, None],
                _chunk(weights_BT, part).view(-1, num_sequences),
                following,
            )
            total += loss
            if grad_bias is not None:
                grad_bias[:shared] += grad_CV.sum(dim=0)
            grad_low_CV = grad_CV.to(compute_dtype)
            grad_CD = torch.mm(grad_low_CV, student.weight_VD)
            grad_hidden[:, part] = grad_CD.view(-1, num_sequences, grad_CD.shape[1]).transpose(0, 1)
            grad_weight[:shared] += torch.mm(grad_low_CV.t(), hidden_CD)
        ctx.save_for_backward(grad_hidden.to(hidden_BTD.dtype), grad_weight, grad_bias)
        return total

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # noqa: ANN401
        """The gradients made in `forward`, times the incoming one."""
        grad_hidden, grad_weight, grad_bias = ctx.saved_tensors
        scaled_bias = None if grad_bias is None else grad_bias * grad
        return grad_hidden * grad, grad_weight * grad, scaled_bias, None, None, None, None, None


def _loss_and_slopes(
    logits_CV: torch.Tensor,
    teacher_logits_CV: torch.Tensor,
    ids_C1: torch.Tensor,
    weights_SB: torch.Tensor,
    following: "Following | None",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted divergences of a chunk, summed, and the gradient by its logits, `[C, V]`."""
    log_p_CV = logits_CV.log_softmax(dim=1)
    log_ratio_CV = log_p_CV - teacher_logits_CV.log_softmax(dim=1)
    p_CV = log_p_CV.exp_()
    divergence_C1 = torch.linalg.vecdot(p_CV, log_ratio_CV)[:, None]
    weights_C1 = weights_SB.reshape(-1, 1)
    loss = (divergence_C1 * weights_C1).sum()
    rewards_SB = -log_ratio_CV.gather(1, ids_C1).view_as(weights_SB)
    # d KL / d logit = p * (log p / q - KL);  d log p(y) / d logit = [i = y] - p
    slopes_CV = log_ratio_CV.sub_(divergence_C1)
    if following is None:
        return loss, slopes_CV.mul_(p_CV).mul_(weights_C1)
    later_C1 = following.means(rewards_SB, weights_SB).reshape(-1, 1)
    slopes_CV.add_(later_C1).mul_(p_CV).scatter_add_(1, ids_C1, -later_C1)
    return loss, slopes_CV.mul_(weights_C1)


class Following:
    """What follows each position, summed from the end of the texts to their beginning.

    Args:
        num_sequences: B.
        device: Where.
    """

    def __init__(self, num_sequences: int, device: torch.device) -> None:
        self._sums_B = torch.zeros(num_sequences, device=device)
        self._counts_B = torch.zeros(num_sequences, device=device)

    def means(self, rewards_SB: torch.Tensor, weights_SB: torch.Tensor) -> torch.Tensor:
        """Mean of the rewards behind each position, 0 behind the last; takes chunks from the end.

        Args:
            rewards_SB: log q / p of the ids of the chunk before the one given last.
            weights_SB: 0 where a text has ended already.

        Example:
            >>> following = Following(1, torch.device("cpu"))
            >>> following.means(torch.tensor([[2.0], [6.0]]), torch.tensor([[1.0], [0.0]])).tolist()
            [[0.0], [0.0]]
            >>> following.means(torch.tensor([[9.0], [4.0]]), torch.ones(2, 1)).tolist()
            [[3.0], [2.0]]
        """
        counted_SB = (weights_SB != 0).float()
        rewards_SB = rewards_SB * counted_SB
        sums_SB = self._sums_B + _from_the_end(rewards_SB)
        counts_SB = self._counts_B + _from_the_end(counted_SB)
        later_SB = (sums_SB - rewards_SB) / (counts_SB - counted_SB).clamp(min=1)
        self._sums_B, self._counts_B = sums_SB[0], counts_SB[0]
        return later_SB


def _from_the_end(values_SB: torch.Tensor) -> torch.Tensor:
    """Sums of each value and all behind it."""
    return values_SB.flip(0).cumsum(0).flip(0)


def _chunk(values_BT: torch.Tensor, part: slice) -> torch.Tensor:
    """Some positions of all sequences, position by position, `[C, ...]`."""
    return values_BT[:, part].transpose(0, 1).flatten(0, 1)
