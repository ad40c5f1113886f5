"""The objective on the teacher's sparse targets."""

import numpy as np
import pytest
import torch

from conftest import random_rows, tiny_model, write_rows
from miniplm.data.loader import IGNORED, SequenceStore
from miniplm.data.shards import open_shards
from miniplm.training.objective import LinearCrossEntropy
from miniplm.training.student_loss import LossSettings, MicroBatch, StudentLoss
from miniplm.training.targets import HardTargets, SparseTargets


def sparse_targets(weights_NV):
    """Targets with an entry wherever a weight is not 0."""
    positions, ids = weights_NV.nonzero(as_tuple=True)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), (weights_NV != 0).sum(1).cumsum(0)])
    return SparseTargets(positions, ids, weights_NV[positions, ids].float(), starts)


def random_weights(generator, num_positions, vocab_size, num_entries=5):
    """A few weights a position, which do not add up to 1; some positions have none."""
    kept = torch.rand(num_positions, vocab_size, generator=generator).argsort(1) < num_entries
    kept[::4] = False
    return torch.rand(num_positions, vocab_size, generator=generator) * kept


def expected_loss(logits_NV, targets_N, weights_NV, scales_N, kd_ratio):
    """By the book, in the dtype of the logits."""
    log_p = torch.log_softmax(logits_NV, dim=1)
    hard = -log_p.gather(1, targets_N[:, None]).squeeze(1)
    soft = -(weights_NV.to(log_p) * log_p).sum(1)
    return (((1 - kd_ratio) * hard + kd_ratio * soft) * scales_N).sum()


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("kd_ratio", [0.0, 0.3, 1.0])
def test_loss_and_gradients_equal_those_of_autograd_in_float64(kd_ratio, with_bias, monkeypatch):
    monkeypatch.setattr("miniplm.training.objective.chunk_length", lambda *_: 11)
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (
        torch.randn(29, 8, generator=generator),
        torch.randn(40, 8, generator=generator),
    )
    bias = torch.randn(40, generator=generator) if with_bias else None
    targets, scales = torch.arange(29) % 40, torch.rand(29, generator=generator)
    weights = random_weights(generator, 29, 40)
    given = [t.requires_grad_() for t in (hidden, weight, bias) if t is not None]
    mixture = ((1 - kd_ratio, HardTargets(targets)), (kd_ratio, sparse_targets(weights)))
    loss = LinearCrossEntropy.apply(hidden, weight, bias, mixture, scales, torch.float32)
    logits = hidden.double() @ weight.double().T + (0 if bias is None else bias.double())
    expected = expected_loss(logits, targets, weights, scales, kd_ratio)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    found = torch.autograd.grad(loss, given)
    torch.testing.assert_close(found, torch.autograd.grad(expected, given), rtol=1e-4, atol=1e-5)


def test_a_whole_distribution_gives_the_gradient_of_the_kl_divergence():
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(9, 4, generator=generator, requires_grad=True)
    weight = torch.randn(12, 4, generator=generator, requires_grad=True)
    p = torch.softmax(torch.randn(9, 12, generator=generator), 1)
    loss = LinearCrossEntropy.apply(
        hidden, weight, None, ((1.0, sparse_targets(p)),), torch.full((9,), 1 / 9), torch.float32
    )
    log_q = torch.log_softmax(hidden @ weight.T, 1)
    divergence = torch.nn.functional.kl_div(log_q, p, reduction="batchmean")
    entropy = -(p * p.log()).sum(1).mean()
    assert loss.item() == pytest.approx((divergence + entropy).item(), rel=1e-5)
    torch.testing.assert_close(
        torch.autograd.grad(loss, (hidden, weight)),
        torch.autograd.grad(divergence, (hidden, weight)),
    )


@pytest.fixture
def batch(tmp_path):
    rows = [[5, 6, 0, 7, 8], *random_rows(4)]
    return SequenceStore(open_shards(write_rows(tmp_path / "shards", rows))).batch(range(5))


def test_a_model_is_trained_on_the_mixture_averaged_as_in_plain_training(batch, monkeypatch):
    monkeypatch.setattr("miniplm.training.objective.chunk_length", lambda *_: 50)
    generator = torch.Generator().manual_seed(2)
    counted = batch.targets_BT != IGNORED
    weights = random_weights(generator, counted.numel(), 128) * counted.flatten()[:, None]
    ours, theirs = tiny_model(), tiny_model()
    soft = sparse_targets(weights)
    micro_batch = MicroBatch(
        batch.input_ids_BT, batch.targets_BT, torch.full((5,), 1 / 5), soft=soft
    )
    loss = StudentLoss(ours, LossSettings(kd_ratio=0.25))(micro_batch).loss
    logits = theirs(input_ids=batch.input_ids_BT, use_cache=False).logits.flatten(0, 1)
    scales = (counted / batch.num_tokens_B.clamp(min=1)[:, None] / 5).flatten()
    targets = batch.targets_BT.clamp(min=0).flatten()
    expected = expected_loss(logits, targets, weights, scales, 0.25)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    expected.backward()
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-4, rtol=1e-3, msg=name)


def test_targets_move_to_a_device_but_for_their_starts():
    moved = sparse_targets(torch.eye(3)).to(torch.device("meta"))
    assert {moved.positions_M.device.type, moved.ids_M.device.type} == {"meta"}
    assert moved.weights_M.device.type == "meta"
    np.testing.assert_array_equal(moved.starts_N1, [0, 1, 2, 3])
