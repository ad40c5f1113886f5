"""FLOPs counted from the shapes against those that torch counts, of full-length sequences.

Attention is eager here: torch's counter sees matrix products, and not the kernel that scaled dot
product attention is on a CPU.
"""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from conftest import write_rows
from miniplm.data.shards import Shard, open_shards
from miniplm.model import ModelConfig, ShapeConfig, build_model, model_config
from miniplm.model_size import size_of
from miniplm.scoring.batches import row_batches
from miniplm.scoring.capture_files import CaptureInfo
from miniplm.scoring.capture_forward import captured_rows
from miniplm.scoring.forward import token_log_probs
from miniplm.scoring.preparation import check_and_count
from miniplm.training.compute import training_flops_per_token
from miniplm.training.config import TrainingConfig
from miniplm.training.student_loss import LossSettings, MicroBatch, StudentLoss
from miniplm.training.targets import SparseTargets
from miniplm.training.teacher import DenseTeacher

SEQUENCES, LENGTH, VOCAB_SIZE = 3, 128, 1000
SHAPES = {
    "tied, grouped queries": ShapeConfig(
        family="qwen2", hidden_size=128, intermediate_size=344, num_layers=4, num_heads=8,
        num_kv_heads=2, tie_embeddings=True,
    ),
    "untied": ShapeConfig(
        family="llama", hidden_size=96, intermediate_size=256, num_layers=3, num_heads=6
    ),
    "heads of another width": ShapeConfig(
        family="qwen3", hidden_size=96, intermediate_size=256, num_layers=3, num_heads=4,
        num_kv_heads=2, tie_embeddings=True, extra={"head_dim": 64},
    ),
    "with biases": ShapeConfig(
        family="gpt_neox", hidden_size=96, intermediate_size=384, num_layers=3, num_heads=6
    ),
}  # fmt: skip
METHODS = {
    "plain": ({}, LossSettings()),
    "vanilla_kd": ({"method": "vanilla_kd"}, LossSettings(kd_ratio=0.5)),
    "sparse_kd": ({"method": "sparse_kd"}, LossSettings(kd_ratio=0.5)),
    "dynamic": ({"reweighting": {"kind": "dynamic"}}, LossSettings(dynamic="sequences")),
    "dynamic_tokens": (
        {"reweighting": {"kind": "dynamic_tokens"}},
        LossSettings(dynamic="tokens", token_share=0.6),
    ),
}


def model_of(shape):
    model = build_model(model_config(ModelConfig(shape=shape), VOCAB_SIZE, LENGTH), 0)
    if shape.family != "mamba":
        model.set_attn_implementation("eager")
    return model


def micro_batch():
    """Full length, each position with a target, and with all that any method takes."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, VOCAB_SIZE, (SEQUENCES, LENGTH + 1), generator=generator)
    num_positions = SEQUENCES * LENGTH
    return MicroBatch(
        ids[:, :-1], ids[:, 1:], torch.full((SEQUENCES,), 1 / SEQUENCES),
        units_B=torch.full((SEQUENCES,), LENGTH),
        teacher_losses_B=torch.linspace(6, 8, SEQUENCES),
        teacher_losses_BT=torch.full((SEQUENCES, LENGTH), 7.0),
        soft=SparseTargets(
            torch.arange(num_positions), ids[:, 1:].flatten(), torch.ones(num_positions),
            torch.arange(num_positions + 1),
        ),
    )  # fmt: skip


def counted(function):
    """FLOPs that torch counts, for a token."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops() / (SEQUENCES * LENGTH)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", SHAPES)
def test_flops_of_training_are_those_that_torch_counts(shape, method):
    changes, settings = METHODS[method]
    student, teacher = model_of(SHAPES[shape]), model_of(SHAPES["untied"])
    dense = DenseTeacher(teacher, VOCAB_SIZE) if method == "vanilla_kd" else None
    module = StudentLoss(student.train(), settings, dense)

    def step():
        module(micro_batch()).loss.backward()

    expected = counted(step)
    training = TrainingConfig(**changes)
    flops = training_flops_per_token(training, size_of(student, LENGTH), size_of(teacher, LENGTH))
    assert flops == pytest.approx(expected, rel=0.02)


@pytest.fixture
def shard(tmp_path):
    generator = np.random.default_rng(0)
    rows = generator.integers(1, VOCAB_SIZE, (SEQUENCES, LENGTH + 1)).tolist()
    write_rows(tmp_path, rows, vocab_size=VOCAB_SIZE, max_length=LENGTH)
    return open_shards(tmp_path)[0]


@pytest.mark.parametrize("shape", SHAPES)
def test_flops_of_scoring_and_capture_are_those_that_torch_counts(shape, shard: Shard):
    model = model_of(SHAPES[shape])
    batch = next(row_batches(shard, [np.arange(SEQUENCES)]))
    info = CaptureInfo("", "", "", "float32", VOCAB_SIZE, "sampled", 10, 1.0, 0)

    def capture():
        captured_rows(model, batch, shard.sequence_ids, shard.lengths, info)

    flops = check_and_count(model, "teacher", [shard])
    scoring = counted(lambda: token_log_probs(model, batch.input_ids_BT, batch.targets_BT))
    assert flops == pytest.approx(scoring, rel=0.02)
    assert flops == pytest.approx(counted(capture), rel=0.02)


def test_flops_of_mamba_are_those_that_torch_counts_forward():
    """Only forward: torch counts the backward pass of a grouped convolution as if it had none."""
    shape = ShapeConfig(family="mamba", hidden_size=96, num_layers=3, extra={"state_size": 16})
    model, batch = model_of(shape), micro_batch()
    flops = size_of(model, LENGTH).forward_flops_per_token
    expected = counted(lambda: token_log_probs(model, batch.input_ids_BT, batch.targets_BT))
    assert flops == pytest.approx(expected, rel=0.02)
