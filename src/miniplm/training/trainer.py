"""The training loop: short, ours, with Accelerate for devices and processes.

Axes: B sequences, T positions.
"""

import contextlib
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from miniplm.data.loader import SequenceStore, global_batch
from miniplm.errors import TrainingError
from miniplm.model_size import TRAINING_TO_FORWARD
from miniplm.runtime.allocator import keep_memory
from miniplm.runtime.devices import best_device
from miniplm.runtime.log import logger
from miniplm.runtime.progress import Advance, progress
from miniplm.scoring.forward import sequence_log_probs
from miniplm.training.checkpoint import (
    TrainingState,
    checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from miniplm.training.config import BudgetConfig, TrainingConfig
from miniplm.training.metrics import METRICS_NAME, appending, drop_metrics_after
from miniplm.training.objective import SequenceLoss
from miniplm.training.schedule import cosine_with_warmup

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHECKPOINTS_FOLDER = "checkpoints"
_MICRO_BATCH_POSITIONS = 8192
EVALUATIONS = 20
"""Losses on held-out text along the way, where the config does not say how often."""


@dataclass(frozen=True)
class HeldOut:
    """Text for the losses along the way: some sequences of the held-out split."""

    store: SequenceStore
    num_sequences: int

    def indices(self) -> NDArray[np.int64]:
        """The sequences used; the split is shuffled, so its first ones are a sample."""
        return np.arange(min(self.num_sequences, len(self.store)))


def budget_steps(
    budget: BudgetConfig, tokens_per_step: float, forward_flops_per_token: float
) -> int:
    """Steps that a budget pays for, rounded, at least one.

    Args:
        budget: Exactly one unit is set.
        tokens_per_step: Tokens in a global batch, on average.
        forward_flops_per_token: Of the model, for one token.

    Example:
        >>> budget_steps(BudgetConfig(tokens=1000), 100.0, 1.0)
        10
        >>> budget_steps(BudgetConfig(flops=3e6), 100.0, 1e3)
        10
    """
    if budget.steps is not None:
        return budget.steps
    tokens = budget.tokens
    if budget.flops is not None:
        tokens = round(budget.flops / (TRAINING_TO_FORWARD * forward_flops_per_token))
    assert tokens is not None
    return max(1, round(tokens / tokens_per_step))


class Trainer:
    """Trains one model in place, from the last complete checkpoint in `folder` if there is one.

    Args:
        model: Fresh weights, float32.
        store: The sequences to train on.
        config: Optimiser, schedule, batch and budget.
        folder: Gets `metrics.jsonl` and checkpoints.
        seed: Of the order of the sequences.
        forward_flops_per_token: For the budget and for the FLOPs in the metrics.
        held_out: Text for the losses along the way.
        title: Of the progress bar.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        store: SequenceStore,
        config: TrainingConfig,
        folder: Path,
        *,
        seed: int,
        forward_flops_per_token: float,
        held_out: HeldOut | None = None,
        title: str = "train",
    ) -> None:
        self.store, self.config, self.folder, self.seed = store, config, folder, seed
        self.held_out, self.title = held_out, title
        self.tokens_per_step = config.global_batch_size * store.mean_num_tokens
        self.num_steps = budget_steps(config.budget, self.tokens_per_step, forward_flops_per_token)
        self.flops_per_token = TRAINING_TO_FORWARD * forward_flops_per_token
        self.accelerator = Accelerator(cpu=best_device().type == "cpu")
        if self.accelerator.device.type == "cpu":
            keep_memory()
        self.model = model
        if config.compile:
            model.base_model.compile()
        optimizer = make_optimizer(model, config)
        self.loss_model, self.optimizer = self.accelerator.prepare(SequenceLoss(model), optimizer)
        self.eval_every = config.eval_every_steps or max(1, self.num_steps // EVALUATIONS)

    def train(self) -> TrainingState:
        """Take all steps that are left.

        Returns:
            The state after the last step.

        Raises:
            TrainingError: The loss or the gradient is not finite, or a checkpoint is of no use.
        """
        if self.config.warmup_steps >= self.num_steps:
            logger.warning(
                "%s: %d steps of warm-up, %d steps in all; the learning rate never gets to its "
                "peak",
                self.title, self.config.warmup_steps, self.num_steps,
            )  # fmt: skip
        state = self._resume()
        with progress(self.title, self.num_steps * self.tokens_per_step, "tokens") as advance:
            advance(state.num_tokens)
            return self._steps(state, advance)

    def _resume(self) -> TrainingState:
        """Go back to the last checkpoint, or start; drops metrics of steps after it."""
        found = checkpoints(self.folder / CHECKPOINTS_FOLDER)
        state = TrainingState(step=0, num_tokens=0, seconds=0.0)
        if found:
            state = load_checkpoint(found[-1], self.model, self.optimizer.optimizer)
            logger.info("resuming at step %d of %d", state.step, self.num_steps)
        else:
            torch.manual_seed(self.seed)
        self.model.train()
        if self.accelerator.is_main_process:
            drop_metrics_after(self.folder / METRICS_NAME, state.step)
        return state

    def _steps(self, state: TrainingState, advance: Advance) -> TrainingState:
        """All steps that are left."""
        started = time.monotonic() - state.seconds
        metrics_path = self.folder / METRICS_NAME
        with appending(metrics_path, enabled=self.accelerator.is_main_process) as write:
            if state.step == 0 and self.held_out:
                write({"step": 0, "num_tokens": 0, "flops": 0.0, **self._held_out_loss()})
            for step in range(state.step, self.num_steps):
                loss, grad_norm, num_tokens = self._step(step)
                state = TrainingState(
                    step + 1, state.num_tokens + num_tokens, time.monotonic() - started
                )
                advance(num_tokens, note=f"loss {loss:.3f}")
                if self._is_due(state.step, self.config.log_every_steps, self.eval_every):
                    write(self._metrics(state, loss, grad_norm))
                if self._is_due(state.step, self.config.checkpoint_every_steps):
                    self._checkpoint(state)
        return state

    def _is_due(self, step: int, *intervals: int) -> bool:
        return step == self.num_steps or any(step % interval == 0 for interval in intervals)

    def _step(self, step: int) -> tuple[float, float, int]:
        """One optimiser step; returns its loss, gradient norm and number of tokens."""
        lr = self._lr(step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        indices = global_batch(step, self.config.global_batch_size, len(self.store), self.seed)
        loss = self._accumulate(indices)
        norm = self.accelerator.clip_grad_norm_(
            self.loss_model.parameters(), self.config.max_grad_norm
        )
        grad_norm = float(norm)
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            raise TrainingError(self._not_finite(step, loss, grad_norm, indices))
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss, grad_norm, int((self.store.lengths[indices] - 1).sum())

    def _accumulate(self, indices: NDArray[np.int64]) -> float:
        """Gradients of the mean loss over a global batch; returns that loss."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        mine = indices[rank::world]
        micro = micro_batch_sequences(self.config, self.store.max_length)
        length = self.store.max_length if self.config.compile else None
        total = torch.zeros((), device=self.accelerator.device)
        for begin in range(0, len(mine), micro):
            batch = self.store.batch(mine[begin : begin + micro], length)
            weights_B = torch.full((len(batch.input_ids_BT),), 1 / len(indices))
            last = begin + micro >= len(mine)
            with self._synchronise(last), self._autocast():
                device = self.accelerator.device
                loss = self.loss_model(
                    batch.input_ids_BT.to(device), batch.targets_BT.to(device), weights_B.to(device)
                )
                # processes average their gradients; the loss is a sum over the global batch
                self.accelerator.backward(loss * world)
            total += loss.detach()
        return float(self.accelerator.reduce(total, "sum"))

    def _synchronise(self, last: bool) -> contextlib.AbstractContextManager[Any]:
        if last:
            return contextlib.nullcontext()
        return self.accelerator.no_sync(self.loss_model)  # type: ignore[no-any-return]

    def _autocast(self) -> torch.autocast:
        enabled = self.config.precision == "bfloat16"
        return torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=enabled)

    def _lr(self, step: int) -> float:
        return self.config.lr * cosine_with_warmup(
            step,
            num_steps=self.num_steps,
            warmup_steps=self.config.warmup_steps,
            min_lr_ratio=self.config.min_lr_ratio,
        )

    def _metrics(self, state: TrainingState, loss: float, grad_norm: float) -> dict[str, Any]:
        metrics = {
            "step": state.step,
            "num_tokens": state.num_tokens,
            "flops": state.num_tokens * self.flops_per_token,
            "loss": loss,
            "grad_norm": grad_norm,
            "lr": self._lr(state.step - 1),
            "seconds": round(state.seconds, 3),
        }
        if self.held_out and self._is_due(state.step, self.eval_every):
            metrics |= self._held_out_loss()
        return metrics

    def _held_out_loss(self) -> dict[str, float]:
        """Nats per token on the held-out sample, a mean over tokens."""
        assert self.held_out is not None
        store, total, num_tokens = self.held_out.store, 0.0, 0
        size = max(1, _MICRO_BATCH_POSITIONS // store.max_length)
        indices = self.held_out.indices()
        self.model.eval()
        with self._autocast():
            for begin in range(0, len(indices), size):
                batch = store.batch(indices[begin : begin + size])
                total -= float(
                    sequence_log_probs(self.model, batch.input_ids_BT, batch.targets_BT).sum()
                )
                num_tokens += int(batch.num_tokens_B.sum())
        self.model.train()
        return {"held_out_loss": total / max(1, num_tokens)}

    def _checkpoint(self, state: TrainingState) -> None:
        if self.accelerator.is_main_process:
            save_checkpoint(
                self.folder / CHECKPOINTS_FOLDER, self.model, self.optimizer.optimizer, state
            )

    def _not_finite(
        self, step: int, loss: float, grad_norm: float, indices: NDArray[np.int64]
    ) -> str:
        found = checkpoints(self.folder / CHECKPOINTS_FOLDER)
        last = f"the last good checkpoint is {found[-1]}" if found else "there is no checkpoint yet"
        shown = ", ".join(str(index) for index in indices[:8])
        return (
            f"step {step + 1}: loss {loss:g}, gradient norm {grad_norm:g}; expected finite "
            f"numbers. The batch held the sequences at {shown}{', ...' if len(indices) > 8 else ''}"
            f" of the training shards; {last}. Lower training.lr or look at these sequences."
        )


def micro_batch_sequences(config: TrainingConfig, max_length: int) -> int:
    """Sequences of a forward pass."""
    return config.micro_batch_size or max(1, _MICRO_BATCH_POSITIONS // max_length)


def make_optimizer(model: torch.nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW that decays matrices but neither norms nor biases."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=config.lr, betas=(config.beta1, config.beta2), eps=config.eps, fused=True
    )
