"""How many steps a budget pays for."""

from miniplm.training.config import BudgetConfig


def budget_steps(budget: BudgetConfig, tokens_per_step: float, flops_per_token: float) -> int:
    """Steps that a budget pays for, rounded, at least one.

    Args:
        budget: Exactly one unit is set.
        tokens_per_step: Tokens in a global batch, on average.
        flops_per_token: Of training, for one token.

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
    return max(1, round(tokens / tokens_per_step))
