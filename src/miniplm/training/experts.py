"""Mixtures of experts: the loss that keeps routers from sending all tokens to a few experts.

Axes: B sequences, T positions, E experts, K of them for a token.
"""

from collections.abc import Sequence

import torch


def balance_losses(
    router_logits: Sequence[torch.Tensor], counted_BT: torch.Tensor, num_chosen: int
) -> torch.Tensor:
    """E * sum over experts of f_e * P_e, of each sequence, a mean over layers, `[B]` float32.

    f_e is the share of tokens that expert e gets (they sum to K), P_e the mean of its probability:
    the Switch Transformer's loss (arXiv 2101.03961, equations 4 to 6), which is K where all
    experts get as much. It is taken over a sequence (as in DeepSeek-V3, arXiv 2412.19437, equations
    17 to 20), not over a batch: what is learnt must not depend on how a batch is split.

    Args:
        router_logits: Of each layer, `[B * T, E]`.
        counted_BT: Tokens that count.
        num_chosen: K.
    """
    share_BT = counted_BT / counted_BT.sum(dim=1, keepdim=True).clamp(min=1)
    layers = [_balance(logits, share_BT, num_chosen) for logits in router_logits]
    return torch.stack(layers).mean(dim=0)


def _balance(logits: torch.Tensor, share_BT: torch.Tensor, num_chosen: int) -> torch.Tensor:
    num_experts = logits.shape[-1]
    probabilities_BTE = logits.float().softmax(dim=-1).view(*share_BT.shape, num_experts)
    chosen_BTK = probabilities_BTE.topk(num_chosen, dim=-1).indices
    given_BTE = torch.zeros_like(probabilities_BTE).scatter_(-1, chosen_BTK, 1.0)
    f_BE = (given_BTE * share_BT[..., None]).sum(dim=1)
    mean_BE = (probabilities_BTE * share_BT[..., None]).sum(dim=1)
    return num_experts * (f_BE.detach() * mean_BE).sum(dim=-1)
