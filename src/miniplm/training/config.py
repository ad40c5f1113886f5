"""How a model is trained."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from miniplm.config import NOT_FINGERPRINTED, Config, WholeNumber


class BudgetConfig(Config):
    """How long to train: one of the three."""

    tokens: WholeNumber | None = Field(None, ge=1, description="predicted tokens")
    steps: int | None = Field(None, ge=1, description="optimiser steps")
    flops: float | None = Field(None, gt=0, description="training FLOPs (3 x forward)")

    @model_validator(mode="after")
    def _one_unit(self) -> "BudgetConfig":
        given = [key for key in ("tokens", "steps", "flops") if getattr(self, key) is not None]
        if len(given) > 1:
            raise ValueError(
                "give one of tokens, steps and flops and set the others to null; found "
                f"{' and '.join(given)}"
            )
        return self

    @property
    def is_given(self) -> bool:
        """Whether any unit is set."""
        return (self.tokens or self.steps or self.flops) is not None


class TrainingConfig(Config):
    """Optimiser, schedule and batch. The defaults are the paper's for its 200M student."""

    method: Literal["plain"] = Field(
        "plain", description="plain: cross-entropy; on the refined corpus this is MiniPLM"
    )
    budget: BudgetConfig = Field(
        BudgetConfig(),
        description="how long to train",
    )
    lr: float = Field(6e-4, gt=0, description="peak learning rate")
    min_lr_ratio: float = Field(
        0.1, ge=0, le=1, description="learning rate at the end, as a share of the peak"
    )
    warmup_steps: int = Field(2000, ge=0, description="steps of linear warm-up")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW")
    beta2: float = Field(0.98, ge=0, lt=1, description="AdamW")
    eps: float = Field(1e-6, gt=0, description="AdamW")
    weight_decay: float = Field(0.01, ge=0, description="of matrices; vectors do not decay")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    global_batch_size: int = Field(512, ge=1, description="sequences per step, over all devices")
    micro_batch_size: Annotated[int | None, NOT_FINGERPRINTED] = Field(
        None, ge=1, description="sequences per forward pass and device; null: about 8k positions"
    )
    precision: Literal["bfloat16", "float32"] = Field(
        "bfloat16", description="of forward and backward; weights are float32"
    )
    compile: Annotated[bool, NOT_FINGERPRINTED] = Field(
        False, description="torch.compile the model (needs a C++ compiler on CPU)"
    )
    seed: int | None = Field(None, description="of weights and order; null: the recipe's seed")
    checkpoint_every_steps: Annotated[int, NOT_FINGERPRINTED] = Field(
        500, ge=1, description="steps between checkpoints; the last two are kept"
    )
    log_every_steps: Annotated[int, NOT_FINGERPRINTED] = Field(
        10, ge=1, description="steps between lines of metrics.jsonl"
    )
    eval_every_steps: Annotated[int | None, NOT_FINGERPRINTED] = Field(
        None, ge=1, description="steps between losses on held-out text; null: 20 times in all"
    )
