"""Students of every family: trained for a moment, saved, loaded, run; their FLOPs."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from conftest import random_rows, write_rows
from miniplm.data.loader import SequenceStore
from miniplm.data.shards import open_shards
from miniplm.data.tokenizer import load_tokenizer, train_tokenizer
from miniplm.errors import ConfigError
from miniplm.model import (
    EXPERT_FAMILIES,
    ModelConfig,
    ShapeConfig,
    build_model,
    load_model,
    model_config,
)
from miniplm.model_size import model_size, size_of
from miniplm.scoring.forward import sequence_log_probs, token_log_probs
from miniplm.training.compute import training_flops_per_token
from miniplm.training.config import TrainingConfig
from miniplm.training.experts import balance_losses
from miniplm.training.inputs import TrainInputs
from miniplm.training.metrics import read_metrics
from miniplm.training.student import train_model
from miniplm.training.student_loss import MicroBatch, StudentLoss

VOCAB_SIZE, LENGTH, NUM_HELD_OUT = 300, 32, 6
_ATTENTION = {"hidden_size": 32, "intermediate_size": 64, "num_layers": 2, "num_heads": 4}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
SHAPES = {
    "qwen2": ShapeConfig(family="qwen2", **_ATTENTION, num_kv_heads=2, tie_embeddings=True),
    "qwen3": ShapeConfig(family="qwen3", **_ATTENTION, num_kv_heads=2, extra={"head_dim": 8}),
    "llama": ShapeConfig(
        family="llama", **_ATTENTION, num_kv_heads=2,
        extra={"rope_parameters": {  # of Llama 3.1
            "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
        }},
    ),
    "gpt_neox": ShapeConfig(family="gpt_neox", **_ATTENTION),
    "mamba": ShapeConfig(family="mamba", hidden_size=32, num_layers=2, extra={"state_size": 8}),
    "mamba2": ShapeConfig(
        family="mamba2", hidden_size=32, num_layers=2,
        extra={"state_size": 8, "num_heads": 4, "head_dim": 16, "n_groups": 2, "chunk_size": 16},
    ),
    "qwen2_moe": ShapeConfig(
        family="qwen2_moe", **_ATTENTION, extra={**_EXPERTS, "shared_expert_intermediate_size": 32}
    ),
    "qwen3_moe": ShapeConfig(
        family="qwen3_moe", **_ATTENTION, num_kv_heads=2, extra={**_EXPERTS, "head_dim": 16}
    ),
    "mixtral": ShapeConfig(
        family="mixtral", **_ATTENTION, extra={"num_local_experts": 4, "num_experts_per_tok": 2}
    ),
    "olmoe": ShapeConfig(
        family="olmoe", **_ATTENTION, extra={"num_experts": 4, "num_experts_per_tok": 2}
    ),
}  # fmt: skip
MIXTURES = EXPERT_FAMILIES
TRAINING = TrainingConfig(
    budget={"steps": 8}, lr=1e-2, warmup_steps=2, global_batch_size=4, precision="float32",
    log_every_steps=1, eval_every_steps=4, checkpoint_every_steps=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    root = tmp_path_factory.mktemp("families")
    train_tokenizer(
        ["some words to train a tokenizer on. " * 5] * 5, VOCAB_SIZE, root / "tokenizer"
    )
    rows = random_rows(24, vocab_size=40, longest=LENGTH + 1)  # few ids: there is much to learn
    write_rows(root / "shards", rows, vocab_size=VOCAB_SIZE, max_length=LENGTH)
    return TrainInputs(
        {root / "shards": 1.0}, "a test corpus", root / "tokenizer", root / "shards", NUM_HELD_OUT
    )


def model_of(family, seed=0, length=LENGTH):
    shape = ModelConfig(shape=SHAPES[family])
    model = build_model(model_config(shape, VOCAB_SIZE, length), seed)
    if "mamba" not in family:
        model.set_attn_implementation("eager")
    if family in MIXTURES:
        model.set_experts_implementation("eager")
    return model


@pytest.mark.parametrize("family", SHAPES)
def test_students_are_trained_saved_and_loaded(family, given, tmp_path):
    config = ModelConfig(shape=SHAPES[family])
    outcome = train_model("student", config, TRAINING, given, 1, tmp_path)
    losses = [r["held_out_loss"] for r in read_metrics(tmp_path / "metrics.jsonl")
              if "held_out_loss" in r]  # fmt: skip
    assert losses[-1] < losses[0] - 0.05
    model = load_model(tmp_path / "model")
    assert model.config.model_type == family
    (folder,) = given.corpora
    batch = SequenceStore(open_shards(folder)).batch(np.arange(NUM_HELD_OUT))
    log_probs_B = sequence_log_probs(model, batch.input_ids_BT, batch.targets_BT)
    assert -float(log_probs_B.sum() / batch.num_tokens_B.sum()) == pytest.approx(losses[-1], 1e-5)
    size = size_of(model, LENGTH)
    assert outcome.facts["num_params"] == size.num_params
    assert outcome.facts["num_active_params"] == size.num_active_params
    prompt = load_tokenizer(tmp_path / "model")("some words", return_tensors="pt")["input_ids"]
    written = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=4)
    assert prompt.shape[1] < written.shape[1] <= prompt.shape[1] + 4


@pytest.mark.parametrize("family", SHAPES)
def test_sizes_follow_from_the_shape_alone(family):
    shape = model_config(ModelConfig(shape=SHAPES[family]), VOCAB_SIZE, LENGTH)
    assert model_size(shape, LENGTH) == size_of(model_of(family), LENGTH)


@pytest.mark.parametrize("family", SHAPES)
def test_flops_are_those_that_torch_counts(family):
    """Of mamba only forward: torch counts no backward pass of a grouped convolution."""
    length = 64
    model = model_of(family, length=length)
    ids = torch.randint(1, VOCAB_SIZE, (3, length + 1), generator=torch.Generator().manual_seed(0))
    batch = MicroBatch(ids[:, :-1], ids[:, 1:], torch.ones(3))
    size = size_of(model, length)
    trained = "mamba" not in family
    expected = training_flops_per_token(TRAINING, size) if trained else size.forward_flops_per_token
    with FlopCounterMode(display=False) as counter:
        if trained:
            StudentLoss(model.train())(batch).loss.backward()
        else:
            token_log_probs(model, batch.input_ids_BT, batch.targets_BT)
    assert expected == pytest.approx(counter.get_total_flops() / (3 * length), rel=0.02)


def test_active_parameters_by_hand():
    size = size_of(model_of("qwen2_moe"), LENGTH)
    expert = 3 * 32 * 24
    assert size.num_params - size.num_active_params == 2 * 2 * expert  # layers, experts left out
    assert size_of(model_of("qwen2"), LENGTH).num_active_params == size_of(
        model_of("qwen2"), LENGTH
    ).num_params  # fmt: skip


def test_balance_is_that_of_the_switch_transformer():
    from transformers.models.qwen2_moe.modeling_qwen2_moe import load_balancing_loss_func

    generator = torch.Generator().manual_seed(0)
    logits_NE = torch.randn(10, 6, generator=generator)
    counted_BT = torch.ones(1, 10, dtype=torch.bool)
    (ours,) = balance_losses([logits_NE], counted_BT, 2)
    torch.testing.assert_close(ours, load_balancing_loss_func((logits_NE,), 6, 2))
    counted_BT[0, 7:] = False
    (ours,) = balance_losses([logits_NE], counted_BT, 2)
    torch.testing.assert_close(ours, load_balancing_loss_func((logits_NE[:7],), 6, 2))
    even_NE = torch.eye(4).repeat(2, 1) * 1e-4  # every expert is chosen as often
    (even,) = balance_losses([even_NE], torch.ones(1, 8, dtype=torch.bool), 1)
    assert even.item() == pytest.approx(1.0, abs=1e-3)
    (uneven,) = balance_losses([torch.tensor([[9.0, 0, 0, 0]] * 8)], torch.ones(1, 8) > 0, 1)
    assert uneven.item() > 3.9


@pytest.mark.parametrize("family", MIXTURES)
def test_the_balance_counts_and_does_not_depend_on_how_a_batch_is_split(family):
    model = model_of(family).train()
    rows = [np.array(row) for row in random_rows(4, vocab_size=VOCAB_SIZE, longest=LENGTH + 1)]
    from miniplm.data.loader import make_batch

    batch = make_batch(rows, 0, LENGTH)
    weights_B = torch.full((4,), 0.25)

    def loss(part, coefficient=0.5):
        model.config.router_aux_loss_coef = coefficient
        return StudentLoss(model)(
            MicroBatch(batch.input_ids_BT[part], batch.targets_BT[part], weights_B[part])
        ).loss

    whole = loss(slice(0, 4))
    parts = loss(slice(0, 1)) + loss(slice(1, 4))
    torch.testing.assert_close(whole, parts, rtol=1e-5, atol=0)
    added = whole - loss(slice(0, 4), coefficient=0.0)
    assert 0.5 * 2 * 0.99 < added.item() < 0.5 * 4  # K at the least, all to few at the most


def test_mixtures_that_write_themselves_are_refused(given, tmp_path):
    from miniplm.scoring.scorer import ScoringModel

    teacher = ScoringModel(model_of("qwen2"), "teacher", "t", "float32")
    training = TRAINING.model_copy(update={"method": "minillm"})
    training = TrainingConfig(
        **{**training.model_dump(), "on_policy": {"prompt_tokens": 8, "new_tokens": 4}}
    )
    from dataclasses import replace

    with pytest.raises(ConfigError, match="no loss that balances the experts"):
        train_model(
            "student", ModelConfig(shape=SHAPES["mixtral"]), training,
            replace(given, teacher=lambda: teacher), 1, tmp_path,
        )  # fmt: skip
