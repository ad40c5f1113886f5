"""What to know of a training before it is started: too few tokens, too many epochs."""

from miniplm.planning.basis import Basis
from miniplm.planning.training import training_amounts, training_config
from miniplm.scaling.regime import TOKENS_PER_PARAM

MANY_EPOCHS = 4
"""The paper's data-limited setting repeats text four times."""


def training_remarks(basis: Basis, name: str) -> list[str]:
    """Sentences on how a student, the teacher or the reference is to be trained."""
    amounts, training = training_amounts(basis, name), training_config(basis, name)
    wanted = TOKENS_PER_PARAM.get(name, TOKENS_PER_PARAM["student"])
    remarks = []
    if amounts.tokens_per_param < wanted:
        remarks.append(
            f"{name}: {amounts.tokens_per_param:.1f} tokens per parameter; under {wanted} a "
            "comparison says little (docs/architecture.md)"
        )
    if amounts.epochs > MANY_EPOCHS:
        remarks.append(
            f"{name}: sees its text {amounts.epochs:,.1f} times; over {MANY_EPOCHS} it learns it "
            "by heart. Give more text, a larger share, or a smaller budget"
        )
    steps = training.budget.steps
    if steps is not None and steps <= training.warmup_steps:
        remarks.append(
            f"{name}: {training.warmup_steps} steps of warm-up, {steps} steps in all; the "
            "learning rate never gets to its peak"
        )
    return remarks
