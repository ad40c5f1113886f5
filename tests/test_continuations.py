"""Log-probabilities of continuations: those of the model's own logits."""

import numpy as np
import pytest
import torch

from conftest import tiny_model
from miniplm.errors import ModelError
from miniplm.evaluation import continuations
from miniplm.evaluation.continuation_windows import windows_of
from miniplm.evaluation.continuations import Limits, answers


def by_logits(model, context, continuation):
    ids = torch.tensor([[*context, *continuation]])
    with torch.no_grad():
        log_probs_TV = model(ids[:, :-1]).logits[0].log_softmax(dim=-1)
    places = range(len(context) - 1, ids.shape[1] - 1)
    picked = [log_probs_TV[place, ids[0, place + 1]].item() for place in places]
    greedy = [log_probs_TV[place].argmax() == ids[0, place + 1] for place in places]
    return sum(picked), all(greedy)


def random_pairs(count):
    generator = np.random.default_rng(3)
    lengths = generator.integers(1, 20, (count, 2))
    return [[generator.integers(1, 128, n).tolist() for n in pair] for pair in lengths]


@pytest.mark.parametrize("batch_tokens", [1, 50, 10_000])
def test_log_probabilities_are_those_of_the_logits_whatever_the_batch(batch_tokens):
    model, pairs, seen = tiny_model("llama"), random_pairs(12), []
    found = answers(model, [*pairs, pairs[0]], Limits(64, batch_tokens), seen.append)
    for answer, pair in zip(found, pairs, strict=False):
        log_prob, greedy = by_logits(model, *pair)
        assert answer.log_prob == pytest.approx(log_prob, abs=1e-4)
        assert (answer.is_greedy, answer.is_cut) == (greedy, False)
        assert answer.num_positions == len(pair[0]) + len(pair[1]) - 1
        assert answer.num_targets == len(pair[1])
    assert found[-1] == found[0]  # the very same text
    assert sum(seen) == 12


def test_a_greedy_continuation_is_known():
    model = tiny_model("llama")
    ids = [5, 9]
    for _ in range(3):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    greedy, other = answers(
        model, [(ids[:2], ids[2:]), (ids[:2], [*ids[2:4], ids[4] ^ 1])], Limits(64, 100), len_of
    )
    assert (greedy.is_greedy, other.is_greedy) == (True, False)


def len_of(_):
    """Progress, not looked at."""


def test_bfloat16_logits_are_not_rounded_again():
    model = tiny_model("llama").bfloat16()
    context, continuation = random_pairs(1)[0]
    ids = torch.tensor([[*context, *continuation]])
    with torch.no_grad():
        log_probs_TV = model(ids[:, :-1]).logits[0].float().log_softmax(dim=-1)
    targets_N = ids[0, len(context) :, None]
    expected = log_probs_TV[len(context) - 1 :].gather(1, targets_N).sum().item()
    (found,) = answers(model, [(context, continuation)], Limits(64, 100), len_of)
    assert found.log_prob == pytest.approx(expected, abs=1e-4)


def test_what_does_not_fit_is_cut_on_the_left():
    model = tiny_model("llama")
    context, continuation = list(range(1, 30)), [40, 41, 42]
    (cut,) = answers(model, [(context, continuation)], Limits(16, 100), len_of)
    assert cut.is_cut
    assert cut.log_prob == pytest.approx(by_logits(model, context[-14:], continuation)[0], abs=1e-4)


def test_a_choice_longer_than_the_context_is_read_in_parts():
    model, context, continuation = tiny_model("llama"), [1, 2, 3], list(range(4, 54))
    windows = windows_of(context, continuation, 16)
    assert sum(window.num_targets for window in windows) == 50
    assert max(len(window.ids) for window in windows) == 17
    assert windows[0].ids[-8:] == tuple(range(4, 12))
    (found,) = answers(model, [(context, continuation)], Limits(16, 64), len_of)
    expected = sum(
        by_logits(model, w.ids[: -w.num_targets], w.ids[-w.num_targets :])[0] for w in windows
    )
    assert found.log_prob == pytest.approx(expected, abs=1e-3)
    assert (found.is_cut, found.num_targets) == (True, 50)


def test_batches_are_halved_where_memory_runs_out(monkeypatch):
    model, pairs, tried = tiny_model("llama"), random_pairs(8), []
    straight = answers(model, pairs, Limits(64, 1000), len_of)
    whole = continuations.hidden_states

    def small_device(model, ids_BT):
        tried.append(ids_BT.numel())
        if ids_BT.numel() > 60:
            raise torch.OutOfMemoryError
        return whole(model, ids_BT)

    monkeypatch.setattr(continuations, "hidden_states", small_device)
    for halved, answer in zip(
        answers(model, pairs, Limits(64, 1000), len_of), straight, strict=True
    ):
        assert halved.log_prob == pytest.approx(answer.log_prob, abs=1e-4)
    assert max(tried) > 60
    with pytest.raises(ModelError, match="no memory for a single item of 61 tokens"):
        answers(model, [([1], list(range(61)))], Limits(64, 1000), len_of)
