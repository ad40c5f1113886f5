"""Vanilla KD: the loss and its gradient against full distributions by the book."""

import pytest
import torch
from torch.nn import functional

from conftest import FAMILIES, random_rows, tiny_model, write_rows
from miniplm.data.loader import IGNORED, SequenceStore
from miniplm.data.shards import open_shards
from miniplm.errors import ConfigError
from miniplm.model_size import ModelSize
from miniplm.training.compute import training_flops_per_token
from miniplm.training.config import TrainingConfig
from miniplm.training.student_loss import LossSettings, MicroBatch, StudentLoss
from miniplm.training.teacher import DenseTeacher


@pytest.fixture
def batch(tmp_path):
    shards = open_shards(write_rows(tmp_path / "shards", random_rows(20), per_shard=7))
    return SequenceStore(shards).batch(range(5))


def by_the_book(student, teacher, batch, kd_ratio):
    """(1 - k) CE + k CE(teacher), over the entries both vocabularies have.

    The latter is KL(teacher || student) and the teacher's entropy, a constant.
    """
    logits = student(input_ids=batch.input_ids_BT, use_cache=False).logits
    with torch.no_grad():
        target_logits = teacher(input_ids=batch.input_ids_BT, use_cache=False).logits
    shared = min(logits.shape[2], target_logits.shape[2])
    log_q = target_logits[:, :, :shared].log_softmax(dim=2)
    log_p = logits.log_softmax(dim=2)[:, :, :shared]
    divergence = -(log_q.exp() * log_p).sum(dim=2)
    entropy = functional.cross_entropy(
        logits.transpose(1, 2), batch.targets_BT, ignore_index=IGNORED, reduction="none"
    )
    losses = (1 - kd_ratio) * entropy + kd_ratio * divergence
    losses = losses.masked_fill(batch.targets_BT == IGNORED, 0.0)
    return (losses.sum(dim=1) / batch.num_tokens_B).mean()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kd_ratio", [0.5, 1.0])
def test_loss_and_gradients_equal_those_of_full_distributions(family, kd_ratio, batch, monkeypatch):
    monkeypatch.setattr("miniplm.training.objective.chunk_length", lambda *_: 11)
    check(tiny_model(family), tiny_model(family), tiny_model("llama", seed=7), batch, kd_ratio)


@pytest.mark.parametrize(("ours", "theirs"), [(128, 160), (160, 128)])
def test_vocabularies_padded_to_different_sizes_share_their_first_entries(ours, theirs, batch):
    students = [tiny_model(vocab_size=ours) for _ in range(2)]
    check(*students, tiny_model(vocab_size=theirs, seed=7), batch, 0.5)


def check(student, reference, teacher, batch, kd_ratio):
    weights = torch.full((5,), 1 / 5)
    vocab_size = student.get_output_embeddings().weight.shape[0]
    module = StudentLoss(student, LossSettings(kd_ratio), DenseTeacher(teacher, vocab_size))
    loss = module(MicroBatch(batch.input_ids_BT, batch.targets_BT, weights)).loss
    expected = by_the_book(reference, teacher, batch, kd_ratio)
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for (name, mine), other in zip(student.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-4, rtol=1e-3, msg=name)
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_teacher_is_no_part_of_the_student():
    student = tiny_model()
    module = StudentLoss(student, LossSettings(0.5), DenseTeacher(tiny_model(seed=7), 128))
    count = sum(parameter.numel() for parameter in student.parameters())
    assert sum(parameter.numel() for parameter in module.parameters()) == count
    module.train()
    assert not module._teacher.model.training


def test_distilling_from_itself_has_no_gradient(batch):
    student = tiny_model()
    module = StudentLoss(student, LossSettings(1.0), DenseTeacher(tiny_model(), 128))
    loss = module(MicroBatch(batch.input_ids_BT, batch.targets_BT, torch.ones(5))).loss
    loss.backward()
    assert max(p.grad.abs().max().item() for p in student.parameters()) < 1e-4


def test_a_teacher_costs_its_forward_pass_and_dynamic_weights_an_output_layer():
    student, teacher = ModelSize(0, 0, 2.0, 0.5), ModelSize(0, 0, 10.0)

    def flops(teacher=None, **settings):
        return training_flops_per_token(TrainingConfig(**settings), student, teacher)

    assert flops(method="sparse_kd", capture="c") == 6.0
    assert flops(teacher, method="vanilla_kd") == 16.0
    assert flops(reweighting={"kind": "dynamic"}) == 6.5
    assert flops(reweighting={"kind": "static"}) == 6.0
    with pytest.raises(ConfigError, match="vanilla_kd needs a teacher"):
        flops(method="vanilla_kd")
