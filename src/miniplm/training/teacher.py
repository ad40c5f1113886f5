"""A teacher in the training loop, for vanilla knowledge distillation.

Axes: B sequences, T positions, N = B * T positions, C positions of a chunk, D hidden width, V
vocabulary.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from miniplm.model import hidden_states, output_layer
from miniplm.scoring.attention import use_blocked_attention

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class DenseTeacher:
    """A frozen teacher whose whole distributions are the soft targets.

    Its logits are made chunk by chunk, when the student's are. Output layers that are padded to
    different sizes share the tokenizer's entries: the teacher's distribution is over those, and
    the student's further ones are to get nothing.

    Args:
        model: The teacher, on the student's device.
        vocab_size: Entries of the tokenizer.
    """

    def __init__(self, model: "PreTrainedModel", vocab_size: int) -> None:
        self.model = model.eval().requires_grad_(requires_grad=False)
        use_blocked_attention(self.model)
        self.vocab_size = vocab_size

    @torch.no_grad()
    def targets(self, input_ids_BT: torch.Tensor) -> "DenseTargets":
        """Its distributions at each position of some sequences."""
        device = input_ids_BT.device.type
        with torch.autocast(device, enabled=False):
            hidden_BTD = hidden_states(self.model, input_ids_BT)
        weight_VD, bias_V = output_layer(self.model)
        shared = min(self.vocab_size, len(weight_VD))
        return DenseTargets(
            hidden_BTD.flatten(0, 1).to(weight_VD.dtype),
            weight_VD[:shared],
            None if bias_V is None else bias_V[:shared],
        )


@dataclass(frozen=True)
class DenseTargets:
    """A teacher's distributions as hidden states and output layer."""

    hidden_ND: torch.Tensor
    weight_VD: torch.Tensor
    bias_V: torch.Tensor | None

    def chunk(self, begin: int, end: int) -> "_DenseChunk":
        """As `training.targets.Targets.chunk`."""
        logits_CV = torch.mm(self.hidden_ND[begin:end], self.weight_VD.t()).float()
        if self.bias_V is not None:
            logits_CV += self.bias_V
        return _DenseChunk(logits_CV.softmax(dim=1))


@dataclass(frozen=True)
class _DenseChunk:
    probs_CV: torch.Tensor

    def mass(self) -> float:
        return 1.0

    def expected(self, values_CV: torch.Tensor) -> torch.Tensor:
        shared_CV = values_CV[:, : self.probs_CV.shape[1]]
        expected_C: torch.Tensor = torch.linalg.vecdot(shared_CV, self.probs_CV)
        return expected_C[:, None]

    def subtract(self, grad_CV: torch.Tensor, scale_C1: torch.Tensor) -> None:
        grad_CV[:, : self.probs_CV.shape[1]] -= self.probs_CV.mul_(scale_C1)
