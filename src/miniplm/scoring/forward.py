"""From ids to log-probabilities of sequences: the model's body, then the output layer in tiles.

Axes: B sequences, T positions, N = B * T positions, D hidden width.
"""

from typing import TYPE_CHECKING

import torch

from miniplm.data.loader import IGNORED
from miniplm.model import hidden_states, output_layer
from miniplm.scoring.log_probs import target_log_probs

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.no_grad()
def token_log_probs(
    model: "PreTrainedModel",
    input_ids_BT: torch.Tensor,
    targets_BT: torch.Tensor,
    *,
    compiled: bool = False,
) -> torch.Tensor:
    """Log-probability of each target, `[B, T]` float32, nats; 0 where there is none.

    Without inference mode, which weights that are spread over processes do not go with. The result
    stays on the device of the output layer, so that nothing waits for it.

    Args:
        model: A causal model.
        input_ids_BT: Ids, padded on the right.
        targets_BT: The id to predict at each position, or `IGNORED`.
        compiled: As in `target_log_probs`; the model's own layers are compiled or not as given.
    """
    hidden_BTD = hidden_states(model, input_ids_BT.to(model.device, non_blocking=True))
    return _log_probs(model, hidden_BTD, targets_BT, compiled=compiled)


@torch.no_grad()
def log_probs_and_states(
    model: "PreTrainedModel",
    input_ids_BT: torch.Tensor,
    targets_BT: torch.Tensor,
    *,
    compiled: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The `token_log_probs`, and each sequence's last hidden states averaged, `[B, D]` float32.

    Of the same forward pass. Positions with a target are averaged; zeros where there is none.
    Arguments are those of `token_log_probs`.
    """
    hidden_BTD = hidden_states(model, input_ids_BT.to(model.device, non_blocking=True))
    counted_BT = (targets_BT != IGNORED).to(hidden_BTD.device, torch.float32)
    sums_BD = torch.einsum("btd,bt->bd", hidden_BTD.float(), counted_BT)
    states_BD = sums_BD / counted_BT.sum(dim=1, keepdim=True).clamp(min=1)
    return _log_probs(model, hidden_BTD, targets_BT, compiled=compiled), states_BD


def _log_probs(
    model: "PreTrainedModel",
    hidden_BTD: torch.Tensor,
    targets_BT: torch.Tensor,
    *,
    compiled: bool,
) -> torch.Tensor:
    weight_VD, bias_V = output_layer(model)
    targets_BT = targets_BT.to(weight_VD.device, non_blocking=True)
    log_probs_N = target_log_probs(
        hidden_BTD.to(weight_VD).flatten(0, 1),
        weight_VD,
        targets_BT.clamp(min=0).flatten(),
        bias_V,
        compiled=compiled,
    )
    return log_probs_N.view(targets_BT.shape).masked_fill(targets_BT == IGNORED, 0.0)


@torch.inference_mode()
def sequence_log_probs(
    model: "PreTrainedModel",
    input_ids_BT: torch.Tensor,
    targets_BT: torch.Tensor,
    *,
    compiled: bool = False,
) -> torch.Tensor:
    """Sum over each sequence's targets of their log-probabilities, `[B]` float64, nats.

    Arguments are those of `token_log_probs`.
    """
    log_probs_BT = token_log_probs(model, input_ids_BT, targets_BT, compiled=compiled)
    return log_probs_BT.sum(dim=1, dtype=torch.float64)
