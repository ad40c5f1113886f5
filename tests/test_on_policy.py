"""MiniLLM: its objective against the book, and a student that writes what it learns from."""

import itertools
import json

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from conftest import FAMILIES, random_rows, tiny_model, write_rows
from miniplm.data.loader import SequenceStore
from miniplm.data.order import EpochOrder
from miniplm.data.shards import open_shards
from miniplm.errors import ConfigError, TrainingError
from miniplm.model import output_layer
from miniplm.model_size import size_of
from miniplm.training.checks import on_policy_faults
from miniplm.training.compute import training_flops_per_token
from miniplm.training.config import TrainingConfig
from miniplm.training.feed import Feed, Supplements, Writing
from miniplm.training.on_policy import OnPolicyLoss, Policy
from miniplm.training.reverse_kl import LinearReverseKL, OutputLayer
from miniplm.training.student_loss import LossSettings
from miniplm.training.teacher import DenseTeacher
from miniplm.training.trainer import Trainer

PROMPT, NEW, VOCAB = 6, 10, 128


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- the objective


@pytest.fixture
def case():
    """Student and teacher of other widths, the student with more rows; two of three texts end."""
    weights_BT = torch.rand(3, 7, generator=torch.Generator().manual_seed(5))
    weights_BT[0, 4:], weights_BT[1, 6:] = 0.0, 0.0
    return {
        "hidden": numbers(3, 7, 5).requires_grad_(),
        "weight": numbers(24, 5, seed=1).requires_grad_(),
        "bias": numbers(24, seed=2).requires_grad_(),
        "teacher": OutputLayer(numbers(3, 7, 8, seed=3), numbers(20, 8, seed=4)),
        "ids": torch.randint(0, 20, (3, 7), generator=torch.Generator().manual_seed(6)),
        "weights": weights_BT,
    }


def by_the_book(case, *, long_term):
    """Divergence and surrogate of the long-term part, over whole tensors."""
    logits = case["hidden"] @ case["weight"].t() + case["bias"]
    log_q = logits[:, :, :20].log_softmax(dim=2)
    teacher = case["teacher"]
    log_p = (teacher.hidden_BTD @ teacher.weight_VD.t()).log_softmax(dim=2)
    divergence = (log_q.exp() * (log_q - log_p)).sum(dim=2)
    loss = surrogate = (divergence * case["weights"]).sum()
    if long_term:
        chosen = case["ids"][:, :, None]
        rewards = (log_p - log_q).gather(2, chosen).squeeze(2).detach()
        for row, column in itertools.product(range(3), range(7)):
            later = rewards[row, column + 1 :][case["weights"][row, column + 1 :] > 0]
            answer = later.mean() if len(later) else 0.0
            log_prob = log_q[row, column, case["ids"][row, column]]
            surrogate = surrogate - case["weights"][row, column] * answer * log_prob
    return loss, surrogate


@pytest.mark.parametrize("chunk", [1, 6, 7, 1000])
@pytest.mark.parametrize("long_term", [False, True])
def test_loss_and_gradients_are_those_of_the_book(case, long_term, chunk, monkeypatch):
    monkeypatch.setattr("miniplm.training.reverse_kl.chunk_length", lambda *_: chunk)
    leaves = [case["hidden"], case["weight"], case["bias"]]
    loss = LinearReverseKL.apply(
        *leaves, case["teacher"], case["ids"], case["weights"], torch.float32, long_term
    )
    expected, surrogate = by_the_book(case, long_term=long_term)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    ours = torch.autograd.grad(2 * loss, leaves)
    for mine, other in zip(ours, torch.autograd.grad(2 * surrogate, leaves), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-4)


def test_the_divergence_is_that_of_trl(case):
    trl = pytest.importorskip("trl.experimental.gkd", reason="trl is not installed")
    teacher = case["teacher"]
    theirs = trl.GKDTrainer.generalized_jsd_loss(
        case["hidden"] @ case["weight"][:20].t() + case["bias"][:20],
        teacher.hidden_BTD @ teacher.weight_VD.t(),
        labels=torch.where(case["weights"] > 0, case["ids"], -100),
        beta=1.0,
    )
    even = (case["weights"] > 0).float() / (case["weights"] > 0).sum()
    leaves = [case["hidden"], case["weight"], case["bias"]]
    ours = LinearReverseKL.apply(*leaves, teacher, case["ids"], even, torch.float32, False)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    grads = torch.autograd.grad(ours, leaves), torch.autograd.grad(theirs, leaves)
    for mine, other in zip(*grads, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-4)


def test_over_all_texts_the_gradient_is_that_of_the_divergence_of_texts():
    """Two tokens of five: the mean of the estimates, by their probability, is exact.

    With two tokens one at most follows, so that dividing by the number of these changes nothing.
    """
    first_V, second_VV = numbers(5).requires_grad_(), numbers(5, 5, seed=1).requires_grad_()
    teacher_V, teacher_VV = numbers(5, seed=2), numbers(5, 5, seed=3)

    def joint(first, second):
        return first.log_softmax(0)[:, None] + second.log_softmax(1)

    log_q, log_p = joint(first_V, second_VV), joint(teacher_V, teacher_VV)
    exact = torch.autograd.grad((log_q.exp() * (log_q - log_p)).sum(), [first_V, second_VV])
    pairs = list(itertools.product(range(5), repeat=2))
    ids = torch.tensor(pairs)
    probability = log_q.exp().detach()[ids[:, 0], ids[:, 1]]
    one = torch.eye(5)  # as output layer, so that hidden states are logits
    hidden = torch.stack([first_V.expand(25, 5), second_VV[ids[:, 0]]], dim=1)
    judged = torch.stack([teacher_V.expand(25, 5), teacher_VV[ids[:, 0]]], dim=1)
    weights = probability[:, None].expand(25, 2)
    loss = LinearReverseKL.apply(
        hidden, one, None, OutputLayer(judged, one), ids, weights, torch.float32, True
    )
    for mine, other in zip(torch.autograd.grad(loss, [first_V, second_VV]), exact, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-4)


# --- the student that writes


def fresh(family="qwen2", seed=0, *, prompt=PROMPT, kd_ratio=0.5, long_term=True, teacher=None):
    model = tiny_model(family, seed=seed).train()
    return OnPolicyLoss(
        model,
        LossSettings(kd_ratio),
        DenseTeacher(teacher or tiny_model("llama", seed=7), VOCAB),
        Policy(model, torch.float32, VOCAB, eos_id=0),
        prompt,
        long_term=long_term,
    )


@pytest.fixture
def store(tmp_path):
    rows = [row for row in random_rows(60) if len(row) >= PROMPT + NEW]
    assert any(0 in row[: PROMPT - 1] for row in rows[:4])  # a text ends within a prompt
    rows[1][PROMPT - 1] = 0  # or with it
    return SequenceStore(open_shards(write_rows(tmp_path / "shards", rows)))


def feed_of(store, prompt=PROMPT, new=NEW):
    supplements = Supplements(writing=Writing(prompt, new, seed=3))
    return Feed(store, EpochOrder(len(store), 0), supplements)


def micro_batch(feed, count=4, step=0):
    return next(feed.micro_batches(step, np.arange(count), 0, 1, count, None))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_that_of_a_prompt_and_what_the_student_wrote(family, store):
    student = fresh(family, long_term=False)
    batch = micro_batch(feed_of(store))
    judged = student._write(batch)
    assert judged.input_ids_BT.shape == (4, PROMPT + NEW - 1)
    assert torch.equal(judged.input_ids_BT[:, :PROMPT], batch.input_ids_BT[:, :PROMPT])
    sums = student(batch)
    log_q = student.model(input_ids=judged.input_ids_BT, use_cache=False).logits.log_softmax(2)
    teacher = student._judge.model
    log_p = teacher(input_ids=judged.input_ids_BT, use_cache=False).logits.log_softmax(2)
    losses = []
    for row in range(4):
        prompt = log_q[row, : PROMPT - 1]
        hard = functional.nll_loss(prompt, batch.targets_BT[row, : PROMPT - 1])
        new = PROMPT - 1 + judged.weights_BN[row].nonzero().squeeze(1)
        soft = (log_q[row, new].exp() * (log_q[row, new] - log_p[row, new])).sum(1).mean()
        losses.append((0.5 * hard + 0.5 * soft) / 4)
    expected = sum(losses)
    assert sums.loss.item() == pytest.approx(expected.item(), rel=1e-4)
    sums.loss.backward()
    mine = [parameter.grad.clone() for parameter in student.model.parameters()]
    student.model.zero_grad()
    expected.backward()
    for grad, parameter in zip(mine, student.model.parameters(), strict=True):
        torch.testing.assert_close(grad, parameter.grad, atol=1e-3, rtol=1e-3)


def test_it_writes_what_its_weights_say_now(store):
    student, batch = fresh(), micro_batch(feed_of(store))
    before = student._write(batch).ids_BN
    assert torch.equal(student._write(batch).ids_BN, before)
    with torch.no_grad():
        for mine, other in zip(
            student.model.parameters(), tiny_model(seed=5).parameters(), strict=True
        ):
            mine.copy_(other)
    after = student._write(batch).ids_BN
    assert not torch.equal(after, before)
    assert torch.equal(fresh(seed=5)._write(batch).ids_BN, after)


def test_it_writes_as_the_student_would_at_any_length():
    """In bfloat16 too: the copy's buffers, of which rotary angles come, are the student's own."""
    model = tiny_model("llama", max_length=1024)
    policy = Policy(model, torch.bfloat16, VOCAB, eos_id=0)._model
    buffers = dict(model.named_buffers())
    for name, buffer in policy.named_buffers():
        assert torch.equal(buffer, buffers[name])
        assert buffer.dtype == buffers[name].dtype
    assert {parameter.dtype for parameter in policy.parameters()} == {torch.bfloat16}
    ids = torch.randint(1, VOCAB, (2, 1000), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = model(input_ids=ids, use_cache=False).logits.float().log_softmax(2)
        made = policy(input_ids=ids, use_cache=False).logits.float().log_softmax(2)
    divergence = (made.exp() * (made - expected)).sum(2)
    assert divergence[:, 900:].mean() < 3 * divergence[:, :100].mean() + 0.01


def test_what_is_drawn_depends_on_the_step_and_not_on_the_batch(store):
    feed = feed_of(store)
    whole = feed.micro_batches(2, np.arange(8), 0, 1, 8, None)
    split = [
        next(feed.micro_batches(2, np.arange(8), rank, 2, 4, None)).draws_BN for rank in (0, 1)
    ]
    draws_BN = next(whole).draws_BN
    assert torch.equal(torch.stack(split, dim=1).flatten(0, 1), draws_BN)
    assert not torch.equal(micro_batch(feed, 8, step=3).draws_BN, draws_BN)


def test_nothing_counts_behind_the_end_of_a_text(store):
    student, batch = fresh(), micro_batch(feed_of(store, new=40), 16)
    batch.input_ids_BT[:, PROMPT - 1] = 5
    judged = student._write(batch)
    ended = (judged.ids_BN == 0).any(dim=1)
    assert ended.any()
    for ids, weights in zip(judged.ids_BN, judged.weights_BN, strict=True):
        length = int((ids == 0).int().argmax()) + 1 if (ids == 0).any() else 40
        assert weights[1:length].tolist() == pytest.approx([0.5 / 16 / length] * (length - 1))
        assert (weights[length:] == 0).all()


def test_a_row_shorter_than_a_prompt_gives_its_own_tokens_only(tmp_path):
    rows = [[5, 6, 7], list(range(1, 40)), [5, 6, 7, 8, 9, 10]]
    store = SequenceStore(open_shards(write_rows(tmp_path / "shards", rows)))
    student, batch = fresh(), micro_batch(feed_of(store), 3)
    judged = student._write(batch)
    sixth = 1 / 6  # half of a third
    assert judged.prompt_weights[0].tolist() == pytest.approx([sixth / 2, sixth / 2, 0, 0, 0])
    assert (judged.weights_BN[[0, 2]] == 0).all()  # the last has no id left to predict behind it
    assert judged.prompt_weights[2].tolist() == pytest.approx([sixth / 5] * 5)
    assert (judged.weights_BN[1] > 0).any()
    assert student(batch).loss.isfinite()


def train(store, folder, student=None, steps=4, **settings):
    config = TrainingConfig(
        method="minillm", on_policy={"prompt_tokens": PROMPT, "new_tokens": NEW},
        budget={"steps": steps}, global_batch_size=8, precision="float32", log_every_steps=1,
        **{"lr": 1e-3, "warmup_steps": 1, **settings},
    )  # fmt: skip
    student = student or fresh()
    trainer = Trainer(student, feed_of(store), config, folder, seed=0, flops_per_token=1.0)
    return trainer.train(), student.model


@pytest.mark.parametrize("size", [1, 4])
def test_micro_batches_give_the_same_update(store, tmp_path, size):
    _, whole = train(store, tmp_path / "whole", micro_batch_size=8)
    _, split = train(store, tmp_path / "split", micro_batch_size=size)
    for mine, other in zip(split.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-3)


def test_it_goes_on_from_a_checkpoint_bit_for_bit(store, tmp_path, monkeypatch):
    state, straight = train(store, tmp_path / "straight")
    assert state.num_tokens == 4 * 8 * (PROMPT + NEW - 1)
    step = Trainer._step

    def stops(self, number, batch):
        if number == 2:
            raise KeyboardInterrupt
        return step(self, number, batch)

    monkeypatch.setattr(Trainer, "_step", stops)
    with pytest.raises(KeyboardInterrupt):
        train(store, tmp_path / "resumed", checkpoint_every_steps=1)
    monkeypatch.undo()
    _, resumed = train(store, tmp_path / "resumed", checkpoint_every_steps=1)
    for mine, other in zip(resumed.parameters(), straight.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_a_student_that_cannot_write_any_more_is_named_with_its_step(store, tmp_path):
    student = fresh()
    with torch.no_grad():
        output_layer(student.model)[0].fill_(torch.inf)
    with pytest.raises(TrainingError, match=r"step 1: the logits .* not finite.*data_0:"):
        train(store, tmp_path / "out", student)


@pytest.mark.parametrize("long_term", [False, True])
def test_the_student_comes_closer_to_the_teacher(store, tmp_path, long_term):
    student = fresh(kd_ratio=1.0, long_term=long_term)
    train(store, tmp_path / "out", student, steps=40, lr=1e-2)
    lines = (tmp_path / "out/metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


# --- what it costs and what it refuses


@pytest.mark.parametrize("family", ["qwen2", "llama", "gpt_neox"])
@pytest.mark.parametrize(("prompt", "kd_ratio"), [(16, 0.5), (49, 1.0)])
def test_flops_are_those_that_torch_counts(family, prompt, kd_ratio, tmp_path):
    rows = np.random.default_rng(0).integers(1, VOCAB, (8, 65)).tolist()
    store = SequenceStore(open_shards(write_rows(tmp_path / "shards", rows)))
    student = fresh(family, prompt=prompt, kd_ratio=kd_ratio)
    student._policy.eos_id = VOCAB  # which is never drawn: no text ends early, as is assumed
    for model in (student.model, student._judge.model, student._policy._model):
        model.set_attn_implementation("eager")  # torch counts products, not its fused kernel
    batch = micro_batch(feed_of(store, prompt, 65 - prompt), 8)
    with FlopCounterMode(display=False) as counter:
        student(batch).loss.backward()
    config = TrainingConfig(
        method="minillm", kd_ratio=kd_ratio, on_policy={"prompt_tokens": prompt}
    )
    sizes = (size_of(model, 64) for model in (student.model, student._judge.model))
    counted = training_flops_per_token(config, *sizes) * 8 * 64
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_rows_that_are_too_short_are_refused():
    student = teacher = size_of(tiny_model(), 64)
    config = TrainingConfig(method="minillm", on_policy={"prompt_tokens": 60, "new_tokens": 10})
    with pytest.raises(ConfigError, match=r"training.on_policy: prompt_tokens 60 .* 70 ids"):
        training_flops_per_token(config, student, teacher)


def test_what_does_not_go_with_it_is_refused():
    faults = on_policy_faults(
        TrainingConfig(method="minillm", parallel="fsdp", reweighting={"kind": "static"})
    )
    assert len(faults) == 2
    assert "use ddp" in faults[0]
    assert "static" in faults[1]
