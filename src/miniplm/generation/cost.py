"""FLOPs of generating, counted from the model's shape.

A row of P prompt tokens and N new ones takes one forward pass over the prompt and N - 1 of a
single token each: the last token is drawn but never read. Each position costs 2 FLOPs for each
weight of the body's matrix products; a query costs 4 * A for each key it is multiplied with, A
being the widths of all heads of all layers together; the output layer runs once for each token
drawn. The prompt's attention is counted over the full square, as in `model_size`; the token at
position t has the t + 1 keys up to its own. Hence

    (P + N - 1) * body + N * head + attention * (P * P + sum of k from P + 1 to P + N - 1).

A sliding window, where a family has one, is not taken off.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miniplm.model_size import ModelSize


@dataclass(frozen=True)
class GenerationCost:
    """What a model's parts cost when it generates.

    Args:
        body: FLOPs of a position, attention aside.
        head: FLOPs of the output layer, for one position.
        attention: FLOPs for each pair of query and key, in all layers.
    """

    body: float
    head: float
    attention: float

    def flops(self, prompt_tokens: int, new_tokens: NDArray[np.integer]) -> float:
        """Of rows with equally long prompts.

        Args:
            prompt_tokens: P, at least 1.
            new_tokens: N of each row, at least 1.

        Example:
            >>> GenerationCost(body=100.0, head=10.0, attention=1.0).flops(2, np.array([1, 3]))
            655.0
        """
        tokens = new_tokens.astype(np.float64)
        steps = tokens - 1
        keys = prompt_tokens**2 + steps * prompt_tokens + steps * (steps + 1) / 2
        per_row = (prompt_tokens + steps) * self.body + tokens * self.head + keys * self.attention
        return float(per_row.sum())


def generation_cost(size: ModelSize) -> GenerationCost:
    """What a model of this size costs when it generates."""
    return GenerationCost(
        body=size.forward_flops(0) - size.output_flops_per_token,
        head=size.output_flops_per_token,
        attention=size.attention_flops_per_key,
    )
