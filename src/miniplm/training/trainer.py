"""The training loop: short and ours.

Axes: B sequences, T positions.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from miniplm.errors import ModelError, StoppedError, TrainingError
from miniplm.runtime.ahead import ahead
from miniplm.runtime.allocator import keep_memory
from miniplm.runtime.log import logger
from miniplm.runtime.progress import Advance, progress
from miniplm.runtime.signals import stop_requests
from miniplm.scoring.attention import use_blocked_attention
from miniplm.scoring.preparation import compile_layers
from miniplm.training.budget import budget_steps
from miniplm.training.checkpoint import Checkpoints, TrainingState
from miniplm.training.config import TrainingConfig
from miniplm.training.feed import Feed, on_device
from miniplm.training.held_out import HeldOut
from miniplm.training.metrics import METRICS_NAME, appending, drop_metrics_after
from miniplm.training.optimizer import make_optimizer
from miniplm.training.parallel import Parallel
from miniplm.training.reweighting import effective_sample_size
from miniplm.training.schedule import lr_factor
from miniplm.training.student_loss import MicroBatch, StudentLoss
from miniplm.training.trackers import tracking

CHECKPOINTS_FOLDER = "checkpoints"
_MICRO_BATCH_POSITIONS = 8192
EVALUATIONS = 20
"""Losses on held-out text along the way, where the config does not say how often."""

Write = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class GlobalBatch:
    """A step's sequences and this process's part of them."""

    indices_G: NDArray[np.int64]
    micro_batches: list[MicroBatch]


@dataclass(frozen=True)
class StepFacts:
    """What a step was like, over all processes.

    Args:
        loss: Mean over the global batch, by weight, nats.
        grad_norm: Before clipping.
        num_tokens: Tokens the model was run on.
        effective_sample_size: Of the global batch's weights.
    """

    loss: float
    grad_norm: float
    num_tokens: int
    effective_sample_size: float


class Trainer:
    """Trains one model in place, from the last complete checkpoint in `folder` if there is one.

    Args:
        student: Fresh weights, float32, with their loss.
        feed: What to train on.
        config: Optimiser, schedule, batch and budget.
        folder: Gets `metrics.jsonl` and checkpoints.
        seed: Of anything random in the model.
        flops_per_token: Of training, for the budget and for the metrics.
        held_out: Text for the losses along the way.
        identity: What the training follows from; a checkpoint of another one is refused.
        title: Of the progress bar.
        parallel: The processes; those that were started together if not given.

    Raises:
        TrainingError: The processes cannot share a global batch evenly.
    """

    def __init__(
        self,
        student: StudentLoss,
        feed: Feed,
        config: TrainingConfig,
        folder: Path,
        *,
        seed: int,
        flops_per_token: float,
        held_out: HeldOut | None = None,
        identity: dict[str, Any] | None = None,
        title: str = "train",
        parallel: Parallel | None = None,
    ) -> None:
        self.student, self.feed, self.config, self.folder = student, feed, config, folder
        self.seed, self.held_out, self.title = seed, held_out, title
        self.flops_per_token = flops_per_token
        self.tokens_per_step = config.global_batch_size * feed.mean_tokens
        self.num_steps = budget_steps(config.budget, self.tokens_per_step, flops_per_token)
        self.feed = feed.planned(self.num_steps * config.global_batch_size)
        self.eval_every = config.eval_every_steps or max(1, self.num_steps // EVALUATIONS)
        self.parallel = parallel or Parallel(config.parallel)
        if config.global_batch_size % self.parallel.world:
            raise TrainingError(
                f"training.global_batch_size is {config.global_batch_size}, which "
                f"{self.parallel.world} processes cannot share evenly; start a number of them that "
                "divides it."
            )
        if self.parallel.device.type == "cpu":
            keep_memory()
            use_blocked_attention(student.model, getattr(torch, config.precision))
        if config.activation_checkpointing:
            student.model.gradient_checkpointing_enable({"use_reentrant": False})
        if config.compile:
            compile_layers(student.model)
        self.module = self.parallel.wrap(student)
        self.optimizer = make_optimizer(self.module, config)
        self.checkpoints = Checkpoints(
            folder / CHECKPOINTS_FOLDER,
            keep_last=config.keep_checkpoints,
            keep_every=config.keep_every_steps,
            identity=identity or {},
        )

    def train(self) -> TrainingState:
        """Take all steps that are left.

        Returns:
            The state after the last step.

        Raises:
            TrainingError: The loss or the gradient is not finite, or a checkpoint is of no use.
            StoppedError: SIGTERM came; a checkpoint of the last step is there.
        """
        if self.parallel.is_main and self.config.warmup_steps >= self.num_steps:
            logger.warning(
                "%s: %d steps of warm-up, %d steps in all; the learning rate never gets to its "
                "peak",
                self.title, self.config.warmup_steps, self.num_steps,
            )  # fmt: skip
        state = self._resume()
        metrics_path = self.folder / METRICS_NAME
        with (
            progress(self.title, self.num_steps * self.tokens_per_step, "tokens") as advance,
            appending(metrics_path, enabled=self.parallel.is_main) as write,
            tracking(
                self.config.trackers, self.folder,
                run_name=self.title, settings=self.config.model_dump(mode="json"),
                first_step=state.step + 1 if state.step else 0, enabled=self.parallel.is_main,
            ) as track,
        ):  # fmt: skip
            advance(state.num_tokens)

            def record(metrics: dict[str, Any]) -> None:
                write(metrics)
                track(metrics)

            return self._steps(state, advance, record)

    def _resume(self) -> TrainingState:
        """Go back to the last checkpoint, or start; drops metrics of steps after it."""
        state = self.checkpoints.load_last(self.student, self.optimizer, self.parallel)
        if state is None:
            torch.manual_seed(self.seed)
            state = TrainingState(step=0, num_tokens=0, seconds=0.0)
        elif self.parallel.is_main:
            logger.info("resuming at step %d of %d", state.step, self.num_steps)
        self.student.train()
        if self.parallel.is_main:
            drop_metrics_after(self.folder / METRICS_NAME, state.step)
        return state

    def _steps(self, state: TrainingState, advance: Advance, record: Write) -> TrainingState:
        """All steps that are left."""
        started, waited = time.monotonic() - state.seconds, 0.0
        if state.step == 0 and self.held_out:
            record({"step": 0, "num_tokens": 0, "flops": 0.0, **self._held_out_metrics()})
        with stop_requests() as stopping, ahead(self._batches(state.step), 1) as batches:
            while state.step < self.num_steps:
                waiting = time.monotonic()
                batch = next(batches)
                waited += time.monotonic() - waiting
                facts = self._step(state.step, batch)
                state = TrainingState(
                    state.step + 1, state.num_tokens + facts.num_tokens, time.monotonic() - started
                )
                advance(facts.num_tokens, note=f"loss {facts.loss:.3f}")
                if self._is_due(state.step, self.config.log_every_steps, self.eval_every):
                    record(self._metrics(state, facts, waited))
                    waited = 0.0
                stop = self._all_agree(stopping())
                if stop or self._is_due(state.step, self.config.checkpoint_every_steps):
                    self.checkpoints.save(self.student, self.optimizer, state, self.parallel)
                if stop:
                    raise StoppedError(
                        f"{self.title}: stopped after step {state.step} of {self.num_steps}, which "
                        "is in a checkpoint; the same command goes on from there"
                    )
        return state

    def _batches(self, first: int) -> Iterator[GlobalBatch]:
        """Global batches from a step on, made by a thread while the model is at work."""
        size = micro_batch_sequences(self.config, self.feed.store.max_length)
        length = self.feed.store.max_length if self.config.compile else None
        rank, world = self.parallel.rank, self.parallel.world
        for step in range(first, self.num_steps):
            indices_G = self.feed.order.batch(step, self.config.global_batch_size)
            parts = self.feed.micro_batches(step, indices_G, rank, world, size, length)
            yield GlobalBatch(indices_G, list(parts))

    def _is_due(self, step: int, *intervals: int) -> bool:
        return step == self.num_steps or any(step % interval == 0 for interval in intervals)

    def _all_agree(self, stop: bool) -> bool:
        """Whether any process was told to stop."""
        if self.parallel.world == 1:
            return stop
        told = torch.tensor(float(stop), device=self.parallel.device)
        return bool(self.parallel.sum(told) > 0)

    def _step(self, step: int, batch: GlobalBatch) -> StepFacts:
        """One optimiser step."""
        lr = self._lr(step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        try:
            loss, weight, squares = self._accumulate(batch.micro_batches)
        except ModelError as error:
            raise TrainingError(self._cannot_go_on(step, str(error), batch.indices_G)) from error
        if self.student.settings.dynamic == "sequences":
            if not (math.isfinite(weight) and weight > 0):
                reason = f"the dynamic weights of the batch add up to {weight:g}"
                raise TrainingError(self._cannot_go_on(step, reason, batch.indices_G))
            self._divide_gradients(weight)
            loss /= weight
        grad_norm = self.parallel.clip(self.module.parameters(), self.config.max_grad_norm)
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            reason = f"loss {loss:g}, gradient norm {grad_norm:g}; expected finite numbers"
            raise TrainingError(self._cannot_go_on(step, reason, batch.indices_G))
        self.optimizer.step()
        self.optimizer.zero_grad()
        num_tokens = self.feed.num_tokens(batch.indices_G)
        return StepFacts(loss, grad_norm, num_tokens, effective_sample_size(weight, squares))

    def _accumulate(self, micro_batches: list[MicroBatch]) -> tuple[float, float, float]:
        """Gradients over a global batch; returns the sums of `LossSums` over all of it."""
        totals = torch.zeros(3, dtype=torch.float64, device=self.parallel.device)
        for number, micro_batch in enumerate(micro_batches):
            last = number == len(micro_batches) - 1
            with self.parallel.synchronising(self.module, on=last):
                with self._autocast():
                    sums = self.module(on_device(micro_batch, self.parallel.device))
                # processes average their gradients; the loss is a sum over the global batch
                torch.autograd.backward(sums.loss * self.parallel.world)
            totals += torch.stack([sums.loss.detach().double(), sums.weight, sums.squares])
        loss, weight, squares = self.parallel.sum(totals).tolist()
        return loss, weight, squares

    def _divide_gradients(self, divisor: float) -> None:
        """Normalise by the sum of the global batch's dynamic weights, known only now."""
        for parameter in self.module.parameters():
            if parameter.grad is not None:
                parameter.grad /= divisor

    def _autocast(self) -> torch.autocast:
        enabled = self.config.precision == "bfloat16"
        return torch.autocast(self.parallel.device.type, torch.bfloat16, enabled=enabled)

    def _lr(self, step: int) -> float:
        return self.config.lr * lr_factor(
            step,
            schedule=self.config.schedule,
            num_steps=self.num_steps,
            warmup_steps=self.config.warmup_steps,
            min_lr_ratio=self.config.min_lr_ratio,
            decay_share=self.config.decay_share,
        )

    def _metrics(self, state: TrainingState, facts: StepFacts, waited: float) -> dict[str, Any]:
        metrics = {
            "step": state.step,
            "num_tokens": state.num_tokens,
            "flops": state.num_tokens * self.flops_per_token,
            "loss": facts.loss,
            "grad_norm": facts.grad_norm,
            "lr": self._lr(state.step - 1),
            "seconds": round(state.seconds, 3),
            "seconds_waiting_for_data": round(waited, 3),
        }
        if self.config.reweighting.kind != "none":
            metrics["effective_sample_size"] = round(facts.effective_sample_size, 2)
        if self.held_out and self._is_due(state.step, self.eval_every):
            metrics |= self._held_out_metrics()
        return metrics

    def _held_out_metrics(self) -> dict[str, Any]:
        assert self.held_out is not None
        with self._autocast():
            return self.held_out.measure(self.student, self.parallel).metrics()

    def _cannot_go_on(self, step: int, reason: str, indices: NDArray[np.int64]) -> str:
        found = self.checkpoints.complete()
        last = f"the last good checkpoint is {found[-1]}" if found else "there is no checkpoint yet"
        names = [self.feed.store.name_of(int(index)) for index in indices]
        logger.error("the sequences (shard:row) of step %d: %s", step + 1, ", ".join(names))
        shown = ", ".join(names[:4]) + (", ... (all are in the log)" if len(names) > 4 else "")
        return (
            f"step {step + 1}: {reason}. The batch held the sequences (shard:row) {shown}; {last}. "
            "Lower training.lr or look at these sequences."
        )


def micro_batch_sequences(config: TrainingConfig, max_length: int) -> int:
    """Sequences of a forward pass."""
    return config.micro_batch_size or max(1, _MICRO_BATCH_POSITIONS // max_length)
