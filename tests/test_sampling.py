import numpy as np
import pytest
import torch

from miniplm.scoring.sampling import sampled_entries, systematic_draws, top_entries

LARGEST = 1 - 2.0**-32


def stratified(count):
    """Midpoints of equal parts of [0, 1): averages over them are integrals over chance."""
    return (torch.arange(count, dtype=torch.float64) * 2 + 1) / (2 * count)


def centred(logits):
    return logits - logits.amax(dim=1, keepdim=True)


def dense(entries, vocab_size):
    """Weights of entries as `[C, V]`."""
    positions = torch.repeat_interleave(entries.num_entries_C)
    weights = torch.zeros(len(entries.num_entries_C), vocab_size, dtype=torch.float64)
    weights.index_put_((positions, entries.ids_E), entries.weights_E.double(), accumulate=True)
    return weights


def test_systematic_draws_by_hand():
    weights = torch.tensor([[1.0, 2.0, 1.0], [0.0, 1.0, 0.0]])
    assert systematic_draws(weights, torch.tensor([0.5, 0.5]), 4).tolist() == [
        [0, 1, 1, 2],
        [1, 1, 1, 1],
    ]
    assert systematic_draws(weights[:1], torch.tensor([0.25]), 2).tolist() == [[0, 1]]


@pytest.mark.parametrize("vocab_size", [1, 31, 32, 33, 1000])
@pytest.mark.parametrize("uniform", [0.0, 0.3, LARGEST])
def test_each_id_is_drawn_its_expected_number_of_times_rounded_up_or_down(vocab_size, uniform):
    generator = torch.Generator().manual_seed(vocab_size)
    weights = torch.rand(7, vocab_size, generator=generator) ** 8
    weights[:, 1:][torch.rand(7, vocab_size - 1, generator=generator) < 0.3] = 0
    drawn = systematic_draws(weights, torch.full((7,), uniform, dtype=torch.float64), 50)
    assert drawn.shape == (7, 50)
    counts = torch.zeros(7, vocab_size).scatter_add_(1, drawn, torch.ones(7, 50)).double()
    expected = 50 * weights.double() / weights.double().sum(1, keepdim=True)
    assert ((counts - expected).abs() < 1 + 1e-4).all()
    assert (counts[weights == 0] == 0).all()


def test_unlikely_ids_of_a_large_vocabulary_are_drawn_as_often_as_they_should():
    # a float32 sum over the vocabulary would lose these: each adds less than its rounding
    weights = torch.full((1, 151_936), 2e-8)
    weights[0, 0] = 1 - 151_935 * 2e-8
    drawn = systematic_draws(weights.expand(400, -1), stratified(400), 250)
    assert (drawn > 0).sum() / drawn.numel() == pytest.approx(151_935 * 2e-8, rel=0.01)
    assert len(drawn[drawn > 0].unique()) > 250


@pytest.mark.parametrize("temperature", [1.0, 0.8, 2.0])
def test_weights_are_unbiased_and_normalising_them_would_not_be(temperature):
    num_draws, num_strata = 5, 4096
    generator = torch.Generator().manual_seed(0)
    logits = centred(torch.randn(1, 40, generator=generator) * 2)
    p = torch.softmax(logits.double(), 1)[0]
    q = torch.softmax(logits.double() / temperature, 1)[0]
    entries = sampled_entries(
        logits.expand(num_strata, -1).clone(), stratified(num_strata), num_draws, temperature
    )
    weights = dense(entries, 40)
    if temperature == 1:
        assert (weights.sum(1) == num_draws).all()
        weights /= num_draws
    # the number of draws of an id steps up and down once over chance
    bound = 2 / num_strata / num_draws * p / q + 1e-6
    assert ((weights.mean(0) - p).abs() < bound).all()
    normalised = (weights / weights.sum(1, keepdim=True)).mean(0)
    assert ((normalised - p).abs() > 5 * bound).any() == (temperature != 1)


def test_an_id_is_one_entry_of_its_position():
    entries = sampled_entries(torch.zeros(3, 2), torch.tensor([0.0, 0.5, 0.9]), 4, 1.0)
    assert entries.num_entries_C.tolist() == [2, 2, 2]
    assert entries.ids_E.tolist() == [0, 1, 0, 1, 0, 1]
    assert entries.weights_E.tolist() == [2, 2, 2, 2, 2, 2]


def test_logits_of_minus_infinity_are_never_drawn():
    logits = torch.tensor([[0.0, -torch.inf, -1.0, -torch.inf]])
    largest = torch.tensor([LARGEST], dtype=torch.float64)
    for temperature in (1.0, 1.5):
        entries = sampled_entries(logits.clone(), largest, 9, temperature)
        assert entries.ids_E.tolist() == [0, 2]
        assert entries.weights_E.isfinite().all()


def test_top_entries_have_their_true_probabilities():
    generator = torch.Generator().manual_seed(1)
    logits = centred(torch.randn(6, 50, generator=generator) * 3)
    entries = top_entries(logits.clone(), 4)
    values, ids = torch.softmax(logits, 1).topk(4)
    assert entries.num_entries_C.tolist() == [4] * 6
    np.testing.assert_array_equal(entries.ids_E.view(6, 4), ids)
    torch.testing.assert_close(entries.weights_E.view(6, 4), values)
    assert top_entries(logits.clone(), 99).num_entries_C.tolist() == [50] * 6


@pytest.mark.parametrize("method", ["sampled", "flatter", "top_k"])
def test_no_positions_give_no_entries(method):
    none = torch.zeros(0, 7)
    if method == "top_k":
        entries = top_entries(none, 3)
    else:
        temperature = 1.0 if method == "sampled" else 2.0
        entries = sampled_entries(none, torch.zeros(0), 3, temperature)
    assert [len(part) for part in vars(entries).values()] == [0, 0, 0]
