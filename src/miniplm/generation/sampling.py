"""Choosing next tokens: pure functions of logits and of numbers drawn beforehand.

Axes: B sequences, N new tokens, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

_STREAM = 0x67656E  # apart from what else is drawn from the same seed


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn.

    Args:
        temperature: Logits are divided by it; 0 takes the likeliest token.
        top_p: Tokens are drawn from the smallest set of likeliest ones that has this probability.
    """

    temperature: float = 1.0
    top_p: float = 1.0


def draws(sequence_ids: Sequence[int] | NDArray[np.int64], count: int, seed: int) -> torch.Tensor:
    """Uniform numbers in [0, 1) for each sequence, `[B, N]` float64.

    They depend on seed and sequence id only: neither on the batch a prompt is in nor on the shard.

    Args:
        sequence_ids: Ids of the prompts' rows, `[B]`.
        count: Numbers for each, N.
        seed: Of the stage.

    Example:
        >>> both = draws([3, 8], 4, seed=1)
        >>> torch.equal(both[1:], draws([8], 6, seed=1)[:, :4])
        True
    """
    numbers_BN = np.empty((len(sequence_ids), count))
    for row, sequence_id in enumerate(sequence_ids):
        entropy = np.random.SeedSequence([_STREAM, seed, int(sequence_id)])
        numbers_BN[row] = np.random.Generator(np.random.PCG64(entropy)).random(count)
    return torch.from_numpy(numbers_BN)


def choose(logits_BV: torch.Tensor, draws_B: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """The next token of each sequence: where its number falls in the summed probabilities.

    Args:
        logits_BV: Of the next token, any float dtype.
        draws_B: Uniform numbers in [0, 1), float64.
        sampling: How.

    Returns:
        `[B]` int64.

    Example:
        >>> logits = torch.log(torch.tensor([[0.5, 0.2, 0.3]])).expand(4, 3)
        >>> numbers = torch.tensor([0.4, 0.6, 0.75, 0.99], dtype=torch.float64)
        >>> choose(logits, numbers, Sampling()).tolist()
        [0, 1, 2, 2]
        >>> choose(logits, numbers, Sampling(top_p=0.7)).tolist()  # 0.5 and 0.3, of 0.8 in all
        [0, 0, 2, 2]
        >>> choose(logits, numbers, Sampling(temperature=0.0)).tolist()
        [0, 0, 0, 0]
    """
    if sampling.temperature == 0:
        return logits_BV.argmax(dim=-1)
    probs_BV = torch.softmax(logits_BV.float() / sampling.temperature, dim=-1)
    if sampling.top_p < 1:
        probs_BV, ids_BV = probs_BV.sort(dim=-1, descending=True, stable=True)
    sums_BV = probs_BV.cumsum(dim=-1, dtype=torch.float64)
    mass_B = sums_BV[:, -1]
    if sampling.top_p < 1:  # up to and with the first token that reaches top_p
        reached_B1 = torch.searchsorted(sums_BV, sampling.top_p * mass_B[:, None])
        mass_B = sums_BV.gather(1, reached_B1.clamp(max=sums_BV.shape[1] - 1)).squeeze(1)
    places_B1 = torch.searchsorted(sums_BV, (draws_B * mass_B)[:, None], right=True)
    places_B1 = places_B1.clamp(max=sums_BV.shape[1] - 1)
    chosen_B1 = ids_BV.gather(1, places_B1) if sampling.top_p < 1 else places_B1
    return chosen_B1.squeeze(1)
