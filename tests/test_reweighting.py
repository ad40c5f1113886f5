"""Weights of sequences and tokens, and that they do not depend on how a batch is split."""

import numpy as np
import pytest
import torch

from conftest import random_rows, tiny_model, write_rows
from miniplm.data.loader import IGNORED, SequenceStore
from miniplm.data.order import EpochOrder, MixedOrder
from miniplm.data.shards import open_shards
from miniplm.training.config import BudgetConfig, TrainingConfig
from miniplm.training.feed import Feed, Supplements
from miniplm.training.metrics import read_metrics
from miniplm.training.reweighting import (
    dynamic_weights,
    effective_sample_size,
    kept_tokens,
    repeated,
    static_weights,
)
from miniplm.training.student_loss import LossSettings, MicroBatch, StudentLoss
from miniplm.training.trainer import Trainer


@pytest.fixture
def store(tmp_path):
    return SequenceStore(open_shards(write_rows(tmp_path / "shards", random_rows(20), per_shard=7)))


def test_static_weights_follow_the_scores_and_have_mean_one():
    scores = np.array([0.0, 1.0, 2.0, np.nan])
    weights = static_weights(scores, temperature=2.0, clip=100.0)
    assert weights.mean() == pytest.approx(1.0)
    np.testing.assert_allclose(weights[1] / weights[0], np.exp(0.5))
    np.testing.assert_allclose(weights[3], weights[1])  # nothing known: like the mean score
    clipped = static_weights(np.array([-9.0, 0.0, 9.0]), 1.0, clip=2.0)
    np.testing.assert_allclose(clipped / clipped[1], [0.5, 1.0, 2.0])


def test_sequences_are_repeated_in_proportion_to_their_weights():
    weights = np.array([0.1, 0.4, 1.0, 2.5])
    counts = np.zeros(4)
    for epoch in range(2000):
        drawn = repeated(weights, seed=3, epoch=epoch)
        assert len(drawn) == 4
        once = np.bincount(drawn, minlength=4)
        assert (once >= np.floor(weights)).all()
        assert (once <= np.ceil(weights)).all()
        counts += once
    np.testing.assert_allclose(counts / 2000, weights, atol=0.04)


def test_repeats_come_in_epochs_of_the_usual_length():
    weights = np.array([3.0, 0.0, 0.0, 1.0])
    order = EpochOrder(4, seed=1, drawn=lambda epoch: repeated(weights, 1, epoch))
    for step in range(3):
        assert sorted(order.batch(step, 4)) == [0, 0, 0, 3]


def test_a_mixture_gives_each_corpus_its_share_and_its_own_epochs():
    order = MixedOrder([10, 4], [0.75, 0.25], seed=2)
    batches = [order.batch(step, 8) for step in range(4)]
    assert [int((batch >= 10).sum()) for batch in batches] == [2, 2, 2, 2]
    seen = np.concatenate(batches)
    assert sorted(seen[seen >= 10]) == sorted([10, 11, 12, 13] * 2)
    assert sorted(seen[seen < 10][:10]) == list(range(10))
    assert order.mean(np.array([4.0] * 10 + [8.0] * 4)) == pytest.approx(5.0)


@pytest.mark.parametrize("shares", [(0.1, 0.3, 0.3, 0.3), (0.1, 0.45, 0.45), (0.98, 0.01, 0.01)])
def test_a_mixture_shows_every_sequence_of_an_epoch_once(shares):
    sizes = [7] * len(shares)
    order = MixedOrder(sizes, shares, seed=3)
    seen = np.concatenate([order.batch(step, 9) for step in range(2500)])
    for corpus, share in enumerate(shares):
        mine = seen[seen // 7 == corpus]
        assert len(mine) == pytest.approx(share * len(seen), abs=2)
        epochs = mine[: len(mine) // 7 * 7].reshape(-1, 7)
        assert (np.sort(epochs, axis=1) == np.arange(7) + 7 * corpus).all()


def test_dynamic_weights_over_their_sum_are_a_softmax():
    student, teacher = torch.tensor([3.0, 2.0, 5.0]), torch.tensor([1.0, 2.0, float("nan")])
    weights = dynamic_weights(student, teacher, temperature=0.5)
    expected = torch.softmax(torch.tensor([2.0, 0.0]).double() / 0.5, dim=0)
    torch.testing.assert_close((weights / weights.sum())[:2], expected)
    assert weights[2] == 0


def test_an_effective_sample_size_counts_equal_weights():
    assert effective_sample_size(3.0, 3.0) == 3.0  # three ones
    assert effective_sample_size(1.0, 1.0) == 1.0
    assert effective_sample_size(0.0, 0.0) == 0.0


def test_the_tokens_kept_are_those_the_student_lags_behind_on():
    student = torch.tensor([[5.0, 1.0, 4.0, 9.0], [1.0, 1.0, 1.0, 1.0]])
    teacher = torch.tensor([[1.0, 1.0, 2.0, 0.0], [1.0, 0.0, 1.0, 2.0]])
    counted = torch.tensor([[True, True, True, False], [True, True, True, True]])
    kept = kept_tokens(student, teacher, counted, share=0.5)
    assert kept.tolist() == [[True, False, True, False], [True, True, False, False]]
    assert kept_tokens(student, teacher, counted, share=0.01).sum(dim=1).tolist() == [1, 1]


# --- in training


def trained(store, folder, micro_batch_size, supplements, settings, steps=3):
    model = tiny_model()
    training = TrainingConfig(
        budget=BudgetConfig(steps=steps), lr=1e-2, warmup_steps=1, global_batch_size=6,
        precision="float32", log_every_steps=1, micro_batch_size=micro_batch_size,
        reweighting={"kind": "dynamic" if settings.dynamic else "static"},
    )  # fmt: skip
    feed = Feed(store, EpochOrder(len(store), seed=5), supplements)
    Trainer(
        StudentLoss(model, settings), feed, training, folder, seed=5, flops_per_token=1.0
    ).train()
    return model, read_metrics(folder / "metrics.jsonl")


@pytest.mark.parametrize("dynamic", ["sequences", "tokens", None])
def test_weights_do_not_depend_on_how_the_global_batch_is_split(store, tmp_path, dynamic):
    generator = np.random.default_rng(1)

    class TokenLosses:
        def batch(self, indices, width):
            return torch.stack(
                [torch.linspace(0, 3, 64)[:width] * (1 + int(index) % 3) for index in indices]
            )

    supplements = Supplements(
        weights_M=generator.random(20) if dynamic is None else None,
        teacher_losses_M=generator.normal(4.5, 0.5, 20) if dynamic == "sequences" else None,
        token_losses=TokenLosses() if dynamic == "tokens" else None,
    )
    settings = LossSettings(dynamic=dynamic, temperature=0.3, token_share=0.5)
    runs = {
        size: trained(store, tmp_path / str(size), size, supplements, settings)
        for size in (1, 2, 6)
    }
    whole, metrics = runs[6]
    for size in (1, 2):
        model, others = runs[size]
        for name, value in whole.state_dict().items():
            torch.testing.assert_close(model.state_dict()[name], value, atol=3e-5, rtol=1e-3)
        for ours, theirs in zip(metrics, others, strict=True):
            assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
            assert ours["effective_sample_size"] == pytest.approx(
                theirs["effective_sample_size"], rel=1e-2
            )
    if dynamic == "sequences":
        assert all(1 <= record["effective_sample_size"] < 5.9 for record in metrics)


def test_a_dynamic_step_weights_each_sequence_by_its_softmax(store, tmp_path):
    """The update, by the book: softmax of the lag over the global batch, as constants."""
    teacher = np.linspace(3.0, 6.0, 20)
    settings = LossSettings(dynamic="sequences", temperature=0.5)
    model, _ = trained(store, tmp_path, 2, Supplements(teacher_losses_M=teacher), settings, steps=1)
    reference = tiny_model()
    indices = EpochOrder(20, seed=5).batch(0, 6)
    batch = store.batch(indices)
    logits = reference(input_ids=batch.input_ids_BT, use_cache=False).logits
    losses = (
        torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), batch.targets_BT, ignore_index=IGNORED, reduction="none"
        ).sum(dim=1)
        / batch.num_tokens_B
    )
    lag = losses.detach() - torch.from_numpy(teacher[indices])
    (losses * torch.softmax(lag / 0.5, dim=0)).sum().backward()
    torch.nn.utils.clip_grad_norm_(reference.parameters(), 1.0)
    from miniplm.training.optimizer import make_optimizer

    settings = TrainingConfig(lr=1e-2)
    optimizer = make_optimizer(reference, settings)
    for group in optimizer.param_groups:
        group["lr"] = 1e-2 / 2  # the first of one step of warm-up
    optimizer.step()
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, atol=2e-4, rtol=1e-3)


def test_all_tokens_kept_is_the_plain_loss(store):
    model, batch = tiny_model(), store.batch(range(4))
    weights = torch.full((4,), 0.25)
    plain = StudentLoss(model)(MicroBatch(batch.input_ids_BT, batch.targets_BT, weights))
    settings = LossSettings(dynamic="tokens", token_share=1.0)
    teacher = torch.rand(batch.input_ids_BT.shape)
    kept = StudentLoss(model, settings)(
        MicroBatch(batch.input_ids_BT, batch.targets_BT, weights, teacher_losses_BT=teacher)
    )
    assert kept.loss.item() == pytest.approx(plain.loss.item(), rel=1e-6)
