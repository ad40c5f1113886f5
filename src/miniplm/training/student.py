"""The train stage: a model from scratch, from token shards to a Hugging Face folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miniplm.data.loader import SequenceStore
from miniplm.data.shards import open_shards, shard_prefixes
from miniplm.data.tokenizer import load_tokenizer
from miniplm.errors import ArtefactError
from miniplm.manifest import Outcome, write_atomically
from miniplm.model import ModelConfig, build_model, model_config, quiet_transformers
from miniplm.model_checks import check_causal_head, check_vocabulary
from miniplm.model_size import TRAINING_TO_FORWARD, ModelSize, model_size
from miniplm.training.checkpoint import TrainingState
from miniplm.training.config import TrainingConfig
from miniplm.training.model_card import CardFacts, model_card
from miniplm.training.trainer import CHECKPOINTS_FOLDER, HeldOut, Trainer

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

MODEL_FOLDER = "model"


@dataclass(frozen=True)
class TrainInputs:
    """What a model is trained on.

    Args:
        shards: Folder of token shards.
        corpus: What they are, in a few words, for the model card.
        tokenizer: Folder of their tokenizer.
        held_out: Folder of held-out token shards, for the losses along the way.
        held_out_sequences: How many of them are used.
    """

    shards: Path
    corpus: str
    tokenizer: Path
    held_out: Path | None = None
    held_out_sequences: int = 64


def train_model(
    name: str,
    config: ModelConfig,
    training: TrainingConfig,
    inputs: TrainInputs,
    seed: int,
    folder: Path,
) -> Outcome:
    """Train a model from scratch and write `folder/model` and `folder/metrics.jsonl`.

    Args:
        name: Name of the model in the run.
        config: Where its shape comes from.
        training: How to train it; its budget has to be given.
        inputs: What to train on.
        seed: Of the weights and of the order; `training.seed` goes first.
        folder: Where to write; checkpoints found there are gone on from.

    Raises:
        ModelError: The model cannot be built.
        ArtefactError: There is nothing to train on, or it is damaged.
        TrainingError: Training cannot go on.
    """
    seed = seed if training.seed is None else training.seed
    store = open_store(inputs.shards)
    held_out = _held_out(inputs)
    tokenizer = load_tokenizer(inputs.tokenizer)
    shape = model_config(config, store.vocab_size, store.max_length)
    size = model_size(shape, store.max_length)
    model = _fresh_model(name, shape, seed, store)
    trainer = Trainer(
        model,
        store,
        training,
        folder,
        seed=seed,
        forward_flops_per_token=size.forward_flops_per_token,
        held_out=held_out,
        title=f"train {name}",
    )
    state = trainer.train()
    facts = _facts(name, size, state, store, inputs, training)
    _save(model, tokenizer, facts, folder / MODEL_FOLDER)
    return Outcome(
        counts={"steps": state.step, "sequences": len(store)},
        num_tokens=state.num_tokens,
        flops=facts.flops,
        facts={
            "num_params": size.num_params,
            "num_embedding_params": size.num_embedding_params,
            "tokens_per_param": state.num_tokens / size.num_params,
            "epochs": state.step * training.global_batch_size / len(store),
            "training_seconds": round(state.seconds, 3),
        },
        obsolete=(CHECKPOINTS_FOLDER,),
    )


def open_store(folder: Path) -> SequenceStore:
    """The sequences of a folder of token shards, at least one.

    Raises:
        ArtefactError: There are none.
    """
    store = SequenceStore(open_shards(folder))
    if len(store) == 0:
        raise ArtefactError(f"{folder}: its token shards hold no sequence to train on")
    return store


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
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", facts: CardFacts, folder: Path
) -> None:
    """Write a trained model, its tokenizer and its card, ready for inference."""
    model.config.use_cache = True
    with quiet_transformers():
        model.cpu().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_atomically(folder / "README.md", model_card(facts))


def _held_out(inputs: TrainInputs) -> HeldOut | None:
    if inputs.held_out is None or not inputs.held_out.exists():
        return None
    assert shard_prefixes(inputs.held_out)
    return HeldOut(SequenceStore(open_shards(inputs.held_out)), inputs.held_out_sequences)


def _facts(
    name: str,
    size: ModelSize,
    state: TrainingState,
    store: SequenceStore,
    inputs: TrainInputs,
    training: TrainingConfig,
) -> CardFacts:
    flops = state.num_tokens * TRAINING_TO_FORWARD * size.forward_flops_per_token
    settings: dict[str, Any] = training.model_dump(mode="json", exclude_none=True)
    return CardFacts(
        name=name,
        num_params=size.num_params,
        corpus=inputs.corpus,
        num_sequences=len(store),
        num_tokens=state.num_tokens,
        num_steps=state.step,
        flops=flops,
        max_length=store.max_length,
        settings=settings,
    )
