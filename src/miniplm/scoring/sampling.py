"""A few entries that stand for a whole distribution over the vocabulary. Pure functions.

`sampled_entries` is the importance sampling of Sparse Logit Sampling (arXiv 2503.16870), but its
weights are not normalised, so that they are unbiased whatever is drawn from, and its draws are
systematic: one random number per position, evenly spaced points on the cumulative distribution.
An id of probability p is then drawn floor(Np) or ceil(Np) times, Np on average.

Axes: C positions, V vocabulary, S blocks of the vocabulary, K entries of a block, N draws, E
entries kept of all positions, one position after another.
"""

from dataclasses import dataclass

import torch

BLOCK = 32
"""Entries of a block. Cumulative sums run over blocks in float64, and then inside those that were
drawn: a float32 sum over the vocabulary would lose each id below 6e-8, and take longer."""


@dataclass(frozen=True)
class Entries:
    """What is kept of some distributions.

    Args:
        num_entries_C: Entries of each position, int64.
        ids_E: Their ids, int64, each at most once a position.
        weights_E: Number of draws, int64, or estimates of probabilities, float32.
    """

    num_entries_C: torch.Tensor
    ids_E: torch.Tensor
    weights_E: torch.Tensor


def sampled_entries(
    centred_CV: torch.Tensor, uniform_C: torch.Tensor, num_draws: int, temperature: float
) -> Entries:
    """Draws with replacement from q ~ p ^ (1 / temperature), p being the softmax of the logits.

    Args:
        centred_CV: Logits less the largest of their position, float32; they are lost.
        uniform_C: One for each position, as in `systematic_draws`.
        num_draws: N, for each position.
        temperature: Of q.

    Returns:
        At temperature 1 the number of draws of each id, N in all. Else its draws / N * p / q,
        which is p on average.
    """
    if temperature == 1:
        drawn_CN = systematic_draws(centred_CV.exp_(), uniform_C, num_draws)
        num_entries_C, starts_E, counts_E = _runs(drawn_CN)
        return Entries(num_entries_C, drawn_CN.flatten()[starts_E], counts_E)
    log_sums_C1 = torch.logsumexp(centred_CV, dim=1, keepdim=True)
    proposals_CV = (centred_CV / temperature).exp_()
    log_proposal_sums_C1 = proposals_CV.sum(dim=1, keepdim=True).log_()
    drawn_CN = systematic_draws(proposals_CV, uniform_C, num_draws)
    logits_CN = centred_CV.gather(1, drawn_CN)
    log_p_CN = logits_CN - log_sums_C1
    log_q_CN = logits_CN / temperature - log_proposal_sums_C1
    ratios_CN = (log_p_CN - log_q_CN).exp_()
    num_entries_C, starts_E, counts_E = _runs(drawn_CN)
    weights_E = ratios_CN.flatten()[starts_E] * (counts_E / num_draws)
    return Entries(num_entries_C, drawn_CN.flatten()[starts_E], weights_E)


def top_entries(centred_CV: torch.Tensor, num_kept: int) -> Entries:
    """The most likely ids with their probabilities, which add up to less than 1.

    Args:
        centred_CV: Logits less the largest of their position, float32.
        num_kept: Entries of each position; all ids where there are fewer.
    """
    log_sums_C1 = torch.logsumexp(centred_CV, dim=1, keepdim=True)
    num_kept = min(num_kept, centred_CV.shape[1])
    logits_CK, ids_CK = centred_CV.topk(num_kept, dim=1)
    num_entries_C = torch.full_like(ids_CK[:, 0], num_kept)
    return Entries(num_entries_C, ids_CK.flatten(), (logits_CK - log_sums_C1).exp_().flatten())


def systematic_draws(
    weights_CV: torch.Tensor, uniform_C: torch.Tensor, num_draws: int
) -> torch.Tensor:
    """Ids drawn in proportion to weights, `[C, N]` int64, ascending.

    Draw j takes the id at (j + u) / N of the way along the position's cumulative weights. An id
    without weight is never drawn.

    Args:
        weights_CV: At least 0, float32; each position needs one that is more.
        uniform_C: u, in [0, 1), a multiple of 2 ** -32, float64.
        num_draws: N, below 2 ** 16.
    """
    padding = -weights_CV.shape[1] % BLOCK
    if padding:
        weights_CV = torch.nn.functional.pad(weights_CV, (0, padding))
    num_blocks = weights_CV.shape[1] // BLOCK
    weights_CSK = weights_CV.reshape(len(weights_CV), num_blocks, BLOCK)
    ends_CS = weights_CSK.sum(dim=2).double().cumsum_(dim=1)
    steps_N = torch.arange(num_draws, dtype=torch.float64, device=weights_CV.device)
    # below the total also when rounded: N - u is at least 2 ** -32
    points_CN = (steps_N + uniform_C.double()[:, None]) * (ends_CS[:, -1:] / num_draws)
    blocks_CN = torch.searchsorted(ends_CS, points_CN, right=True)
    begins_CN = torch.nn.functional.pad(ends_CS, (1, 0)).gather(1, blocks_CN)
    rows_C1 = torch.arange(len(weights_CV), device=weights_CV.device)[:, None] * num_blocks
    inner_CNK = weights_CSK.flatten(0, 1)[rows_C1 + blocks_CN].double().cumsum_(dim=2)
    # rounding may lead past the end of a block: then its last entry with a weight is meant
    most_CN = torch.nextafter(inner_CNK[:, :, -1], torch.zeros_like(points_CN))
    places_CN1 = torch.minimum(points_CN - begins_CN, most_CN)[:, :, None]
    inner_places_CN1 = torch.searchsorted(inner_CNK, places_CN1, right=True)
    return blocks_CN * BLOCK + inner_places_CN1.squeeze(2)


def _runs(drawn_CN: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Equal neighbours of a position as one entry: entries of each position, starts, lengths."""
    is_first_CN = torch.ones_like(drawn_CN, dtype=torch.bool)
    is_first_CN[:, 1:] = drawn_CN[:, 1:] != drawn_CN[:, :-1]
    starts_E = is_first_CN.flatten().nonzero().squeeze(1)
    end = starts_E.new_tensor([drawn_CN.numel()])
    return is_first_CN.sum(dim=1), starts_E, starts_E.diff(append=end)
