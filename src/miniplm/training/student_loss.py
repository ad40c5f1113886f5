"""A student with its loss: what a micro-batch goes through, as one module.

Axes: B sequences, T positions, N = B * T positions, V vocabulary.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from miniplm.data.loader import IGNORED
from miniplm.model import hidden_states, num_experts, output_layer, routed_hidden_states
from miniplm.scoring.forward import token_log_probs
from miniplm.scoring.log_probs import target_log_probs
from miniplm.training.experts import balance_losses
from miniplm.training.objective import LinearCrossEntropy
from miniplm.training.reweighting import dynamic_weights, kept_tokens
from miniplm.training.targets import HardTargets, Mixture, SparseTargets, Targets

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from miniplm.training.teacher import DenseTeacher

Dynamic = Literal["sequences", "tokens"]


@dataclass(frozen=True)
class LossSettings:
    """What the loss of a method is made of.

    Args:
        kd_ratio: Share of the distillation loss; 0 without a teacher.
        dynamic: What is weighted by how far the student lags behind the teacher, if anything.
        temperature: Of dynamic weights of sequences, nats per unit.
        token_share: Share of tokens kept by dynamic weights of tokens.
    """

    kd_ratio: float = 0.0
    dynamic: Dynamic | None = None
    temperature: float = 1.0
    token_share: float = 1.0


@dataclass(frozen=True)
class MicroBatch:
    """What goes through the student at once.

    Args:
        input_ids_BT: Ids, padded on the right.
        targets_BT: The id to predict, or `IGNORED`.
        weights_B: Weight of each sequence; 1 / global batch size gives the paper's loss.
        units_B: What the teacher's losses of sequences are per: the tokens, or the bytes, of each.
        teacher_losses_B: The teacher's loss of each sequence, nats per unit, for dynamic weights.
        teacher_losses_BT: The teacher's loss of each token, nats, for dynamic weights of tokens.
        soft: The teacher's stored distributions of the `B * T` positions.
        draws_BN: Uniform numbers for the tokens that the student is to draw.
        writes_B: Whether the row is long enough to be the prompt of what it writes.
    """

    input_ids_BT: torch.Tensor
    targets_BT: torch.Tensor
    weights_B: torch.Tensor
    units_B: torch.Tensor | None = None
    teacher_losses_B: torch.Tensor | None = None
    teacher_losses_BT: torch.Tensor | None = None
    soft: SparseTargets | None = None
    draws_BN: torch.Tensor | None = None
    writes_B: torch.Tensor | None = None


@dataclass(frozen=True)
class LossSums:
    """Sums over the sequences of a micro-batch, scalars.

    Args:
        loss: Weighted losses, nats, float32; the one to go backward from.
        weight: Weights, float64.
        squares: Squares of weights, float64.
    """

    loss: torch.Tensor
    weight: torch.Tensor
    squares: torch.Tensor


class StudentLoss(torch.nn.Module):
    """A causal model with its loss, so that wrapping and compiling see one forward pass.

    Args:
        model: The student.
        settings: What its loss is made of.
        teacher: Runs beside it, for vanilla KD; its parameters are none of this module's.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        settings: LossSettings | None = None,
        teacher: "DenseTeacher | None" = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.settings = settings or LossSettings()
        self._teacher = teacher

    def forward(self, batch: MicroBatch) -> LossSums:
        """sum_b weight_b * (mean over the targets of sequence b of its loss).

        Of a mixture of experts, with the sequence's balance loss times `router_aux_loss_coef`.
        """
        routes: tuple[torch.Tensor, ...] = ()
        if num_experts(self.model):
            hidden_BTD, routes = routed_hidden_states(self.model, batch.input_ids_BT)
        else:
            hidden_BTD = hidden_states(self.model, batch.input_ids_BT)
        weight_VD, bias_V = output_layer(self.model)
        device = hidden_BTD.device.type
        dtype = self._compute_dtype(device)
        hidden_ND = hidden_BTD.flatten(0, 1)
        soft = batch.soft if self._teacher is None else self._teacher.targets(batch.input_ids_BT)
        # ignored positions go along with weight 0: picking the others out would make tensors of
        # ever new sizes, which fragments memory on CPU and waits for the device on GPU
        mixture = self._mixture(batch.targets_BT.clamp(min=0).flatten(), soft)
        with torch.autocast(device, enabled=False):
            weights_B, counted_BT = self._weights(batch, hidden_ND, weight_VD, bias_V, dtype)
            per_token_B = weights_B / counted_BT.sum(dim=1).clamp(min=1)
            weights_N = (per_token_B[:, None] * counted_BT).flatten().float()
            loss: torch.Tensor = LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
                hidden_ND,
                weight_VD,
                bias_V,
                mixture,
                weights_N,
                dtype,
            )
            if routes:
                loss = loss + (weights_B * self._balance(routes, counted_BT)).sum()
        return LossSums(loss, weights_B.double().sum(), weights_B.double().square().sum())

    def _balance(self, routes: tuple[torch.Tensor, ...], counted_BT: torch.Tensor) -> torch.Tensor:
        """What unevenly used experts add to the loss of each sequence, `[B]`."""
        config = self.model.config
        losses_B = balance_losses(routes, counted_BT, config.num_experts_per_tok)
        weighted_B: torch.Tensor = config.router_aux_loss_coef * losses_B
        return weighted_B

    def _compute_dtype(self, device: str) -> torch.dtype:
        """What matrix products are made in: that of autocast, where it is on."""
        if torch.is_autocast_enabled(device):
            return torch.get_autocast_dtype(device)
        return output_layer(self.model)[0].dtype

    def _mixture(self, ids_N: torch.Tensor, soft: Targets | None) -> Mixture:
        hard = HardTargets(ids_N)
        if soft is None:
            return ((1.0, hard),)
        return ((1 - self.settings.kd_ratio, hard), (self.settings.kd_ratio, soft))

    def log_probs(self, input_ids_BT: torch.Tensor, targets_BT: torch.Tensor) -> torch.Tensor:
        """Sum over each sequence's targets of their log-probabilities, `[B]` float64, nats."""
        log_probs_BT = token_log_probs(self.model, input_ids_BT, targets_BT)
        return log_probs_BT.sum(dim=1, dtype=torch.float64)

    @torch.no_grad()
    def _weights(
        self,
        batch: MicroBatch,
        hidden_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor | None,
        dtype: torch.dtype,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights of sequences, `[B]`, and which tokens count, `[B, T]`.

        Dynamic ones take the student's losses, and for them its output layer once more.
        """
        counted_BT = batch.targets_BT != IGNORED
        if self.settings.dynamic is None:
            return batch.weights_B, counted_BT
        losses_BT = -target_log_probs(
            hidden_ND.to(dtype),
            weight_VD.to(dtype),
            batch.targets_BT.clamp(min=0).flatten(),
            bias_V,
        ).view(counted_BT.shape)
        if self.settings.dynamic == "tokens":
            assert batch.teacher_losses_BT is not None
            share = self.settings.token_share
            kept_BT = kept_tokens(losses_BT, batch.teacher_losses_BT, counted_BT, share)
            return batch.weights_B, kept_BT
        assert batch.teacher_losses_B is not None
        assert batch.units_B is not None
        losses_B = losses_BT.masked_fill(~counted_BT, 0.0).double().sum(dim=1)
        lag_B = dynamic_weights(
            losses_B / batch.units_B, batch.teacher_losses_B, self.settings.temperature
        )
        return batch.weights_B * lag_B, counted_BT
