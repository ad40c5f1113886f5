"""Weights of sequences and tokens from difference scores.

Static weights and repeats follow from the scores of teacher and reference. Dynamic ones put the
student in the reference's place while it learns; the teacher's losses are read from its score
table, so that no forward pass is added.

Axes: M sequences of a corpus, B sequences of a micro-batch, T positions.
"""

import numpy as np
import torch
from numpy.typing import NDArray

_LARGEST_EXPONENT = 60.0
"""Of a dynamic weight, up or down: what single precision still holds when it is added up."""


def static_weights(
    difference_M: NDArray[np.float64], temperature: float, clip: float
) -> NDArray[np.float64]:
    """Weights exp(r / temperature), limited and scaled to a mean of one, `[M]`.

    Args:
        difference_M: Difference scores r, nats; NaN (nothing to compare) counts as their mean.
        temperature: Nats; large ones make all weights alike.
        clip: Before scaling, weights lie within [1 / clip, clip] times that of the mean score.

    Example:
        >>> static_weights(np.array([0.0, 0.0]), 1.0, 10.0).tolist()
        [1.0, 1.0]
        >>> static_weights(np.array([-100.0, 100.0]), 1.0, 3.0).round(2).tolist()
        [0.2, 1.8]
    """
    known = np.isfinite(difference_M)
    mean = difference_M[known].mean() if known.any() else 0.0
    exponents = np.where(known, (difference_M - mean) / temperature, 0.0)
    limit = np.log(clip)
    weights = np.exp(np.clip(exponents, -limit, limit))
    scaled: NDArray[np.float64] = weights / weights.mean()
    return scaled


def repeated(weights_M: NDArray[np.float64], seed: int, epoch: int) -> NDArray[np.int64]:
    """The sequences of an epoch, each as often as its weight says, `[M]` indices, ascending.

    Systematic resampling: a sequence of weight w (mean one) comes floor(w) or ceil(w) times, on
    average over epochs w times, and an epoch has as many sequences as the corpus.

    Args:
        weights_M: Not negative, not all zero.
        seed: Of the run.
        epoch: Each has another draw.

    Example:
        >>> repeated(np.array([2.0, 0.0, 1.0]), seed=0, epoch=0).tolist()
        [0, 0, 2]
    """
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch, 1])))
    ends = np.cumsum(weights_M / weights_M.sum()) * len(weights_M)
    counts = np.diff(np.floor(ends + generator.random()), prepend=0.0).astype(np.int64)
    counts[-1] += len(weights_M) - counts.sum()  # where rounding of the last sum lost one
    return np.repeat(np.arange(len(weights_M)), counts)


def dynamic_weights(
    student_losses_B: torch.Tensor, teacher_losses_B: torch.Tensor, temperature: float
) -> torch.Tensor:
    """exp((student - teacher) / temperature), `[B]` float64, not normalised.

    Divided by their sum over the global batch they are its softmax; that sum is taken once a step,
    so that they do not depend on how a batch is split. Exponents are limited to 60 either way, so
    a lag of over 60 temperatures counts as one of 60.

    Args:
        student_losses_B: The student's loss of each sequence, nats per unit.
        teacher_losses_B: The teacher's, per the same unit; NaN gives weight 0.
        temperature: Nats per unit.
    """
    exponents_B = (student_losses_B.double() - teacher_losses_B.double()) / temperature
    weights_B = exponents_B.clamp(-_LARGEST_EXPONENT, _LARGEST_EXPONENT).exp()
    return torch.where(teacher_losses_B.isnan(), 0.0, weights_B)


def kept_tokens(
    student_losses_BT: torch.Tensor,
    teacher_losses_BT: torch.Tensor,
    counted_BT: torch.Tensor,
    share: float,
) -> torch.Tensor:
    """The share of each sequence's tokens that the student lags most behind on, `[B, T]` bool.

    Within a sequence, so that it depends on no other. As in Rho-1 (arXiv 2404.07965), with the
    teacher's stored losses for those of its reference model.

    Args:
        student_losses_BT: The student's loss of each token, nats.
        teacher_losses_BT: The teacher's.
        counted_BT: Which positions have a target.
        share: Of these, how many to keep; at least one.
    """
    excess_BT = (student_losses_BT - teacher_losses_BT).masked_fill(~counted_BT, -torch.inf)
    counts_B = counted_BT.sum(dim=1)
    num_kept_B = (counts_B * share).ceil().long().clamp(min=1)
    order_BT = excess_BT.argsort(dim=1, descending=True, stable=True)
    ranks_BT = torch.empty_like(order_BT)
    places_BT = torch.arange(order_BT.shape[1], device=order_BT.device).expand_as(order_BT)
    ranks_BT.scatter_(1, order_BT, places_BT)
    return (ranks_BT < num_kept_B[:, None]) & counted_BT


def effective_sample_size(total: float, total_of_squares: float) -> float:
    """(sum of weights)^2 / (sum of their squares): as many equal weights would vary as little.

    Example:
        >>> effective_sample_size(4.0, 4.0), effective_sample_size(2.0, 4.0)
        (4.0, 1.0)
    """
    return total * total / total_of_squares if total_of_squares > 0 else 0.0
