"""A teacher in the training loop, for vanilla knowledge distillation.

Axes: B sequences, T positions, N = B * T positions, C positions of a chunk, D hidden width, V
vocabulary.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from miniplm.model import hidden_states, output_layer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class DenseTeacher:
    """A frozen teacher whose whole distributions are the soft targets.

    Its logits are made chunk by chunk, when the student's are. Vocabularies that are padded to
    different sizes share their first entries: the teacher's distribution is over those, and the
    student's further entries are to get nothing.

    Args:
        model: The teacher, on the student's device.
        vocab_size: Entries of the student's output layer.
    """

    def __init__(self, model: "PreTrainedModel", vocab_size: int) -> None:
        self.model = model.eval().requires_grad_(requires_grad=False)
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

    def to(self, device: torch.device, *, non_blocking: bool = False) -> "DenseTargets":
        """The same on another device."""
        bias_V = None if self.bias_V is None else self.bias_V.to(device, non_blocking=non_blocking)
        return DenseTargets(
            self.hidden_ND.to(device, non_blocking=non_blocking),
            self.weight_VD.to(device, non_blocking=non_blocking),
            bias_V,
        )

    def chunk(self, part: slice) -> "DenseChunk":
        """Those of a chunk of positions."""
        logits_CV = torch.mm(self.hidden_ND[part], self.weight_VD.t()).float()
        if self.bias_V is not None:
            logits_CV += self.bias_V
        return DenseChunk(logits_CV.log_softmax(dim=1))


class DenseChunk:
    """Distributions of a chunk of positions, `[C, V]`."""

    mass_C1: torch.Tensor | float = 1.0

    def __init__(self, log_probs_CV: torch.Tensor) -> None:
        self._probs_CV = log_probs_CV.exp()
        products_CV = log_probs_CV.nan_to_num_(neginf=0.0).mul_(self._probs_CV)
        self.negative_entropy_C1: torch.Tensor | float = products_CV.sum(dim=1, keepdim=True)
        self._room_CV = products_CV

    def expected(self, logits_CV: torch.Tensor) -> torch.Tensor:
        """sum_v q_v logit_v, `[C, 1]` float32."""
        shared = self._probs_CV.shape[1]
        torch.mul(logits_CV[:, :shared], self._probs_CV, out=self._room_CV)
        return self._room_CV.sum(dim=1, keepdim=True)

    def subtract_from(self, grad_CV: torch.Tensor, factors_C1: torch.Tensor) -> None:
        """Take factor * q from a gradient, in place."""
        grad_CV[:, : self._probs_CV.shape[1]] -= self._probs_CV.mul_(factors_C1)
