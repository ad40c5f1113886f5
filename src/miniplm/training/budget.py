"""How many steps a budget pays for."""

from miniplm.errors import TrainingError
from miniplm.training.config import BudgetConfig


def budget_steps(budget: BudgetConfig, tokens_per_step: float, flops_per_token: float) -> int:
    """Steps that a budget pays for, rounded.

    Args:
        budget: Exactly one unit is set.
        tokens_per_step: Tokens in a global batch, on average.
        flops_per_token: Of training, for one token.

    Raises:
        TrainingError: It pays for less than half a step.

    Example:
        >>> budget_steps(BudgetConfig(tokens=1000), 100.0, 1.0)
        10
        >>> budget_steps(BudgetConfig(flops=3e6), 100.0, 3e3)
        10
    """
    if budget.steps is not None:
        return budget.steps
    tokens = budget.tokens
    if budget.flops is not None:
        tokens = round(budget.flops / flops_per_token)
    assert tokens is not None
    if tokens < tokens_per_step / 2:
        raise TrainingError(
            f"training.budget pays for {tokens:,} tokens, less than half of the "
            f"{tokens_per_step:,.0f} of a step; give more, or a smaller global_batch_size."
        )
    return max(1, round(tokens / tokens_per_step))
