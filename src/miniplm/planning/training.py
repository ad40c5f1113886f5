"""What it costs to train a model."""

from dataclasses import dataclass

from miniplm.model_size import ModelSize
from miniplm.planning.basis import Basis
from miniplm.planning.cost import DISK_BYTES_PER_SECOND, GENERATING_TO_SCORING, Cost, Load
from miniplm.recipe import ScorerConfig, StudentConfig
from miniplm.training.compute import new_tokens, training_flops_per_token
from miniplm.training.config import TAUGHT, TrainingConfig
from miniplm.training.trainer import EVALUATIONS

_CHECKPOINT_BYTES_PER_PARAM = 12
_LEFT_BYTES_PER_PARAM = 4 + 2 * _CHECKPOINT_BYTES_PER_PARAM
"""The model, and two checkpoints of weights and both moments."""
_HELD_BYTES_PER_PARAM = 4 * 4
"""In memory: weights, gradients and both moments."""


@dataclass(frozen=True)
class TrainingAmounts:
    """How much a model is trained.

    Args:
        num_tokens: Tokens it is trained on.
        num_steps: Optimiser steps.
        tokens_per_param: Tokens for each of its parameters.
        epochs: How often it sees its text; with `leave_out`, counted over the whole split.
    """

    num_tokens: float
    num_steps: float
    tokens_per_param: float
    epochs: float


def training_config(basis: Basis, name: str) -> TrainingConfig:
    """How a student, the teacher or the reference is trained."""
    if name in basis.recipe.students:
        return basis.recipe.student_training(name)
    training = basis.recipe.config_of(name).training
    assert training is not None
    return training


def training_amounts(basis: Basis, name: str) -> TrainingAmounts:
    """What a model's budget comes to."""
    training, size = training_config(basis, name), basis.size(name)
    per_row = _tokens_per_row(basis, name, training)
    num_tokens = _budget_tokens(basis, training, size, per_row)
    return TrainingAmounts(
        num_tokens,
        num_steps=num_tokens / (training.global_batch_size * per_row),
        tokens_per_param=num_tokens / size.num_params,
        epochs=num_tokens / per_row / max(1.0, _available_rows(basis, name)),
    )


def training_cost(basis: Basis, name: str) -> Cost:
    """Of training a model from scratch."""
    amounts, size = training_amounts(basis, name), basis.size(name)
    per_token = _flops_per_token(basis, training_config(basis, name), size)
    return Cost(
        amounts.num_tokens,
        per_token * amounts.num_tokens,
        size.num_params * _LEFT_BYTES_PER_PARAM,
        lambda: _load(basis, name, amounts),
        f"{size.num_params / 1e6:.2f}M parameters, {amounts.tokens_per_param:.1f} tokens each, "
        f"{_at_least(basis, name)}{amounts.epochs:.1f} epochs",
    )


def _budget_tokens(
    basis: Basis, training: TrainingConfig, size: ModelSize, per_row: float
) -> float:
    budget = training.budget
    if budget.tokens is not None:
        return float(budget.tokens)
    if budget.flops is not None:
        return budget.flops / _flops_per_token(basis, training, size)
    assert budget.steps is not None
    return float(budget.steps * training.global_batch_size * per_row)


def _flops_per_token(basis: Basis, training: TrainingConfig, size: ModelSize) -> float:
    teacher = basis.size("teacher") if training.method in TAUGHT else None
    return training_flops_per_token(training, size, teacher)


def _tokens_per_row(basis: Basis, name: str, training: TrainingConfig) -> float:
    """Tokens that a model is trained on for each row."""
    if training.method != "minillm":
        return basis.corpora.mean_length(basis.read_by(name))
    num_new = new_tokens(training, basis.recipe.packing.max_length)
    return training.on_policy.prompt_tokens + num_new - 1


def _available_rows(basis: Basis, name: str) -> float:
    """Rows of training after which a model has seen its first corpus, or its split, once."""
    student: StudentConfig | None = basis.recipe.students.get(name)
    if student is None:
        split = basis.recipe.apart if name in basis.recipe.held_apart else name
        return basis.num_rows(basis.corpora.splits[split or name])
    return min(
        basis.corpora.of(corpus) / basis.corpora.mean_length(corpus) / share
        for corpus, share in student.corpora.items()
    )


def _at_least(basis: Basis, name: str) -> str:
    """Epochs are of the whole split: how much of it is left out shows when it is tokenised."""
    config = basis.recipe.config_of(name)
    return "at least " if isinstance(config, ScorerConfig) and config.leave_out else ""


def _load(basis: Basis, name: str, amounts: TrainingAmounts) -> Load:
    training, num_params = training_config(basis, name), basis.size(name).num_params
    costs = basis.calibration.training(basis.shape(name), training)
    beside = _seconds_beside(basis, name, training)
    checkpoint_seconds = _CHECKPOINT_BYTES_PER_PARAM * num_params / DISK_BYTES_PER_SECOND
    seconds = (
        amounts.num_tokens * (costs.token.seconds + beside)
        + amounts.num_steps * costs.step.seconds
        + _evaluated_tokens(basis, name, training, amounts) * costs.evaluated_token.seconds
        + amounts.num_steps / training.checkpoint_every_steps * checkpoint_seconds
    )
    return Load(seconds, _HELD_BYTES_PER_PARAM * num_params + costs.token.num_bytes)


def _evaluated_tokens(
    basis: Basis, name: str, training: TrainingConfig, amounts: TrainingAmounts
) -> float:
    """Held-out tokens that are read along the way."""
    every = training.eval_every_steps
    evaluations = amounts.num_steps / every if every else EVALUATIONS
    evaluation = basis.recipe.evaluation
    most = evaluation.held_out_sequences_while_training * basis.recipe.packing.max_length
    return evaluations * min(most, basis.corpora.held_out(basis.read_by(name)))


def _seconds_beside(basis: Basis, name: str, training: TrainingConfig) -> float:
    """Seconds of a token for the teacher beside the student, and for what the student writes."""
    seconds = 0.0
    if training.method in TAUGHT:
        seconds += basis.calibration.scoring(basis.shape("teacher"), training.precision).seconds
    if training.method == "minillm":
        read = basis.calibration.scoring(basis.shape(name), training.precision)
        seconds += GENERATING_TO_SCORING * read.seconds
    return seconds
