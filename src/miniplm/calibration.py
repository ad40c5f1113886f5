"""A moment of what models do, to say how long all of it will take on this machine.

Deep models are timed with two and with one of their layers; the rest follows, since time is a
straight line in the number of layers. Big ones are timed on few positions.

Axes: B sequences, T positions.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch

from miniplm.model import Dtype, build_model, with_layers
from miniplm.model_size import model_size, size_of
from miniplm.runtime.devices import best_device, matrix_product_rate, place
from miniplm.scoring.forward import sequence_log_probs
from miniplm.scoring.preparation import prepare_model
from miniplm.scoring.tuning import bytes_per_position, tune
from miniplm.training.config import TrainingConfig
from miniplm.training.optimizer import make_optimizer
from miniplm.training.student_loss import MicroBatch, StudentLoss
from miniplm.training.trainer import micro_batch_sequences

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

CostT = TypeVar("CostT", "Cost", "TrainingCosts")

_SECONDS = 0.3
"""What a measurement takes, about, once warm."""

_EXPECTED_UTILISATION = 0.4
_FEWEST_POSITIONS = 128
_WHOLE_MODEL_PARAMS = 5e6
"""Smaller models are measured whole."""


@dataclass(frozen=True)
class Cost:
    """What a part of a model's work takes.

    Args:
        seconds: Of the work, for a token or for a step.
        num_bytes: Kept alive for a batch; 0 where that is not counted.
    """

    seconds: float
    num_bytes: float = 0.0

    def extrapolated(self, shallower: "Cost", num_more: int) -> "Cost":
        """The cost with `num_more` further layers, given that of a model with one layer less."""
        return Cost(
            self.seconds + num_more * max(0.0, self.seconds - shallower.seconds),
            self.num_bytes + num_more * max(0.0, self.num_bytes - shallower.num_bytes),
        )


@dataclass(frozen=True)
class TrainingCosts:
    """What training takes.

    Args:
        token: Forward and backward, for a token.
        step: Clipping and the optimiser, for a step.
        evaluated_token: Forward only, for a token of held-out text.
    """

    token: Cost
    step: Cost
    evaluated_token: Cost

    def extrapolated(self, shallower: "TrainingCosts", num_more: int) -> "TrainingCosts":
        """As `Cost.extrapolated`, of each part."""
        return TrainingCosts(
            self.token.extrapolated(shallower.token, num_more),
            self.step.extrapolated(shallower.step, num_more),
            self.evaluated_token.extrapolated(shallower.evaluated_token, num_more),
        )


class Calibration:
    """Costs of models on this machine, each shape measured once.

    Raises what building a model raises.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self.device = best_device()
        self.rate = matrix_product_rate(self.device)
        self._scoring: dict[str, Cost] = {}
        self._training: dict[str, TrainingCosts] = {}

    def scoring(self, config: "PretrainedConfig", dtype: Dtype) -> Cost:
        """Seconds to score a token, and the bytes that a batch keeps alive."""
        key = f"{dtype} {json.dumps(config.to_dict(), sort_keys=True, default=str)}"
        if key not in self._scoring:
            self._scoring[key] = _by_depth(config, lambda shape: self._score(shape, dtype))
        return self._scoring[key]

    def training(self, config: "PretrainedConfig", training: TrainingConfig) -> TrainingCosts:
        """Costs of training."""
        shape = json.dumps(config.to_dict(), sort_keys=True, default=str)
        key = f"{training.precision} {training.micro_batch_size} {shape}"
        if key not in self._training:
            self._training[key] = _by_depth(config, lambda part: self._train(part, training))
        return self._training[key]

    def _score(self, config: "PretrainedConfig", dtype: Dtype) -> Cost:
        model = place(self._build(config).to(getattr(torch, dtype)))
        prepare_model(model)
        batch_tokens = tune(model, flops=0.0).batch_tokens
        ids_BT = self._ids(model, batch_tokens, 1)
        seconds = self._time(lambda: sequence_log_probs(model, ids_BT, ids_BT))
        return Cost(seconds / ids_BT.numel(), batch_tokens * bytes_per_position(model))

    def _train(self, config: "PretrainedConfig", training: TrainingConfig) -> TrainingCosts:
        model = self._build(config).to(self.device).train()
        most = micro_batch_sequences(training, self.length) * self.length
        ids_BT = self._ids(model, most, 3)
        num_tokens = ids_BT.numel()
        work = _TrainingWork(model, training, ids_BT)
        kept = work.kept_bytes()
        both, update = self._time(work.forward_and_backward), self._time(work.update)
        evaluated = self._time(work.evaluate)
        return TrainingCosts(
            token=Cost(both / num_tokens, kept / num_tokens * most),
            step=Cost(update),
            evaluated_token=Cost(evaluated / num_tokens),
        )

    def _build(self, config: "PretrainedConfig") -> "PreTrainedModel":
        with torch.device(self.device):
            return build_model(config, 0)

    def _ids(self, model: "PreTrainedModel", most: int, passes: int) -> torch.Tensor:
        """Ids to work on, `[B, T]`: as many as the work takes at a time, but not for too long."""
        flops = passes * size_of(model, self.length).forward_flops_per_token
        affordable = int(_SECONDS * self.rate * _EXPECTED_UTILISATION / flops)
        positions = max(_FEWEST_POSITIONS, min(most, affordable))
        length = min(self.length, positions)
        return torch.ones(positions // length, length, dtype=torch.int64, device=self.device)

    def _time(self, work: Callable[[], object]) -> float:
        """Median seconds of the work, after a warm-up."""

        def once() -> float:
            started = time.perf_counter()
            work()
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            return time.perf_counter() - started

        once()
        times = [once()]
        while sum(times) < _SECONDS and len(times) < 9:
            times.append(once())
        return sorted(times)[len(times) // 2]


class _TrainingWork:
    """The parts of a training step, each to be done again and again on the same ids `[B, T]`."""

    def __init__(
        self, model: "PreTrainedModel", training: TrainingConfig, ids_BT: torch.Tensor
    ) -> None:
        self.model, self.training = model, training
        self.student = StudentLoss(model)
        self.optimizer = make_optimizer(model, training)
        weights_B = torch.full((len(ids_BT),), 1 / len(ids_BT), device=ids_BT.device)
        self.batch = MicroBatch(ids_BT, ids_BT, weights_B)

    def forward_and_backward(self) -> None:
        """Add to the gradients."""
        torch.autograd.backward(self._loss())

    def update(self) -> None:
        """Clip the gradients and move the weights."""
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.training.max_grad_norm)
        self.optimizer.step()

    def evaluate(self) -> None:
        """The losses alone."""
        with self._autocast():
            self.student.log_probs(self.batch.input_ids_BT, self.batch.targets_BT)

    def kept_bytes(self) -> int:
        """Bytes that the forward pass keeps for the backward pass, weights not counted."""
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            self.forward_and_backward()
        weights: int = sum(p.numel() * p.element_size() for p in self.model.parameters())
        return max(0, sum(kept.values()) - weights)

    def _loss(self) -> torch.Tensor:
        with self._autocast():
            loss: torch.Tensor = self.student(self.batch).loss
        return loss

    def _autocast(self) -> torch.autocast:
        enabled = self.training.precision == "bfloat16"
        return torch.autocast(self.model.device.type, torch.bfloat16, enabled=enabled)


def _by_depth(config: "PretrainedConfig", measure: Callable[["PretrainedConfig"], CostT]) -> CostT:
    """The cost of a model, extrapolated from one and two of its layers where it is big."""
    depth = int(config.num_hidden_layers)
    two, one = with_layers(config, 2), with_layers(config, 1)
    if depth <= 2 or two is None or one is None:
        return measure(config)
    if model_size(config, 1).num_params < _WHOLE_MODEL_PARAMS:
        return measure(config)
    return measure(two).extrapolated(measure(one), depth - 2)
