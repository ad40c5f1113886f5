"""How a model is trained."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from miniplm.config import NOT_FINGERPRINTED, Config, WholeNumber
from miniplm.training.schedule import Schedule
from miniplm.training.trackers import TrackerName

HELD_APART = ("held-apart-quarter", "held-apart")
"""Two students that a study trains on text that is no candidate, the first a quarter as long."""


class BudgetConfig(Config):
    """How long to train: one of the three."""

    tokens: WholeNumber | None = Field(None, ge=1, description="predicted tokens")
    steps: int | None = Field(None, ge=1, description="optimiser steps")
    flops: float | None = Field(None, gt=0, description="training FLOPs, as the method has them")

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

    def times(self, share: float) -> "BudgetConfig":
        """A share of it in the same unit, rounded down to a whole token or step, one at least.

        Args:
            share: More than 0.

        Example:
            >>> BudgetConfig(steps=11).times(0.25).steps
            2
        """
        return BudgetConfig(
            tokens=self.tokens and max(1, int(self.tokens * share)),
            steps=self.steps and max(1, int(self.steps * share)),
            flops=self.flops and self.flops * share,
        )


Method = Literal["plain", "vanilla_kd", "sparse_kd", "seqkd", "minillm"]
READ_BY: dict[str, tuple[Method, ...]] = {
    "kd_ratio": ("vanilla_kd", "sparse_kd", "minillm"),
    "capture": ("sparse_kd",),
    "on_policy": ("minillm",),
}
"""Fields of a training that only some methods read."""
TAUGHT: tuple[Method, ...] = ("vanilla_kd", "minillm")
"""Methods with the teacher beside the student."""
Reweighting = Literal["none", "static", "repeats", "dynamic", "dynamic_tokens"]


class ReweightingConfig(Config):
    """Which sequences count for more, by their difference scores."""

    kind: Reweighting = Field(
        "none",
        description="none; static: weights from the scores; repeats: sequences come as often as "
        "their weight says; dynamic: by how far the student lags behind the teacher; "
        "dynamic_tokens: the same, tokens of a sequence",
    )
    temperature: float = Field(
        1.0, gt=0, description="of static, repeats, dynamic: nats per unit; higher is more even"
    )
    clip: float = Field(
        10.0, gt=1, description="of static, repeats: the largest weight, and one over the smallest"
    )
    token_share: float = Field(
        0.6, gt=0, le=1, description="of dynamic_tokens: share of a sequence's tokens kept"
    )
    normalization: Literal["per_token", "per_byte"] = Field(
        "per_token", description="what losses are compared per"
    )

    def fingerprinted(self) -> dict[str, Any]:
        """Only what the kind reads."""
        read = {
            "none": (),
            "static": ("temperature", "clip", "normalization"),
            "repeats": ("temperature", "clip", "normalization"),
            "dynamic": ("temperature", "normalization"),
            "dynamic_tokens": ("token_share",),
        }[self.kind]
        return _only(super().fingerprinted(), ("kind", *read))


class OnPolicyConfig(Config):
    """How a student writes what it learns from."""

    prompt_tokens: int = Field(64, ge=1, description="a prompt is the first ids of a row, so many")
    new_tokens: int | None = Field(
        None, ge=1, description="most tokens of a continuation; null: up to packing.max_length"
    )
    long_term: bool = Field(
        True, description="a token answers for those that follow it (MiniLLM); false: for itself"
    )


class TrainingConfig(Config):
    """Optimiser, schedule and batch. The defaults are the paper's for its 200M student."""

    method: Method = Field(
        "plain",
        description="plain: cross-entropy, on a refined corpus this is MiniPLM; vanilla_kd: the "
        "teacher beside the student; sparse_kd: the teacher's stored probabilities; seqkd: "
        "text that the teacher wrote; minillm: text that the student writes, by reverse KL",
    )
    kd_ratio: float = Field(
        0.5,
        gt=0,
        le=1,
        description="of vanilla_kd, sparse_kd, minillm: share of the distillation loss",
    )
    capture: str | None = Field(None, description="of sparse_kd: the name of a capture")
    on_policy: OnPolicyConfig = Field(
        OnPolicyConfig(), description="of minillm: what the student writes"
    )
    reweighting: ReweightingConfig = Field(
        ReweightingConfig(), description="which sequences count for more"
    )
    budget: BudgetConfig = Field(
        BudgetConfig(),
        description="how long to train",
    )
    lr: float = Field(6e-4, gt=0, description="peak learning rate")
    min_lr_ratio: float = Field(
        0.1, ge=0, le=1, description="learning rate at the end, as a share of the peak"
    )
    schedule: Schedule = Field(
        "cosine", description="of the learning rate after warm-up; wsd: stable, then decay"
    )
    decay_share: float = Field(0.2, gt=0, le=1, description="of wsd: share of steps that decay")
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
    parallel: Annotated[Literal["ddp", "fsdp"], NOT_FINGERPRINTED] = Field(
        "ddp", description="over processes: ddp (each holds all weights), or fsdp (each a part)"
    )
    activation_checkpointing: Annotated[bool, NOT_FINGERPRINTED] = Field(
        False, description="make a layer's activations again in the backward pass: less memory"
    )
    compile: Annotated[bool, NOT_FINGERPRINTED] = Field(
        False, description="torch.compile the model (needs a C++ compiler on CPU)"
    )
    seed: int | None = Field(
        None, ge=0, lt=2**63, description="of weights and order; null: the recipe's seed"
    )
    checkpoint_every_steps: Annotated[int, NOT_FINGERPRINTED] = Field(
        500, ge=1, description="steps between checkpoints"
    )
    keep_checkpoints: Annotated[int, NOT_FINGERPRINTED] = Field(
        2, ge=1, description="how many of the last checkpoints are kept"
    )
    keep_every_steps: Annotated[int | None, NOT_FINGERPRINTED] = Field(
        None, ge=1, description="checkpoints at multiples of this are kept for good"
    )
    trackers: Annotated[list[TrackerName], NOT_FINGERPRINTED] = Field(
        [], description="where metrics go besides metrics.jsonl: tensorboard, wandb, trackio"
    )
    log_every_steps: Annotated[int, NOT_FINGERPRINTED] = Field(
        10, ge=1, description="steps between lines of metrics.jsonl"
    )
    eval_every_steps: Annotated[int | None, NOT_FINGERPRINTED] = Field(
        None, ge=1, description="steps between losses on held-out text; null: 20 times in all"
    )

    def fingerprinted(self) -> dict[str, Any]:
        """Only what the method and the schedule read: another's dial changes no result."""
        fields = super().fingerprinted()
        unread = [name for name, methods in READ_BY.items() if self.method not in methods]
        if self.schedule != "wsd":
            unread.append("decay_share")
        if self.schedule == "constant":
            unread.append("min_lr_ratio")
        return _only(fields, [name for name in fields if name not in unread])


def _only(fields: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: fields[name] for name in names}
