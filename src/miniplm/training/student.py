"""The train stage: a model from scratch, from token shards to a Hugging Face folder."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from miniplm.data.loader import SequenceStore
from miniplm.data.order import EpochOrder
from miniplm.data.tokenizer import load_tokenizer, put_no_marks
from miniplm.errors import ConfigError
from miniplm.manifest import Outcome, write_atomically
from miniplm.model import (
    ModelConfig,
    build_model,
    model_config,
    num_experts,
    quiet_transformers,
)
from miniplm.model_checks import check_causal_head, check_scorer, check_vocabulary
from miniplm.model_size import ModelSize, model_size, size_of
from miniplm.scoring.scoring_model import ScoringModel
from miniplm.training.checkpoint import TrainingState
from miniplm.training.checks import on_policy_faults
from miniplm.training.compute import training_flops_per_token
from miniplm.training.config import TAUGHT, TrainingConfig
from miniplm.training.feed import Feed
from miniplm.training.inputs import TrainInputs, make_feed, origins
from miniplm.training.model_card import CardFacts, model_card
from miniplm.training.on_policy import OnPolicyLoss, Policy
from miniplm.training.parallel import Parallel
from miniplm.training.student_loss import Dynamic, LossSettings, StudentLoss
from miniplm.training.teacher import DenseTeacher
from miniplm.training.trainer import CHECKPOINTS_FOLDER, Trainer
from miniplm.training.writing import writing

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

MODEL_FOLDER = "model"


def train_model(
    name: str,
    config: ModelConfig,
    training: TrainingConfig,
    inputs: TrainInputs,
    seed: int,
    folder: Path,
) -> Outcome:
    """Train a model from scratch and write `folder/model` and `folder/metrics.jsonl`.

    Several processes may call it together, if they were started by `torchrun` or the like; the
    first one writes.

    Args:
        name: Name of the model in the run.
        config: Where its shape comes from.
        training: How to train it; its budget has to be given.
        inputs: What to train on.
        seed: Of the weights and of the order; `training.seed` goes first.
        folder: Where to write; checkpoints found there are gone on from.

    Raises:
        ModelError: The model cannot be built, or does not fit the teacher.
        ArtefactError: There is nothing to train on, or something is damaged.
        ConfigError: The method takes something that is not given.
        TrainingError: Training cannot go on.
        StoppedError: A signal asked to stop.
    """
    seed = seed if training.seed is None else training.seed
    feed = make_feed(inputs, training, seed)
    tokenizer = load_tokenizer(inputs.tokenizer)
    put_no_marks(tokenizer)
    store = feed.store
    shape = model_config(config, store.vocab_size, store.max_length)
    size = model_size(shape, store.max_length)
    model = _fresh_model(name, shape, seed, store)
    parallel = Parallel(training.parallel)
    scorer = _teacher(training, inputs, store)
    teacher_size = size_of(scorer.model, store.max_length) if scorer else None
    flops_per_token = training_flops_per_token(training, size, teacher_size)
    dense = None
    if scorer is not None:
        dense = DenseTeacher(scorer.model.to(parallel.device), store.vocab_size)
    student = _with_loss(model, training, dense, store)
    trainer = Trainer(
        student,
        feed,
        training,
        folder,
        seed=seed,
        flops_per_token=flops_per_token,
        held_out=inputs.held_out_losses(),
        identity=_identity(
            config, training, inputs, store, seed, scorer.fingerprint if scorer else None
        )
        | origins(inputs, training, feed),
        title=f"train {name}",
        parallel=parallel,
    )
    state = trainer.train()
    flops = state.num_tokens * flops_per_token
    num_sequences = _num_sequences(feed)
    facts = _facts(name, size, state, feed, inputs, training, flops)
    _save(trainer, tokenizer, facts, folder / MODEL_FOLDER)
    return Outcome(
        counts={"steps": state.step, "sequences": num_sequences},
        num_tokens=state.num_tokens,
        flops=flops,
        facts={
            "num_params": size.num_params,
            "num_embedding_params": size.num_embedding_params,
            "num_active_params": size.num_active_params,
            "tokens_per_param": state.num_tokens / size.num_params,
            "epochs": state.step * training.global_batch_size / num_sequences,
            "training_seconds": round(state.seconds, 3),
        },
        obsolete=(CHECKPOINTS_FOLDER,) if training.keep_every_steps is None else (),
    )


def _teacher(
    training: TrainingConfig, inputs: TrainInputs, store: SequenceStore
) -> ScoringModel | None:
    """The model beside the student, if the method has one."""
    if training.method not in TAUGHT:
        return None
    if inputs.teacher is None:
        raise ConfigError("training.method", [f"{training.method} needs a teacher; none is given"])
    scorer = inputs.teacher()
    check_scorer(scorer.model, store.vocab_size, store.max_length, scorer.name)
    return scorer


def _with_loss(
    model: "PreTrainedModel",
    training: TrainingConfig,
    teacher: DenseTeacher | None,
    store: SequenceStore,
) -> StudentLoss:
    settings = _loss_settings(training)
    if training.method != "minillm":
        return StudentLoss(model, settings, teacher)
    if faults := on_policy_faults(training):
        raise ConfigError("training", faults)
    if num_experts(model):
        raise ConfigError(
            "training.method",
            ["minillm has no loss that balances the experts of a mixture; use another method"],
        )
    assert teacher is not None
    policy = Policy(model, getattr(torch, training.precision), store.vocab_size, store.eos_id)
    on_policy = training.on_policy
    return OnPolicyLoss(
        model, settings, teacher, policy, on_policy.prompt_tokens, long_term=on_policy.long_term
    )


def _loss_settings(training: TrainingConfig) -> LossSettings:
    distilled = training.method in ("vanilla_kd", "sparse_kd", "minillm")
    kinds: dict[str, Dynamic] = {"dynamic": "sequences", "dynamic_tokens": "tokens"}
    return LossSettings(
        kd_ratio=training.kd_ratio if distilled else 0.0,
        dynamic=kinds.get(training.reweighting.kind),
        temperature=training.reweighting.temperature,
        token_share=training.reweighting.token_share,
    )


def _num_sequences(feed: Feed) -> int:
    """Sequences of an epoch: repeated ones as often as they come, and none that is left out."""
    return feed.order.num_sequences if isinstance(feed.order, EpochOrder) else len(feed.store)


def _identity(
    config: ModelConfig,
    training: TrainingConfig,
    inputs: TrainInputs,
    store: SequenceStore,
    seed: int,
    teacher: str | None,
) -> dict[str, Any]:
    """What a training follows from, as JSON values: its checkpoints are of no use for another."""
    identity = {
        "model": config.model_dump(mode="json", include={"config_from", "shape"}),
        "model_origin": config.origin_fingerprint,
        "training": training.fingerprinted(),
        "seed": seed,
        "corpus": [shard.info.shard_hash for shard in store.shards],
        "shares": list(inputs.corpora.values()),
        "teacher": teacher,
    }
    if inputs.leave_out:
        identity["leave_out"] = list(inputs.leave_out)
    plain: dict[str, Any] = json.loads(json.dumps(identity))
    return plain


def _fresh_model(
    name: str, shape: "PretrainedConfig", seed: int, store: SequenceStore
) -> "PreTrainedModel":
    """A model to be trained on these sequences, which ends its texts as they end."""
    model = build_model(shape, seed)
    check_vocabulary(model, store.vocab_size, name)
    check_causal_head(model)
    model.generation_config.eos_token_id = store.eos_id
    model.generation_config.pad_token_id = store.eos_id
    model.generation_config.use_cache = True
    model.config.eos_token_id = store.eos_id
    return model


def _save(
    trainer: Trainer, tokenizer: "PreTrainedTokenizerBase", facts: CardFacts, folder: Path
) -> None:
    """Write a trained model, its tokenizer and its card, ready for inference."""
    model, parallel = trainer.student.model, trainer.parallel
    weights = parallel.gathered(model) if parallel.sharded else None
    if not parallel.is_main:
        return
    model.config.use_cache = True
    with writing("the trained model", folder), quiet_transformers():
        (model.cpu() if weights is None else model).save_pretrained(folder, state_dict=weights)
        tokenizer.save_pretrained(folder)
        write_atomically(folder / "README.md", model_card(facts))


def _facts(
    name: str,
    size: ModelSize,
    state: TrainingState,
    feed: Feed,
    inputs: TrainInputs,
    training: TrainingConfig,
    flops: float,
) -> CardFacts:
    settings: dict[str, Any] = training.model_dump(mode="json", exclude_none=True)
    return CardFacts(
        name=name,
        num_params=size.num_params,
        corpus=inputs.corpus,
        num_sequences=_num_sequences(feed),
        num_tokens=state.num_tokens,
        num_steps=state.step,
        flops=flops,
        max_length=feed.store.max_length,
        settings=settings,
    )
